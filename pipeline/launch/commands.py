"""What all commands of the package do alike: read `NAME key=value …`, and end bad input in one sentence, exit code 2.

Needs no more than Hydra, so that a command may run where little else is installed.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipeline.values import UserError

REFUSED = 2  # the exit code of bad input
INTERRUPTED = 130  # by Ctrl-C, as shells have it


def sentence(error: Exception) -> str:
    """What we, Hydra and OmegaConf say of bad input, on one line."""
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
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


def library(module: str, extra: str) -> Any:
    """What one command alone needs; where it is not installed, how to get it, in a sentence."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        print(f"error: {module} is missing: pip install -c constraints.txt -e '.[{extra}]'", file=sys.stderr)
        sys.exit(REFUSED)


def arguments(usage: str, *options: str) -> tuple[str, dict[str, str]]:
    """The name and the options, of those possible, on the command line; UserError with the usage for anything else."""
    name, *given = sys.argv[1:] or [""]
    found = dict(option.partition("=")[::2] for option in given)
    if not name or name.startswith("-") or found.keys() - set(options):
        raise UserError(usage)
    return name, found
