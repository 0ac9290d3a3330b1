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
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from pipeline.values import UserError

Pooling = Enum("Pooling", ["mean", "cls"])
Precision = Enum("Precision", ["auto", "float32", "bfloat16"])
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
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = 0
    device: Device = Device.auto
    threads: int = MISSING
    results_dir: str = MISSING
    sweep: str = MISSING


ConfigStore.instance().store(name="schema", node=Config)


def targets(cfg: DictConfig) -> dict[str, DictConfig]:
    """The nodes of a config that name code, by key."""
    nodes = {"sampler": cfg.sampler, "data": cfg.data}
    return nodes | {f"{group}.{name}": node for group in ("eval", "metrics") for name, node in cfg[group].items()}


def check_target(key: str, node: DictConfig) -> None:
    """Bind a node to its `_target_` without calling it: unknown and missing keys, and values of the wrong type."""
    parameters = inspect.signature(get_object(node._target_), eval_str=True).parameters
    values = {name: value for name, value in OmegaConf.to_container(node, resolve=True).items() if name[0] != "_"}
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
    positive += ["profile.index_rows"]
    rules = [(key, "must be positive", lambda value: value > 0) for key in positive]
    rules += [
        ("trainer.steps", "must not be negative", lambda value: value >= 0),
        ("trainer.weight_decay", "must not be negative", lambda value: value >= 0),
        ("trainer.dropout", "must lie in [0, 1)", lambda value: value is None or 0 <= value < 1),
        ("trainer.warmup_fraction", "must lie in [0, 1]", lambda value: 0 <= value <= 1),
        ("model.layers", "must be positive", lambda value: value is None or value > 0),
        ("profile.min_seconds", "must not be negative", lambda value: value >= 0),
        ("profile.token_budgets", "must list positive numbers", lambda value: value and all(n > 0 for n in value)),
        ("profile.intensity_g_per_kwh", "must not be negative", lambda value: value >= 0),
        ("profile.country", "must be an ISO 3166-1 alpha-3 code", lambda value: len(value) == 3 and value.isupper()),
    ]
    for key, rule, holds in rules:
        value = OmegaConf.select(cfg, key, throw_on_missing=True)
        if not holds(value):
            raise UserError(f"{key}={value}: it {rule}.")
    for key, node in targets(cfg).items():
        check_target(key, node)
    build("sampler", cfg.sampler)


# Of each stage: the parts of the config, and of the code, that its result follows from. Modules named by a `_target_`
# count by themselves. A stage's inputs include those of the stages it builds on.
ENCODER = ("values", "packaged", "encoder", "encoding")
STAGES = {
    "train": (("model", "sampler", "data", "trainer", "seed", "device", "threads"), (*ENCODER, "sampling", "training")),
    "evaluate": (("eval", "metrics"), ("retrieval", "metrics", "pools")),
    "profile": (("profile",), ("profile", "profiling")),
}


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as JSON values."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True, enum_to_str=True)


def inputs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By stage, all that its result follows from; paths of results, names and plots are not among it."""
    found: dict[str, dict[str, Any]] = {}
    before: dict[str, Any] = {}
    for stage, (keys, code) in STAGES.items():
        chosen = {key: config[key] for key in keys}
        before = before | chosen | {f"code of {part}": code_hash(part) for part in (*code, *target_modules(chosen))}
        found[stage] = before
    return found


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
