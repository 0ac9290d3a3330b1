"""What happens in one training step: the LightningModule that `training` fits, and the batches it is fed.

Legend: N pairs of a batch, P its passages (losses), K passages of a pair, T tokens, E exits, D embedding width.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint as recomputed

from pipeline.encoder.encoding import batches as by_length
from pipeline.encoder.model import Encoder
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.losses import layerwise
from pipeline.training.negatives import Negatives
from pipeline.values import Draw, ParallelText

Batches = Callable[..., Iterator[list[Draw]]]  # takes `steps` of the run, and `start`, the step to begin with


class Step(NamedTuple):
    """A batch, or one process's share of it: the texts - all queries, all positives, the first hard negative of every
    pair, the second, … - in parts of like length. The parts hold hardly any padding, and their gradient is that of one
    padded batch."""

    parts: list[tuple[Tensor, Tensor]]  # ids_NT, mask_NT
    order: Tensor  # of the texts in the joined parts
    group_KN: Tensor  # of the passages: positives, first hard negatives, …
    language_pairs: list[str]  # of the whole batch


@dataclass
class Progress:
    """How far a training is: plain values, kept in its checkpoints."""

    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    language_pairs: dict[str, int] = field(default_factory=dict)  # how often each was drawn
    lowest_loss: float = math.inf  # held-out
    stale: int = 0  # validations since then
    finished: bool = False


class Steps:
    """What Lightning iterates over: the steps still to be made, read and tokenised as they are needed."""

    def __init__(self, draw: Batches, prepare: Callable[[list[Draw]], Step], left: range):
        self.draw, self.prepare, self.left = draw, prepare, left

    def __len__(self) -> int:
        return len(self.left)

    def __iter__(self) -> Iterator[Step]:
        return map(self.prepare, self.draw(steps=self.left.stop, start=self.left.start))


class Contrastive(pl.LightningModule):
    """Trains `encoder` on the batches of `draw`; `held_out` are those of a validation."""

    def __init__(
        self,
        encoder: Encoder,
        data: ParallelText,
        draw: Batches,
        held_out: Sequence[list[Draw]],
        settings: Mapping[str, Any],
        negatives: Negatives,
        *,
        folder: Path,
        seed: int,
    ):
        super().__init__()
        self.encoder, self.data, self.draw, self.held_out = encoder, data, draw, held_out
        self.settings, self.negatives, self.folder, self.seed = settings, negatives, folder, seed
        self.progress = Progress()
        self.best: Mapping[str, Tensor] = {}
        self.resumed: Mapping[str, Any] | None = None  # states of optimiser and schedule, until training starts

    def resume(self, last: Checkpoint) -> None:
        self.encoder.backbone.load_state_dict(last.weights, strict=False)
        self.progress, self.best, self.resumed = Progress(**last.state["progress"]), last.best, last.state

    def setup(self, stage: str) -> None:
        if self.settings["devices"] > 1:  # a forked process hangs if it uses the thread pools that it inherits
            torch.set_num_threads(1)
            os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def on_train_start(self) -> None:
        if self.resumed:
            self.trainer.optimizers[0].load_state_dict(self.resumed["optimizer"])
            self.schedule.load_state_dict(self.resumed["schedule"])
            self.resumed = None
        self.mark = self.progress.step, time.perf_counter()

    def train_dataloader(self) -> Steps:
        return Steps(self.draw, self.prepare, range(self.progress.step, self.settings["steps"]))

    def prepare(self, draws: list[Draw]) -> Step:
        """Every process draws the whole batch, so strategy and languages agree, and prepares its share."""
        share = draws[self.global_rank :: self.settings["devices"]]
        questions = [self.data.text(draw.row, draw.query_language, "query") for draw in share]
        positives = [
            (self.data.text(draw.row, draw.passage_language, "passage"), int(self.data.passage_group[draw.row]))
            for draw in share
        ]
        passages_KN = [positives, *zip(*map(self.negatives, share), strict=True)]
        passages = [text for passages_N in passages_KN for text, _ in passages_N]
        rows = self.encoder.tokenize(questions, "query") + self.encoder.tokenize(passages, "passage")
        parts = list(by_length([len(row) for row in rows], self.settings["forward_tokens"]))
        return Step(
            parts=[self.encoder.pad([rows[n] for n in part]) for part in parts],
            order=torch.as_tensor(np.argsort(np.concatenate(parts))),
            group_KN=torch.tensor([[group for _, group in passages_N] for passages_N in passages_KN]),
            language_pairs=[f"{draw.query_language}-{draw.passage_language}" for draw in draws],
        )

    def loss(self, batch: Step) -> Tensor:
        """Of the whole batch, in every process: the embeddings are gathered with their gradients.

        With `grad_cache` (Gao 2021) memory holds the activations of one part, whatever the batch's size: the parts
        are encoded, forgotten, and encoded again, each when the gradient of its embeddings is there. torch's
        checkpoint does this, restoring the random state of each part.
        """
        settings = self.settings
        encode = partial(self.encoder.at_layers, layers=settings["exit_layers"])
        if settings["grad_cache"]:
            encode = partial(recomputed, encode, use_reentrant=False)
        emb_NED = torch.cat([encode(ids_NT, mask_NT) for ids_NT, mask_NT in batch.parts])[batch.order]
        query_NED, *passages = map(self.gathered, emb_NED.chunk(1 + len(batch.group_KN)))
        group_P = torch.cat([self.gathered(group_N) for group_N in batch.group_KN])
        return layerwise(
            query_NED, torch.cat(passages), group_P, settings["temperature"], settings["matryoshka_widths"]
        )

    def gathered(self, share: Tensor) -> Tensor:
        """The shares of all processes, one after the other."""
        if self.settings["devices"] == 1:
            return share
        return self.trainer.strategy.all_gather(share, sync_grads=True).flatten(0, 1)

    def training_step(self, batch: Step, index: int) -> Tensor:
        step = self.progress.step
        # Random numbers (of dropout) follow from the step, so a checkpoint need not hold the generator's state.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step, self.global_rank]).generate_state(1)[0]))
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Step, index: int) -> None:
        progress, patience = self.progress, self.settings["patience"]
        progress.step += 1
        progress.language_pairs = dict(Counter(progress.language_pairs) + Counter(batch.language_pairs))
        last = progress.step == self.settings["steps"]
        validates = patience is not None and (last or self.due("validate_every"))
        if validates or self.due("log_every"):
            self.log_point(outputs["loss"].item())
        if validates:
            self.validate()
        progress.finished = last or (validates and progress.stale >= patience)
        self.trainer.should_stop = progress.finished
        if progress.finished or self.due("checkpoint_every"):
            self.save()

    def due(self, every: str) -> bool:
        return self.progress.step % self.settings[every] == 0

    def log_point(self, loss: float) -> None:
        step, now_s = self.progress.step, time.perf_counter()
        last_step, last_s = self.mark
        self.mark = step, now_s
        point = {
            "step": step,
            "loss": loss,
            "learning_rate": self.schedule.get_last_lr()[0],
            "pairs_per_s": (step - last_step) * self.settings["batch_size"] / (now_s - last_s),
        }
        self.progress.curve.append(point)
        self.log_dict({key: value for key, value in point.items() if key != "step"}, prog_bar=True)

    @torch.no_grad()
    def validate(self) -> None:
        """Add the mean loss of the held-out batches to the curve's last point, and keep the best weights."""
        progress, to_device = self.progress, self.trainer.strategy.batch_to_device
        self.encoder.eval()
        losses = [self.loss(to_device(self.prepare(draws))) for draws in self.held_out]
        self.encoder.train()
        loss = torch.stack(losses).mean().item()
        progress.curve[-1]["held_out_loss"] = loss
        progress.stale += 1
        if loss < progress.lowest_loss:
            progress.lowest_loss, progress.stale = loss, 0
            self.best = {name: value.clone() for name, value in self.encoder.trained().items()}

    def save(self) -> None:
        if not self.trainer.is_global_zero:
            return
        state = {
            "progress": asdict(self.progress),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        checkpoints.write(self.folder, self.progress.step, Checkpoint(self.encoder.trained(), self.best, state))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; its learning rate follows `schedule`."""
        settings = self.settings
        trained = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], weight_decay=settings["weight_decay"])
        self.schedule = schedule(optimizer, settings)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}


def schedule(optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]) -> LambdaLR:
    """Linear warm-up from the first step on, then linear decay to zero after the last."""
    warmup, steps = max(1, round(settings["warmup_fraction"] * settings["steps"])), settings["steps"]

    def factor(step: int) -> float:
        return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)
