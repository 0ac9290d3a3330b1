"""How ways of doing the same work are compared: side by side in one process, by turns, as ratios of pairs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the table: how many times as fast as `against` this project does `work`."""

    work: str
    against: str
    at_least: float | None  # the ratio that is asked for; None: the two should agree
    ours_s: list[float]
    theirs_s: list[float]
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        return [theirs / ours for ours, theirs in zip(self.ours_s, self.theirs_s, strict=True)]

    def cells(self) -> list[str]:
        ratios = self.ratios
        asked = "within 5 %" if self.at_least is None else f"{self.at_least:g}x"
        met = abs(np.median(ratios) - 1) <= 0.05 if self.at_least is None else np.median(ratios) >= self.at_least
        return [
            self.work, self.against, asked, f"{np.median(ratios):.2f}x", f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{seconds(np.median(self.ours_s))} / {seconds(np.median(self.theirs_s))}", "yes" if met else "**no**",
            self.note,
        ]  # fmt: skip


def seconds(value_s: float) -> str:
    return f"{1000 * value_s:.3g} ms" if value_s < 1 else f"{value_s:.3g} s"


def in_turns(works: Mapping[Any, Callable[[], Any]], rounds: int, *, warm: bool = False) -> dict[Any, list[float]]:
    """Seconds of each, after one warm-up, unless they are `warm`. Each round begins with another of them, so that a
    drift favours none."""
    for work in [] if warm else works.values():
        work()
    names = list(works)
    taken: dict[Any, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start_s = time.perf_counter()
            works[name]()
            taken[name].append(time.perf_counter() - start_s)
    return taken


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> tuple[list[float], list[float]]:
    taken = in_turns({"ours": ours, "theirs": theirs}, pairs)
    return taken["ours"], taken["theirs"]
