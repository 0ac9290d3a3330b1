"""The typed root of the configuration: what Hydra composes from conf/ is checked here, before any work starts.

OmegaConf rejects unknown keys and wrong types of the dataclasses; nodes with a `_target_` are bound to the signature of
their target; `check` rejects impossible values. Every rejection is a `UserError` that names the key. `typed` turns the
composed config into these dataclasses, which is what all other modules take.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.bounds import AMOUNT, bounded, check_numbers
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
from pipeline.values import LEXICAL, Collection, ParallelText, UserError, Variant, alternatives, unknown

ROOMS = {  # key -> where its code is, and what that makes
    "sampler": ("pipeline.sampling", "a batch strategy", lambda made: hasattr(made, "trains")),
    "data": ("pipeline.data", "a function that returns a ParallelText", lambda made: made is ParallelText),
    "eval": ("pipeline.data", "a function that returns a Collection", lambda made: made is Collection),
}
BACKENDS = Path(__file__).parent / "encoder" / "backends"  # a file per backend


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
            variants += [Variant(*values) for values in product(*engine, grid.width, grid.index, grid.fusion)]
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


def targets(config: Config) -> dict[str, Any]:
    """The nodes of a config that name code, by key."""
    return {"sampler": config.sampler, "data": config.data} | {f"eval.{name}": n for name, n in config.eval.items()}


def code_of(key: str, node: Any, allowed: Sequence[str]) -> Any:
    """Return the function or class that a node names by its `_target_`.

    Raises:
        UserError: it is code of a package that is not allowed, which is then not imported; or no code for this key.
    """
    name = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{key}: it needs a _target_ that names code, as the options in conf/{key.split('.')[0]} do.")
    room, kind, is_kind = ROOMS[key.split(".")[0]]
    module, *_ = name.rpartition(".")
    ours = re.fullmatch(rf"{re.escape(room)}\.\w+", module) is not None
    if not ours and (package := name.split(".")[0]) not in allowed:
        remedy = f"if you trust {package}, add 'allow_targets=[{package}]' to the command line"
        raise UserError(f"{key}._target_={name} is not code of {room}: {remedy}.")
    try:
        code = get_object(name)
    except (ImportError, ValueError) as error:
        raise UserError(f"{key}._target_={name}: there is no such code ({error}).") from error
    made = code if inspect.isclass(code) else getattr(code, "__annotations__", {}).get("return")
    if code.__module__ != module or not is_kind(made):  # it may only pass through: pipeline.data.tables.os
        raise UserError(f"{key}._target_={name}: it must be {kind}, in the module that defines it.")
    return code


def check_target(key: str, node: Any, allowed: Sequence[str]) -> None:
    """Bind a node to its `_target_` without calling it.

    Raises:
        UserError: for foreign code, an unknown or missing key, or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError  # pipeline.profile_model does without

    parameters = inspect.signature(code_of(key, node, allowed), eval_str=True).parameters
    values = {name: value for name, value in node.items() if name != "_target_"}
    for name in (name for name in values if name not in parameters):
        raise UserError(f"unknown key {key}.{name}: {key} takes {', '.join(parameters)}.")
    check_numbers(values, key, AMOUNT)
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
    for key, node in targets(config).items():
        check_target(key, node, config.allow_targets)
    build("sampler", config.sampler)
    return config
