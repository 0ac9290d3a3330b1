"""Draws -> a trained encoder, in one call that can be interrupted at any moment: `cell` trains by `fit`.

Legend: N rows of the training data, L languages.
"""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from pipeline.encoder.model import Encoder
from pipeline.training import checkpoints, negatives
from pipeline.training.lora import adapted
from pipeline.training.module import Batches, Contrastive
from pipeline.values import Draw, ParallelText, UserError

HELD_OUT_BATCHES = 8  # of a validation; drawn once, as the strategy draws over a whole training


def precision(setting: str, device: str) -> Literal["32-true", "bf16-mixed"]:
    """Lightning's name of the precision; `auto` is bfloat16 autocast where the processor has instructions for it."""
    if setting == "auto":
        if device == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has = torch.cpu.get_capabilities()
            fast = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        setting = "bfloat16" if fast else "float32"
    return "bf16-mixed" if setting == "bfloat16" else "32-true"


def with_dropout(encoder: Encoder, probability: float | None) -> Encoder:
    """Set every dropout of the encoder, its attention's included; None leaves them."""
    for module in encoder.modules():
        if isinstance(module, nn.Dropout) and probability is not None:
            module.p = probability
    return encoder


def hold_out(data: ParallelText, settings: Mapping[str, Any], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`available_NL` of the training rows and of the held-out ones: a share of the groups, drawn by `seed`.

    Nothing is held out unless `patience` asks for validations.
    """
    available_NL = data.available_NL
    if settings["patience"] is None:
        return available_NL, available_NL[:0]
    groups, group_N = np.unique(data.passage_group, return_inverse=True)
    place_N = np.random.default_rng(seed).permutation(len(groups))[group_N]
    held_N = place_N < round(settings["holdout_fraction"] * len(groups))
    return available_NL & ~held_N[:, None], available_NL & held_N[:, None]


def fit(
    encoder: Encoder,
    data: ParallelText,
    draw: Batches,
    draw_held_out: Batches,
    settings: Mapping[str, Any],
    *,
    folder: Path,
    device: str,
    seed: int,
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Train `encoder` in place on the batches of `draw`; return the curve and how often each language pair was drawn.

    `folder` holds the checkpoints of this very training: a call that was killed goes on from them, and ends as if it
    had not been (on a CPU bit by bit). With `patience` the weights are those of the lowest held-out loss.
    """
    if too_wide := [width for width in settings["matryoshka_widths"] if width > encoder.width]:
        raise UserError(f"trainer.matryoshka_widths: {too_wide[0]} is wider than the embedding, {encoder.width}.")
    depth = encoder.backbone.config.num_hidden_layers
    if too_deep := [layer for layer in settings["exit_layers"] if layer >= depth]:
        raise UserError(f"trainer.exit_layers: {too_deep[0]} does not lie below the encoder's last layer, {depth}.")
    if settings["devices"] > 1 and device == "cuda":
        raise UserError(f"trainer.devices={settings['devices']}: several processes train on device=cpu only.")
    held_out: list[list[Draw]] = []
    if settings["patience"] is not None:
        try:
            held_out = list(draw_held_out(steps=HELD_OUT_BATCHES))
        except UserError as error:
            fraction = settings["holdout_fraction"]
            raise UserError(f"trainer.holdout_fraction={fraction} holds out too few rows: {error}") from error
    last = checkpoints.latest(folder)
    with adapted(encoder, settings["lora_rank"], seed):
        if last is None or not last.state["progress"]["finished"]:
            trained_NL, _ = hold_out(data, settings, seed)
            hard = negatives.source(encoder, data, trained_NL, settings["hard_negatives"], folder / "negatives")
            encoder = with_dropout(encoder.train(), settings["dropout"])
            module = Contrastive(encoder, data, draw, held_out, settings, hard, folder=folder, seed=seed)
            if last:
                module.resume(last)
            run(module, settings, device)
            last = checkpoints.latest(folder)
        assert last is not None, "training ends with a checkpoint"
        encoder.backbone.load_state_dict(last.best or last.weights, strict=False)
        encoder.to(device).eval()
    return last.state["progress"]["curve"], last.state["progress"]["language_pairs"]


def run(module: Contrastive, settings: Mapping[str, Any], device: str) -> None:
    """Have Lightning make the steps that are left; the module keeps what came of them in its folder."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=settings["devices"],
        strategy="auto" if settings["devices"] == 1 else "ddp_fork",  # data that lie in mapped files cannot be pickled
        plugins=LightningEnvironment(),  # all processes are on this machine, even if Slurm started the first
        precision=precision(settings["precision"], device),
        max_epochs=1,  # the batches are one pass of `steps`; what an epoch of the data is, the sampler knows
        callbacks=[TQDMProgressBar()],
        logger=False,
        enable_checkpointing=False,  # of Lightning's own, which are one pickled file
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        for lightnings_own in (".*LeafSpec.* is deprecated", ".*functional.all_gather is deprecated"):
            warnings.filterwarnings("ignore", message=lightnings_own, category=FutureWarning)
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # see LightningEnvironment above
        try:
            trainer.fit(module)
        except ProcessRaisedException as error:  # says it with the traceback of another process
            raise RuntimeError(error.msg.strip().splitlines()[-1]) from error
