"""Metrics: pure functions of a Ranking, one value per query. `METRICS` is the only list; `metric("ndcg_10")` reads it.

A metric maps a Ranking to values_Q, float64 and parallel to `ranking.queries`. A query without a relevant passage
scores 0, as with trec_eval -c. NaN marks a query for which a metric is undefined, as the measures of language bias are
outside the multilingual pool; means leave NaN out. Definitions are trec_eval's where it has one.

All worked examples use `example.RANKING`: English queries 0 and 1 in a pool of three English and two German passages.
Query 0 has a German passage of grade 1 at rank 2 and an English one of grade 2 at rank 3; query 1 an English passage
at rank 2.

Axes: Q queries of a ranking, R its relevant passages (sorted by query, then rank), K the top, L pool languages.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.values import Ranking, UserError

if TYPE_CHECKING:
    import pandas as pd

SETTING_COLUMNS = ["setting", "query_language", "passage_language"]


def average_precision(ranking: Ranking, k: int | None = None) -> np.ndarray:
    """Return trec_eval's map and map_cut_k: the precision at each relevant passage (0 past k), averaged over all.

    Query 0: (1/2 + 2/3) / 2; query 1: 1/2.

    >>> from pipeline.retrieval.example import RANKING
    >>> average_precision(RANKING).round(4).tolist(), average_precision(RANKING, k=2).tolist()
    ([0.5833, 0.5], [0.25, 0.5])
    """
    return _over_relevant(ranking, _within(ranking, k) * _place(ranking) / ranking.rank)


def recall(ranking: Ranking, k: int) -> np.ndarray:
    """Return trec_eval's recall_k, the R@k of the LAReQA studies: the share of the relevant passages in the first k.

    With a relevant passage in each of L languages, R@k in the multilingual pool is at most k / L: R@1 of XQuAD-R .091.

    >>> from pipeline.retrieval.example import RANKING
    >>> recall(RANKING, k=2).tolist()
    [0.5, 1.0]
    """
    return _over_relevant(ranking, _within(ranking, k))


def reciprocal_rank(ranking: Ranking, k: int | None = None) -> np.ndarray:
    """Return trec_eval's recip_rank: one over the rank of the best relevant passage; 0 if that rank exceeds k.

    >>> from pipeline.retrieval.example import RANKING
    >>> reciprocal_rank(RANKING).tolist(), reciprocal_rank(RANKING, k=1).tolist()
    ([0.5, 0.5], [0.0, 0.0])
    """
    return _sum(ranking, _within(ranking, k) * (_place(ranking) == 1) / ranking.rank)


def ndcg(ranking: Ranking, k: int) -> np.ndarray:
    """Return trec_eval's ndcg_cut_k: gain = grade, discount = log2(1 + rank); ideal: all relevant by falling grade.

    Query 0: DCG 1 / log2(3) + 2 / log2(4) = 1.6309, ideal 2 / log2(2) + 1 / log2(3) = 2.6309.

    >>> from pipeline.retrieval.example import RANKING
    >>> ndcg(RANKING, k=10).round(4).tolist()
    [0.6199, 0.6309]
    """
    dcg_Q = _sum(ranking, _within(ranking, k) * ranking.grade / np.log2(1 + ranking.rank))
    ideal_Q = ideal_dcg(ranking, k)
    return np.divide(dcg_Q, ideal_Q, out=np.zeros_like(dcg_Q), where=ideal_Q > 0)


def ideal_dcg(ranking: Ranking, k: int) -> np.ndarray:
    """Return the DCG@k of each query's ideal ranking, by which nDCG divides; 0 without a relevant passage.

    >>> from pipeline.retrieval.example import RANKING
    >>> ideal_dcg(RANKING, k=10).round(4).tolist()
    [2.6309, 1.0]
    """
    place_R = _place(ranking)
    ideal_grade_R = ranking.grade[np.lexsort((-ranking.grade, ranking.query))]
    return _sum(ranking, (place_R <= k) * ideal_grade_R / np.log2(1 + place_R))


def rank_distance(ranking: Ranking) -> np.ndarray:
    """Return language bias as in arXiv:2408.10536: the highest minus the lowest rank of a query's relevant passages.

    In the multilingual pool, for queries with two relevant passages or more; NaN elsewhere.

    >>> from pipeline.retrieval.example import RANKING
    >>> rank_distance(RANKING).tolist()
    [1.0, nan]
    """
    lowest_Q, highest_Q = np.full((2, len(ranking.queries)), np.nan)
    if ranking.setting == "multi":
        np.fmin.at(lowest_Q, _row(ranking), ranking.rank)
        np.fmax.at(highest_Q, _row(ranking), ranking.rank)
    return np.where(_relevant_count(ranking) > 1, highest_Q - lowest_Q, np.nan)


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
    count_QL = (ranking.top_language_QK[:, :k, None] == np.arange(len(ranking.pool_languages))).sum(axis=1)
    fair_share_L = np.array(ranking.pool_sizes) / sum(ranking.pool_sizes)
    found_Q1 = count_QL.sum(axis=1, keepdims=True)  # 0: a query that finds nothing prefers no language
    return np.where(found_Q1, count_QL / np.maximum(found_Q1, 1) / fair_share_L, 1.0)


def best_other_language_rank(ranking: Ranking) -> np.ndarray:
    """Return the best rank of a relevant passage in another language than the query's; NaN if none, and outside multi.

    >>> from pipeline.retrieval.example import RANKING
    >>> best_other_language_rank(RANKING).tolist()
    [2.0, nan]
    """
    best_Q = np.full(len(ranking.queries), np.nan)
    if ranking.setting == "multi":
        other_R = np.array(ranking.pool_languages)[ranking.language] != ranking.query_language
        np.fmin.at(best_Q, _row(ranking)[other_R], ranking.rank[other_R])
    return best_Q


@dataclass(frozen=True)
class Metric:
    """A metric as runs, reports and searches use it. In METRICS, `function` also takes the cutoff k."""

    name: str  # of its column in the tables, and in a record
    function: Callable[..., np.ndarray]  # Ranking -> values_Q
    higher_is_better: bool | None  # None: neither end is best, so runs cannot be ordered by it
    label: str
    unit: str = ""  # empty: a fraction between 0 and 1
    cutoff: Literal["none", "optional", "required"] = "none"
    largest_k: int | None = None

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Return which end is best.

        Raises:
            UserError: for a metric of which neither end is best.

        >>> metric("map").direction, metric("rank_distance").direction
        ('maximize', 'minimize')
        """
        if self.higher_is_better is None:
            raise UserError(
                f"metric {self.name} cannot order runs: its best value is neither the highest nor the lowest."
            )
        return "maximize" if self.higher_is_better else "minimize"


METRICS = {
    entry.name: entry
    for entry in (
        Metric("map", average_precision, True, "mAP", cutoff="optional"),
        Metric("r", recall, True, "R", cutoff="required"),
        Metric("mrr", reciprocal_rank, True, "MRR", cutoff="optional"),
        Metric("ndcg", ndcg, True, "nDCG", cutoff="required"),
        Metric("rank_distance", rank_distance, False, "rank distance", "ranks"),
        # Of the first k, whose languages `exact.rank` keeps for k up to 20. 1 is best: no preference for a language.
        Metric("own_share", own_language_share, None, "own-language share", "x fair share", "required", largest_k=20),
        Metric("best_other_rank", best_other_language_rank, False, "best other-language rank", "rank"),
    )
}


def metric(name: str) -> Metric:
    """Return the metric of a name, which may end in a cutoff: map, map_20, ndcg_10, rank_distance.

    Raises:
        UserError: for an unknown name, and for a cutoff that is missing or impossible.

    >>> metric("ndcg_10").label
    'nDCG@10'
    >>> metric("ndgc_10")
    Traceback (most recent call last):
    pipeline.values.UserError: metric ndgc_10 is unknown: did you mean ndcg_<k>? Metrics: map, map_<k>, r_<k>, mrr, \
mrr_<k>, ndcg_<k>, rank_distance, own_share_<k>, best_other_rank.
    """
    match = re.fullmatch(r"(.+)_(0|-?[1-9]\d*)", name)
    base, k = (match[1], int(match[2])) if match else (name, None)
    if base not in METRICS:
        close = [spelling for near in difflib.get_close_matches(base, METRICS) for spelling in _spellings(near)]
        guess = f" did you mean {' or '.join(close)}?" if close else ""
        known = ", ".join(spelling for other in METRICS for spelling in _spellings(other))
        raise UserError(f"metric {name} is unknown:{guess} Metrics: {known}.")
    entry = METRICS[base]
    if k is None:
        if entry.cutoff == "required":
            raise UserError(f"metric {name} needs a cutoff, as in {base}_10.")
        return entry
    if entry.cutoff == "none":
        raise UserError(f"metric {name}: {base} takes no cutoff.")
    if k < 1 or (entry.largest_k and k > entry.largest_k):
        limits = f"lie in [1, {entry.largest_k}]" if entry.largest_k else "be at least 1"
        raise UserError(f"metric {name}: the cutoff must {limits}.")
    return replace(entry, name=name, label=f"{entry.label}@{k}", function=partial(entry.function, k=k))


def _spellings(base: str) -> list[str]:
    cutoff = METRICS[base].cutoff
    return [base] * (cutoff != "required") + [f"{base}_<k>"] * (cutoff != "none")


def macro(per_query: "pd.DataFrame") -> dict[str, float]:
    """Return '<setting>.<metric>': the mean over language pairs of the mean over a pair's queries, without NaN.

    Args:
        per_query: columns SETTING_COLUMNS and query_id, and one per metric (scoring.per_query_table).

    >>> import pandas as pd
    >>> pairs = [("cross", "en", "de", "q0", 1.0), ("cross", "en", "de", "q1", 0.0), ("cross", "de", "en", "q0", 0.0)]
    >>> macro(pd.DataFrame(pairs, columns=[*SETTING_COLUMNS, "query_id", "map"]))
    {'cross.map': 0.25}
    """
    by_pair = (
        per_query.drop(columns=["query_id", "cluster"], errors="ignore").groupby(SETTING_COLUMNS, sort=False).mean()
    )
    means = by_pair.groupby("setting", sort=False).mean().to_dict("index")
    return {
        f"{setting}.{name}": value
        for setting, values in means.items()
        for name, value in values.items()
        if not np.isnan(value)
    }


def language_matrix(per_query: "pd.DataFrame", metric: str) -> "pd.DataFrame":
    """Return a metric's mean per language pair: monolingual on the diagonal, cross-lingual elsewhere.

    One row per query language, one column per passage language, in order of appearance; NaN where a pair is missing.

    >>> import pandas as pd
    >>> pairs = [("mono", "en", "en", 1.0), ("cross", "en", "de", 0.5), ("cross", "en", "de", 0.0)]
    >>> language_matrix(pd.DataFrame(pairs, columns=[*SETTING_COLUMNS, "map"]), "map").loc["en"].to_dict()
    {'en': 1.0, 'de': 0.25}
    """
    pairs = per_query[per_query["setting"] != "multi"]
    return pairs.groupby(["query_language", "passage_language"], sort=False)[metric].mean().unstack(sort=False)


def _row(ranking: Ranking) -> np.ndarray:
    """Return each relevant passage's row in `ranking.queries` [R]."""
    return np.searchsorted(ranking.queries, ranking.query)


def _place(ranking: Ranking) -> np.ndarray:
    """Return each relevant passage's place among the relevant passages of its query [R], from 1."""
    return 1 + np.arange(len(ranking.query)) - np.searchsorted(ranking.query, ranking.query)


def _within(ranking: Ranking, k: int | None) -> np.ndarray:
    return np.ones(len(ranking.rank), dtype=bool) if k is None else ranking.rank <= k


def _sum(ranking: Ranking, values_R: np.ndarray) -> np.ndarray:
    totals_Q = np.bincount(_row(ranking), weights=values_R, minlength=len(ranking.queries))
    return totals_Q.astype(float)  # of no values at all, bincount makes integers


def _relevant_count(ranking: Ranking) -> np.ndarray:
    return np.bincount(_row(ranking), minlength=len(ranking.queries))


def _over_relevant(ranking: Ranking, values_R: np.ndarray) -> np.ndarray:
    return _sum(ranking, values_R) / np.maximum(_relevant_count(ranking), 1)
