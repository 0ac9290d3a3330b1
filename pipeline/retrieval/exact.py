"""Exact full rankings from embeddings, by streaming the pools in blocks. faiss_index.py ranks as an index does.

A passage's rank is one more than the number of passages that beat it. So nothing is sorted and no ranking is held:
score the relevant passages, then count block by block the passages that beat them. One pass over the scores serves
mono, cross and multi, because counts are kept per pool: the cross rank is one more than the count in the passage's own
pool, the multi rank one more than the sum over pools. Memory holds one block of scores, whatever the pools' size.

Ties: passages with the same score rank in the order of the pools and, within a pool, of their position. Scores count as
the same within SCORE_TOLERANCE, because matrix products of different shapes round the same score differently.

Axes: Q queries, P passages of a pool, B passages of a block, R relevant passages, O relevant passages in the block,
L pools, K top, D embedding width, X candidates for the top.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from pipeline.encoder import onednn
from pipeline.retrieval.relevant import (
    Relevant,
    as_rankings,
    check_embeddings,
    check_unit,
    is_ranked,
    relevant_passages,
)
from pipeline.retrieval.vectors import Vectors
from pipeline.values import Collection, Ranking

SCORE_TOLERANCE = 2e-6  # float32 products of unit vectors up to 1,024 wide were at most 0.9e-6 off


def rank(
    queries: Mapping[str, Vectors],
    passages: Mapping[str, Vectors],
    collection: Collection,
    *,
    block: int = 4096,
    top: int = 20,
) -> list[Ranking]:
    """Return the exact ranking of every setting of the collection, in the order of the query languages.

    A setting in which no query counts is left out.

    Args:
        queries: float32 unit vectors [Q, D] per language, in the collection's order.
        passages: float32 unit vectors [P, D] per language, on disk or in memory: a block is read at a time.
        block: passages per block.
        top: the K of `top_language_QK`.

    Raises:
        ValueError: for embeddings of another number or type, or not of unit length.

    English query 0 of the example lies at 4 degrees; its relevant passages are en 1 (40 degrees, beaten by en 0 and
    de 0) and de 0 (10 degrees, beaten by en 0):

    >>> from pipeline.retrieval import example
    >>> for ranking in rank(example.QUERIES, example.PASSAGES, example.COLLECTION):
    ...     print(ranking.setting, ranking.query_language, ranking.query.tolist(), ranking.rank.tolist())
    mono en [0, 1] [2, 1]
    cross en [0] [1]
    multi en [0, 0, 1] [2, 3, 2]
    cross de [0] [1]
    mono de [0] [1]
    multi de [0, 0] [1, 2]
    """
    check_embeddings(queries, passages, collection)
    rankings: list[Ranking] = []
    for language in collection.queries:
        for pools in _pools_to_stream(collection, language):
            relevant = relevant_passages(collection, language, pools)
            emb_QD = check_unit(queries[language][relevant.rows], f"queries[{language!r}]")
            beaten_RL, top_language_QK = _stream(emb_QD, {pool: passages[pool] for pool in pools}, relevant, block, top)
            rankings += _rankings(collection, language, pools, relevant, beaten_RL, top_language_QK)
    return rankings


def _pools_to_stream(collection: Collection, language: str) -> list[tuple[str, ...]]:
    """Return all pools together where multi is ranked (mono and cross come with it), else each ranked pool alone."""
    union = tuple(collection.passages)
    candidates = [union] if is_ranked(collection, language, union) else [(pool,) for pool in union]
    return [pools for pools in candidates if is_ranked(collection, language, pools)]


def _tensor(emb_ND: np.ndarray) -> torch.Tensor:
    """Return a tensor on the same memory, or on a copy if that is read-only or has gaps."""
    return torch.from_numpy(np.require(emb_ND, requirements=["C", "W"]))


def _stream(
    emb_QD: np.ndarray, passages: Mapping[str, Vectors], relevant: Relevant, block: int, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many passages of each pool beat each relevant one [R, L], and the pools of the best passages [Q, K].

    A passage that ties with a relevant one beats it only if it comes first. So the limit that a score must exceed
    depends on where the relevant passage lies. Example: a block holds positions 4 to 7 with scores 0.9, 0.7, 0.7, 0.1,
    and a relevant passage scores 0.7.
        at position 9: all ties of the block come first. Above 0.7 - tolerance lie 3 scores: 3 passages beat it.
        at position 2: all ties of the block come later. Above 0.7 + tolerance lies 1 score: 1 passage beats it.
        at position 6, in the block: above 0.7 + tolerance lies 1 score, and 1 tie comes first: 2 passages beat it.
    """
    offset_L = np.cumsum([0] + [len(emb_PD) for emb_PD in passages.values()])  # of each pool in their union
    position_R = offset_L[relevant.pool] + relevant.passage
    score_R = np.empty(len(position_R))
    for i, emb_PD in enumerate(passages.values()):
        own = relevant.pool == i
        own_OD = np.asarray(emb_PD[relevant.passage[own]])
        score_R[own] = np.einsum("rd,rd->r", emb_QD[relevant.row[own]], own_OD, dtype=np.float64)
    above_R, below_R = ((score_R + side * SCORE_TOLERANCE).astype(np.float32)[:, None] for side in (1, -1))

    beaten_RL = np.zeros((len(score_R), len(passages)), dtype=np.int64)
    count_type = np.min_scalar_type(block)  # holds a block's count; the narrower, the faster the sum
    best = _Best(len(emb_QD), top)
    queries_QD = _tensor(emb_QD)
    for pool, (language, emb_PD) in enumerate(passages.items()):
        for start in range(0, len(emb_PD), block):
            emb_BD = check_unit(emb_PD[start : start + block], f"passages[{language!r}]")
            scores_QB = onednn.product(queries_QD, _tensor(emb_BD)).numpy()
            first, end = offset_L[pool] + start, offset_L[pool] + start + len(emb_BD)

            limit_R = np.where(position_R[:, None] < end, above_R, below_R)
            for layer in relevant.layers():
                beats_QB = scores_QB[: layer.stop - layer.start] > limit_R[layer]
                beaten_RL[layer, pool] += beats_QB.sum(axis=1, dtype=count_type)

            own = np.flatnonzero((first <= position_R) & (position_R < end))  # the relevant passages in the block
            scores_OB = scores_QB[relevant.row[own]]
            tied, column = np.nonzero((scores_OB > below_R[own]) & (scores_OB <= above_R[own]))
            in_front = first + column < position_R[own[tied]]
            beaten_RL[own, pool] += np.bincount(tied[in_front], minlength=len(own))

            if len(passages) > 1:
                best.add(scores_QB, pool)
    return beaten_RL, best.pool_QK


class _Best:
    """The scores and pools of each query's K best passages so far; of equal scores the earlier pool comes first."""

    def __init__(self, queries: int, top: int) -> None:
        self.score_QK = np.full((queries, top), -np.inf, dtype=np.float32)
        self.pool_QK = np.full((queries, top), -1, dtype=np.int16)

    def add(self, scores_QB: np.ndarray, pool: int) -> None:
        """Merge a block's scores into the top."""
        top = self.score_QK.shape[1]
        rows = np.flatnonzero(scores_QB.max(axis=1) > self.score_QK[:, -1])  # few rows after many blocks
        new_QB = scores_QB[rows]
        if new_QB.shape[1] > top:
            new_QB = np.partition(new_QB, -top, axis=1)[:, -top:]
        score_QX = np.concatenate([self.score_QK[rows], new_QB], axis=1)
        pool_QX = np.concatenate([self.pool_QK[rows], np.full(new_QB.shape, pool, dtype=np.int16)], axis=1)
        order_QK = np.argsort(-score_QX, axis=1, kind="stable")[:, :top]
        self.score_QK[rows] = np.take_along_axis(score_QX, order_QK, axis=1)
        self.pool_QK[rows] = np.take_along_axis(pool_QX, order_QK, axis=1)


def _rankings(
    collection: Collection,
    language: str,
    streamed: tuple[str, ...],
    relevant: Relevant,
    beaten_RL: np.ndarray,
    best_pool_QK: np.ndarray,
) -> Iterator[Ranking]:
    """Split the counts of the streamed pools by setting: each pool alone and, of several, their union."""
    top = best_pool_QK.shape[1]
    for pools in dict.fromkeys([*((pool,) for pool in streamed), streamed]):
        if not is_ranked(collection, language, pools):
            continue
        columns = [streamed.index(pool) for pool in pools]
        inside_R = np.isin(relevant.pool, columns)
        part = Relevant(
            rows=relevant.rows,
            row=relevant.row[inside_R],
            pool=relevant.pool[inside_R] - columns[0],
            passage=relevant.passage[inside_R],
            grade=relevant.grade[inside_R],
        )
        rank_R = 1 + beaten_RL[inside_R][:, columns].sum(axis=1)
        if len(pools) > 1:
            top_language_QK = best_pool_QK
        else:
            size = len(collection.passages[pools[0]])
            top_language_QK = np.tile(np.where(np.arange(top) < size, 0, -1), (len(relevant.rows), 1))
        yield from as_rankings(collection, language, pools, part, rank_R, top_language_QK)
