"""One training step: the LightningModule that `fit` trains, and the batches it reads.

Legend: N pairs per batch, P passages per batch (see losses), K passages per pair, T tokens, E exits, D embedding width.
"""

import math
import signal
import threading
import time
from collections import Counter
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
from torch.nn.functional import normalize
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint as recompute

from pipeline.encoder.encoding import batches as batches_by_length
from pipeline.encoder.model import Encoder
from pipeline.groups import Parallel, TrainerConfig
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.losses import layerwise
from pipeline.training.negatives import HardNegatives, Passage
from pipeline.training.preemption import end_by
from pipeline.training.world import as_many, shard, spread_like, whole
from pipeline.values import Draw, ParallelText

OnPoint = Callable[[Mapping[str, float]], None]  # see fit


class DrawBatches(Protocol):
    """A function that draws the batches of steps `start` to `steps - 1` of a training.

    For example partial(sampling.strategy.batches, strategy, corpus, size, seed=0).
    """

    def __call__(self, *, steps: int, start: int = 0) -> Iterator[list[Draw]]: ...


class Batch(NamedTuple):
    """A tokenised batch, or one process's share of it.

    Its texts (all queries, all positives, the first hard negative of every pair, the second, …) are split into parts
    of similar length, which need hardly any padding. The gradient is that of one padded batch.
    """

    parts: list[tuple[Tensor, Tensor]]  # ids_NT, mask_NT
    order: Tensor  # position of each text in the concatenated parts
    group_KN: Tensor  # groups of the passages: positives, first hard negatives, …
    language_pairs: list[str]  # of the whole batch, such as de-en


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

    def __init__(self, draw: DrawBatches, prepare: Callable[[list[Draw]], Batch], steps: range):
        self.draw, self.prepare, self.steps = draw, prepare, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.prepare, self.draw(steps=self.steps.stop, start=self.steps.start))


class Contrastive(pl.LightningModule):
    """Trains `encoder` with the contrastive losses on the batches of `draw`; validates on the batches in `held_out`."""

    def __init__(
        self,
        encoder: Encoder,
        data: ParallelText,
        draw: DrawBatches,
        held_out: Sequence[list[Draw]],
        config: TrainerConfig,
        hard_negatives: HardNegatives,
        *,
        folder: Path,
        seed: int,
        on_point: OnPoint = lambda point: None,
    ):
        super().__init__()
        self.encoder, self.data, self.draw, self.held_out = encoder, data, draw, held_out
        self.config, self.hard_negatives, self.folder, self.seed = config, hard_negatives, folder, seed
        self.on_point = on_point
        self.progress = Progress()
        self.best_weights: Mapping[str, Tensor] = {}
        self.warning: int | None = None  # the signal that came: the step in hand is the last
        self.resumed: Mapping[str, Any] | None = None  # states of optimizer and schedule, until training starts

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from `checkpoint`."""
        self.encoder.load_state_dict(checkpoint.weights, strict=False)
        self.progress, self.best_weights = Progress(**checkpoint.state["progress"]), checkpoint.best_weights
        self.resumed = checkpoint.state

    def configure_model(self) -> None:
        """Spread the encoder over the processes, for `trainer.strategy=fsdp`."""
        if self.device_mesh is not None:
            shard(self.encoder, self.device_mesh["data_parallel"])

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
        return RemainingBatches(self.draw, self.prepare, range(self.progress.step, self.config.steps))

    def prepare(self, draws: list[Draw]) -> Batch:
        """Read and tokenise this process's share of a batch.

        Every process draws the whole batch, so strategy and language pairs are the same in all of them.
        """
        share = draws[self.global_rank :: self.config.processes]
        queries = [self.data.text(draw.row, draw.query_language, "query") for draw in share]
        positives = [
            Passage(self.data.text(draw.row, draw.passage_language, "passage"), int(self.data.passage_group[draw.row]))
            for draw in share
        ]
        passages_KN = [positives, *zip(*map(self.hard_negatives, share), strict=True)]
        passages = [passage.text for passages_N in passages_KN for passage in passages_N]
        rows = self.encoder.tokenize(queries, "query") + self.encoder.tokenize(passages, "passage")
        parts = list(batches_by_length([len(row) for row in rows], self.config.forward_tokens))
        return Batch(
            parts=[self.encoder.pad([rows[position] for position in part]) for part in parts],
            order=torch.as_tensor(np.argsort(np.concatenate(parts))),
            group_KN=torch.tensor([[passage.group for passage in passages_N] for passages_N in passages_KN]),
            language_pairs=[f"{draw.query_language}-{draw.passage_language}" for draw in draws],
        )

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the whole batch, in every process: embeddings are gathered with their gradients.

        With `grad_cache` (Gao et al. 2021, https://arxiv.org/abs/2101.06983) memory holds the activations of one part,
        whatever the batch size: each part is encoded, its activations are dropped, and it is encoded again once the
        gradient of its embeddings is known. torch.utils.checkpoint does this, and restores each part's random state.
        """
        config = self.config
        encode = partial(self.encoder.at_layers, layers=config.exit_layers)
        if config.grad_cache:
            encode = partial(recompute, encode, use_reentrant=False)
        together = config.strategy is Parallel.fsdp and config.processes > 1
        parts = as_many(batch.parts, self.device) if together else batch.parts
        emb_parts = [encode(ids_NT, mask_NT) for ids_NT, mask_NT in parts]
        emb_NED = torch.cat(emb_parts[: len(batch.parts)])[batch.order]
        if not self.encoder.unit:  # compared by cosine
            emb_NED = normalize(emb_NED, dim=-1)
        query_NED, *passages = map(self.gather, emb_NED.chunk(1 + len(batch.group_KN)))
        group_P = torch.cat([self.gather(group_N) for group_N in batch.group_KN])
        loss = layerwise(query_NED, torch.cat(passages), group_P, config.temperature, config.matryoshka_widths)
        return loss + 0.0 * sum(part.sum() for part in emb_parts[len(batch.parts) :])

    def gather(self, share: Tensor) -> Tensor:
        """Concatenate the shares of all processes, in the order of their ranks."""
        if self.config.processes == 1:
            return share
        return self.trainer.strategy.all_gather(share, sync_grads=True).flatten(0, 1)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one step; FloatingPointError if it is NaN or infinite."""
        step = self.progress.step
        # The step seeds the random numbers (of dropout), so a checkpoint need not hold the generator's state.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step, self.global_rank]).generate_state(1)[0]))
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Log, validate, stop and write a checkpoint, each where this step is due for it."""
        progress, config = self.progress, self.config
        progress.step += 1
        progress.language_pairs = dict(Counter(progress.language_pairs) + Counter(batch.language_pairs))
        last = progress.step == config.steps
        validates = config.patience is not None and (last or progress.step % config.validate_every == 0)
        logs = validates or progress.step % config.log_every == 0
        if logs:
            self.log_point(outputs["loss"].item())
        if validates:
            self.validate()
        if logs:
            self.show(progress.curve[-1:])
        out_of_patience = config.patience is not None and progress.validations_since_lowest >= config.patience
        progress.finished = last or out_of_patience
        self.trainer.should_stop = progress.finished
        self.agree()
        if progress.finished or self.warning or progress.step % config.checkpoint_every == 0:
            self.save()
        if self.warning and self.trainer.is_global_zero:  # the others end when they miss it: see preemption
            end_by(self.warning)

    def agree(self) -> None:
        """Let a warning that one process has got count for all: they write a checkpoint together."""
        if self.config.processes > 1:
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
            "pairs_per_s": (step - last_step) * self.config.batch_size / (now_s - last_s),
        }
        self.progress.curve.append(point)
        self.log_dict({key: value for key, value in point.items() if key != "step"}, prog_bar=True)

    def show(self, points: Sequence[Mapping[str, float]]) -> None:
        """Hand points of the curve to whoever follows the training."""
        if self.trainer.is_global_zero:
            for point in points:
                self.on_point(point)

    @torch.no_grad()
    def validate(self) -> None:
        """Add the mean loss of the held-out batches to the curve's last point; keep the weights if it is the lowest."""
        progress, to_device = self.progress, self.trainer.strategy.batch_to_device
        self.encoder.eval()
        with self.trainer.precision_plugin.forward_context():  # as in a training step: both losses share one curve
            losses = [self.loss(to_device(self.prepare(draws))) for draws in self.held_out]
        self.encoder.train()
        loss = torch.stack(losses).mean().item()
        progress.curve[-1]["held_out_loss"] = loss
        progress.validations_since_lowest += 1
        if loss < progress.lowest_held_out_loss:
            progress.lowest_held_out_loss, progress.validations_since_lowest = loss, 0
            self.best_weights = {name: value.clone() for name, value in self.encoder.trained().items()}

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
        config = self.config
        trainable = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.schedule = schedule(optimizer, config)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}


def schedule(optimizer: torch.optim.Optimizer, config: TrainerConfig) -> LambdaLR:
    """Warm up linearly, the first step included, then decay linearly to zero after the last step.

    6 steps with `warmup_fraction` 0.5 take 1/3, 2/3, 1, 1, 2/3 and 1/3 of the learning rate.
    """
    warmup, steps = max(1, round(config.warmup_fraction * config.steps)), config.steps

    def factor(step: int) -> float:
        return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)
