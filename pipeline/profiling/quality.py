"""The quality checks of a profile: each says what it saw and what it wants. One failed check fails the profile.

A failed profile is kept, and plots show it as a hollow marker.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal, TypedDict

from pipeline.profiling.samples import Rounds, supported

OTHERS_LIMIT = 0.05  # of all cores' time
STEAL_LIMIT = 0.02
CLOCK_LIMIT = 0.10  # of one matrix product, between the slowest and the fastest round
WINDOW_S = 10.0  # of energy, all rounds together
ERROR_LIMIT = 0.05  # relative standard error of an energy
MIN_PASSES = 5  # of an energy, in every round
DRIFT_LIMIT = 0.05  # between a profile and the repetition at its end, where its interval is narrower
NOISE = 0.02  # by which end to end may seem shorter than the query in it, where the intervals are narrower


class Check(TypedDict):
    name: str
    passed: bool
    value: object  # what it saw
    limit: str  # what it wants


class Quality(TypedDict):
    passed: bool
    checks: list[Check]


def judged(checks: list[Check]) -> Quality:
    """Return the checks with their verdict: all must pass."""
    return {"passed": all(check["passed"] for check in checks), "checks": checks}


def verdict(quality: Quality) -> Literal["passed", "failed"]:
    """Return the profile's field; a system without a profile is "not measured" (analysis.tables)."""
    return "passed" if quality["passed"] else "failed"


def check_quality(
    rounds: Sequence[Mapping[str, Mapping[str, Any]]],
    figures: Mapping[str, Rounds],
    again: Mapping[str, Any] | None,
    *,
    threads: int,
) -> Quality:
    """Check the results of the meters.

    Throttling that the machine does not expose is None and counts as none; the matrix product's own steadiness is
    always checked. What was not measured is not checked.

    Args:
        rounds: by meter, each with the result of `machine.watch` under `watch` and thread counts under `threads`.
        figures: of the profile, by field.
        again: `first_ms` and `again_ms`, the median latency of the same queries in the first round and at the end.
        threads: the number that every library should use.
    """
    results = list(chain.from_iterable(one.values() for one in rounds))
    calls = min(one["latency"]["calls"] for one in rounds)
    checks = [
        _check("count", supported(95, calls), calls, "enough calls in every round for p95 (130)"),
        quiet([one["watch"] for one in results]),
        clock([one["ceiling"]["flop_per_s"] for one in rounds], [one["watch"] for one in results]),
        _threads(results, threads),
    ]
    if all("missing" not in one["energy"] for one in rounds):
        checks.append(_window(rounds, figures))
    if end_to_end := _end_to_end(figures):
        checks.append(end_to_end)
    if again:
        checks.append(_drift(again, figures["query_latency_p50_ms"]))
    return judged(checks)


def quiet(watched: Sequence[Mapping[str, Any]]) -> Check:
    """Check that nobody else took the processors, by the results of `machine.watch`."""
    others, steal = (max(one[key] for one in watched) for key in ("others_share", "steal_share"))
    return _check(
        "quiet",
        others <= OTHERS_LIMIT and steal <= STEAL_LIMIT,
        {"others_share": others, "steal_share": steal},
        f"others at most {OTHERS_LIMIT:.0%} of the cores, steal at most {STEAL_LIMIT:.0%}",
    )


def clock(products: Sequence[float], watched: Sequence[Mapping[str, Any]]) -> Check:
    """Check that the clock was steady: FLOP/s of a matrix product in each round, and what `machine.watch` saw."""
    drift = max(products) / min(products) - 1
    events = [one.get(key) for one in watched for key in ("throttle_events", "slowed")]
    throttled = None if set(events) == {None} else sum(count or 0 for count in events)
    return _check(
        "clock",
        drift <= CLOCK_LIMIT and not throttled,
        {"matrix_product_drift": drift, "throttle_events": throttled},
        f"a matrix product steady within {CLOCK_LIMIT:.0%} over all rounds, no throttling",
    )


def _threads(results: Sequence[Mapping[str, Any]], threads: int) -> Check:
    counts = sorted({count for one in results for count in one["threads"].values()})
    return _check("threads", {*counts} <= {threads}, counts, f"{threads} in every library that has threads")


def _window(rounds: Sequence[Mapping[str, Mapping[str, Any]]], figures: Mapping[str, Rounds]) -> Check:
    seen, passed = {}, True
    for side, texts in {"query": "queries", "passage": "passages"}.items():
        windows = [one["energy"][side] for one in rounds]
        seconds, passes = sum(one["seconds"] for one in windows), min(len(one["passes"]) for one in windows)
        error = figures[f"energy_j_per_1k_{texts}"].relative_error
        seen[side] = {"passes": passes, "seconds": seconds, "relative_error": error}
        enough = seconds >= WINDOW_S or (error is not None and error < ERROR_LIMIT)
        passed = passed and enough and passes >= MIN_PASSES
    wants = f"{MIN_PASSES} passes per round, and {WINDOW_S:g} s in all or a standard error under {ERROR_LIMIT:.0%}"
    return _check("window", passed, seen, wants)


def _end_to_end(figures: Mapping[str, Rounds]) -> Check | None:
    """A query with a search behind it takes no less time than the query."""
    seen, passed = {}, True
    for percentile in ("p50", "p95"):
        query, total = (figures.get(f"{name}_latency_{percentile}_ms") for name in ("query", "end_to_end"))
        if query and total and query.value and total.value:
            noise = max(NOISE, 2 * (query.error**2 + total.error**2) ** 0.5)
            seen[percentile] = {"query_ms": query.value, "end_to_end_ms": total.value, "noise": noise}
            passed = passed and total.value >= query.value * (1 - noise)
    if not seen:
        return None
    return _check("end_to_end", passed, seen, "end to end not below the query, by more than the noise of both")


def _drift(again: Mapping[str, Any], latency: Rounds) -> Check:
    """The same queries once more, after all rounds: within the interval for one more round."""
    limit = max(DRIFT_LIMIT, latency.t_95 * latency.error * (len(latency.values) + 1) ** 0.5)
    change = again["again_ms"] / again["first_ms"] - 1
    seen = {"first_ms": again["first_ms"], "again_ms": again["again_ms"], "change": change, "interval": limit}
    return _check("drift", abs(change) <= limit, seen, "a repeated profile within the interval of the first, or 5 %")


def _check(name: str, passed: bool, value: object, limit: str) -> Check:
    return {"name": name, "passed": bool(passed), "value": value, "limit": limit}
