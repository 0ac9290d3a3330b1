"""Is strategy A better than strategy B at equal model? Differences with interval and test, corrected for their number.

Interval and p-value come from one t distribution (errors.Estimates.difference), so they never disagree.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pipeline.analysis.errors import LEVEL, Estimates

COLUMNS = ["model", "a", "b", "difference", "low", "high", "p", "standard_error", "degrees", "covers"]


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted to hold the family-wise error rate (Holm 1979, step-down Bonferroni).

    The smallest of 3 is multiplied by 3, the next by 2, and none falls below a smaller one before it.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    return np.minimum(step_down(p_values), 1)


def step_down(p_values: np.ndarray) -> np.ndarray:
    """Return what `holm` returns without the limit of 1: a row is tested at its p-value's share of that of the level.

    >>> step_down(np.array([0.9, 0.8])).round(2).tolist()
    [1.6, 1.6]
    """
    order = np.argsort(p_values)
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted


def compare(estimates: Estimates, models: pd.Series) -> pd.DataFrame:
    """Compare all pairs of systems that have the same model: A minus B, its interval and its p-value.

    Args:
        estimates: of the systems.
        models: the model of each system, by system.

    Returns:
        One row per pair: COLUMNS, and `p_holm`, `p` corrected for the number of rows (Holm 1979). `low` and `high` hold
        95 % and exclude 0 exactly when p < 0.05. `holm_low` and `holm_high` are the interval at the level at which
        Holm's procedure tests this row: it excludes 0 exactly when p_holm < 0.05. `covers` says whether the row speaks
        of other queries only (errors.Estimates.covers).

    >>> from pipeline.analysis.errors import estimate
    >>> scores = pd.DataFrame({("x", 0): [0.6, 0.5, 0.9], ("y", 0): [0.5, 0.4, 0.7], ("z", 0): [0.1, 0.2, 0.3]})
    >>> table = compare(estimate(scores), pd.Series({"x": "small", "y": "small", "z": "large"}))
    >>> table[["a", "b", "difference", "low", "high", "p", "p_holm"]].round(3).to_dict("records")
    [{'a': 'x', 'b': 'y', 'difference': 0.133, 'low': -0.01, 'high': 0.277, 'p': 0.057, 'p_holm': 0.057}]
    """
    rows = []
    for model, group in models[estimates.mean_S.index].groupby(models, sort=False):
        for a, b in combinations(group.index, 2):
            difference, low, high, p, error, degrees = estimates.difference(a, b)
            rows.append((model, a, b, difference, low, high, p, error, degrees, estimates.covers(a, b)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    p, stepped = table["p"].to_numpy(float), step_down(table["p"].to_numpy(float))
    share = np.divide(p, stepped, where=stepped > 0, out=np.full(len(p), 1 / max(len(p), 1)))
    reach = stdtrit(table["degrees"].to_numpy(float), 1 - (1 - LEVEL) * share / 2) * table["standard_error"].to_numpy(
        float
    )
    bounds = {"holm_low": table["difference"] - reach, "holm_high": table["difference"] + reach}
    return table.assign(p_holm=holm(p), **bounds)
