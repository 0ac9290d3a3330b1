"""What the meters share: the order in which they use real texts, and the statistics of a series of timings.

Axes: N timings, B bootstrap resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypedDict

import numpy as np

PERCENTILES = (50, 90, 95, 99)
RESAMPLES = 1000
Z_95 = 1.96  # standard errors on each side of a 95 % interval


class Estimate(TypedDict):
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def relative_error(estimate: Estimate) -> float:
    """Return the relative standard error that the interval of an estimate stands for.

    >>> round(relative_error({"value": 10.0, "low": 8.04, "high": 11.96}), 3)
    0.1
    """
    return (estimate["high"] - estimate["low"]) / (2 * Z_95) / estimate["value"]


Percentiles = dict[str, Estimate | None]  # p50, p90, p95, p99


T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's t, 97.5 %, for 1, 2, … degrees of freedom


@dataclass(frozen=True)
class Rounds:
    """A figure over the rounds of a profile: their median, and what it may be off by.

    >>> figure = Rounds.of([10.0, 11.0, 12.0], [0.01, 0.01, 0.01])
    >>> figure.value, round(figure.relative_error, 3)
    (11.0, 0.052)
    """

    value: float | None
    relative_error: float | None  # None: neither several rounds nor an error within one
    values: Sequence[float | None]

    @classmethod
    def of(cls, values: Sequence[float | None], errors: Sequence[float | None]) -> "Rounds":
        """Return the figure of these rounds; None if a round lacks it.

        The standard error of the mean of rounds holds the noise within rounds and the drift between them. A few rounds
        may agree by chance: so it is at least what the errors within rounds make it.

        Args:
            values: of the rounds.
            errors: relative standard errors within the rounds, where they are known.
        """
        known = [value for value in values if value is not None]
        if not values or len(known) < len(values):
            return cls(None, None, values)
        middle, count = float(np.median(known)), len(known)
        if not middle:
            return cls(middle, None, values)
        between = float(np.std(known, ddof=1)) if count > 1 else None
        pairs = zip(known, errors, strict=True)
        inside = [(value * error) ** 2 for value, error in pairs if error is not None]
        parts = [part for part in (between, float(np.mean(inside)) ** 0.5 if inside else None) if part is not None]
        return cls(middle, max(parts) / count**0.5 / abs(middle) if parts else None, values)

    @property
    def error(self) -> float:
        """The relative error, 0 where it is not known."""
        return self.relative_error or 0.0

    @property
    def t_95(self) -> float:
        """Student's t for a 95 % interval, with as many degrees of freedom as rounds less one, but at least 2."""
        return T_95[min(max(len(self.values) - 1, 2), len(T_95)) - 1]


def round_robin(texts: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return (language, text) pairs, one of each language in turn; languages with fewer texts drop out early.

    >>> round_robin({"en": ["a", "b"], "th": ["x"]})
    [('en', 'a'), ('th', 'x'), ('en', 'b')]
    """
    columns = [[(language, text) for text in column] for language, column in texts.items()]
    return [pair for row in zip_longest(*columns) for pair in row if pair is not None]


def distinct_texts(texts: Mapping[str, Sequence[str]], count_tokens: Callable[[str], int], tokens: int) -> list[str]:
    """Return distinct texts over the languages in turn, until they hold `tokens` tokens or run out.

    Distinct, because bulk encoding does the work of equal texts once.

    >>> distinct_texts({"en": ["a", "bb", "c"], "de": ["a", "d"]}, len, 4)
    ['a', 'bb', 'd']
    """
    chosen, total = [], 0
    for text in dict.fromkeys(text for _, text in round_robin(texts)):
        chosen.append(text)
        total += count_tokens(text)
        if total >= tokens:
            break
    return chosen


def supported(percentile: int, count: int) -> bool:
    """Return whether `count` timings support a percentile p: 64 for p90, 130 for p95, 662 for p99.

    The rule of MLPerf Inference (early stopping; LoadGen, early_stopping.cc, tolerance 0, confidence 0.99): with one
    timing above the percentile, the probability of at most one, p^n + n (1 - p) p^(n-1), must be at most 1 %.

    >>> [supported(95, count) for count in (129, 130)]
    [False, True]
    """
    p = percentile / 100
    return p**count + count * (1 - p) * p ** (count - 1) <= 0.01


def percentiles(values_N: np.ndarray, seed: int) -> Percentiles:
    """Return p50, p90, p95 and p99, each with a 95 % percentile-bootstrap interval; None if there are too few values.

    The median is always given: it is no tail.
    """
    samples_BN = np.random.default_rng(seed).choice(values_N, size=(RESAMPLES, len(values_N)))
    estimates: Percentiles = {}
    for percentile in PERCENTILES:
        if percentile > 50 and not supported(percentile, len(values_N)):
            estimates[f"p{percentile}"] = None
            continue
        resampled_B = np.percentile(samples_BN, percentile, axis=1)
        low, high = np.percentile(resampled_B, [2.5, 97.5])
        value = float(np.percentile(values_N, percentile))
        estimates[f"p{percentile}"] = {"value": value, "low": float(low), "high": float(high)}
    return estimates


def relative_standard_error(values_N: Sequence[float]) -> float | None:
    """Return the standard error of the mean over the mean; None for fewer than two values, or a mean of zero."""
    mean = float(np.mean(values_N))
    if len(values_N) < 2 or mean == 0:
        return None
    return float(np.std(values_N, ddof=1)) / len(values_N) ** 0.5 / abs(mean)
