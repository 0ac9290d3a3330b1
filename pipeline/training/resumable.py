"""A training that may be killed at any moment: the LightningModule under `module.Contrastive` and `distillation`.

A subclass says what a batch is and what its loss is; the steps, the curve and the checkpoints are the same.

Legend: N texts of a batch, T tokens, D embedding width.
"""

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint as recompute

from pipeline.encoder.encoding import batches as batches_by_length
from pipeline.encoder.model import Encoder
from pipeline.groups import StepsConfig
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.preemption import end_by
from pipeline.training.world import spread_like, whole

OnPoint = Callable[[Mapping[str, float]], None]  # see fit


class DrawBatches(Protocol):
    """A function that draws the batches of steps `start` to `steps - 1` of a training.

    For example partial(sampling.strategy.batches, strategy, corpus, size, seed=0).
    """

    def __call__(self, *, steps: int, start: int = 0) -> Iterator[list[Any]]: ...


class TokenParts(NamedTuple):
    """The token ids of a batch's texts, split into parts of similar length, which need hardly any padding."""

    parts: list[tuple[Tensor, Tensor]]  # ids_NT, mask_NT
    order: Tensor  # position of each text in the concatenated parts


@dataclass
class Progress:
    """How far a training is: plain values, stored in its checkpoints."""

    step: int = 0  # steps done
    curve: list[dict[str, float]] = field(default_factory=list)  # see fit.Training
    language_pairs: dict[str, int] = field(default_factory=dict)
    lowest_held_out_loss: float = math.inf
    validations_since_lowest: int = 0
    finished: bool = False


class RemainingBatches:
    """The data loader: batches of the remaining steps, read and tokenised when they are needed."""

    def __init__(self, draw: DrawBatches, prepare: Callable[[list[Any]], Any], steps: range):
        self.draw, self.prepare, self.steps = draw, prepare, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Any]:
        return map(self.prepare, self.draw(steps=self.steps.stop, start=self.steps.start))


class Resumable(pl.LightningModule, ABC):
    """Trains `encoder` on the batches of `draw`, with checkpoints in `folder`, from which `resume` continues."""

    def __init__(
        self,
        encoder: Encoder,
        draw: DrawBatches,
        config: StepsConfig,
        *,
        folder: Path,
        seed: int,
        on_point: OnPoint = lambda point: None,
    ):
        super().__init__()
        self.encoder, self.draw, self.steps_config = encoder, draw, config
        self.folder, self.seed, self.on_point = folder, seed, on_point
        self.progress = Progress()
        self.best_weights: Mapping[str, Tensor] = {}
        self.warning: int | None = None  # the signal that came: the step in hand is the last
        self.resumed: Mapping[str, Any] | None = None  # states of optimizer and schedule, until training starts

    @abstractmethod
    def prepare(self, draws: list[Any]) -> Any:
        """Read and tokenise this process's share of a batch."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Return the loss of the whole batch."""

    def count(self, batch: Any) -> None:
        """Keep what the progress has to know of a batch."""

    def validates(self, last: bool) -> bool:
        """Return whether this step is followed by a validation."""
        return False

    def validate(self) -> None:
        """Add the loss of held-out batches to the curve's last point."""

    @property
    def out_of_patience(self) -> bool:
        """Whether the validations say that the training is over."""
        return False

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from `checkpoint`."""
        self.encoder.load_state_dict(checkpoint.weights, strict=False)
        self.progress, self.best_weights = Progress(**checkpoint.state["progress"]), checkpoint.best_weights
        self.resumed = checkpoint.state

    def on_train_start(self) -> None:
        """Load the states of optimizer and schedule of a resumed training, and start the clock."""
        if self.resumed:
            self.load_optimizer(self.resumed["optimizer"])
            self.schedule.load_state_dict(self.resumed["schedule"])
            self.resumed = None
        self.last_log = self.progress.step, time.perf_counter()
        self.show(self.progress.curve)
        if threading.current_thread() is threading.main_thread():
            # Lightning's handler would wait, and hide what ended training
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def load_optimizer(self, saved: Mapping[str, Any]) -> None:
        """Load the optimizer's state from a checkpoint, whose tensors are whole, and spread them as the weights are."""
        optimizer = self.trainer.optimizers[0]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state = {place: spread_like(parameters[place], values) for place, values in saved["state"].items()}
        optimizer.load_state_dict({**saved, "state": state})

    def train_dataloader(self) -> RemainingBatches:
        """Return the batches of the remaining steps."""
        return RemainingBatches(self.draw, self.prepare, range(self.progress.step, self.steps_config.steps))

    def tokenize(self, rows: list[list[int]]) -> TokenParts:
        """Split the token ids of a batch's texts into parts of `forward_tokens` tokens."""
        parts = list(batches_by_length([len(row) for row in rows], self.steps_config.forward_tokens))
        padded = [self.encoder.pad([rows[position] for position in part]) for part in parts]
        return TokenParts(padded, torch.as_tensor(np.argsort(np.concatenate(parts))))

    def in_parts(
        self, encode: Callable[[Tensor, Tensor], Tensor], parts: Sequence[tuple[Tensor, Tensor]]
    ) -> list[Tensor]:
        """Encode part after part; the gradient of their concatenation is that of one padded batch.

        With `grad_cache` (Gao et al. 2021, https://arxiv.org/abs/2101.06983) memory holds the activations of one part,
        whatever the batch size: each part is encoded, its activations are dropped, and it is encoded again once the
        gradient of its embeddings is known. torch.utils.checkpoint does this, and restores each part's random state.
        """
        if self.steps_config.grad_cache:
            encode = partial(recompute, encode, use_reentrant=False)
        return [encode(ids_NT, mask_NT) for ids_NT, mask_NT in parts]

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Return the loss of one step; FloatingPointError if it is NaN or infinite."""
        step = self.progress.step
        # The step seeds the random numbers (of dropout), so a checkpoint need not hold the generator's state.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step, self.global_rank]).generate_state(1)[0]))
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Log, validate, stop and write a checkpoint, each where this step is due for it."""
        progress, config = self.progress, self.steps_config
        progress.step += 1
        self.count(batch)
        last = progress.step == config.steps
        validates = self.validates(last)
        logs = validates or progress.step % config.log_every == 0
        if logs:
            self.log_point(outputs["loss"].item())
        if validates:
            self.validate()
        if logs:
            self.show(progress.curve[-1:])
        progress.finished = last or self.out_of_patience
        self.trainer.should_stop = progress.finished
        self.agree()
        if progress.finished or self.warning or progress.step % config.checkpoint_every == 0:
            self.save()
        if self.warning and self.trainer.is_global_zero:  # the others end when they miss it: see preemption
            end_by(self.warning)

    def agree(self) -> None:
        """Let a warning that one process has got count for all: they write a checkpoint together."""
        if self.steps_config.processes > 1:
            number = torch.tensor(self.warning or 0, device=self.device)
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
            self.warning = int(number) or None

    def log_point(self, loss: float) -> None:
        """Add a point to the curve and show it on the progress bar."""
        step, now_s = self.progress.step, time.perf_counter()
        last_step, last_s = self.last_log
        self.last_log = step, now_s
        point = {
            "step": step,
            "loss": loss,
            "learning_rate": float(self.schedule.get_last_lr()[0]),
            "pairs_per_s": (step - last_step) * self.steps_config.batch_size / (now_s - last_s),
        }
        self.progress.curve.append(point)
        self.log_dict({key: value for key, value in point.items() if key != "step"}, prog_bar=True)

    def show(self, points: Sequence[Mapping[str, float]]) -> None:
        """Hand points of the curve to whoever follows the training."""
        if self.trainer.is_global_zero:
            for point in points:
                self.on_point(point)

    def save(self) -> None:
        """Write a checkpoint, in the first process only; it is the same however many processes train."""
        optimizer = self.trainer.optimizers[0].state_dict()
        weights, best_weights, optimizer = whole([self.encoder.trained(), self.best_weights, optimizer])
        if self.trainer.is_global_zero:
            progress, schedule = asdict(self.progress), self.schedule.state_dict()
            state = {"progress": progress, "optimizer": optimizer, "schedule": schedule}
            checkpoints.write(self.folder, self.progress.step, Checkpoint(weights, best_weights, state))
        self.trainer.strategy.barrier()  # all processes find it

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over the trainable weights, with the learning rate of `schedule`."""
        config = self.steps_config
        trainable = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        self.schedule = schedule(optimizer, config)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}


def schedule(optimizer: torch.optim.Optimizer, config: StepsConfig) -> LambdaLR:
    """Warm up linearly, the first step included, then decay linearly to zero after the last step.

    6 steps with `warmup_fraction` 0.5 take 1/3, 2/3, 1, 1, 2/3 and 1/3 of the learning rate.
    """
    warmup, steps = max(1, round(config.warmup_fraction * config.steps)), config.steps

    def factor(step: int) -> float:
        return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)
