"""The rule for names that become folders or files of the results: of sweeps, runs and benchmarks."""

import re
from collections.abc import Sequence

from pipeline.values import UserError

NAME, RUN = r"\w[\w.-]*", r"\w[\w.+=-]*"  # the name of a run has that of its inference variant after a plus
RESERVED = ("runs", "stages", "locks", "load", "wandb", "profiles-cli")  # folders of the results that no sweep may have
LONGEST = 100  # bytes; a file system takes 255, and names are put together


def check_name(key: str, name: str, reserved: Sequence[str] = ()) -> str:
    """Return a name that can be a file or folder of its own.

    Raises:
        UserError: it is empty, too long, reserved, or holds other characters than letters, digits, '_', '-' and '.'.

    >>> check_name("eval", "../mine")
    Traceback (most recent call last):
    pipeline.values.UserError: eval=../mine: a name has 1 to 100 letters, digits, '_', '-' and '.'.
    """
    if not re.fullmatch(NAME, name) or len(name.encode()) > LONGEST or name in reserved:
        others = f", and none of {', '.join(reserved)}" if reserved else ""
        raise UserError(f"{key}={name:.120}: a name has 1 to {LONGEST} letters, digits, '_', '-' and '.'{others}.")
    return name


def check_sweep(key: str, name: str) -> str:
    """Return a sweep's name; UserError if it cannot be a folder of its own in the results."""
    return check_name(key, name, RESERVED)


def check_run(key: str, name: str) -> str:
    """Return a run's name; UserError if it cannot be a folder of its own in results/runs."""
    if not re.fullmatch(RUN, name) or len(name.encode()) > 2 * LONGEST:
        raise UserError(f"{key}={name:.120}: a run's name has up to {2 * LONGEST} letters, digits and '_-.+='.")
    return name
