"""The grade of a profile: named checks, each with what was found and the limit. One failed check fails the profile.

A failed profile is kept and shown as a hollow mark: the figures stand, and so does the doubt.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.profiling.samples import supported

OTHERS_LIMIT = 0.05  # of all cores' time
STEAL_LIMIT = 0.02
CLOCK_LIMIT = 0.10  # change of one matrix product between the start and the end of a meter
WINDOW_S = 10.0
ERROR_LIMIT = 0.05  # relative standard error of an energy


def grade(meters: Mapping[str, Mapping[str, Any]], *, threads: int) -> dict[str, Any]:
    """`meters` holds each meter's result, with what `machine.watch` saw under `watch`, thread counts under `threads`.

    Throttling that the machine does not expose is None and counts as none; the matrix product's own steadiness is
    always checked. Energy that was not measured has no window to check.
    """
    watches = [meter["watch"] for meter in meters.values()]
    product = meters["throughput"]["matrix_product_flop_per_s"]
    drift = abs(product["after"] / product["before"] - 1)
    events = [seen.get(key) for seen in watches for key in ("throttle_events", "slowed")]
    throttled = None if set(events) == {None} else sum(count or 0 for count in events)
    others, steal = (max(seen[key] for seen in watches) for key in ("others_share", "steal_share"))
    counts = sorted({count for meter in meters.values() for count in meter["threads"].values()})
    windows = {} if "missing" in meters["energy"] else {side: meters["energy"][side] for side in ("query", "passage")}
    checks = [
        _check("count", supported(95, meters["latency"]["calls"]), meters["latency"]["calls"], "enough for p95 (130)"),
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
                all(_enough(found["seconds"], found["relative_error"]) for found in windows.values()),
                {side: [found["seconds"], found["relative_error"]] for side, found in windows.items()},
                f"energy over {WINDOW_S:g} s, or standard error under {ERROR_LIMIT:.0%}",
            )
        )
    return {"passed": all(check["passed"] for check in checks), "checks": checks}


def _enough(seconds: float, relative_error: float | None) -> bool:
    return seconds >= WINDOW_S or (relative_error is not None and relative_error < ERROR_LIMIT)


def _check(name: str, passed: bool, value: Any, limit: str) -> dict[str, Any]:
    return {"name": name, "passed": bool(passed), "value": value, "limit": limit}
