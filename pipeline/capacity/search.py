"""The largest rate that a system holds, by bisection. Pure: it asks a function, and knows no clock."""

from collections.abc import Callable

# Share of the first rate below which none is said to hold. The first rate is half of what one query at a time reaches,
# so there the system is idle seven eighths of the time, and a test of enough queries takes minutes.
LEAST = 0.25


def largest_rate(holds: Callable[[float], bool], first: float, tolerance: float, *, step: float = 2) -> float | None:
    """Return the largest rate that was tried and held; None if none does, down to `first` x LEAST.

    The rate is multiplied, or divided, by `step` until one holds and another does not. Their geometric mean is tried
    next, until they differ by no more than `tolerance`.

    Args:
        holds: tests a rate.
        first: the rate to begin with.
        tolerance: relative, above 0.
        step: above 1; a small one where `first` is near the largest rate.

    A system that carries 70 per second, from 20 on: 20, 40 and 80, then 56.6, 67.3 and 72.

    >>> tried = []
    >>> largest_rate(lambda rate: not tried.append(round(rate, 1)) and rate <= 70, 20, 0.1)
    67.27171322029716
    >>> tried
    [20, 40, 80, 56.6, 67.3, 73.4]
    """
    low = high = None
    rate = first
    while True:
        if holds(rate):
            low = rate
        else:
            high = rate
        if low is None:
            rate /= step
            if rate < first * LEAST:
                return None
        elif high is None:
            rate *= step
        elif high / low <= 1 + tolerance:
            return low
        else:
            rate = (low * high) ** 0.5
