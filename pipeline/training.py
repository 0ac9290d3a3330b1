"""Draws -> a trained encoder: the contrastive loss, its LightningModule, and one call that fits.

Legend: N pairs of a batch, D embedding width.
"""

import logging
import math
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.encoder import Encoder
from pipeline.encoding import batches as by_length
from pipeline.values import Draw, ParallelText

TOKEN_BUDGET = 1024  # of one part of a batch, padding included


def info_nce(query_ND: torch.Tensor, passage_ND: torch.Tensor, group_N: torch.Tensor, temperature: float):
    """Mean InfoNCE of unit-length pairs with in-batch negatives (van den Oord 2018; DPR, Karpukhin 2020).

    Pair n's passage is the positive of query n; passages of its own group - translations and other questions of the
    same sentence - are not its negatives.
    """
    score_NN = query_ND @ passage_ND.T / temperature
    same_NN = group_N[:, None] == group_N[None, :]
    same_NN.fill_diagonal_(False)
    target_N = torch.arange(len(query_ND), device=score_NN.device)
    return functional.cross_entropy(score_NN.masked_fill(same_NN, -math.inf), target_N)


def precision(setting: str, device: str) -> str:
    """Lightning's name of the precision; `auto` is bfloat16 autocast where the processor has instructions for it."""
    if setting == "auto":
        if device == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has = torch.cpu.get_capabilities()
            fast = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        setting = "bfloat16" if fast else "float32"
    return {"float32": "32-true", "bfloat16": "bf16-mixed"}[setting]


class Step(NamedTuple):
    """The texts of a batch, queries then passages, in parts of like length: hardly any padding, the same gradient."""

    parts: list[tuple[torch.Tensor, torch.Tensor]]  # ids_NT, mask_NT
    order: torch.Tensor  # of the texts in the joined parts
    group_N: torch.Tensor


class Draws(Sampler):
    """The sampler of torch's DataLoader: one item is one batch of draws."""

    def __init__(self, batches: Iterator[list[Draw]], steps: int):
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.batches


class Pairs(Dataset):
    """Draws -> tensors: texts are read and tokenised as they are needed, so memory does not grow with the corpus."""

    def __init__(self, encoder: Encoder, data: ParallelText):
        self.encoder, self.data = encoder, data
        self.seen: Counter[str] = Counter()  # draws by language pair

    def __getitem__(self, draws: list[Draw]) -> Step:
        self.seen.update(f"{draw.query_language}-{draw.passage_language}" for draw in draws)
        questions = [self.data.text(draw.row, draw.query_language, "query") for draw in draws]
        passages = [self.data.text(draw.row, draw.passage_language, "passage") for draw in draws]
        group_N = torch.as_tensor(self.data.passage_group[[draw.row for draw in draws]])
        rows = self.encoder.tokenize(questions, "query") + self.encoder.tokenize(passages, "passage")
        parts = list(by_length([len(row) for row in rows], TOKEN_BUDGET))
        padded = [self.encoder.pad([rows[n] for n in part]) for part in parts]
        return Step(padded, torch.as_tensor(np.argsort(np.concatenate(parts))), group_N)


class Contrastive(pl.LightningModule):
    def __init__(self, encoder: Encoder, settings: Mapping[str, Any]):
        super().__init__()
        self.encoder = encoder
        self.settings = settings
        self.curve: list[dict[str, float]] = []
        self.clock_s = time.perf_counter()

    def training_step(self, batch: Step, index: int) -> torch.Tensor:
        emb_ND = torch.cat([self.encoder(ids_NT, mask_NT) for ids_NT, mask_NT in batch.parts])[batch.order]
        query_ND, passage_ND = emb_ND.chunk(2)
        loss = info_nce(query_ND, passage_ND, batch.group_N, self.settings["temperature"])
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.global_step}")
        return loss

    def on_train_batch_end(self, outputs: Mapping[str, torch.Tensor], batch: Step, index: int) -> None:
        if (index + 1) % self.settings["log_every"]:
            return
        now_s, pairs = time.perf_counter(), self.settings["log_every"] * len(batch.group_N)
        point = {
            "step": self.global_step,
            "loss": outputs["loss"].item(),
            "learning_rate": self.lr_schedulers().get_last_lr()[0],
            "pairs_per_s": pairs / (now_s - self.clock_s),
        }
        self.clock_s = now_s
        self.curve.append(point)
        self.log_dict({key: value for key, value in point.items() if key != "step"}, prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; linear warm-up, then linear decay to zero at the last step."""
        settings = self.settings
        trained = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], weight_decay=settings["weight_decay"])
        warmup, steps = max(1, round(settings["warmup_fraction"] * settings["steps"])), settings["steps"]

        def factor(step: int) -> float:
            return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def with_dropout(encoder: Encoder, probability: float | None) -> Encoder:
    """Set every dropout of the encoder, its attention's included; None leaves them."""
    for module in encoder.modules():
        if isinstance(module, nn.Dropout) and probability is not None:
            module.p = probability
    return encoder


def fit(
    encoder: Encoder,
    data: ParallelText,
    batches: Iterator[list[Draw]],
    settings: Mapping[str, Any],
    *,
    device: str,
    seed: int,
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Train `encoder` in place on `batches`; return the curve and how often each language pair was drawn."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    pl.seed_everything(seed, verbose=False)
    pairs = Pairs(encoder, data)
    module = Contrastive(with_dropout(encoder.train(), settings["dropout"]), settings)
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=precision(settings["precision"], device),
        max_epochs=1,  # the batches are one pass of `steps`; what an epoch of the data is, the sampler knows
        callbacks=[TQDMProgressBar()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # Tokenising takes milliseconds a batch: no worker processes, whatever Lightning suggests.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)  # Lightning's
        trainer.fit(module, DataLoader(pairs, batch_size=None, sampler=Draws(batches, settings["steps"])))
    encoder.eval()
    return module.curve, dict(pairs.seen)
