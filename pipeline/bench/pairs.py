"""Side-by-side timing: implementations of the same work take turns in one process, and each turn gives one ratio."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key")


@dataclass(frozen=True)
class Row:
    """One line of the table: how many times as fast as `against` this project does `work`."""

    work: str
    against: str
    goal: float | None  # the smallest ratio that meets the goal; None: the two should take equally long
    ours_s: Sequence[float]
    theirs_s: Sequence[float]
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Seconds of theirs per second of ours, by turn."""
        return [theirs / ours for ours, theirs in zip(self.ours_s, self.theirs_s, strict=True)]

    def columns(self) -> list[str]:
        """Return the texts of the line; the ratio is the median over the turns."""
        ratio = np.median(self.ratios)
        met = abs(ratio - 1) <= 0.05 if self.goal is None else ratio >= self.goal
        return [
            self.work,
            self.against,
            "within 5 %" if self.goal is None else f"{self.goal:g}x",
            f"{ratio:.2f}x",
            f"{min(self.ratios):.2f} to {max(self.ratios):.2f}",
            f"{seconds(float(np.median(self.ours_s)))} / {seconds(float(np.median(self.theirs_s)))}",
            "yes" if met else "**no**",
            self.note,
        ]


def seconds(value_s: float) -> str:
    """Return a duration in ms or s, to three digits.

    >>> seconds(0.01234), seconds(123.4)
    ('12.3 ms', '123 s')
    """
    return f"{1000 * value_s:.3g} ms" if value_s < 1 else f"{value_s:.3g} s"


def in_turns(works: Mapping[Key, Callable[[], object]], rounds: int, *, warm: bool = False) -> dict[Key, list[float]]:
    """Return the seconds of each work, by round. Each round starts with another work, so that a drift favours none.

    Args:
        works: what to time.
        rounds: how often each work is timed.
        warm: whether the works are warmed up already; else each runs once before the first round.
    """
    for work in [] if warm else works.values():
        work()
    names = list(works)
    times_s: dict[Key, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in rotated(names, turn):
            start_s = time.perf_counter()
            works[name]()
            times_s[name].append(time.perf_counter() - start_s)
    return times_s


def rotated(items: Sequence[Key], turn: int) -> list[Key]:
    """Return all items, each turn another one first.

    >>> rotated("abc", 4)
    ['b', 'c', 'a']
    """
    first = turn % len(items)
    return [*items[first:], *items[:first]]


def alternate(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of ours and of theirs, by round."""
    times_s = in_turns({"ours": ours, "theirs": theirs}, rounds)
    return times_s["ours"], times_s["theirs"]
