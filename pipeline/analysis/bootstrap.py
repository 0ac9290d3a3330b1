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
    average's linearisation (Efron & Tibshirani 1993, ch. 21), so that resampling it stands for resampling the table. A
    question that this setting or metric leaves out counts as an average one: so all of a benchmark's draws are paired.
    """
    rows = per_query[per_query["setting"] == setting].dropna(subset=[metric])
    pairs = rows.groupby(["query_language", "passage_language"])[metric]
    share = 1 / (pairs.transform("size") * pairs.ngroups)  # of a row in the macro average
    deviation = (share * (rows[metric] - pairs.transform("mean"))).groupby(rows["query_id"]).sum()
    questions = pd.Index(per_query["query_id"].unique(), name="query_id").sort_values()
    return pairs.mean().mean() + len(questions) * deviation.reindex(questions, fill_value=0.0)


def draws(scores_QC: pd.DataFrame, seed: int = 0, size: int = DRAWS) -> pd.DataFrame:
    """Bootstrap draws [B, V] of each variant's mean over questions and seeds; columns of `scores_QC`: (variant, seed).

    A draw takes the same questions for all variants, so differences between its columns are paired; so are those of two
    tables with equal rows and columns and the same `seed`. Of Q questions it takes Q - 1, which makes the variance of
    the mean unbiased (McCarthy & Snowden 1985), and a draw's distance from the mean is stretched as Student's t is
    against the normal law. Seeds are too few to be resampled: `seed_error` is added, times a t of the degrees of
    freedom it was estimated with, and the same for all ways of serving one encoder. A single seed is taken as it is:
    the draws then speak of the questions only.
    """
    rng = np.random.default_rng(seed)

    def stretch(degrees: float) -> np.ndarray:
        """[B, 1]: times a normal variable it is Student's t."""
        return np.sqrt(degrees / rng.chisquare(degrees, (size, 1)))

    mean_QV = scores_QC.T.groupby(level=0, sort=False).mean().T
    mean_V, others = mean_QV.mean().to_numpy(), len(mean_QV) - 1
    weight_BQ = rng.multinomial(others, np.full(others + 1, 1 / (others + 1)), size) / others
    of_questions_BV = (weight_BQ @ mean_QV.to_numpy() - mean_V) * stretch(others)
    error_V, degrees = seed_error(scores_QC)
    encoder_V = encoders(mean_QV.columns)
    of_seeds_BV = error_V * stretch(degrees) * rng.standard_normal((size, encoder_V.max() + 1))[:, encoder_V]
    return pd.DataFrame(mean_V + of_questions_BV + of_seeds_BV, columns=mean_QV.columns)


def encoders(variants: pd.Index) -> np.ndarray:
    """A number [V] for each trained encoder: how it is served follows its name after a space (tables.variant)."""
    return pd.factorize(variants.str.split(" ").str[0])[0]


def seed_error(scores_QC: pd.DataFrame) -> tuple[np.ndarray, float]:
    """Standard error [V] of each variant's mean that comes from its seeds, and the degrees of freedom behind it.

    The variance between seeds is pooled over all encoders: two or three seeds of one say next to nothing of it. What
    the noise of single questions adds to it is taken out, since resampling questions already holds that (two-way
    analysis of variance). 0 for a single seed, and for an encoder that no seed changes, as an untrained one.
    """
    by_variant, means = scores_QC.T.groupby(level=0, sort=False), scores_QC.mean().groupby(level=0, sort=False)
    seeds_V, questions = means.size(), len(scores_QC)
    degrees_V = np.where(means.max() > means.min(), seeds_V - 1, 0)
    if not degrees_V.any():
        return np.zeros(len(seeds_V)), 1.0
    of_means_V, of_questions_V = means.var(ddof=1), by_variant.var(ddof=1).mean(axis=1)
    between_V = ((questions * of_means_V - of_questions_V) / (questions - 1)).fillna(0)
    encoder_V = encoders(seeds_V.index)
    weight_V = degrees_V / np.bincount(encoder_V)[encoder_V]
    pooled = max(np.average(between_V, weights=weight_V), 0.0)
    return np.where(degrees_V > 0, np.sqrt(pooled / seeds_V), 0.0), float(weight_V.sum())


def interval(draws_BV: pd.DataFrame | np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the percentile interval of each column."""
    low, high = np.quantile(draws_BV, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
