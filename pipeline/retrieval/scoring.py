"""The second step of an evaluation: stored rankings to tables per query and mean figures. Nothing is encoded or ranked.

ranking.py takes the first step. Axes: Q queries.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.retrieval.bias import language_share
from pipeline.retrieval.metrics import ideal_dcg, macro, metric
from pipeline.retrieval.rankings import NESTED, RANKINGS, load_rankings
from pipeline.values import Collection, Ranking

ATTRACTION_K = 10  # best passages of a query in which languages are counted
GAIN_K = 10  # cutoff of the nDCG for which pool_ranks holds gains


class Scores(NamedTuple):
    """The scores of one benchmark under one inference variant."""

    frames: dict[str, pd.DataFrame]  # by file stem: per_query-<benchmark>, attraction-<benchmark>, …
    figures: dict[str, float]  # means by '<benchmark>.<setting>.<metric>'


def score_benchmark(folder: Path, collection: Collection, metrics: Sequence[str]) -> Scores:
    """Return a benchmark's tables and mean figures from the rankings that `ranking.rank_benchmark` wrote to a folder.

    `attraction-<benchmark>` exists if there is a multilingual pool, `pool_ranks-<benchmark>` if the folder holds
    rankings of nested smaller pools.

    Args:
        collection: the benchmark that was ranked.
        metrics: names, as for `metrics.metric`.

    Raises:
        UserError: for an unknown metric, and for rankings that are missing or damaged.

    >>> import tempfile
    >>> from pipeline.retrieval import example, exact
    >>> from pipeline.retrieval.rankings import save_rankings
    >>> ranked = exact.rank(example.QUERIES, example.PASSAGES, example.COLLECTION)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_rankings(ranked, Path(folder, RANKINGS))
    ...     scores = score_benchmark(Path(folder), example.COLLECTION, ["mrr"])
    >>> list(scores.frames)
    ['per_query-angles', 'attraction-angles']
    >>> scores.figures  # mono: English (1/2 + 1) / 2, German 1; multi: English 1/2, German 1
    {'angles.mono.mrr': 0.875, 'angles.cross.mrr': 1.0, 'angles.multi.mrr': 0.75}
    """
    rankings = load_rankings(folder / RANKINGS)
    per_query = per_query_table(rankings, collection, metrics)
    frames = {f"per_query-{collection.name}": per_query}
    attraction = attraction_table(rankings, ATTRACTION_K)
    if len(attraction):
        frames[f"attraction-{collection.name}"] = attraction.reset_index()
    if (folder / NESTED).exists():
        nested = load_rankings(folder / NESTED)
        frames[f"pool_ranks-{collection.name}"] = pool_ranks_table(nested + rankings, collection)
    return Scores(frames, {f"{collection.name}.{name}": value for name, value in macro(per_query).items()})


def attraction_table(rankings: Iterable[Ranking], k: int) -> pd.DataFrame:
    """Return the mean share of each passage language among the first k, over its share of the multilingual pool.

    One row per query language, one column per passage language; no row without a multilingual pool. Above 1, passages
    of the language rank high whatever they say.

    German holds 2/5 of the pool and one of the two first places: (0 + 1) / 2 / (2/5) = 1.25.

    >>> from pipeline.retrieval.example import RANKING
    >>> attraction_table([RANKING], k=1).round(4).loc["en"].to_dict()
    {'en': 0.8333, 'de': 1.25}
    """
    multi = [ranking for ranking in rankings if ranking.setting == "multi"]
    rows = {
        ranking.query_language: dict(zip(ranking.pool_languages, language_share(ranking, k).mean(axis=0), strict=True))
        for ranking in multi
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="query_language", columns="passage_language")


def per_query_table(rankings: Iterable[Ranking], collection: Collection, metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row per setting, language pair and query, and one column per metric: the raw values.

    `passage_language` of the multilingual pool is '*'. `cluster` is the benchmark's cluster of the query: queries of
    one cluster are no independent samples; without clusters it is the query's id. UserError for an unknown metric.

    >>> from pipeline.retrieval import example
    >>> print(per_query_table([example.RANKING], example.COLLECTION, ["mrr", "r_2"]).to_string())
      setting query_language passage_language query_id cluster  mrr  r_2
    0   multi             en                *       q0      q0  0.5  0.5
    1   multi             en                *       q1      q1  0.5  1.0
    """
    functions = {name: metric(name).function for name in metrics}

    def rows(ranking: Ranking) -> pd.DataFrame:
        ids = collection.queries[ranking.query_language].ids
        return pd.DataFrame(
            {
                "setting": ranking.setting,
                "query_language": ranking.query_language,
                "passage_language": "*" if ranking.setting == "multi" else ranking.pool_languages[0],
                "query_id": [ids[query] for query in ranking.queries],
                "cluster": [cluster(collection, ids[query]) for query in ranking.queries],
            }
            | {name: function(ranking) for name, function in functions.items()}
        )

    return pd.concat([rows(ranking) for ranking in rankings], ignore_index=True)


def cluster(collection: Collection, query_id: str) -> str:
    """Return the cluster of a query; a query that the benchmark does not put into one is its own.

    >>> from pipeline.retrieval import example
    >>> cluster(example.COLLECTION, "q0")
    'q0'
    """
    return collection.clusters.get(query_id, query_id)


def pool_ranks_table(rankings: Iterable[Ranking], collection: Collection) -> pd.DataFrame:
    """Return one row per query_language, query_id, place and pool_size: what the curve of nDCG@10 over pool size needs.

    `rank` is the rank of the query's relevant passage number `place` in a pool of `pool_size` passages, itself a sample
    of `full_size`. `gain` is the share of the query's ideal DCG@10 that the passage earns at rank 1, so nDCG@10 is the
    sum of gain / log2(1 + rank) over ranks up to 10. A query without a relevant passage has one row, of gain 0.

    Args:
        rankings: monolingual rankings of nested pools; others are left out.

    Query q0 has one relevant passage, at rank 2 of 3, and q1 one at rank 1:

    >>> from dataclasses import replace
    >>> from pipeline.retrieval import example, exact
    >>> from pipeline.values import Sample
    >>> sampled = replace(example.COLLECTION, samples={"en": Sample(judged=2, full=1000), "de": Sample(1, 900)})
    >>> ranking = exact.rank(example.QUERIES, example.PASSAGES, sampled)[0]
    >>> columns = ["query_id", "place", "gain", "rank", "pool_size", "full_size"]
    >>> pool_ranks_table([ranking], sampled)[columns].to_numpy().tolist()
    [['q0', 1, 1.0, 2, 3, 1000], ['q1', 1, 1.0, 1, 3, 1000]]
    """

    def rows(ranking: Ranking) -> pd.DataFrame:
        (size,) = ranking.pool_sizes
        without_Q = np.setdiff1d(ranking.queries, ranking.query)  # queries without a relevant passage
        query = np.concatenate([ranking.query, without_Q])
        grade = np.concatenate([ranking.grade, np.zeros(len(without_Q))])
        ideal_Q = ideal_dcg(ranking, GAIN_K)
        ids = collection.queries[ranking.query_language].ids
        table = pd.DataFrame(
            {
                "benchmark": collection.name,
                "query_language": ranking.query_language,
                "query_id": [ids[position] for position in query],
                "cluster": [cluster(collection, ids[position]) for position in query],
                "gain": grade / np.where(ideal_Q > 0, ideal_Q, 1)[np.searchsorted(ranking.queries, query)],
                "rank": np.concatenate([ranking.rank, np.full(len(without_Q), size + 1)]),
                "pool_size": size,
                "full_size": collection.samples[ranking.query_language].full,
            }
        )
        return table.assign(place=1 + table.groupby("query_id").cumcount())

    mono = [ranking for ranking in rankings if ranking.setting == "mono"]
    return pd.concat(map(rows, mono), ignore_index=True).drop_duplicates()  # a small sample has equal parts
