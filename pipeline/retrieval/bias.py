"""Measures of language bias in the multilingual pool: pure functions of a Ranking, one value per query.

`metrics.METRICS` lists them beside the measures of accuracy, and its rules and worked example hold here too. All but
`language_share` are NaN outside the multilingual pool.

Axes: Q queries of a ranking, R its relevant passages (sorted by query, then rank), K the top, L pool languages.
"""

import numpy as np

from pipeline.values import Ranking


def rank_distance(ranking: Ranking) -> np.ndarray:
    """Return language bias as in arXiv:2408.10536: the highest minus the lowest rank of a query's relevant passages.

    For queries with two relevant passages or more; NaN elsewhere.

    >>> from pipeline.retrieval.example import RANKING
    >>> rank_distance(RANKING).tolist()
    [1.0, nan]
    """
    count_Q = np.bincount(_row(ranking), minlength=len(ranking.queries))
    return np.where(count_Q > 1, worst_rank(ranking) - _best_rank(ranking), np.nan)


def worst_rank(ranking: Ranking) -> np.ndarray:
    """Return Max@R (arXiv:2604.05684): the highest rank of a query's relevant passages, by which all are found.

    NaN without a relevant passage.

    >>> from pipeline.retrieval.example import RANKING
    >>> worst_rank(RANKING).tolist()
    [3.0, 2.0]
    """
    worst_Q = np.full(len(ranking.queries), np.nan)
    if ranking.setting == "multi":
        np.fmax.at(worst_Q, _row(ranking), ranking.rank)
    return worst_Q


def language_preference(ranking: Ranking) -> np.ndarray:
    """Return 1 where the best-ranked relevant passage is in the query's language, else 0; the mean is a rate.

    The language preference rate of MLAIRE (arXiv:2605.07249). A ranking that is blind to language has a rate of 1 / L
    if each query has a relevant passage in each of L languages. Whether users want more is for them to say. NaN for a
    query without a relevant passage in its own language, or in another.

    >>> from pipeline.retrieval.example import RANKING
    >>> language_preference(RANKING).tolist()
    [0.0, nan]
    """
    own_R = _own_language(ranking)
    own_Q, other_Q = _best_rank(ranking, own_R), _best_rank(ranking, ~own_R)
    return np.where(np.isnan(own_Q + other_Q), np.nan, own_Q < other_Q)


def best_other_language_rank(ranking: Ranking) -> np.ndarray:
    """Return the best rank of a relevant passage in another language than the query's; NaN if there is none.

    >>> from pipeline.retrieval.example import RANKING
    >>> best_other_language_rank(RANKING).tolist()
    [2.0, nan]
    """
    return _best_rank(ranking, ~_own_language(ranking))


def own_language_share(ranking: Ranking, k: int) -> np.ndarray:
    """Return the share of the query's language among the first k over its share of the multilingual pool.

    1 means no preference, 0 that the language is avoided. NaN in other pools. ValueError as `language_share`.

    English holds 3/5 of the pool, and the first place of query 0 but not of query 1:

    >>> from pipeline.retrieval.example import RANKING
    >>> own_language_share(RANKING, k=1).round(4).tolist()
    [1.6667, 0.0]
    """
    if ranking.setting != "multi" or ranking.query_language not in ranking.pool_languages:
        return np.full(len(ranking.queries), np.nan)
    return language_share(ranking, k)[:, ranking.pool_languages.index(ranking.query_language)]


def language_share(ranking: Ranking, k: int) -> np.ndarray:
    """Return each pool language's share of each query's first k [Q, L], over the language's share of the pool.

    Raises:
        ValueError: for a k above the K of `top_language_QK`.

    English holds 3/5 of the pool, German 2/5; query 0 has one passage of each in the first two places:

    >>> from pipeline.retrieval.example import RANKING
    >>> language_share(RANKING, k=2)[0].round(4).tolist()
    [0.8333, 1.25]
    """
    if not 0 < k <= ranking.top_language_QK.shape[1]:
        raise ValueError(f"k must lie in [1, {ranking.top_language_QK.shape[1]}], the top of the ranking, got {k}")
    top_QK = ranking.top_language_QK[:, :k]
    count_QL = (top_QK[:, :, None] == np.arange(len(ranking.pool_languages))).sum(axis=1)
    fair_share_L = np.array(ranking.pool_sizes) / sum(ranking.pool_sizes)
    found_Q1 = count_QL.sum(axis=1, keepdims=True)  # 0: a query that finds nothing prefers no language
    return np.where(found_Q1, count_QL / np.maximum(found_Q1, 1) / fair_share_L, 1.0)


def _row(ranking: Ranking) -> np.ndarray:
    """Return each relevant passage's row in `ranking.queries` [R]."""
    return np.searchsorted(ranking.queries, ranking.query)


def _own_language(ranking: Ranking) -> np.ndarray:
    """Return whether each relevant passage is in the query's language [R]."""
    return np.array(ranking.pool_languages)[ranking.language] == ranking.query_language


def _best_rank(ranking: Ranking, among_R: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the lowest rank of each query's relevant passages, or of some of them; NaN without one."""
    best_Q = np.full(len(ranking.queries), np.nan)
    if ranking.setting == "multi":
        np.fmin.at(best_Q, _row(ranking)[among_R], ranking.rank[among_R])
    return best_Q
