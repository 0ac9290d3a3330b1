"""Lightning's Trainer, as every training of an encoder uses it."""

import logging
import sys
import warnings
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import nn

from pipeline.groups import Precision
from pipeline.training.preemption import heeding_warnings
from pipeline.training.resumable import Resumable

PRECISIONS: dict[Precision, Literal["32-true", "bf16-mixed"]] = {
    Precision.float32: "32-true",
    Precision.bfloat16: "bf16-mixed",
}


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
            callbacks=[TQDMProgressBar()] if sys.stderr.isatty() else [],  # a log would hold every step twice
            enable_progress_bar=sys.stderr.isatty(),
            logger=False,
            enable_checkpointing=False,  # Lightning's checkpoints are one pickled file
            enable_model_summary=False,
        )
        for message in (".*LeafSpec.* is deprecated", ".*functional.all_gather is deprecated"):  # Lightning's own calls
            warnings.filterwarnings("ignore", message=message, category=FutureWarning)
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # World has read Slurm's variables
        with heeding_warnings(module):
            lightning.fit(module)
