"""The contrastive training of an encoder, which `fit` runs: what its batches are, and their loss.

Legend: N pairs per batch, P passages per batch (see losses), K passages per pair, E exits, D embedding width.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.encoder.model import Encoder
from pipeline.groups import Parallel, TrainerConfig
from pipeline.training.losses import layerwise
from pipeline.training.negatives import HardNegatives, Passage
from pipeline.training.resumable import DrawBatches, OnPoint, Resumable, TokenParts
from pipeline.training.world import as_many, shard
from pipeline.values import Draw, ParallelText


class Batch(NamedTuple):
    """A tokenised batch, or one process's share of it.

    Its texts are all queries, all positives, the first hard negative of every pair, the second, …
    """

    texts: TokenParts
    group_KN: Tensor  # groups of the passages: positives, first hard negatives, …
    language_pairs: list[str]  # of the whole batch, such as de-en


class Contrastive(Resumable):
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
        super().__init__(encoder, draw, config, folder=folder, seed=seed, on_point=on_point)
        self.config, self.data, self.held_out, self.hard_negatives = config, data, held_out, hard_negatives

    def configure_model(self) -> None:
        """Spread the encoder over the processes, for `trainer.strategy=fsdp`."""
        if self.device_mesh is not None:
            shard(self.encoder, self.device_mesh["data_parallel"])

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
        return Batch(
            texts=self.tokenize(rows),
            group_KN=torch.tensor([[passage.group for passage in passages_N] for passages_N in passages_KN]),
            language_pairs=[f"{draw.query_language}-{draw.passage_language}" for draw in draws],
        )

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the whole batch, in every process: embeddings are gathered with their gradients."""
        config, (own, order) = self.config, batch.texts
        together = config.strategy is Parallel.fsdp and config.processes > 1
        parts = as_many(own, self.device) if together else own
        emb_parts = self.in_parts(partial(self.encoder.at_layers, layers=config.exit_layers), parts)
        emb_NED = torch.cat(emb_parts[: len(own)])[order]
        if not self.encoder.unit:  # compared by cosine
            emb_NED = normalize(emb_NED, dim=-1)
        query_NED, *passages = map(self.gather, emb_NED.chunk(1 + len(batch.group_KN)))
        group_P = torch.cat([self.gather(group_N) for group_N in batch.group_KN])
        loss = layerwise(query_NED, torch.cat(passages), group_P, config.temperature, config.matryoshka_widths)
        return loss + 0.0 * sum(part.sum() for part in emb_parts[len(own) :])

    def gather(self, share: Tensor) -> Tensor:
        """Concatenate the shares of all processes, in the order of their ranks."""
        if self.config.processes == 1:
            return share
        return self.trainer.strategy.all_gather(share, sync_grads=True).flatten(0, 1)

    def count(self, batch: Batch) -> None:
        """Count the language pairs."""
        self.progress.language_pairs = dict(Counter(self.progress.language_pairs) + Counter(batch.language_pairs))

    def validates(self, last: bool) -> bool:
        """Return whether a validation is due: every `validate_every` steps, and after the last."""
        return self.config.patience is not None and (last or self.progress.step % self.config.validate_every == 0)

    @property
    def out_of_patience(self) -> bool:
        """Whether `patience` validations have gone by without a lower held-out loss."""
        patience = self.config.patience
        return patience is not None and self.progress.validations_since_lowest >= patience

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
