"""Full rankings from lists of results, best first: what lexical.py and fusion.py share.

Such a search finds some passages of a pool, not all. Those that it does not find come after those that it does, and of
them the relevant ones last: no relevant passage gains by the order in which a benchmark lists what was not found.

Axes: Q queries, N passages of all pools together, R relevant passages, L pools, K top.
"""

from collections.abc import Callable, Iterator

import numpy as np

from pipeline.retrieval.relevant import as_rankings, rank_pools, relevant_passages
from pipeline.values import Collection, Ranking

# Takes a query's language and position; returns the positions of what it finds in the pools together, best first.
Search = Callable[[str, int], np.ndarray]


def rank_by_search(
    collection: Collection, open_pools: Callable[[tuple[str, ...]], Search], *, top: int = 20
) -> list[Ranking]:
    """Return the ranking of every setting as searches give it, in the order of the query languages.

    Args:
        open_pools: returns the search of one language's pool, or of the union of all.
        top: the K of `top_language_QK`.

    A search that finds nothing but the first passage of the pools:

    >>> from pipeline.retrieval import example
    >>> first = lambda pools: lambda language, query: np.array([0])
    >>> for ranking in rank_by_search(example.COLLECTION, first)[:3]:
    ...     print(ranking.setting, ranking.query_language, ranking.query.tolist(), ranking.rank.tolist())
    mono en [0, 1] [3, 3]
    cross en [0] [1]
    multi en [0, 0, 1] [4, 5, 5]
    """

    def rank(pools: tuple[str, ...], languages: list[str]) -> Iterator[Ranking]:
        search = open_pools(pools)
        *offset_L, size = np.cumsum([0, *(len(collection.passages[pool]) for pool in pools)]).tolist()
        for language in languages:
            relevant = relevant_passages(collection, language, pools)
            position_R = np.array(offset_L)[relevant.pool] + relevant.passage
            rank_R = np.empty(len(position_R), dtype=np.int64)
            top_position_QK = np.full((len(relevant.rows), top), -1, dtype=np.int64)
            by_row = np.argsort(relevant.row, kind="stable")
            ends_Q = np.searchsorted(relevant.row[by_row], np.arange(len(relevant.rows)), side="right")
            for row, own in enumerate(np.split(by_row, ends_Q[:-1])):
                hits = search(language, int(relevant.rows[row]))
                rank_R[own] = ranks(hits, position_R[own], size)
                top_position_QK[row, : len(hits)] = hits[:top]
            top_language_QK = np.searchsorted(offset_L, top_position_QK, side="right") - 1
            yield from as_rankings(collection, language, pools, relevant, rank_R, top_language_QK)

    return rank_pools(collection, rank)


def ranks(hits: np.ndarray, position_R: np.ndarray, size: int) -> np.ndarray:
    """Return the rank [R] of each relevant passage of one query.

    Args:
        hits: positions of the results, best first.
        position_R: of the relevant passages.
        size: passages in the pools.

    Of 9 passages a search finds 4, 0 and 7; of the relevant ones it does not find 2 and 5, which come last:

    >>> ranks(np.array([4, 0, 7]), np.array([0, 2, 5]), 9)
    array([2, 8, 9])
    """
    place_N = np.zeros(size, dtype=np.int64)
    place_N[hits] = 1 + np.arange(len(hits))
    rank_R = place_N[position_R]
    missed = rank_R == 0
    rank_R[missed] = size - missed.sum() + 1 + np.arange(missed.sum())
    return rank_R


def best(score_N: np.ndarray, k: int) -> np.ndarray:
    """Return the positions of the k best scores above 0, best first; equal scores in the order of their positions.

    >>> best(np.array([0.5, 0, 2, 0.5, 1]), 3), best(np.array([0.5, 0, 2, 0.5, 1]), 9)
    (array([2, 4, 0]), array([2, 4, 0, 3]))
    """
    hits = np.flatnonzero(score_N > 0)
    if len(hits) > k:
        score_H = score_N[hits]
        kth = np.partition(score_H, -k)[-k]
        above, equal = hits[score_H > kth], hits[score_H == kth]
        hits = np.concatenate([above, equal[: k - len(above)]])
    return hits[np.lexsort((hits, -score_N[hits]))]
