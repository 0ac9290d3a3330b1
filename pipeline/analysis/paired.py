"""Is strategy A better than strategy B at equal model? Paired tests over queries, corrected for their number.

Axes: Q queries, C columns (system, seed), B draws, S systems.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from pipeline.analysis.bootstrap import interval

COLUMNS = ["model", "a", "b", "difference", "low", "high", "p"]


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted to hold the family-wise error rate (Holm 1979, step-down Bonferroni).

    The smallest of 3 is multiplied by 3, the next by 2, and none falls below a smaller one before it.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def compare(scores_QC: pd.DataFrame, draws_BS: pd.DataFrame, models: pd.Series) -> pd.DataFrame:
    """Compare all pairs of systems that have the same model: A minus B, its interval and a paired t-test over queries.

    Of the tests in use on retrieval scores the t-test holds its level best (Urbano, Lima & Hanjalic 2019). It takes
    means over seeds first, so it speaks of these trained seeds only, whereas the interval also draws seeds.

    Args:
        scores_QC: values of `bootstrap.query_scores`; columns are (system, seed).
        draws_BS: values of `bootstrap.draws` of the same scores.
        models: the model of each system, by system.

    Returns:
        One row per pair: COLUMNS and `p_holm`, `p` corrected for the number of rows (Holm 1979). Differences and
        bounds are in the metric's unit; the interval holds 95 %.

    >>> scores = pd.DataFrame({("x", 0): [0.6, 0.5, 0.9], ("y", 0): [0.5, 0.4, 0.7], ("z", 0): [0.1, 0.2, 0.3]})
    >>> draws = pd.DataFrame({"x": [0.6, 0.7], "y": [0.5, 0.5], "z": [0.2, 0.2]})
    >>> table = compare(scores, draws, pd.Series({"x": "small", "y": "small", "z": "large"}))
    >>> table.round(3).to_dict("records")  # doctest: +NORMALIZE_WHITESPACE
    [{'model': 'small', 'a': 'x', 'b': 'y', 'difference': 0.133, 'low': 0.102, 'high': 0.197, 'p': 0.057,
      'p_holm': 0.057}]
    """
    mean_QS = scores_QC.T.groupby(level=0).mean().T
    rows = []
    for model, group in models[mean_QS.columns].groupby(models, sort=False):
        for a, b in combinations(group.index, 2):
            low, high = interval(draws_BS[a] - draws_BS[b])
            difference, p = (mean_QS[a] - mean_QS[b]).mean(), ttest_rel(mean_QS[a], mean_QS[b]).pvalue
            rows.append((model, a, b, difference, low, high, p))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(p_holm=holm(table["p"].to_numpy()))
