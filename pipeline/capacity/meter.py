"""Measure what a system carries: one query at a time, then at the largest rate whose p99 holds, then passages in bulk.

`pipeline.load` calls `measure` with a system of `systems`; the result goes to `store.capacity`.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.capacity import loadgen
from pipeline.capacity.search import largest_rate
from pipeline.capacity.systems import Refused, System
from pipeline.profiling import machine
from pipeline.profiling.meters.energy import idle_power_w
from pipeline.profiling.quality import Quality, clock, judged, quiet
from pipeline.profiling.tracker import Tracker, joules
from pipeline.store.capacity import Capacity, LoadTest
from pipeline.values import Side, UserError

FIRST_LOAD = 0.5  # share of what one query at a time reaches, as the first rate that is tried
NEAR = 1.15  # steps from the capacity of the round before, in the search of the next
NULL_LOAD = 2.0  # times the capacity: the rate at which the generator is tested by itself
TRIES = 2  # of a rate: where others share the processor, a moment's pause fails a test
WARM_UP_CALLS = 8
IDLE_S = 10.0  # of the idle process, whose power is taken off where a counter measures it
OFFLINE_TRIES = 3  # LoadGen fixes the number of passages beforehand: too few, and the test ends too soon


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        limits: of every test; each has its own scenario and rate.
        rounds: searches for the capacity.
        tolerance: between a rate that holds and one that does not, relative.
    """

    limits: loadgen.Settings
    rounds: int
    tolerance: float


class Tests:
    """Runs tests of one system one after another, tells of each, and keeps their results.

    Args:
        device: on which the system runs in this process; None: it runs in another one.
        tracker: of the energy of this process; None: it is not measured.
    """

    def __init__(
        self,
        name: str,
        system: System,
        texts: Mapping[Side, Sequence[str]],
        plan: Plan,
        folder: Path,
        device: str | None = None,
        tracker: Tracker | None = None,
    ):
        self.name, self.system, self.texts, self.plan, self.folder = name, system, texts, plan, folder
        self.device, self.watched, self.products = device, list[Mapping[str, Any]](), list[float]()
        self.tracker, self.idle_w = tracker, idle_power_w(tracker, IDLE_S) if tracker else 0.0
        self.done: list[LoadTest] = []

    def run(self, scenario: Any, rate_per_s: float, system: System | None = None) -> LoadTest:
        """Run a test; `system` stands in for the one that is measured."""
        settings = replace(self.plan.limits, scenario=scenario, rate_per_s=rate_per_s)
        side: Side = "passage" if scenario == "Offline" else "query"
        word = scenario if system is None else "null"
        folder = self.folder / f"{len(self.done) + 1:02}-{word}"
        run = partial(loadgen.run, system or self.system, self.texts[side], side, settings, folder)
        with machine.watch(self.device or "cpu") as activity:
            if self.tracker and system is None:
                test, block = self.tracker.track(run)
                test = replace(test, energy_j=joules(block, self.idle_w))
            else:
                test = run()
        self.watched.append(activity)
        rate = f" at {rate_per_s:.4g}/s" if scenario == "Server" else ""
        refused = f" · {test.refused:,} refused" if test.refused else ""
        said = f"{test.per_s:.4g}/s · p50 {test.p50_ms:.3g} ms · p99 {test.p99_ms:.3g} ms{refused}"
        print(f"load · {self.name} · {word}{rate} · {said} · {verdict(test)}", flush=True)
        if system is None:
            self.done.append(test)
        return test

    def look_at_clock(self) -> None:
        """Measure a matrix product, between rounds."""
        if self.device:
            import torch  # here: a system elsewhere needs none

            from pipeline.profiling.meters.ceiling import matrix_product_flop_per_s

            self.products.append(matrix_product_flop_per_s(torch.float32, self.device))

    def quality(self) -> Quality | None:
        """Return the checks of the machine over all tests and rounds so far; None for a system elsewhere."""
        if not self.device:
            return None
        return judged([quiet(self.watched), clock(self.products, self.watched)])


def verdict(test: LoadTest) -> str:
    """Return VALID, or INVALID and what was missed.

    >>> test = LoadTest("Server", 9.0, False, {"early stopping": False}, 9, 0, 9.0, 1.0, 1.0, 1.0, 1.0, "02-Server")
    >>> verdict(test)
    'INVALID: early stopping'
    """
    if test.valid:
        return "VALID"
    missed = [name for name, met in test.checks.items() if not met] + ["queries refused"] * bool(test.refused)
    return f"INVALID: {', '.join(missed)}"


def measure(
    name: str,
    system: System,
    null: System,
    texts: Mapping[Side, Sequence[str]],
    plan: Plan,
    folder: Path,
    facts: Mapping[str, Any],
    *,
    device: str | None = None,
    tracker: Tracker | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Capacity:
    """Return what a system carries. Earlier logs in `folder` are removed.

    Args:
        name: of the result.
        system: to be measured.
        null: answers at once; it shows what the generator costs.
        texts: queries and passages.
        plan: how to measure.
        folder: of LoadGen's logs.
        facts: `index`, `settings`, `texts` and `machine` of the result.
        device: on which the system runs in this process; None: it runs in another one, of which no quality is known.
        tracker: of the energy of this process; None: it is not measured.
        now: a clock, in seconds.

    Raises:
        UserError: the system refuses queries that are sent one at a time.
    """
    shutil.rmtree(folder, ignore_errors=True)
    expected_per_s = warm_up(system, texts, plan.limits.per_call, now)
    tests = Tests(name, system, texts, plan, folder, device, tracker)
    single = tests.run("SingleStream", 1.0)
    if single.refused:
        raise UserError(f"{name} refused {single.refused} of {single.samples} queries that were sent one at a time.")
    held = largest(tests, single)
    rounds = [test.per_s if test else None for test in held]
    offline = run_offline(tests, expected_per_s)
    rate = median(rounds)
    return Capacity(
        name=name,
        queries_per_s_at_p99=rate,
        rounds=rounds,
        p99_ms=plan.limits.p99_ms,
        passages_per_s=offline.per_s,
        tests=tests.done,
        null=tests.run("Server", NULL_LOAD * rate, null) if rate else None,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        energy_j_per_1k_queries=median([j_per_1k(test) if test else None for test in held]),
        energy_source=tracker.source if tracker else None,
        quality=tests.quality(),
        **facts,
    )


def largest(tests: Tests, single: LoadTest) -> list[LoadTest | None]:
    """Return the test at the largest rate that holds, of each round; None where no rate does.

    The capacity is what the system completed per second in it, as MLPerf reports it: in a short test, random arrivals
    are a few per cent more or fewer than their rate. None at all if one query at a time takes too long.
    """
    plan, first, step, rounds = tests.plan, FIRST_LOAD * single.per_s, 2.0, list[LoadTest | None]()
    last: dict[float, LoadTest] = {}

    def holds(rate: float) -> bool:
        for _ in range(TRIES):
            last[rate] = tests.run("Server", rate)
            if last[rate].holds(plan.limits.min_queries):
                return True
        return False

    tests.look_at_clock()
    for _ in range(plan.rounds):
        rate = None
        if single.p99_ms <= plan.limits.p99_ms:
            rate = largest_rate(holds, first, plan.tolerance, step=step)
        rounds.append(last[rate] if rate else None)
        if rate:
            first, step = rate, NEAR
        tests.look_at_clock()
    return rounds


def median(values: Sequence[float | None]) -> float | None:
    """Return the median; None if a value is missing."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if len(known) == len(values) else None


def j_per_1k(test: LoadTest) -> float | None:
    """Return the joules of 1,000 texts of a test that refused none; None if they were not measured.

    >>> test = LoadTest("Server", 9.0, True, {}, 250, 0, 9.0, 1.0, 1.0, 1.0, 1.0, "02-Server", energy_j=90.0)
    >>> j_per_1k(test)
    360.0
    """
    return None if test.energy_j is None else 1000 * test.energy_j / test.samples


def warm_up(system: System, texts: Mapping[Side, Sequence[str]], per_call: int, now: Callable[[], float]) -> float:
    """Have the system embed some queries one by one, and passages as Offline does; return passages per second.

    Raises:
        UserError: the system refuses them.
    """
    try:
        for text in texts["query"][:WARM_UP_CALLS]:
            system.embed([text], "query")
        passages = texts["passage"][: per_call * WARM_UP_CALLS]
        began = now()
        for start in range(0, len(passages), per_call):
            system.embed(passages[start : start + per_call], "passage")
        return len(passages) / (now() - began)
    except Refused:
        raise UserError("the system refuses queries that are sent one at a time: is it overloaded?") from None


def run_offline(tests: Tests, expected_per_s: float) -> LoadTest:
    """Run Offline, again with more passages if it ended before the minimum duration."""
    for _ in range(OFFLINE_TRIES):
        test = tests.run("Offline", expected_per_s)
        if test.checks["minimum duration"]:
            break
        expected_per_s = 1.2 * max(test.per_s, expected_per_s)
    return test
