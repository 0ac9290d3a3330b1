"""From ranks to numbers: pure functions of a Ranking, one value a query; tables and means are made of these.

A metric is `metric(ranking, …) -> values_Q`, float64 and aligned with `ranking.queries`. A query without a relevant
passage scores 0, as with trec_eval -c. NaN says that a metric has no meaning for a query, as the measures of language
bias have none outside the multilingual pool; means leave it out. Definitions are trec_eval's where it has one.

Axes: Q queries of a ranking, R its relevant passages (sorted by query, then rank), K the top, L pool languages.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, PositiveInt

from pipeline.values import Collection, Ranking

if TYPE_CHECKING:
    import pandas as pd

SETTING_COLUMNS = ["setting", "query_language", "passage_language"]
TopK = Annotated[int, Field(gt=0, le=20)]  # retrieval.rank keeps the languages of the first 20


def average_precision(ranking: Ranking, k: PositiveInt | None = None) -> np.ndarray:
    """trec_eval's map and map_cut_k: the precision at each relevant passage (0 past k), averaged over all relevant."""
    return _over_relevant(ranking, _within(ranking, k) * _place(ranking) / ranking.rank)


def recall(ranking: Ranking, k: PositiveInt) -> np.ndarray:
    """trec_eval's recall_k, the R@k of the LAReQA studies: relevant passages among the first k, of all relevant.

    With a relevant passage in each of L languages, R@k in the multilingual pool cannot pass k / L: R@1 of XQuAD-R .091.
    """
    return _over_relevant(ranking, _within(ranking, k))


def reciprocal_rank(ranking: Ranking, k: PositiveInt | None = None) -> np.ndarray:
    """trec_eval's recip_rank: one over the rank of the best relevant passage; 0 where that lies past k."""
    return _sum(ranking, _within(ranking, k) * (_place(ranking) == 1) / ranking.rank)


def ndcg(ranking: Ranking, k: PositiveInt) -> np.ndarray:
    """trec_eval's ndcg_cut_k: gain = grade, discount = log2(1 + rank); ideal = all relevant by falling grade."""
    dcg_Q = _sum(ranking, _within(ranking, k) * ranking.grade / np.log2(1 + ranking.rank))
    ideal_Q = ideal_dcg(ranking, k)
    return np.divide(dcg_Q, ideal_Q, out=np.zeros_like(dcg_Q), where=ideal_Q > 0)


def ideal_dcg(ranking: Ranking, k: PositiveInt) -> np.ndarray:
    """What ndcg divides by, of each query; 0 without a relevant passage."""
    place_R = _place(ranking)
    ideal_grade_R = ranking.grade[np.lexsort((-ranking.grade, ranking.query))]
    return _sum(ranking, (place_R <= k) * ideal_grade_R / np.log2(1 + place_R))


def rank_distance(ranking: Ranking) -> np.ndarray:
    """Language bias as in arXiv 2408.10536: highest minus lowest rank of a query's relevant passages, lower is better.

    In the multilingual pool, for queries with two relevant passages or more; NaN elsewhere.
    """
    lowest_Q, highest_Q = np.full((2, len(ranking.queries)), np.nan)
    if ranking.setting == "multi":
        np.fmin.at(lowest_Q, _row(ranking), ranking.rank)
        np.fmax.at(highest_Q, _row(ranking), ranking.rank)
    return np.where(_relevant_count(ranking) > 1, highest_Q - lowest_Q, np.nan)


def own_language_share(ranking: Ranking, k: TopK) -> np.ndarray:
    """How many times its fair share the query's own language takes of the first k: 1 is no preference, 0 is shunned.

    The fair share is the language's share of the multilingual pool. NaN in other pools.
    """
    if ranking.setting != "multi" or ranking.query_language not in ranking.pool_languages:
        return np.full(len(ranking.queries), np.nan)
    return _share_over_fair_share(ranking, k)[:, ranking.pool_languages.index(ranking.query_language)]


def best_other_language_rank(ranking: Ranking) -> np.ndarray:
    """The best rank of a relevant passage in another language than the query's; NaN if none, and outside multi."""
    best_Q = np.full(len(ranking.queries), np.nan)
    if ranking.setting == "multi":
        other_R = np.array(ranking.pool_languages)[ranking.language] != ranking.query_language
        np.fmin.at(best_Q, _row(ranking)[other_R], ranking.rank[other_R])
    return best_Q


def language_attraction(rankings: Iterable[Ranking], k: TopK) -> "pd.DataFrame":
    """Row: query language, column: passage language. Mean share of the first k in the multilingual pool over the
    passage language's fair share: above 1 its passages are ranked high whatever they say."""
    import pandas as pd

    multi = [ranking for ranking in rankings if ranking.setting == "multi"]
    rows = {
        ranking.query_language: dict(
            zip(ranking.pool_languages, _share_over_fair_share(ranking, k).mean(axis=0), strict=True)
        )
        for ranking in multi
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="query_language", columns="passage_language")


def per_query_table(
    rankings: Iterable[Ranking], collection: Collection, metrics: Mapping[str, Callable[[Ranking], np.ndarray]]
) -> "pd.DataFrame":
    """The raw values: a row for each query of each setting, a column for each metric. `passage_language` of the
    multilingual pool is '*'."""
    import pandas as pd

    def rows(ranking: Ranking) -> pd.DataFrame:
        ids = collection.queries[ranking.query_language].ids
        return pd.DataFrame(
            {
                "setting": ranking.setting,
                "query_language": ranking.query_language,
                "passage_language": "*" if ranking.setting == "multi" else ranking.pool_languages[0],
                "query_id": [ids[query] for query in ranking.queries],
            }
            | {name: metric(ranking) for name, metric in metrics.items()}
        )

    return pd.concat([rows(ranking) for ranking in rankings], ignore_index=True)


def macro(table: "pd.DataFrame") -> dict[str, float]:
    """'mono.map', …: the mean over the settings of a kind of the mean over a setting's queries; without the NaNs."""
    by_setting = table.drop(columns="query_id").groupby(SETTING_COLUMNS, sort=False).mean()
    means = by_setting.groupby("setting", sort=False).mean().to_dict("index")
    return {
        f"{setting}.{metric}": value
        for setting, values in means.items()
        for metric, value in values.items()
        if not np.isnan(value)
    }


def language_matrix(table: "pd.DataFrame", metric: str) -> "pd.DataFrame":
    """Row: query language, column: passage language; mono on the diagonal, cross elsewhere."""
    pairs = table[table["setting"] != "multi"]
    return pairs.pivot_table(metric, "query_language", "passage_language", aggfunc="mean", sort=False)


def _row(ranking: Ranking) -> np.ndarray:
    """Of each relevant passage, its query's row in `ranking.queries`."""
    return np.searchsorted(ranking.queries, ranking.query)


def _place(ranking: Ranking) -> np.ndarray:
    """Of each relevant passage, its place among its query's relevant ones, from 1."""
    return 1 + np.arange(len(ranking.query)) - np.searchsorted(ranking.query, ranking.query)


def _within(ranking: Ranking, k: int | None) -> np.ndarray:
    return np.ones(len(ranking.rank), dtype=bool) if k is None else ranking.rank <= k


def _sum(ranking: Ranking, values_R: np.ndarray) -> np.ndarray:
    return np.bincount(_row(ranking), weights=values_R, minlength=len(ranking.queries))


def _relevant_count(ranking: Ranking) -> np.ndarray:
    return np.bincount(_row(ranking), minlength=len(ranking.queries))


def _over_relevant(ranking: Ranking, values_R: np.ndarray) -> np.ndarray:
    return _sum(ranking, values_R) / np.maximum(_relevant_count(ranking), 1)


def _share_over_fair_share(ranking: Ranking, k: int) -> np.ndarray:
    """Of each query, each pool language's share of the first k [Q, L], over the language's share of the pool."""
    if not 0 < k <= ranking.top_language_QK.shape[1]:
        raise ValueError(f"k must lie in [1, {ranking.top_language_QK.shape[1]}], the top kept when ranking, got {k}")
    top_QK = ranking.top_language_QK[:, :k]
    count_QL = (top_QK[:, :, None] == np.arange(len(ranking.pool_languages))).sum(axis=1)
    fair_share_L = np.array(ranking.pool_sizes) / sum(ranking.pool_sizes)
    return count_QL / count_QL.sum(axis=1, keepdims=True) / fair_share_L
