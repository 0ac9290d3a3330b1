"""From a command line to a config: composed and checked before anything acts on it, since a config is data.

Hydra imports what a config names: callbacks, launchers, log handlers, packages on the search path. `start` composes
first and refuses what would run foreign code, before Hydra or the command sees it (docs/security.md).
"""

import copy
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.launch.commands import check_as_written
from pipeline.launch.yaml_size import look_at_sizes
from pipeline.values import CONF, UserError, alternatives

SHIPPED = (  # the code that conf/ names in Hydra's own part of a config
    "pipeline.launch.sweep.",
    "hydra._internal.core_plugins.basic_",
    *(f"hydra_plugins.hydra_{launcher}_launcher." for launcher in ("joblib", "ray", "submitit")),
)
# Parts of Hydra's own config that may differ from conf/. The others set environment variables, folders, log handlers.
OPEN = {"mode", "sweeper", "verbose", "searchpath", "help", "hydra_help", "overrides", "runtime"}
SECTIONS = {  # that are null in most models, and what fills them: OmegaConf cannot merge a mapping into null
    "model.distill": "+distill@model.distill=default, then its keys one by one",
    "model.static": "model=static-e5-small, then its keys one by one",
}
LAUNCHER = r"[+~]*hydra[./]launcher\b"  # overrides of the command line that may change Hydra's own part
FLAGS = ("help", "hydra_help", "cfg", "info", "shell_completion")  # of Hydra, which shows something and ends


def start(job: Callable[..., None], root: str, check: Callable[[DictConfig], object] | None = None) -> None:
    """Run a command: `job` with the config of the command line, once or, for a multirun, as Hydra's launcher does.

    Args:
        job: decorated by hydra.main, whose config_name is `root`.
        check: called with the config of each run of a multirun before Hydra writes anything.

    Raises:
        UserError: the config cannot be composed, or names foreign code.
    """
    flags = read_flags()
    look_at_sizes()
    search_path = create_config_search_path(str(CONF))
    if flags.config_dir:
        folder = f"file://{Path(flags.config_dir).absolute()}"
        search_path.prepend(provider="command-line", path=folder, anchor=SearchPathQuery(provider="schema"))
    load = ConfigLoaderImpl(search_path)
    GlobalHydra.instance().initialize(Hydra("pipeline", load))  # from here on hydra.compose finds conf/
    try:
        cfg = composed(load, flags.config_name or root, flags.overrides)
        refuse_code(cfg, root)
        check_as_written(flags.overrides, cfg)
        if not (flags.multirun or cfg.hydra.mode == RunMode.MULTIRUN or any(getattr(flags, flag) for flag in FLAGS)):
            load.validate_sweep_overrides_legal(parsed(flags.overrides), RunMode.RUN, from_shell=True)
            HydraConfig.instance().set_config(cfg)
            job(of_task(cfg))
            return
        if check and not any(getattr(flags, flag) for flag in FLAGS):
            for _, whole in runs_of(cfg, load):
                check(of_task(whole))
    finally:
        GlobalHydra.instance().clear()
    job()


def runs_of(cfg: DictConfig, load: ConfigLoader) -> Iterator[tuple[Sequence[str], DictConfig]]:
    """Yield the overrides and the composed config of each run of a multirun, as Hydra's sweeper will make them.

    Raises:
        UserError: for a run that cannot be composed.
    """
    parameters = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
    arguments = OverridesParser.create(load).parse_overrides(parameters + list(cfg.hydra.overrides.task))
    [combinations] = BasicSweeper.split_arguments(arguments, None)  # of one key the last wins
    for overrides in combinations:
        try:
            whole = load.load_sweep_config(cfg, overrides)
        except ValueError as error:  # of a group without an option
            raise UserError(f"in run {' '.join(overrides)}: {error}") from error
        yield overrides, whole


def read_flags() -> Namespace:
    """Return Hydra's flags and the overrides of the command line; UserError for a flag that does not exist."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; --help shows an example.")

    parser.error = refuse  # type: ignore[method-assign]  # it would print all flags
    flags = parser.parse_args()
    if flags.experimental_rerun:
        raise UserError("--experimental-rerun: it would run code of a pickle; give the overrides again.")
    if flags.config_path:
        raise UserError("--config-path: a command's configs are its own; --config-dir adds a folder of yours.")
    if flags.config_dir and not Path(flags.config_dir).is_dir():
        raise UserError(f"--config-dir={flags.config_dir}: there is no such folder.")
    return flags


def parsed(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))


def composed(load: ConfigLoaderImpl, name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a config; whatever is wrong with its files is a UserError."""
    try:
        check_search_path(load, name, overrides)
        check_options(load, overrides)
        return load.load_configuration(name, list(overrides), RunMode.MULTIRUN, validate_sweep_overrides=False)
    except (UserError, HydraException, OmegaConfBaseException):
        raise
    except RecursionError:
        raise UserError(f"{name}.yaml cannot be composed: its defaults include it again.") from None
    except Exception as error:  # of the parser of YAML, or of whatever Hydra does with a file that it does not expect
        raise UserError(f"{undecodable(load) or f'{name}.yaml'} cannot be composed: {error or type(error)}.") from error


def check_options(load: ConfigLoaderImpl, overrides: Sequence[str]) -> None:
    """Raise UserError for a group of conf/ that is set to null or a number, or a section to a mapping.

    Hydra would not say which.
    """
    for override in parsed(overrides):
        group, is_value = override.key_or_group, not (override.is_delete() or override.is_sweep_override())
        if group in SECTIONS and is_value and isinstance(override.value(), Mapping):
            raise UserError(f"{override.input_line}: {group} takes no mapping: write {SECTIONS[group]}.")
        if is_value and not isinstance(override.value(), str | list) and (options := load.get_group_options(group)):
            raise UserError(f"{override.input_line}: {group} takes the name of an option. {alternatives('', options)}")


def undecodable(load: ConfigLoaderImpl) -> Path | None:
    """Return the first yaml of the search path that is not UTF-8."""
    for source in load.get_sources():
        for path in sorted(Path(source.path).rglob("*.yaml")) if source.scheme() == "file" else []:
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return path
    return None


def check_search_path(load: ConfigLoaderImpl, name: str, overrides: Sequence[str]) -> None:
    """Raise UserError unless hydra.searchpath names folders: to look into a package, Hydra imports it."""
    paths = [override.value() for override in parsed(overrides) if "hydra.searchpath" in override.key_or_group]
    primary = load.repository.load_config(name) if load.repository.config_exists(name) else None
    if primary and OmegaConf.is_dict(primary.config):
        paths.append(OmegaConf.select(primary.config, "hydra.searchpath"))
    for path in paths:
        for entry in path if isinstance(path, Sequence) and not isinstance(path, str) else [path]:
            if re.match(r"(?!file:)\w+:", str(entry)):
                raise UserError(f"hydra.searchpath={entry}: it must name folders, since Hydra imports packages.")


def refuse_code(cfg: DictConfig, root: str) -> None:
    """Raise UserError for a config that would have Hydra run foreign code, set variables, or log elsewhere.

    Args:
        root: the config of conf/ that the command begins with.
    """
    allowed = allowed_packages(cfg)
    own = as_shipped(cfg, root)
    for key, value in closed(cfg, allowed).items():
        if value != own.get(key):
            may = "of Hydra's own keys a yaml may set mode and sweeper.params, the command line launcher as well"
            raise UserError(f"hydra.{key} differs from conf/{root}.yaml: {may} (docs/security.md).")
    for part in ("launcher", "sweeper", "callbacks"):
        if not OmegaConf.is_dict(cfg.hydra[part]):
            raise UserError(f"hydra.{part}={cfg.hydra[part]}: it must name code by _target_.")
        for name in named(OmegaConf.to_container(cfg.hydra[part], resolve=True)):
            if not name.startswith(SHIPPED) and (package := name.split(".")[0]) not in allowed:
                remedy = f"if you trust {package}, add 'allow_targets=[{package}]' to the command line"
                raise UserError(f"hydra.{part} names foreign code, {name}: {remedy}.")
    for key in cfg.hydra.sweeper.get("params") or {}:
        if re.search(r"\b(hydra|allow_targets)\b", str(key)):
            raise UserError(f"hydra.sweeper.params.{key}: only the command line may set it, once for all runs.")


def allowed_packages(cfg: DictConfig) -> list[str]:
    """Return the packages of `allow_targets`; UserError if a yaml names them."""
    typed = [each.value() for each in parsed(cfg.hydra.overrides.task) if each.key_or_group == "allow_targets"]
    names = OmegaConf.to_container(cfg.allow_targets) if "allow_targets" in cfg else []
    if names != [*typed, []][0]:
        raise UserError(f"allow_targets={names}: only the command line may set it, once, since a yaml is data.")
    return cast(list[str], names)


def as_shipped(cfg: DictConfig, root: str) -> dict[str, Any]:
    """Return what `closed` returns for conf/ alone, with the launcher of the command line."""
    others = [each for each in cfg.hydra.overrides.hydra if not re.match(LAUNCHER, each)]
    if not others and all(
        source.provider in ("hydra", "main", "schema") for source in cfg.hydra.runtime.config_sources
    ):
        return closed(cfg, [])
    choice = cfg.hydra.runtime.choices.get("launcher")
    overrides = [f"launcher={choice}"] if choice else []
    overrides += [each for each in cfg.hydra.overrides.hydra if re.match(LAUNCHER, each)]
    load = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    return closed(composed(load, root, overrides), [])


def closed(cfg: DictConfig, allowed: Sequence[str]) -> dict[str, Any]:
    """Return the parts of Hydra's own config that must be as in conf/, less callbacks of allowed packages."""
    parts = cast(dict[str, Any], OmegaConf.to_container(cfg.hydra, resolve=False))
    parts["job"] = {key: parts["job"][key] for key in ("chdir", "env_set", "env_copy")}
    parts["callbacks"] = {
        name: node
        for name, node in (parts["callbacks"] or {}).items()
        if not isinstance(node, Mapping) or str(node.get("_target_")).split(".")[0] not in allowed
    }
    return {key: value for key, value in parts.items() if key not in OPEN}


def named(node: Any) -> Iterator[str]:
    """Yield every `_target_` of a node, at any depth."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from named(child)


def refuse_swept(whole: DictConfig, master: DictConfig) -> None:
    """Raise UserError if a run of a multirun changes what belongs to all, as a yaml of a group can."""
    if closed(whole, []) != closed(master, []) or whole.allow_targets != master.allow_targets:
        raise UserError("hydra and allow_targets belong to the whole sweep: a run's options cannot set them.")


def of_task(cfg: DictConfig) -> DictConfig:
    """Return a config without Hydra's own part."""
    task = copy.deepcopy(cfg)
    with open_dict(task):
        del task["hydra"]
    return task
