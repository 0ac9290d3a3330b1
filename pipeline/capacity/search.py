"""The largest rate that a system holds, by bisection. Pure: it asks a function, and knows no clock."""

from collections.abc import Callable

# Of the first rate, before no rate is said to hold. The first rate is half of what one query at a time reaches, so at
# the last one the system is idle seven eighths of the time, and a test of enough queries takes minutes.
HALVINGS = 2


def largest_rate(holds: Callable[[float], bool], first: float, tolerance: float) -> float | None:
    """Return the largest rate that was tried and held; None if even `first` / 2^HALVINGS does not hold.

    The rate is doubled, or halved, until one holds and another does not. Their geometric mean is tried next, until they
    differ by no more than `tolerance`.

    Args:
        holds: tests a rate.
        first: the rate to begin with.
        tolerance: relative, above 0.

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
            rate /= 2
            if rate < first / 2**HALVINGS:
                return None
        elif high is None:
            rate *= 2
        elif high / low <= 1 + tolerance:
            return low
        else:
            rate = (low * high) ** 0.5
