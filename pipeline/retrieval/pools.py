"""Ranks as a pool grows: of a benchmark whose pools are samples, in smaller pools nested in each of these.

Between `retrieval` and the results; `analysis.pool` makes the curve of nDCG@10 of them, up to the full pool.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.retrieval import exact as retrieval
from pipeline.retrieval import metrics
from pipeline.values import Collection, Ranking, Texts

PARTS = (0, 1 / 8, 1 / 4, 1 / 2, 1)  # of the sampled passages, beside all judged ones
TOP = 10  # of the nDCG that the gains are for


def ranks(
    queries: Mapping[str, np.ndarray], passages: Mapping[str, np.ndarray], collection: Collection
) -> pd.DataFrame:
    """A row a (query_language, query_id, place, pool_size): the `rank` of a topic's relevant passage number `place`.

    Its `gain` is the share of the topic's ideal DCG@10 that it earns at rank 1, so nDCG@10 is the sum of gain over
    log2(1 + rank) where the rank is within 10. A topic without a relevant passage has one row, of gain 0.
    """
    tables = []
    for part in PARTS:
        sizes = {
            language: sample.judged + int(part * (len(passages[language]) - sample.judged))
            for language, sample in collection.samples.items()
        }
        unread = {language: Texts([""] * size, [""] * size) for language, size in sizes.items()}  # ranks need no text
        smaller = replace(collection, passages=unread, settings=("mono",))
        heads = {language: passages[language][:size] for language, size in sizes.items()}
        tables += [table(ranking, collection) for ranking in retrieval.rank(queries, heads, smaller)]
    return pd.concat(tables, ignore_index=True).drop_duplicates()  # a small sample has equal parts


def table(ranking: Ranking, collection: Collection) -> pd.DataFrame:
    (size,) = ranking.pool_sizes
    missed = np.setdiff1d(ranking.queries, ranking.query)
    query = np.concatenate([ranking.query, missed])
    grade = np.concatenate([ranking.grade, np.zeros(len(missed))])
    ideal_Q = metrics.ideal_dcg(ranking, TOP)
    ids = collection.queries[ranking.query_language].ids
    found = pd.DataFrame(
        {
            "benchmark": collection.name,
            "query_language": ranking.query_language,
            "query_id": [ids[position] for position in query],
            "gain": grade / np.where(ideal_Q > 0, ideal_Q, 1)[np.searchsorted(ranking.queries, query)],
            "rank": np.concatenate([ranking.rank, np.full(len(missed), size + 1)]),
            "pool_size": size,
            "full_size": collection.samples[ranking.query_language].full,
        }
    )
    return found.assign(place=1 + found.groupby("query_id").cumcount())
