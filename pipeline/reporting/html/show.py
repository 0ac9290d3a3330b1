"""How numbers and tables look in the report: one rounding for sentences, tables and hover texts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from pipeline.analysis import strategies

MISSING = "–"


def accuracy(value: float) -> str:
    """Round to three decimals."""
    return MISSING if pd.isna(value) else f"{value:.3f}"


def difference(value: float) -> str:
    """Round to three decimals, with a sign."""
    return f"{value:+.3f}".replace("-", "−")


def amount(value: float) -> str:
    """Round to three significant digits; from 100 on to an integer."""
    if pd.isna(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".removesuffix(".")


def times(value: float) -> str:
    """Format a factor; infinite means that no cost reaches the accuracy."""
    return amount(value) if value < float("inf") else "not reached"


def probability(value: float) -> str:
    """Format a share of bootstrap samples, which is never shown as certain."""
    return "> 99 %" if value > 0.99 else "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def p_value(value: float) -> str:
    """Format a p-value with its sign of relation."""
    return MISSING if pd.isna(value) else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def between(value: float, interval: tuple[float, float] | None, form: Callable[[float], str]) -> str:
    """Format a value with its interval in brackets, unless the interval is narrower than the rounding."""
    if interval is None or pd.isna(value) or pd.isna(interval[0]):
        return form(value)
    low, high = map(form, interval)
    return form(value) if low == high == form(value) else f"{form(value)} [{low}, {high}]"


def bounds(interval: tuple[float, float], form: Callable[[float], str]) -> str:
    """Format an interval alone."""
    return MISSING if pd.isna(interval[0]) else f"[{form(interval[0])}, {form(interval[1])}]"


def plain(value: Any) -> str:
    """Write a value of a record's JSON in words."""
    match value:
        case dict():
            parts = {key.replace("_", " "): plain(part) for key, part in value.items()}
            nested = any(isinstance(part, dict) for part in value.values())
            return "; ".join(f"{key} ({part})" if nested else f"{key} {part}" for key, part in parts.items())
        case list() | tuple():
            return ", ".join(map(plain, value))
        case float():
            return amount(value)
        case None:
            return MISSING
    return str(value)


def batches(strategy: str) -> str:
    """Name what was trained with a batch strategy, as in 'with hybrid batches'."""
    return "untrained encoders" if strategy == strategies.UNTRAINED else strategies.batches(strategy)


def listed(words: Iterable[str], last: str = "and") -> str:
    """Join words.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


class Mark(NamedTuple):
    """An interval drawn beside its number: value and ends in percent of an axis that a column shares."""

    value: int
    low: int
    high: int


class TableCell(NamedTuple):
    """A text with how it looks."""

    text: str
    kind: str = ""  # a CSS class: best, doubt, failed, passed
    share: float = 0.0  # of the width, filled by a bar
    mark: Mark | None = None


class Row(NamedTuple):
    """A row of a table in report.html."""

    entries: list[TableCell]
    panel: str = ""  # shown while the plot of the fronts shows this 'benchmark|setting|cost'; empty: always


def marks(values: Sequence[float], intervals: Sequence[tuple[float, float] | None]) -> list[Mark | None]:
    """Place values with their intervals on one axis, from the lowest end to the highest; None without an interval.

    >>> marks([2.0, 4.0], [(1.0, 3.0), None])
    [Mark(value=50, low=0, high=100), None]
    """
    known = [ends if ends is not None and pd.notna(ends[0]) else None for ends in intervals]
    ends = [end for interval in known if interval for end in interval]
    low, width = (min(ends), max(ends) - min(ends)) if ends else (0.0, 0.0)
    return [
        Mark(*(round(100 * (number - low) / width) for number in (value, *interval))) if interval and width else None
        for value, interval in zip(values, known, strict=True)
    ]


def row(*values: str | TableCell, panel: str = "") -> Row:
    """Make a row of texts and table cells."""
    return Row([value if isinstance(value, TableCell) else TableCell(value) for value in values], panel)


@dataclass(frozen=True)
class Table:
    """A table in report.html."""

    caption: str
    columns: list[str]
    rows: list[Row]
    labels: int = 1  # leading columns that name the row
