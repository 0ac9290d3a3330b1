"""The encoder that a run starts with: from `sources`, a stage or a finished run, or a file that runs as it is (`use`).

`parts` and the command `export` call it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.encoder import sources
from pipeline.encoder.deployed import Fixed
from pipeline.encoder.model import Encoder
from pipeline.groups import KeptLayers, ModelConfig, model_of
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import USE, UserError

RECORD = "record.json"


def started(model: ModelConfig, store: ResultStore, keys: Mapping[str, str]) -> ModelConfig:
    """Return the model as it starts: where one of the run's stages distils the start, its weights are that stage's.

    Args:
        keys: cache keys of the run's stages.
    """
    if "static" not in keys:
        return model
    folder = store.stage_dir("static", keys["static"])
    return replace(model, weights=str(folder), revision=None, layers=None, static=None)


def load(model: ModelConfig, *, seed: int, device: str, threads: int) -> Encoder | Fixed:
    """Return the encoder that a run starts with, on its device. Errors as of `sources.load` and `use.load`."""
    if model.weights == USE:
        from pipeline.encoder import use

        return use.load(model, device=device, threads=threads)
    return sources.load(model, seed=seed).to(device)


def of_run(store: ResultStore, record: Record) -> Encoder:
    """Return the encoder of a finished run; UserError if its weights are missing, or are none of torch's."""
    if record.config["model"]["weights"] == USE:
        raise UserError(
            f"{record.name}: its encoder is a file of another engine, which runs as it is and no other way."
        )
    model, keys = model_of(record.config["model"]), record.provenance["stages"]
    encoder = sources.load(started(model, store, keys), seed=record.seed)
    if model.distill:
        restore_distilled(encoder, store, keys["distill"])
    if record.training:
        encoder.restore(store.stage_dir("train", keys["train"]) / "encoder")
    return encoder


def restore_distilled(encoder: Encoder, store: ResultStore, key: str) -> None:
    """Give an encoder the weights of a stage `distill`, and its projection, if it needed one."""
    outcome = store.outcome("distill", key)
    if outcome is None:
        raise UserError(f"{store.stage_dir('distill', key)} is missing or damaged: make the run again.")
    if outcome["projected_width"] not in (None, encoder.width):
        encoder.head.project(outcome["projected_width"])
    encoder.restore(store.stage_dir("distill", key) / "encoder")


def teacher(model: ModelConfig, store: ResultStore, seed: int) -> Encoder:
    """Return the encoder that teaches a distilled one: the model itself with all layers, a run, a folder, a hub model.

    Args:
        seed: of the run; of random weights.
    """
    assert model.distill  # others have no teacher
    if (name := model.distill.teacher) is None:
        if model.weights == "random":
            raise UserError("model.distill.teacher=null means the model itself, and model.weights=random.")
        return sources.load(replace(model, layers=None, kept_layers=KeptLayers.first, distill=None), seed=seed)
    if "/" not in name and store.finished(name):
        return of_run(store, store.load(name))
    return sources.load(ModelConfig(family=name, weights=name), seed=0)


def static_teacher(model: ModelConfig) -> Encoder:
    """Return the encoder that a static start is distilled from, which `weights`, `revision` and `layers` name.

    `weights` may also name the folder of a finished run, such as results/runs/<run>.
    """
    run = Path(model.weights)
    if not (run / RECORD).is_file():
        return sources.load(
            ModelConfig(
                family=model.family,
                weights=model.weights,
                revision=model.revision,
                precision=model.precision,
                layers=model.layers,
            ),
            seed=0,
        )
    if model.layers is not None:
        raise UserError(f"model.layers={model.layers}: model.weights={run} is a run, whose encoder has its own layers.")
    store = ResultStore(run.resolve().parents[1])
    return of_run(store, store.load(run.name))
