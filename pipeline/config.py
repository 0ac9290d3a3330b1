"""The typed root of the configuration: what Hydra composes from conf/ is checked here, before any work starts.

OmegaConf refuses unknown keys and wrong types of the dataclasses; the nodes that carry a `_target_` are bound to their
target's signature; `check` refuses impossible values. Every refusal is a `UserError` that names the key.
"""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from pipeline.values import Serving, UserError

Pooling = Enum("Pooling", ["mean", "cls"])
Precision = Enum("Precision", ["auto", "float32", "bfloat16"])
ServedPrecision = Enum("ServedPrecision", ["float32", "bfloat16", "int8"])
Backend = Enum("Backend", ["eager", "onednn", "compile", "onnx", "openvino"])
Device = Enum("Device", ["auto", "cpu", "cuda"])


@dataclass
class ModelConfig:
    family: str = MISSING
    weights: str = MISSING
    revision: str | None = None
    layers: int | None = None
    pooling: Pooling = Pooling.mean
    query_prefix: str = ""
    passage_prefix: str = ""
    max_query_tokens: int = 64
    max_passage_tokens: int = 256
    freeze_word_embeddings: bool = False
    architecture: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainerConfig:
    steps: int = MISSING
    batch_size: int = MISSING
    learning_rate: float = MISSING
    weight_decay: float = MISSING
    warmup_fraction: float = MISSING
    temperature: float = MISSING
    dropout: float | None = MISSING
    precision: Precision = Precision.auto
    log_every: int = MISSING
    checkpoint_every: int = MISSING
    forward_tokens: int = MISSING
    grad_cache: bool = MISSING
    devices: int = MISSING
    patience: int | None = MISSING
    validate_every: int = MISSING
    holdout_fraction: float = MISSING
    matryoshka_widths: list[int] = MISSING
    exit_layers: list[int] = MISSING
    hard_negatives: int = MISSING
    lora_rank: int | None = MISSING


@dataclass
class ProfileConfig:
    enabled: bool = True
    min_calls: int = MISSING
    min_seconds: float = MISSING
    token_budgets: list[int] = MISSING
    index_rows: int = MISSING
    energy_seconds: float = MISSING
    country: str = MISSING
    intensity_g_per_kwh: float = MISSING
    shared: bool = True


@dataclass
class ServingGrid:
    """Every combination of its lists is one more way to serve the trained encoder (values.Serving)."""

    backend: list[Backend] = field(default_factory=lambda: [Backend.eager])
    precision: list[ServedPrecision] = field(default_factory=lambda: [ServedPrecision.float32])
    max_passage_tokens: list[int | None] = field(default_factory=lambda: [None])
    width: list[int | None] = field(default_factory=lambda: [None])
    index: list[str] = field(default_factory=lambda: ["exact"])


@dataclass
class VariantsConfig:
    grids: list[ServingGrid] = field(default_factory=list)


@dataclass
class TrackingConfig:
    wandb: bool = True
    project: str = MISSING
    entity: str | None = None
    dir: str = MISSING


@dataclass
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    sampler: Any = MISSING
    data: Any = MISSING
    eval: Any = MISSING
    metrics: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    variants: VariantsConfig = field(default_factory=VariantsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = 0
    device: Device = Device.auto
    threads: int = MISSING
    time_limit_min: float | None = None
    results_dir: str = MISSING
    sweep: str = MISSING
    costs_from: str | None = None


ConfigStore.instance().store(name="schema", node=Config)


def targets(cfg: DictConfig) -> dict[str, DictConfig]:
    """The nodes of a config that name code, by key."""
    nodes = {"sampler": cfg.sampler, "data": cfg.data}
    return nodes | {f"{group}.{name}": node for group in ("eval", "metrics") for name, node in cfg[group].items()}


def check_target(key: str, node: DictConfig) -> None:
    """Bind a node to its `_target_` without calling it: unknown and missing keys, and values of the wrong type."""
    parameters = inspect.signature(get_object(node._target_), eval_str=True).parameters
    settings: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    values = {name: value for name, value in settings.items() if name[0] != "_"}
    for name in values:
        if name not in parameters:
            raise UserError(f"unknown key {key}.{name}: {key} takes {', '.join(parameters)}.")
    for name, parameter in parameters.items():
        if name not in values:
            if parameter.default is parameter.empty and not node.get("_partial_"):
                raise UserError(f"{key}.{name} is missing.")
            continue
        try:
            TypeAdapter(parameter.annotation).validate_python(values[name])
        except ValidationError as error:
            raise UserError(f"{key}.{name}={values[name]!r}: {error.errors()[0]['msg'].lower()}.") from error


def build(key: str, node: Mapping[str, Any]) -> Any:
    """Instantiate a node; an impossible value (ValueError of the target) names its key."""
    try:
        return instantiate(node, _convert_="all", _recursive_=False)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError):
            raise UserError(f"{key}.{error.__cause__}") from error
        raise


def check(cfg: DictConfig) -> None:
    """Raise UserError for the first impossible value."""
    positive = ["trainer.batch_size", "trainer.learning_rate", "trainer.temperature", "trainer.log_every", "threads"]
    positive += ["model.max_query_tokens", "model.max_passage_tokens", "profile.min_calls", "profile.energy_seconds"]
    positive += ["profile.index_rows", "trainer.steps", "trainer.checkpoint_every", "trainer.forward_tokens"]
    positive += ["trainer.devices", "trainer.validate_every"]
    rules = [(key, "must be positive", lambda value: value > 0) for key in positive]
    rules += [
        ("trainer.weight_decay", "must not be negative", lambda value: value >= 0),
        ("trainer.dropout", "must lie in [0, 1)", lambda value: value is None or 0 <= value < 1),
        ("trainer.warmup_fraction", "must lie in [0, 1]", lambda value: 0 <= value <= 1),
        ("trainer.patience", "must be positive, or null", lambda value: value is None or value > 0),
        ("trainer.holdout_fraction", "must lie in (0, 1)", lambda value: 0 < value < 1),
        ("trainer.matryoshka_widths", "must list positive numbers", lambda value: all(n > 0 for n in value)),
        ("trainer.exit_layers", "must list positive numbers", lambda value: all(n > 0 for n in value)),
        ("trainer.hard_negatives", "must not be negative", lambda value: value >= 0),
        ("trainer.lora_rank", "must be positive, or null", lambda value: value is None or value > 0),
        ("model.layers", "must be positive", lambda value: value is None or value > 0),
        ("time_limit_min", "must be positive, or null", lambda value: value is None or value > 0),
        ("profile.min_seconds", "must not be negative", lambda value: value >= 0),
        ("profile.token_budgets", "must list positive numbers", lambda value: value and all(n > 0 for n in value)),
        ("profile.intensity_g_per_kwh", "must not be negative", lambda value: value >= 0),
        ("profile.country", "must be an ISO 3166-1 alpha-3 code", lambda value: len(value) == 3 and value.isupper()),
    ]
    for key, rule, holds in rules:
        value = OmegaConf.select(cfg, key, throw_on_missing=True)
        if not holds(value):
            raise UserError(f"{key}={value}: it {rule}.")
    if cfg.costs_from == cfg.sweep:
        raise UserError(f"costs_from={cfg.costs_from}: it must be another sweep.")
    if cfg.trainer.batch_size % cfg.trainer.devices:
        raise UserError(f"trainer.devices={cfg.trainer.devices}: it must divide trainer.batch_size.")
    for number, grid in enumerate(cfg.variants.grids):
        for key in ("max_passage_tokens", "width"):
            if any(value is not None and value <= 0 for value in grid[key]):
                raise UserError(f"variants.grids[{number}].{key}={grid[key]}: it must list positive numbers, or null.")
    for key, node in targets(cfg).items():
        check_target(key, node)
    build("sampler", cfg.sampler)


# Of each stage: the parts of the config, and of the code, that its result follows from. Modules named by a `_target_`
# count by themselves. A stage's inputs include those of the stages it builds on.
ENCODER = ("values", "encoder")
TRAINING = ("sampling", "training")
STAGES = {
    "train": (("model", "sampler", "data", "trainer", "seed", "device", "threads"), (*ENCODER, *TRAINING)),
    "evaluate": (("eval", "metrics"), ("onednn", "retrieval")),
    "profile": (("profile",), ("profiling",)),
}
# Keys of the trainer that change memory, speed, safety or what is shown, and the result by rounding at most.
HARMLESS = {"checkpoint_every", "forward_tokens", "grad_cache", "log_every"}
FILES = {"path", "weights"}  # keys that may name a file or a folder: what counts is what it holds


def servings(config: Mapping[str, Any]) -> list[Serving]:
    """All ways in which a plain config asks for the trained encoder to be served: as trained first, then by engine."""
    asked = [Serving()]
    for grid in config["variants"]["grids"]:
        asked += [Serving(**dict(zip(grid, values, strict=True))) for values in product(*grid.values())]
    engines = list(dict.fromkeys(serving.engine for serving in asked))
    return sorted(dict.fromkeys(asked), key=lambda serving: engines.index(serving.engine))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as JSON values."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True, enum_to_str=True)  # type: ignore[return-value]


def inputs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By stage, all that its result follows from; paths, names and plots are not among it."""
    trainer = {key: value for key, value in config["trainer"].items() if key not in HARMLESS}
    config = {**config, "trainer": trainer}
    found: dict[str, dict[str, Any]] = {}
    before: dict[str, Any] = {}
    for stage, (keys, code) in STAGES.items():
        chosen = contents({key: config[key] for key in keys})
        before = before | chosen | {f"code of {part}": code_hash(part) for part in (*code, *target_modules(chosen))}
        found[stage] = before
    return found


def contents(node: Any) -> Any:
    """A config in which the hash of what a file or folder holds stands for its path."""
    if not isinstance(node, Mapping):
        return node
    here = {key: Path(value) for key, value in node.items() if key in FILES and value and Path(value).exists()}
    return {key: tree_hash(here[key]) if key in here else contents(value) for key, value in node.items()}


def tree_hash(path: Path) -> str:
    """Of a file, or of all files in a folder and their names; hidden ones are other tools' and do not count."""
    if path.is_file():
        return file_hash(path, path.stat().st_size, path.stat().st_mtime_ns)
    names = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return hashlib.sha256("\n".join(f"{name} {tree_hash(path / name)}" for name in shown).encode()).hexdigest()


@cache
def file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Read once a process, unless the file has changed meanwhile."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def target_modules(node: Any) -> set[str]:
    """The modules of ours under every `_target_` of a config, as paths below the package: data/lareqa, metrics, …"""
    if not isinstance(node, Mapping):
        return set()
    modules = set().union(*(target_modules(child) for child in node.values()))
    if "_target_" in node:
        modules.add(node["_target_"].rpartition(".")[0].removeprefix("pipeline.").replace(".", "/"))
    return modules


@cache
def code_hash(part: str) -> str:
    """Of a module or a folder of the package; code from elsewhere counts by its name alone."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([root / f"{part}.py", *(root / part).rglob("*.py")]):
        if path.exists():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
