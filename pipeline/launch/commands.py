"""What all commands share: `key=value` arguments, --help, and how bad input (exit code 2) and signals end a process.

Needs no more than Hydra, so that a command can run where little else is installed.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from pipeline.launch.signals import ended_by, farewell, raised
from pipeline.values import REFUSED, UserError, alternatives, unknown


def sentence(error: Exception) -> str:
    """Return the message of an error of ours, of Hydra or of OmegaConf, on one line.

    For a name that does not exist, the message suggests the likeliest one and lists them all.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return unknown(group or "--config-name", option, error.options or primary_configs(error))
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(cause.parent_node, DictConfig):
        keys = [str(key) for key in cause.parent_node if str(key)[0] != "_" and key != "hydra"]
        return f"unknown key {cause.full_key}: {alternatives(str(cause.key), keys)}"
    lines = [line.strip() for text in (error, cause) if text for line in str(text).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("object_type", "reference_type")))


def primary_configs(error: MissingConfigException) -> list[str]:
    """Return the names that --config-name takes: the yaml files of --config-dir, without it those of conf."""
    folders = dict(re.findall(r"provider=([\w-]+), path=file://(.+)", str(error)))  # the search path, in Hydra's words
    folder = folders.get("command-line") or folders["main"]
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


@contextmanager
def refusing() -> Iterator[None]:
    """Bad input in the block ends the process."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print and exit 1
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:  # OSError: of a file
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(REFUSED)


@contextmanager
def command() -> Iterator[None]:
    """The whole of a command: bad input, Ctrl-C or another signal ends it with one sentence and no traceback."""
    try:
        with raised(), refusing():
            yield
    except BaseException as error:
        number = ended_by(error)
        if number is None:
            raise
        sys.exit(farewell(number))


def library(module: str, extra: str) -> Any:
    """Import a library that one command alone needs; exit with how to install it where it is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        print(f"error: {module} is missing: pip install -c constraints.txt -e '.[{extra}]'", file=sys.stderr)
        sys.exit(REFUSED)


def sweep_first() -> None:
    """Let the first word of the command line be a sweep: `report articles` means `report sweep=articles`."""
    if len(sys.argv) > 1 and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"sweep={sys.argv[1]}"


def run_first() -> None:
    """Let the first word of the command line be a run or a folder, whose name may hold Hydra's own characters."""
    if len(sys.argv) > 1 and not re.match(r"-|[\w.~+/@]*=", sys.argv[1]):
        sys.argv[1] = f"run='{sys.argv[1]}'"


def arguments(usage: str, *options: str) -> tuple[str, dict[str, str]]:
    """Read `NAME key=value …` from the command line of a command that needs no config.

    NAME, the first word, is a sweep, a run or a results folder; `sweep=NAME`, `run=NAME` and `results_dir=NAME` mean
    the same. --help prints `usage` and ends the process.

    Args:
        usage: what the command does, with an example and its keys.
        options: the keys that are allowed.

    Returns:
        The name and the options that were given.

    Raises:
        UserError: the name is missing, a key is unknown, or a word is not `key=value`.
    """
    words = sys.argv[1:]
    if {"--help", "-h"} & {*words}:
        print(usage.strip())
        sys.exit(0)
    name = re.sub("^(sweep|run|results_dir)=", "", words[0]) if words else ""
    if not name or name.startswith("-") or "=" in name:
        raise UserError("the first word must name a sweep, a run or a results folder; --help shows an example.")
    values = dict(word.partition("=")[::2] for word in words[1:])
    for key in values:
        if key not in options:
            raise UserError(f"unknown key {key}: {alternatives(key, options)}")
    return name, values


def check_as_written(overrides: Iterable[str], cfg: DictConfig) -> None:
    """Raise UserError for a name on the command line that Hydra reads as a number: 2026_11_28 as 20261128."""
    for override in overrides:
        key, _, text = override.partition("=")
        if key in ("sweep", "costs_from") and key in cfg and re.fullmatch(r"[\d_.+-]+", text) and text != str(cfg[key]):
            raise UserError(f"{override} is read as the number {cfg[key]}: write '{key}=\"{text}\"'.")
