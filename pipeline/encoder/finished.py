"""The encoder of a finished run, or as far as a run has come: from the weights that its stages keep in the store."""

from pathlib import Path

from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import load
from pipeline.groups import ModelConfig
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import UserError


def load_finished(store: ResultStore, record: Record, model: ModelConfig) -> Encoder:
    """Return the encoder of a run, on the CPU, in evaluation mode.

    Args:
        model: of the record's config.

    Raises:
        UserError: if weights are missing or damaged.
    """
    encoder, stages = load(model, seed=record.seed), record.provenance["stages"]
    if model.distill:
        restore_distilled(encoder, store, stages["distill"])
    if record.training:
        encoder.restore(weights(store, "train", stages["train"]))
    return encoder


def restore_distilled(encoder: Encoder, store: ResultStore, key: str) -> None:
    """Give an encoder the weights of a stage `distill`, and its projection, if it needed one."""
    outcome = store.outcome("distill", key)
    if outcome is None:
        raise UserError(f"{store.stage_dir('distill', key)} is missing or damaged: make the run again.")
    if outcome["projected_width"] not in (None, encoder.width):
        encoder.head.project(outcome["projected_width"])
    encoder.restore(weights(store, "distill", key))


def weights(store: ResultStore, stage: str, key: str) -> Path:
    """Return the folder that holds the weights of a stage."""
    return store.stage_dir(stage, key) / "encoder"
