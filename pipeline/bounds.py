"""The bounds of numbers in configs: each numeric field of a config's dataclass says between which values it may lie.

`check_numbers` walks a typed config, so a number without bounds, NaN or infinity cannot get past it. Every module may
import this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from typing import Any, NamedTuple

from omegaconf import MISSING

from pipeline.values import UserError

COUNT = 10**9  # the most of anything that is counted: steps, tokens, texts
LARGEST = 10**12  # of a number whose bounds its own code knows, as those of a sampler


class Range(NamedTuple):
    """Numbers from `low` to `high`; `above` leaves out the lowest and `below` the highest.

    >>> str(Range(0, 1, above=True)), 0 in Range(0, 1, above=True), float("nan") in Range(0, 1)
    ('(0, 1]', False, False)
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int | float):
            return False
        return (self.low < number if self.above else self.low <= number) and (
            number < self.high if self.below else number <= self.high
        )

    def __str__(self) -> str:
        return f"{'(' if self.above else '['}{self.low:,}, {self.high:,}{')' if self.below else ']'}"


ANY = Range(-LARGEST, LARGEST)
AMOUNT = Range(0, LARGEST)  # of money, power, texts: what is never negative


def bounded(low: float, high: float, *, default: Any = MISSING, above: bool = False, below: bool = False) -> Any:
    """Return the field of a config's dataclass that holds a number, or numbers, from `low` to `high`.

    Args:
        default: a value, a function without arguments that makes one, or nothing where the yaml has to say it.
        above, below: leave out the lowest, the highest number.
    """
    bounds = {"range": Range(low, high, above, below)}
    if callable(default):
        return field(default_factory=default, metadata=bounds)
    return field(default=default, metadata=bounds)


def amount() -> Any:
    """Return a field without default for a number that is not negative."""
    return field(metadata={"range": AMOUNT})


def share() -> Any:
    """Return a field without default for a number in (0, 1]."""
    return field(metadata={"range": Range(0, 1, above=True)})


def check_numbers(value: Any, key: str = "", bounds: Range = ANY) -> None:
    """Check all numbers in a typed config.

    Args:
        value: a dataclass, mapping, sequence or plain value.
        key: the config key of `value`.
        bounds: of the numbers in `value`; a dataclass has its own.

    Raises:
        UserError: the first number out of its bounds, by its key.

    >>> check_numbers({"alpha": [0.5, float("nan")]}, "sampler", Range(0, 1))
    Traceback (most recent call last):
    pipeline.values.UserError: sampler.alpha[1]=nan: it must lie in [0, 1].
    """
    if isinstance(value, bool | str):
        return
    if isinstance(value, int | float) and value not in bounds:
        raise UserError(f"{key}={value}: it must lie in {bounds}.")
    prefix = f"{key}." if key else ""
    if is_dataclass(value):
        for part in fields(value):
            check_numbers(getattr(value, part.name), f"{prefix}{part.name}", part.metadata.get("range", ANY))
    elif isinstance(value, Mapping):
        for name, child in value.items():
            check_numbers(child, f"{prefix}{name}", bounds)
    elif isinstance(value, Sequence):
        for index, child in enumerate(value):
            check_numbers(child, f"{key}[{index}]", bounds)
