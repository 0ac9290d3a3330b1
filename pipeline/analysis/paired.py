"""Is strategy A better than strategy B at equal model? Paired tests over questions, corrected for their number."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from pipeline.analysis.bootstrap import interval


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (Holm 1979): adjusted p-values that hold the family-wise error rate."""
    order = np.argsort(p_values)
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def compare(scores_QC: pd.DataFrame, draws_BV: pd.DataFrame, models: pd.Series) -> pd.DataFrame:
    """All pairs of variants with the same model: A minus B, its interval, and the paired t-test over questions.

    `models` maps each variant to its model. The t-test holds its level best among the tests in use on retrieval scores
    (Urbano, Lima & Hanjalic 2019). It takes means over seeds first, so it speaks of these trained seeds, whereas the
    interval also draws seeds. Holm's family is all of the rows.
    """
    mean_QV = scores_QC.T.groupby(level=0).mean().T
    rows = []
    for model, group in models[mean_QV.columns].groupby(models, sort=False):
        for a, b in combinations(group.index, 2):
            low, high = interval(draws_BV[a] - draws_BV[b])
            row = {"model": model, "a": a, "b": b, "difference": (mean_QV[a] - mean_QV[b]).mean()}
            rows.append(row | {"low": low, "high": high, "p": ttest_rel(mean_QV[a], mean_QV[b]).pvalue})
    table = pd.DataFrame(rows, columns=["model", "a", "b", "difference", "low", "high", "p"])
    return table.assign(p_holm=holm(table["p"].to_numpy()))
