"""What all commands share: arguments, and how bad input (one sentence, exit code 2) and Ctrl-C end a process.

Needs no more than Hydra, so that a command can run where little else is installed.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.values import REFUSED, UserError

INTERRUPTED = 130  # the exit code after Ctrl-C, as in shells


def sentence(error: Exception) -> str:
    """The message of an error of ours, of Hydra or of OmegaConf, on one line."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    lines = [line.strip() for text in (error, cause) if text for line in str(text).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("object_type", "reference_type")))


@contextmanager
def refusing() -> Iterator[None]:
    """Bad input in the block ends the process."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print and exit 1
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(REFUSED)


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C in the block ends the process without a traceback."""
    try:
        yield
    except BaseException as error:
        if not interrupted(error):
            raise
        print("interrupted: run the same command again to resume", file=sys.stderr)
        sys.exit(INTERRUPTED)


def interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C led to an error: code that it cut short, such as a copy in OmegaConf, may raise another."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or interrupted(error.__context__))


def library(module: str, extra: str) -> Any:
    """Import a library that one command alone needs; exit with how to install it where it is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        print(f"error: {module} is missing: pip install -c constraints.txt -e '.[{extra}]'", file=sys.stderr)
        sys.exit(REFUSED)


def arguments(usage: str, *options: str) -> tuple[str, dict[str, str]]:
    """Read `NAME key=value …` from the command line.

    Args:
        usage: the sentence for anything else.
        options: the keys that are allowed.
    Returns:
        The name and the options that were given.
    Raises:
        UserError: with the usage.
    """
    name, *words = sys.argv[1:] or [""]
    values = dict(word.partition("=")[::2] for word in words)
    if not name or name.startswith("-") or values.keys() - set(options):
        raise UserError(usage)
    return name, values


def check_as_written(overrides: Iterable[str], cfg: DictConfig) -> None:
    """Raise UserError for a name on the command line that Hydra reads as a number: 2026_11_28 as 20261128."""
    for override in overrides:
        key, _, text = override.partition("=")
        if key in ("sweep", "costs_from") and re.fullmatch(r"[\d_.+-]+", text) and text != str(cfg[key]):
            raise UserError(f"{override} is read as the number {cfg[key]}: write '{key}=\"{text}\"'.")
