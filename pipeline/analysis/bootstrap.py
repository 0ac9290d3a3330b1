"""Confidence intervals of mean scores: per-query scores to bootstrap draws, paired over all systems of a benchmark.

Four ideas, one function each:
1. `query_scores`: one value per query whose plain mean is the macro average over language pairs.
2. `query_weights`: resample Q - 1 of Q queries, so that the variance of the mean is unbiased.
3. `student_t_factor`: widen a draw from the normal to Student's t, since variances are estimated.
4. `seed_error`: the standard error that comes from training seeds, pooled over encoders; seeds are too few to resample.

A query exists in every language, so its scores in all settings move together: the unit of resampling is the query.
Axes: Q queries, C columns (system, seed), B draws, S systems, E encoders.
"""

import numpy as np
import pandas as pd

DRAWS = 2000


def query_scores(per_query: pd.DataFrame, setting: str, metric: str) -> pd.Series:
    """Return one value per query whose plain mean is the macro average over the setting's language pairs.

    If every query is asked in every language, the value is the query's mean over language pairs. Otherwise it is the
    linearisation of the macro average (influence values; Efron & Tibshirani 1993, ch. 21), so that resampling the
    values stands for resampling the table. A query without a score in this setting counts as an average one: all draws
    of a benchmark stay paired.

    Args:
        per_query: one row per (setting, query_language, passage_language, query_id), one column per metric.

    Returns:
        Values [Q] in the metric's unit, indexed by `query_id` in sorted order.

    Query b lacks the second language, whose mean is .8, so the macro average is (.4 + .8) / 2 = .6. Query b scores .2
    below the mean of the first language, where it is one of 2 queries, in one of 2 language pairs: it moves the macro
    average by -.2 / 4, and its value is 2 queries times that below .6.

    >>> table = pd.DataFrame(
    ...     [("mono", "en", "en", "a", 0.6), ("mono", "en", "en", "b", 0.2), ("mono", "th", "th", "a", 0.8)],
    ...     columns=["setting", "query_language", "passage_language", "query_id", "map"],
    ... )
    >>> query_scores(table, "mono", "map").round(3).to_dict()
    {'a': 0.7, 'b': 0.5}
    """
    rows = per_query[per_query["setting"] == setting].dropna(subset=[metric])
    pairs = rows.groupby(["query_language", "passage_language"])[metric]
    share = 1 / (pairs.transform("size") * pairs.ngroups)  # of a row in the macro average
    deviation = (share * (rows[metric] - pairs.transform("mean"))).groupby(rows["query_id"]).sum()
    queries = pd.Index(per_query["query_id"].unique(), name="query_id").sort_values()
    return pairs.mean().mean() + len(queries) * deviation.reindex(queries, fill_value=0.0)


def draws(scores_QC: pd.DataFrame, seed: int = 0, size: int = DRAWS, *, higher_is_better: bool = True) -> pd.DataFrame:
    """Return bootstrap draws of each system's mean over queries and seeds.

    All systems get the same queries in a draw, so differences between columns are paired. Tables with equal rows and
    columns and the same `seed` are paired too. With a single training seed per encoder the draws reflect queries only.

    Args:
        scores_QC: values of `query_scores`; columns are (system, seed).
        higher_is_better: whether the metric is better when higher. A draw in which the seeds raise accuracy then also
            lowers a bias: good seeds are good on both.

    Returns:
        Draws [B, S] in the metric's unit; columns are systems.

    >>> score = np.array([0.2, 0.4, 0.9])
    >>> drawn = draws(pd.DataFrame({("a", 0): score, ("b", 0): score - 0.1}), size=100)
    >>> drawn.shape, np.allclose(drawn["a"] - drawn["b"], 0.1)
    ((100, 2), True)
    """
    if not higher_is_better:
        return -draws(-scores_QC, seed, size)
    rng = np.random.default_rng(seed)
    mean_QS = scores_QC.T.groupby(level=0, sort=False).mean().T
    mean_S, queries = mean_QS.mean().to_numpy(), len(mean_QS)
    of_queries_BS = query_weights(queries, size, rng) @ mean_QS.to_numpy() - mean_S
    of_queries_BS = of_queries_BS * student_t_factor(queries - 1, size, rng)
    error_S, degrees = seed_error(scores_QC)
    encoder_S = encoders(mean_QS.columns)
    factor_B1 = student_t_factor(degrees, size, rng)
    of_seeds_BS = error_S * factor_B1 * rng.standard_normal((size, encoder_S.max() + 1))[:, encoder_S]
    return pd.DataFrame(mean_S + of_queries_BS + of_seeds_BS, columns=mean_QS.columns)


def query_weights(queries: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the weights [B, Q] of the queries in each draw's mean: the frequencies in a resample of Q - 1 queries.

    A bootstrap of Q queries gives the mean a variance of s² (Q - 1) / Q², too small by (Q - 1) / Q; with Q - 1 queries
    it is s² / Q, which is unbiased (McCarthy & Snowden 1985, "The bootstrap and finite population sampling").

    The scores 0, 1, 2 have s² = 1, so the variance of their mean is 1 / 3; the usual bootstrap would give 2 / 9.

    >>> weight_BQ = query_weights(3, 100_000, np.random.default_rng(0))
    >>> weight_BQ[:2].tolist()
    [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    >>> (weight_BQ @ [0, 1, 2]).var().round(2)
    np.float64(0.33)
    """
    return rng.multinomial(queries - 1, np.full(queries, 1 / queries), size) / (queries - 1)


def student_t_factor(degrees: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return factors [B, 1] that turn a standard normal variable into Student's t with `degrees` degrees of freedom.

    A t variable is a normal one divided by the square root of chi² / degrees, both independent. With 2 degrees of
    freedom 95 % of the values lie within 4.30, against 1.96 of the normal distribution.

    >>> rng = np.random.default_rng(0)
    >>> t_B1 = rng.standard_normal((1_000_000, 1)) * student_t_factor(2, 1_000_000, rng)
    >>> np.quantile(t_B1, 0.975).round(1)
    np.float64(4.3)
    """
    return np.sqrt(degrees / rng.chisquare(degrees, (size, 1)))


def encoders(systems: pd.Index) -> np.ndarray:
    """Return a number [S] per trained encoder: systems that differ in the inference variant only share it.

    The label of the inference variant follows the name of the encoder after a space (tables.system).

    >>> encoders(pd.Index(["small-hybrid", "small-hybrid SQ8", "large-hybrid"])).tolist()
    [0, 0, 1]
    """
    return pd.factorize(systems.str.split(" ").str[0])[0]


def seed_error(scores_QC: pd.DataFrame) -> tuple[np.ndarray, float]:
    """Return the standard error of each system's mean that comes from its seeds, and its degrees of freedom.

    The variance between seeds is pooled over all encoders: two or three seeds of one encoder say next to nothing about
    it. The part of it that is noise of single queries is subtracted, since resampling queries already contains it
    (two-way analysis of variance: queries x seeds). The error is the same for all inference variants of an encoder.

    Returns:
        error_S [S] in the metric's unit, and the degrees of freedom of the pooled variance. The error is 0 for a single
        seed and for an encoder that no seed changes, such as an untrained one.

    Queries that all score alike leave the seeds alone: means of .1 and .3 have the variance .02, and the mean of two
    seeds the standard error √(.02 / 2) = .1. Pooled with the variance 0.08 of another encoder it is √(.05 / 2) = .158.

    >>> alone = {("a", 0): [0.1] * 5, ("a", 1): [0.3] * 5}
    >>> error_S, degrees = seed_error(pd.DataFrame(alone))
    >>> error_S.round(3).tolist(), degrees
    ([0.1], 1.0)
    >>> error_S, degrees = seed_error(pd.DataFrame(alone | {("b", 0): [0.2] * 5, ("b", 1): [0.6] * 5}))
    >>> error_S.round(3).tolist(), degrees
    ([0.158, 0.158], 2.0)
    """
    by_system, means = scores_QC.T.groupby(level=0, sort=False), scores_QC.mean().groupby(level=0, sort=False)
    seeds_S, queries = means.size(), len(scores_QC)
    degrees_S = np.where(means.max() > means.min(), seeds_S - 1, 0)
    if not degrees_S.any():
        return np.zeros(len(seeds_S)), 1.0
    of_means_S, of_queries_S = means.var(ddof=1), by_system.var(ddof=1).mean(axis=1)
    between_S = ((queries * of_means_S - of_queries_S) / (queries - 1)).fillna(0)
    encoder_S = encoders(seeds_S.index)
    weight_S = degrees_S / np.bincount(encoder_S)[encoder_S]
    pooled = max(np.average(between_S, weights=weight_S), 0.0)
    return np.where(degrees_S > 0, np.sqrt(pooled / seeds_S), 0.0), float(weight_S.sum())


def interval(draws_BS: pd.DataFrame | np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends [S] of each column's percentile interval; scalars for draws [B] of one figure.

    >>> low, high = interval(np.arange(101)[:, None])
    >>> low.round(1).tolist(), high.round(1).tolist()
    ([2.5], [97.5])
    """
    low, high = np.quantile(draws_BS, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
