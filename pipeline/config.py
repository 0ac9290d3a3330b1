"""The typed root of the configuration: what Hydra composes from conf/ is checked here, before any work starts.

OmegaConf rejects unknown keys and wrong types of the dataclasses; nodes with a `_target_` are bound to the signature of
their target; `check` rejects impossible values. Every rejection is a `UserError` that names the key. `typed` turns the
composed config into these dataclasses, which is what all other modules take.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.values import UserError, Variant, alternatives, unknown

Pooling = Enum("Pooling", ["mean", "cls", "lasttoken", "max", "weightedmean", "mean_sqrt_len_tokens"])
Precision = Enum("Precision", ["auto", "float32", "bfloat16"])  # of training
VariantPrecision = Enum("VariantPrecision", ["float32", "bfloat16", "int8"])
Device = Enum("Device", ["auto", "cpu", "cuda"])
Parallel = Enum("Parallel", ["ddp", "fsdp"])
BACKENDS = Path(__file__).parent / "encoder" / "backends"  # a file per backend


@dataclass
class DenseConfig:
    """A dense layer after pooling."""

    width: int = MISSING
    activation: str = "identity"
    bias: bool = True


@dataclass
class ModelConfig:
    """conf/model: where an encoder's weights come from, and how it reads texts; null where its own files decide."""

    family: str = MISSING
    weights: str = MISSING
    revision: str | None = None
    license: str | None = None
    precision: Precision = Precision.float32
    layers: int | None = None
    pooling: Pooling | None = None
    dense: list[DenseConfig] | None = None
    normalize: bool | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_query_tokens: int | None = None
    max_passage_tokens: int | None = None
    freeze_word_embeddings: bool = False
    architecture: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainerConfig:
    """conf/trainer, which explains every key."""

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
    num_nodes: int = MISSING
    strategy: Parallel = Parallel.ddp
    patience: int | None = MISSING
    validate_every: int = MISSING
    holdout_fraction: float = MISSING
    matryoshka_widths: list[int] = MISSING
    exit_layers: list[int] = MISSING
    hard_negatives: int = MISSING
    lora_rank: int | None = MISSING

    @property
    def processes(self) -> int:
        """How many processes train together, on all machines."""
        return self.devices * self.num_nodes


@dataclass
class ProfileConfig:
    """conf/profile: how long the meters measure."""

    enabled: bool = True
    min_calls: int = MISSING
    min_seconds: float = MISSING
    token_budgets: list[int] = MISSING
    index_rows: int = MISSING
    energy_seconds: float = MISSING
    country: str = MISSING
    intensity_g_per_kwh: float = MISSING
    rounds: int = MISSING
    shared: bool = True


@dataclass
class VariantGrid:
    """Every combination of these lists is an inference variant (values.Variant) of the trained encoder."""

    backend: list[str] = field(default_factory=lambda: ["eager"])
    precision: list[VariantPrecision] = field(default_factory=lambda: [VariantPrecision.float32])
    max_passage_tokens: list[int | None] = field(default_factory=lambda: [None])
    width: list[int | None] = field(default_factory=lambda: [None])
    index: list[str] = field(default_factory=lambda: ["exact"])


@dataclass
class VariantsConfig:
    grids: list[VariantGrid] = field(default_factory=list)


@dataclass
class TrackingConfig:
    wandb: bool = True
    project: str = MISSING
    entity: str | None = None
    dir: str = MISSING


@dataclass
class Config:
    """The root. `sampler`, `data` and the nodes of `eval` name their code by `_target_`; `build` makes them."""

    model: ModelConfig = field(default_factory=ModelConfig)
    sampler: Any = MISSING
    data: Any = MISSING
    eval: Any = MISSING
    metrics: list[str] = MISSING
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

    def inference_variants(self) -> list[Variant]:
        """All variants to evaluate: as trained first, then those of each engine together."""
        variants = [Variant()]
        for grid in self.variants.grids:
            precisions = [precision.name for precision in grid.precision]
            axes = (grid.backend, precisions, grid.max_passage_tokens, grid.width, grid.index)
            variants += [Variant(*values) for values in product(*axes)]
        engines = list(dict.fromkeys(variant.engine for variant in variants))
        return sorted(dict.fromkeys(variants), key=lambda variant: engines.index(variant.engine))


ConfigStore.instance().store(name="schema", node=Config)


def typed(cfg: DictConfig) -> Config:
    """The composed config as dataclasses."""
    return cast(Config, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), cfg)))


def plain(config: Config) -> dict[str, Any]:
    """The config as JSON values: what a record keeps and a child process is sent."""
    cfg = OmegaConf.structured(config)
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))


def from_plain(values: Mapping[str, Any]) -> Config:
    """The inverse of `plain`."""
    return typed(OmegaConf.create(dict(values)))


def targets(config: Config) -> dict[str, Mapping[str, Any]]:
    """The nodes of a config that name code, by key."""
    nodes = {"sampler": config.sampler, "data": config.data}
    return nodes | {f"eval.{name}": node for name, node in config.eval.items()}


def check_target(key: str, node: Mapping[str, Any]) -> None:
    """Bind a node to its `_target_` without calling it.

    Raises:
        UserError: for an unknown or missing key, or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError  # pipeline.profile_model does without

    parameters = inspect.signature(get_object(node["_target_"]), eval_str=True).parameters
    values = {name: value for name, value in node.items() if name[0] != "_"}
    for name in values:
        if name not in parameters:
            raise UserError(f"unknown key {key}.{name}: {key} takes {', '.join(parameters)}.")
    for name, parameter in parameters.items():
        if name not in values:
            if parameter.default is parameter.empty:
                raise UserError(f"{key}.{name} is missing.")
            continue
        try:
            TypeAdapter(parameter.annotation).validate_python(values[name])
        except ValidationError as error:
            raise UserError(f"{key}.{name}={values[name]!r}: {error.errors()[0]['msg'].lower()}.") from error


def build(key: str, node: Mapping[str, Any]) -> Any:
    """Call a node's `_target_`; an impossible value (ValueError of the target) is a UserError that names its key."""
    try:
        return instantiate(node, _convert_="all", _recursive_=False)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError):
            raise UserError(f"{key}.{error.__cause__}") from error
        raise


LENGTHS = ("model.max_query_tokens", "model.max_passage_tokens")
TRAINER = "steps batch_size learning_rate temperature log_every checkpoint_every forward_tokens devices num_nodes"
TRAINER += " validate_every"
PROFILE = "min_calls energy_seconds index_rows rounds"
POSITIVE = ["threads", *(f"trainer.{name}" for name in TRAINER.split())]
POSITIVE += [f"profile.{name}" for name in PROFILE.split()]
RULES = [
    *((key, "must be positive", lambda value: value > 0) for key in POSITIVE),
    *(
        (key, "must be positive, or null", lambda value: value is None or value > 0)
        for key in ("trainer.patience", "trainer.lora_rank", "time_limit_min", "model.layers", *LENGTHS)
    ),
    *(
        (key, "must not be negative", lambda value: value >= 0)
        for key in ("trainer.weight_decay", "trainer.hard_negatives", "profile.min_seconds")
    ),
    *(
        (key, "must list positive numbers", lambda value: all(number > 0 for number in value))
        for key in ("trainer.matryoshka_widths", "trainer.exit_layers")
    ),
    ("trainer.dropout", "must lie in [0, 1)", lambda value: value is None or 0 <= value < 1),
    ("trainer.warmup_fraction", "must lie in [0, 1]", lambda value: 0 <= value <= 1),
    ("trainer.holdout_fraction", "must lie in (0, 1)", lambda value: 0 < value < 1),
    ("profile.token_budgets", "must list positive numbers", lambda value: value and all(n > 0 for n in value)),
    ("profile.intensity_g_per_kwh", "must not be negative", lambda value: value >= 0),
    ("profile.country", "must be an ISO 3166-1 alpha-3 code", lambda value: len(value) == 3 and value.isupper()),
]


def check(cfg: DictConfig) -> Config:
    """The typed config.

    Raises:
        UserError: for the first impossible value.
    """
    if OmegaConf.is_missing(cfg.model, "weights"):
        raise UserError("model.weights is missing: set it to a folder or a repository of the hub.")
    nodes = {"": cfg} | {f"{key!s}.": node for key, node in cfg.items() if OmegaConf.is_dict(node)}
    for prefix, node in nodes.items():  # Hydra adds a key for +key=value
        if is_dataclass(kind := OmegaConf.get_type(node)):
            known = [each.name for each in fields(kind)]
            for key in node.keys() - {*known}:
                raise UserError(f"unknown key {prefix}{key}: {alternatives(key, known)}")
    for key, rule, holds in RULES:
        value = OmegaConf.select(cfg, key, throw_on_missing=True)
        if not holds(value):
            raise UserError(f"{key}={value}: it {rule}.")
    config = typed(cfg)
    if config.costs_from == config.sweep:
        raise UserError(f"costs_from={config.costs_from}: it must be another sweep.")
    if not config.eval:
        raise UserError("eval: there is no benchmark; choose one: eval=parallel (rows held out), eval=beir, …")
    if config.model.precision is Precision.auto:
        raise UserError("model.precision=auto: it must be float32 or bfloat16.")
    if config.trainer.batch_size % config.trainer.processes:
        raise UserError(
            f"trainer.devices={config.trainer.devices} (x trainer.num_nodes={config.trainer.num_nodes}): their product "
            "must divide trainer.batch_size."
        )
    backends = [path.stem for path in sorted(BACKENDS.glob("[!_]*.py"))]
    for number, grid in enumerate(config.variants.grids):
        for key in ("max_passage_tokens", "width"):
            values = getattr(grid, key)
            if any(value is not None and value <= 0 for value in values):
                raise UserError(f"variants.grids[{number}].{key}={values}: it must list positive numbers, or null.")
        for backend in grid.backend:
            if backend not in backends:
                raise UserError(unknown(f"variants.grids[{number}].backend", backend, backends))
    for key, node in targets(config).items():
        check_target(key, node)
    build("sampler", config.sampler)
    return config


def target_modules(node: Any) -> set[str]:
    """The modules under every `_target_` of a node: pipeline.data.lareqa, …"""
    if not isinstance(node, Mapping):
        return set()
    modules = set().union(*(target_modules(child) for child in node.values()))
    if "_target_" in node:
        modules.add(re.sub(r"\.\w+$", "", node["_target_"]))
    return modules
