"""The typed root of the configuration: what Hydra composes from conf/ is checked here, before any work starts.

OmegaConf rejects unknown keys and wrong types of the dataclasses; `targets` binds nodes with a `_target_` to the
signature of their target; `check` rejects impossible values. Every rejection is a `UserError` that names the key.
`typed` turns the composed config into these dataclasses, which is what all other modules take.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.bounds import bounded, check_numbers
from pipeline.groups import (
    Device,
    EncodeConfig,
    ModelConfig,
    Precision,
    ProfileConfig,
    TrackingConfig,
    TrainerConfig,
    VariantsConfig,
)
from pipeline.targets import build, check_target
from pipeline.values import LEXICAL, USE, UserError, Variant, alternatives, unknown

BACKENDS = Path(__file__).parent / "encoder" / "backends"  # a file per backend


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
        """All variants to evaluate: as trained first, then those of each engine together; BM25 has no other."""
        variants = [Variant()]
        for grid in self.variants.grids if self.model.weights != LEXICAL else []:
            engine = (grid.backend, [precision.name for precision in grid.precision], grid.max_passage_tokens)
            centres = [centre and centre.name for centre in grid.centre]
            axes = (*engine, grid.width, grid.index, centres, grid.query_encoder, grid.fusion)
            variants += [Variant(*values) for values in product(*cast(tuple[list[Any], ...], axes))]
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
    if config.model.distill:
        config.model.distill.check()
        if config.model.static or config.model.weights == USE:
            raise UserError("model.distill: a table of vectors and a packaged file have no layers to distil.")
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
