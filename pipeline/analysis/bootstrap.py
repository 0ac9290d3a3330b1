"""How sure a mean is: from per-query scores to draws of macro averages, paired over all variants of a benchmark.

A question exists in every language, so its scores in all settings move together: what is resampled is the question.
Axes: Q questions, C columns (variant, seed), B draws, K seeds of one variant, V variants.
"""

import numpy as np
import pandas as pd

DRAWS = 2000


def query_scores(per_query: pd.DataFrame, setting: str, metric: str) -> pd.Series:
    """One value a question (by `query_id`), whose plain mean is the macro average over the setting's language pairs.

    Where every question is asked in every language it is the question's mean over language pairs. Else it is the macro
    average's linearisation (Efron & Tibshirani 1993, ch. 21), so that resampling it stands for resampling the table.
    """
    rows = per_query[per_query["setting"] == setting].dropna(subset=[metric])
    pairs = rows.groupby(["query_language", "passage_language"])[metric]
    share = 1 / (pairs.transform("size") * pairs.ngroups)  # of a row in the macro average
    deviation = (share * (rows[metric] - pairs.transform("mean"))).groupby(rows["query_id"]).sum()
    return pairs.mean().mean() + len(deviation) * deviation


def draws(scores_QC: pd.DataFrame, seed: int = 0, size: int = DRAWS) -> pd.DataFrame:
    """Bootstrap draws [B, V] of each variant's mean over questions and seeds; columns of `scores_QC`: (variant, seed).

    A draw takes the same questions for all variants, so differences between its columns are paired. Of K > 1 seeds it
    takes K - 1, which makes the variance of the mean over seeds unbiased (McCarthy & Snowden 1985); with fewer than
    about five seeds its tails are still too light. A single seed is taken as it is: the draws then speak of
    the questions only.
    """
    rng = np.random.default_rng(seed)
    questions = len(scores_QC)
    weight_BQ = rng.multinomial(questions, np.full(questions, 1 / questions), size) / questions
    drawn = {}
    for variant, scores_QK in scores_QC.T.groupby(level=0, sort=False):
        seeds = len(scores_QK)
        weight_BK = rng.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), size) / max(seeds - 1, 1)
        drawn[variant] = (weight_BQ @ scores_QK.to_numpy().T * weight_BK).sum(axis=1)
    return pd.DataFrame(drawn)


def interval(draws_BV: pd.DataFrame | np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the percentile interval of each column."""
    low, high = np.quantile(draws_BV, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
