"""How numbers and tables look on the page: one rounding for sentences, tables and hover texts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

MISSING = "–"


def accuracy(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.3f}"


def difference(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def amount(value: float) -> str:
    """Three significant digits, all digits before the point."""
    if pd.isna(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".removesuffix(".")


def times(value: float) -> str:
    return amount(value) if value < float("inf") else "not reached"


def probability(value: float) -> str:
    """A share of bootstrap draws is never certainty."""
    return "> 99 %" if value > 0.99 else "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def p_value(value: float) -> str:
    return MISSING if pd.isna(value) else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def between(value: float, interval: tuple[float, float] | None, form: Callable[[float], str]) -> str:
    """The value with its interval in brackets, where there is one wider than the rounding."""
    if interval is None or pd.isna(value) or pd.isna(interval[0]):
        return form(value)
    low, high = map(form, interval)
    return form(value) if low == high == form(value) else f"{form(value)} [{low}, {high}]"


def plain(value: Any) -> str:
    """A value of a record's JSON in words."""
    match value:
        case dict():
            return "; ".join(f"{key.replace('_', ' ')} {plain(part)}" for key, part in value.items())
        case list() | tuple():
            return ", ".join(map(plain, value))
        case float():
            return amount(value)
        case None:
            return MISSING
    return str(value)


def strategy_name(strategy: str) -> str:
    return "none (untrained)" if strategy == "none" else strategy


def listed(words: Iterable[str], last: str = "and") -> str:
    """a, b and c."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


class Cell(NamedTuple):
    text: str
    kind: str = ""  # a CSS class: best, doubt, failed, passed
    share: float = 0.0  # of the cell's width, filled by a bar


class Row(NamedTuple):
    cells: list[Cell]
    panel: str = ""  # shown while the front shows this 'benchmark|setting|cost'; empty: always


def row(*values: str | Cell, panel: str = "") -> Row:
    return Row([value if isinstance(value, Cell) else Cell(value) for value in values], panel)


@dataclass(frozen=True)
class Table:
    caption: str
    columns: list[str]
    rows: list[Row]
    labels: int = 1  # leading columns that name the row
