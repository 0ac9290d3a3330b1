"""The quality checks of a profile: each with its value and its limit. One failed check fails the profile.

A failed profile is kept, and plots show it as a hollow marker.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

from pipeline.profiling.samples import supported

OTHERS_LIMIT = 0.05  # of all cores' time
STEAL_LIMIT = 0.02
CLOCK_LIMIT = 0.10  # change of one matrix product between the start and the end of a meter
WINDOW_S = 10.0
ERROR_LIMIT = 0.05  # relative standard error of an energy


class Check(TypedDict):
    name: str
    passed: bool
    value: object
    limit: str


class Quality(TypedDict):
    passed: bool
    checks: list[Check]


def check_quality(results: Mapping[str, Mapping[str, Any]], *, threads: int) -> Quality:
    """Check the results of the meters.

    Throttling that the machine does not expose is None and counts as none; the matrix product's own steadiness is
    always checked. Energy that was not measured has no window to check.

    Args:
        results: by meter, each with the result of `machine.watch` under `watch` and thread counts under `threads`.
        threads: the number that every library should use.
    """
    watches = [result["watch"] for result in results.values()]
    product = results["throughput"]["matrix_product_flop_per_s"]
    drift = abs(product["after"] / product["before"] - 1)
    events = [watch.get(key) for watch in watches for key in ("throttle_events", "slowed")]
    throttled = None if set(events) == {None} else sum(count or 0 for count in events)
    others, steal = (max(watch[key] for watch in watches) for key in ("others_share", "steal_share"))
    counts = sorted({count for result in results.values() for count in result["threads"].values()})
    energy, calls = results["energy"], results["latency"]["calls"]
    windows = {} if "missing" in energy else {side: energy[side] for side in ("query", "passage")}
    checks = [
        _check("count", supported(95, calls), calls, "enough for p95 (130)"),
        _check(
            "quiet",
            others <= OTHERS_LIMIT and steal <= STEAL_LIMIT,
            {"others_share": others, "steal_share": steal},
            f"others at most {OTHERS_LIMIT:.0%} of the cores, steal at most {STEAL_LIMIT:.0%}",
        ),
        _check(
            "clock",
            drift <= CLOCK_LIMIT and not throttled,
            {"matrix_product_drift": drift, "throttle_events": throttled},
            f"a matrix product steady within {CLOCK_LIMIT:.0%}, no throttling",
        ),
        _check("threads", counts == [threads], counts, f"{threads} in every library"),
    ]
    if windows:
        checks.append(
            _check(
                "window",
                all(_enough(window["seconds"], window["relative_error"]) for window in windows.values()),
                {side: [window["seconds"], window["relative_error"]] for side, window in windows.items()},
                f"energy over {WINDOW_S:g} s, or standard error under {ERROR_LIMIT:.0%}",
            )
        )
    return {"passed": all(check["passed"] for check in checks), "checks": checks}


def _enough(seconds: float, relative_error: float | None) -> bool:
    return seconds >= WINDOW_S or (relative_error is not None and relative_error < ERROR_LIMIT)


def _check(name: str, passed: bool, value: object, limit: str) -> Check:
    return {"name": name, "passed": bool(passed), "value": value, "limit": limit}
