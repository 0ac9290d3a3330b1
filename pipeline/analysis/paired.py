"""Is strategy A better than strategy B at equal model? Differences with interval and test, corrected for their number.

Interval and p-value come from one t distribution (errors.Estimates.difference), so they never disagree.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pipeline.analysis.errors import LEVEL, Estimates
from pipeline.analysis.strategies import UNTRAINED

MOST_IN_PAIRS = 50  # systems of one model that are all compared with each other: 1,225 pairs
COLUMNS = ["model", "a", "b", "difference", "low", "high", "p", "standard_error", "degrees", "covers"]


def holm(p_values: np.ndarray, tests: int | None = None) -> np.ndarray:
    """Return p-values adjusted to hold the family-wise error rate (Holm 1979, step-down Bonferroni).

    Args:
        p_values: of the tests that were made.
        tests: how many there could have been; those that were not made count as p-values of 1.

    The smallest of 3 is multiplied by 3, the next by 2, and none falls below a smaller one before it.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    return np.minimum(step_down(p_values, tests), 1)


def step_down(p_values: np.ndarray, tests: int | None = None) -> np.ndarray:
    """Return what `holm` returns without the limit of 1: a row is tested at its p-value's share of that of the level.

    >>> step_down(np.array([0.9, 0.8])).round(2).tolist()
    [1.6, 1.6]
    """
    order = np.argsort(p_values)
    stepped = np.asarray(p_values)[order] * ((tests or len(order)) - np.arange(len(order)))
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted


def compare(estimates: Estimates, models: pd.Series) -> pd.DataFrame:
    """Compare the pairs of systems that have the same model: A minus B, its interval and its p-value.

    Of a model with more than MOST_IN_PAIRS systems only those pairs are compared of which one is its most accurate
    system or untrained. The correction counts all pairs, so that it holds whichever system is the most accurate.

    Args:
        estimates: of the systems.
        models: the model of each system, by system.

    Returns:
        One row per pair: COLUMNS, and `p_holm`, `p` corrected for the number of all pairs (Holm 1979). `low` and `high`
        hold 95 % and exclude 0 exactly when p < 0.05. `holm_low` and `holm_high` are the interval at the level at which
        Holm's procedure tests this row: it excludes 0 exactly when p_holm < 0.05. `covers` says whether the row speaks
        of other queries only (errors.Estimates.covers).

    >>> from pipeline.analysis.errors import estimate
    >>> scores = pd.DataFrame({("x", 0): [0.6, 0.5, 0.9], ("y", 0): [0.5, 0.4, 0.7], ("z", 0): [0.1, 0.2, 0.3]})
    >>> table = compare(estimate(scores), pd.Series({"x": "small", "y": "small", "z": "large"}))
    >>> table[["a", "b", "difference", "low", "high", "p", "p_holm"]].round(3).to_dict("records")
    [{'a': 'x', 'b': 'y', 'difference': 0.133, 'low': -0.01, 'high': 0.277, 'p': 0.057, 'p_holm': 0.057}]
    """
    rows, tests = [], 0
    for model, group in models[estimates.mean_S.index].groupby(models, sort=False):
        tests += len(group) * (len(group) - 1) // 2
        for a, b in pairs(estimates, group.index):
            difference, low, high, p, error, degrees = estimates.difference(a, b)
            rows.append((model, a, b, difference, low, high, p, error, degrees, estimates.covers(a, b)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    p, stepped = table["p"].to_numpy(float), step_down(table["p"].to_numpy(float), tests)
    share = np.divide(p, stepped, where=stepped > 0, out=np.full(len(p), 1 / max(tests, 1)))
    reach = stdtrit(table["degrees"].to_numpy(float), 1 - (1 - LEVEL) * share / 2) * table["standard_error"].to_numpy(
        float
    )
    bounds = {"holm_low": table["difference"] - reach, "holm_high": table["difference"] + reach}
    return table.assign(p_holm=holm(p, tests), **bounds)


def pairs(estimates: Estimates, systems: pd.Index) -> Iterator[tuple[str, str]]:
    """Yield the pairs of systems of one model that are compared, each in the order of the systems."""
    if len(systems) <= MOST_IN_PAIRS:
        yield from combinations(systems, 2)
        return
    untrained = systems[(estimates.labels.loc[systems, "strategy"] == UNTRAINED).to_numpy()]
    against = {estimates.mean_S[systems].idxmax(), *untrained[:MOST_IN_PAIRS]}
    places = [place for place, system in enumerate(systems) if system in against]
    for place, system in enumerate(systems):
        later = places if system not in against else range(len(systems))
        yield from ((system, systems[other]) for other in later if other > place)
