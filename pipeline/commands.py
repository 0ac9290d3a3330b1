"""What all commands of the package do alike: read `NAME key=value …`, and end bad input in one sentence, exit code 2.

Needs no more than Hydra, so that a command may run where little else is installed.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipeline.values import UserError

REFUSED = 2  # the exit code of bad input


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


def arguments(usage: str, *options: str) -> tuple[str, dict[str, str]]:
    """The name and the options, of those possible, on the command line; UserError with the usage for anything else."""
    name, *given = sys.argv[1:] or [""]
    found = dict(option.partition("=")[::2] for option in given)
    if not name or name.startswith("-") or found.keys() - set(options):
        raise UserError(usage)
    return name, found
