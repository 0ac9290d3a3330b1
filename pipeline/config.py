"""The typed root of the configuration: what Hydra composes from conf/ is checked here, before any work starts.

OmegaConf rejects unknown keys and wrong types of the dataclasses; `targets` binds nodes with a `_target_` to the
signature of their target; `check` rejects impossible values. Every rejection is a `UserError` that names the key.
`typed` turns the composed config into these dataclasses, which is what all other modules take.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.bounds import COUNT, LARGEST, bounded, check_numbers
from pipeline.encode import EncodeConfig
from pipeline.targets import build, check_target
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

    width: int = bounded(1, COUNT)
    activation: str = "identity"
    bias: bool = True


@dataclass
class StaticConfig:
    """A static table distilled out of the model's weights; conf/model/static-e5-small.yaml explains it."""

    width: int = bounded(1, 10**5)
    sif: float | None = bounded(0, 1, above=True, below=True)


@dataclass
class ModelConfig:
    """conf/model: where an encoder's weights come from, and how it reads texts; null where its own files decide."""

    family: str = MISSING
    weights: str = MISSING
    revision: str | None = None
    license: str | None = None
    precision: Precision = Precision.float32
    layers: int | None = bounded(1, 10_000, default=None)
    pooling: Pooling | None = None
    dense: list[DenseConfig] | None = None
    normalize: bool | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_query_tokens: int | None = bounded(1, 10**6, default=None)
    max_passage_tokens: int | None = bounded(1, 10**6, default=None)
    freeze_word_embeddings: bool = False
    static: StaticConfig | None = None
    architecture: dict[str, Any] = bounded(0, LARGEST, default=dict)


@dataclass
class TrainerConfig:
    """conf/trainer, which explains every key."""

    steps: int = bounded(1, COUNT)
    batch_size: int = bounded(1, 10**6)
    learning_rate: float = bounded(0, 10, above=True)
    weight_decay: float = bounded(0, 10)
    warmup_fraction: float = bounded(0, 1)
    temperature: float = bounded(0, 100, above=True)
    dropout: float | None = bounded(0, 1, below=True)
    precision: Precision = Precision.auto
    log_every: int = bounded(1, COUNT)
    checkpoint_every: int = bounded(1, COUNT)
    forward_tokens: int = bounded(1, COUNT)
    grad_cache: bool = MISSING
    devices: int = bounded(1, 1024)
    num_nodes: int = bounded(1, 10_000)
    strategy: Parallel = Parallel.ddp
    patience: int | None = bounded(1, COUNT)
    validate_every: int = bounded(1, COUNT)
    holdout_fraction: float = bounded(0, 1, above=True, below=True)
    matryoshka_widths: list[int] = bounded(1, 10**6)
    exit_layers: list[int] = bounded(1, 10_000)
    hard_negatives: int = bounded(0, 1000)
    lora_rank: int | None = bounded(1, 10_000)

    @property
    def processes(self) -> int:
        """How many processes train together, on all machines."""
        return self.devices * self.num_nodes


@dataclass
class ProfileConfig:
    """conf/profile: how long the meters measure."""

    enabled: bool = True
    min_calls: int = bounded(1, 10**7)
    min_seconds: float = bounded(0, 86_400)
    token_budgets: list[int] = bounded(1, COUNT)
    index_rows: int = bounded(1, COUNT)
    energy_seconds: float = bounded(0, 86_400, above=True)
    country: str = MISSING
    intensity_g_per_kwh: float = bounded(0, 10_000)
    rounds: int = bounded(1, 1000)
    shared: bool = True


@dataclass
class VariantGrid:
    """Every combination of these lists is an inference variant (values.Variant) of the trained encoder."""

    backend: list[str] = field(default_factory=lambda: ["eager"])
    precision: list[VariantPrecision] = field(default_factory=lambda: [VariantPrecision.float32])
    max_passage_tokens: list[int | None] = bounded(1, 10**6, default=lambda: [None])
    width: list[int | None] = bounded(1, 10**6, default=lambda: [None])
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
    """The root. `sampler`, `data` and the nodes of `eval` name their code by `_target_`; `targets.build` makes them."""

    model: ModelConfig = field(default_factory=ModelConfig)
    sampler: Any = MISSING
    data: Any = MISSING
    eval: Any = MISSING
    metrics: list[str] = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    variants: VariantsConfig = field(default_factory=VariantsConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = bounded(0, 2**32 - 1, default=0)
    device: Device = Device.auto
    threads: int = bounded(1, 1024)
    time_limit_min: float | None = bounded(0, 10**6, above=True, default=None)
    results_dir: str = MISSING
    sweep: str = MISSING
    costs_from: str | None = None
    allow_targets: list[str] = field(default_factory=list)

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


def check(cfg: DictConfig) -> Config:
    """The typed config.

    Raises:
        UserError: for the first impossible value.
    """
    if OmegaConf.is_missing(cfg.model, "weights"):
        raise UserError("model.weights is missing: set it to a folder or a repository of the hub.")
    sections = {"": cfg} | {f"{key!s}.": node for key, node in cfg.items() if OmegaConf.is_dict(node)}
    for prefix, node in sections.items():  # Hydra adds a key for +key=value
        if is_dataclass(kind := OmegaConf.get_type(node)):
            known = [each.name for each in fields(kind)]
            for key in node.keys() - {*known}:
                raise UserError(f"unknown key {prefix}{key}: {alternatives(key, known)}")
    config = typed(cfg)
    check_numbers(config)
    config.encode.check()
    if not config.profile.token_budgets:
        raise UserError("profile.token_budgets is empty: the throughput curve needs a point.")
    if not re.fullmatch("[A-Z]{3}", config.profile.country):
        raise UserError(f"profile.country={config.profile.country}: it must be an ISO 3166-1 alpha-3 code.")
    if config.costs_from == config.sweep:
        raise UserError(f"costs_from={config.costs_from}: it must be another sweep.")
    if not config.metrics or not all(isinstance(name, str) for name in config.metrics):
        raise UserError(f"metrics={config.metrics}: it must list metrics, such as [map, ndcg_10].")
    if not config.eval:
        raise UserError("eval: there is no benchmark; choose one: eval=parallel (rows held out), eval=beir, …")
    if config.model.precision is Precision.auto:
        raise UserError("model.precision=auto: it must be float32 or bfloat16.")
    if config.trainer.batch_size % config.trainer.processes:
        several = f"trainer.devices={config.trainer.devices} x trainer.num_nodes={config.trainer.num_nodes}"
        raise UserError(f"{several} must divide trainer.batch_size.")
    backends = [path.stem for path in sorted(BACKENDS.glob("[!_]*.py"))]
    for place, grid in enumerate(config.variants.grids):
        for backend in (name for name in grid.backend if name not in backends):
            raise UserError(unknown(f"variants.grids[{place}].backend", backend, backends))
    nodes = {"sampler": config.sampler, "data": config.data} | {f"eval.{name}": n for name, n in config.eval.items()}
    for key, node in nodes.items():
        check_target(key, node, config.allow_targets)
    build("sampler", config.sampler)
    return config
