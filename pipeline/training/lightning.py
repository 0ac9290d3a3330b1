"""Lightning's Trainer, as every training of an encoder uses it."""

import logging
import sys
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.bars import LINE_EVERY_S
from pipeline.groups import Precision
from pipeline.training.preemption import heeding_warnings
from pipeline.training.resumable import Resumable

PRECISIONS: dict[Precision, Literal["32-true", "bf16-mixed"]] = {
    Precision.float32: "32-true",
    Precision.bfloat16: "bf16-mixed",
}


class Lines(pl.Callback):
    """Says in a log where a progress bar would hold every step twice, about once a minute, how far a training is."""

    def __init__(self) -> None:
        self.start_s = self.line_s = time.monotonic()
        self.steps = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Write the line, if it is due; the time left follows from the mean of the steps since the start."""
        assert isinstance(pl_module, Resumable)
        self.steps += 1
        now_s = time.monotonic()
        if trainer.is_global_zero and now_s - self.line_s >= LINE_EVERY_S:
            self.line_s = now_s  # the module counts the step after this
            step, steps = pl_module.progress.step + 1, pl_module.steps_config.steps
            left_min = (steps - step) * (now_s - self.start_s) / self.steps / 60
            print(f"    step {step:,} of {steps:,}, about {left_min:.0f} min to go", file=sys.stderr, flush=True)


def set_dropout(model: nn.Module, probability: float | None) -> None:
    """Set the probability of every dropout in `model`, attention dropout included; None leaves them as they are."""
    if probability is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        elif isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", probability)  # noqa: B010  # mypy: a Module's attribute


def run(module: Resumable, precision: Precision, device: str, **machines: Any) -> None:
    """Run the remaining steps. The module writes checkpoints, the last of them finished, to its folder.

    Args:
        device: cpu or cuda.
        machines: the Trainer's arguments for several processes; by default there is one.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        lightning = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            **{"devices": 1, **machines},
            precision=PRECISIONS[precision],
            max_epochs=1,  # the batches are one pass of `steps`; the sampler counts the epochs of the data
            callbacks=[TQDMProgressBar() if sys.stderr.isatty() else Lines()],
            enable_progress_bar=sys.stderr.isatty(),
            logger=False,
            enable_checkpointing=False,  # Lightning's checkpoints are one pickled file
            enable_model_summary=False,
        )
        for message in (".*LeafSpec.* is deprecated", ".*functional.all_gather is deprecated"):  # Lightning's own calls
            warnings.filterwarnings("ignore", message=message, category=FutureWarning)
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # World has read Slurm's variables
        with heeding_warnings(module), attention(device):
            lightning.fit(module)


def attention(device: str) -> AbstractContextManager[None]:
    """Return the context in which training computes attention.

    On a CPU the backward pass of torch's fused kernel takes 6 to 7 times its forward pass in bfloat16. Plain matrix
    products make a step 14 to 17 % shorter at the lengths of questions and passages (docs/decisions.md).
    """
    return sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
