"""Train an encoder in one call that may be killed at any moment and resumes from its checkpoints.

`parts` holds rows out (`holdout`), builds the batches with the sampling strategy, and calls `fit`.
"""

import copy
from pathlib import Path
from typing import NamedTuple

import torch

from pipeline.encoder.model import Encoder
from pipeline.groups import Parallel, TrainerConfig
from pipeline.store.progress import counted
from pipeline.training import checkpoints, negatives
from pipeline.training.holdout import hold_out
from pipeline.training.lightning import PRECISIONS, run, set_dropout
from pipeline.training.lora import lora_adapters
from pipeline.training.module import Contrastive
from pipeline.training.resumable import DrawBatches, OnPoint
from pipeline.training.world import environment, strategy_of
from pipeline.values import Draw, ParallelText, UserError, World

ALONE = World()
HELD_OUT_BATCHES = 8  # per validation; drawn once, as the strategy draws over a whole training


class Training(NamedTuple):
    """What a training leaves beside the encoder's weights.

    Attributes:
        curve: one point per logged step: step, loss, learning_rate, pairs_per_s and, at validations, held_out_loss.
        language_pairs: how often each pair of query and passage language was drawn, such as {"de-en": 12}.
    """

    curve: list[dict[str, float]]
    language_pairs: dict[str, int]


def fit(
    encoder: Encoder,
    data: ParallelText,
    draw: DrawBatches,
    draw_held_out: DrawBatches,
    trainer: TrainerConfig,
    *,
    folder: Path,
    device: str,
    seed: int,
    on_point: OnPoint = lambda point: None,
    world: World = ALONE,
) -> Training:
    """Train `encoder` in place on the batches of `draw`, and leave it in evaluation mode.

    With `trainer.patience` the encoder ends with the weights of the lowest held-out loss, else with the last ones.

    Args:
        draw_held_out: draws the validation batches; called only with `trainer.patience`.
        folder: holds the checkpoints of this training. A call that was killed resumes from them, and the result equals
            that of an undisturbed training (on a CPU bit by bit).
        device: cpu or cuda.
        world: the place of this process among those that train together; all must call `fit` with equal arguments.
        on_point: called with each point of the curve once it is complete, by one process. Must return at once. A call
            that resumes begins with the points of the checkpoint.

    Raises:
        UserError: for a setting that does not fit the encoder, the data or the device.
        FloatingPointError: for a NaN or infinite loss.
        RuntimeError: if another process has ended, or was not heard of for world.SILENCE.
        AssertionError: for `trainer.precision=auto`, which the caller must resolve.
    """
    assert trainer.precision in PRECISIONS, (
        f"trainer.precision={trainer.precision.name}: resolve it to float32 or bfloat16 before training."
    )
    check_settings(encoder, trainer, device)
    held_out = held_out_batches(draw_held_out, trainer)
    checkpoint = checkpoints.latest(folder)
    with lora_adapters(encoder, trainer.lora_rank, seed):
        if checkpoint is None or not checkpoint.state["progress"]["finished"]:
            train_NL, _ = hold_out(data, trainer, seed)
            count = trainer.hard_negatives
            hard_negatives = negatives.source(encoder, data, train_NL, count, folder / "negatives")
            # FSDP leaves shards where weights were
            trained = copy.deepcopy(encoder) if trainer.strategy is Parallel.fsdp and world.size > 1 else encoder
            trained.train()
            set_dropout(trained, trainer.dropout)
            module = Contrastive(
                trained, data, draw, held_out, trainer, hard_negatives, folder=folder, seed=seed, on_point=on_point
            )
            if checkpoint:
                module.resume(checkpoint)
            with environment(world, trainer) as processes:
                strategy = strategy_of(world, trainer, device)
                machines = {"devices": trainer.devices, "num_nodes": trainer.num_nodes}
                run(module, trainer.precision, device, **machines, strategy=strategy, plugins=processes)
            checkpoint = checkpoints.latest(folder)
        assert checkpoint is not None, "training ends with a checkpoint"
        encoder.load_state_dict(checkpoint.best_weights or checkpoint.weights, strict=False)
        encoder.to(device).eval()
    progress = checkpoint.state["progress"]
    return Training(progress["curve"], progress["language_pairs"])


def held_out_batches(draw_held_out: DrawBatches, trainer: TrainerConfig) -> list[list[Draw]]:
    """Draw the batches of every validation; none without `trainer.patience`."""
    return [] if trainer.patience is None else list(draw_held_out(steps=HELD_OUT_BATCHES))


def check_settings(encoder: Encoder, trainer: TrainerConfig, device: str) -> None:
    """Raise UserError for widths, layers or processes that the encoder or the device cannot have."""
    for width in trainer.matryoshka_widths:
        if width > encoder.width:
            raise UserError(f"trainer.matryoshka_widths: {width} exceeds the embedding width, {encoder.width}.")
    depth = encoder.backbone.config.num_hidden_layers
    for layer in trainer.exit_layers:
        if layer >= depth:
            raise UserError(f"trainer.exit_layers: {layer} is not below the encoder's last layer, {depth}.")
    if encoder.backbone.dtype != torch.float32 and trainer.lora_rank is None:
        raise UserError("model.precision=bfloat16: training needs float32 weights, or trainer.lora_rank.")
    if device == "cuda" and trainer.devices > (cards := torch.cuda.device_count()):
        raise UserError(f"trainer.devices={trainer.devices}: this machine has {counted(cards, 'GPU')}.")
