"""From embeddings to ranks: exact and uncut, by streaming the pools in blocks. `indexes` ranks as an index does.

A passage's rank is one more than the number of passages that beat it, so a ranking is neither sorted nor held: score
the relevant passages, then count block by block what beats them. One pass over the scores serves mono, cross and
multi: the counts are kept by pool; the cross rank is one more than the count in the passage's own pool, the multi rank
one more than the sum over pools. Memory holds one block of scores, whatever the size of the pools.

Ties: passages that score the same rank in the order of the pools and, inside a pool, of position. "The same" is
within SCORE_TOLERANCE, because matrix products of different shapes round one and the same score differently.

Axes: Q queries, P passages of a pool, B passages of a block, R relevant passages, O those of them that lie in the
block, L pools, K top, D embedding width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from pipeline import onednn
from pipeline.values import Collection, Ranking, Setting

SCORE_TOLERANCE = 2e-6  # float32 products of unit vectors up to 1,024 wide were at most 0.9e-6 off
LENGTH_TOLERANCE = 0.01  # of a unit vector; what bfloat16 rounding does stays below


def rank(
    queries: Mapping[str, np.ndarray],
    passages: Mapping[str, np.ndarray],
    collection: Collection,
    *,
    block: int = 4096,
    top: int = 20,
) -> list[Ranking]:
    """The ranking of every setting of the collection, by query language.

    `queries` and `passages` map a language to its float32 unit vectors [Q, D] and [P, D], in the collection's order.
    They may be memory-mapped: passages are read a block at a time. `top` is the K of `top_language_QK`. A setting
    without a query that counts is left out. ValueError for embeddings that are not what is said here.
    """
    check(queries, passages, collection)
    rankings: list[Ranking] = []
    for language in collection.queries:
        for pools in _pools_to_stream(collection, language):
            relevant = relevant_passages(collection, language, pools)
            emb_QD = unit(queries[language][relevant.rows], f"queries[{language!r}]")
            beaten_RL, top_language_QK = _stream(emb_QD, {pool: passages[pool] for pool in pools}, relevant, block, top)
            rankings += _rankings(collection, language, pools, relevant, beaten_RL, top_language_QK)
    return rankings


def check(queries: Mapping[str, np.ndarray], passages: Mapping[str, np.ndarray], collection: Collection) -> None:
    """ValueError where the embeddings are not the collection's: another count, or another type."""
    for name, side, embeddings in [
        ("queries", collection.queries, queries),
        ("passages", collection.passages, passages),
    ]:
        for language, texts in side.items():
            if len(embeddings[language]) != len(texts) or embeddings[language].dtype != np.float32:
                found = f"{embeddings[language].dtype} {embeddings[language].shape}"
                raise ValueError(f"{name} must hold {len(texts)} float32 vectors for {language!r}, got {found}")


@dataclass(frozen=True)
class Relevant:
    """One query language's relevant passages in some pools, laid out for counting.

    `rows` are the positions of the queries that count, those with the most relevant passages first. The other arrays
    are parallel, in layers: the first relevant passage of every query, then the second of those that have two, …
    Row 0 has the most, so it opens each layer, and layer n belongs to the first rows, one after the other.
    """

    rows: np.ndarray  # [Q]
    row: np.ndarray  # [R], points into rows
    pool: np.ndarray  # [R], points into the pools
    passage: np.ndarray  # [R]
    grade: np.ndarray  # [R]

    def layers(self) -> Iterator[slice]:
        return (slice(*bounds) for bounds in pairwise([*np.flatnonzero(self.row == 0), len(self.row)]))


def _setting(query_language: str, pools: Sequence[str]) -> Setting:
    if len(pools) > 1:
        return "multi"
    return "mono" if pools[0] == query_language else "cross"


def wanted(collection: Collection, language: str, pools: Sequence[str]) -> bool:
    """Whether the collection asks for the ranking of these pools, taken together, for the language's queries."""
    judged = any((language, pool) in collection.relevance for pool in pools)
    return judged and _setting(language, pools) in collection.settings


def _pools_to_stream(collection: Collection, language: str) -> list[tuple[str, ...]]:
    """All pools together where multi is asked for (mono and cross come with it), else each one that is."""
    union = tuple(collection.passages)
    candidates = [union] if wanted(collection, language, union) else [(pool,) for pool in union]
    return [pools for pools in candidates if wanted(collection, language, pools)]


def relevant_passages(collection: Collection, language: str, pools: Sequence[str]) -> Relevant:
    judged = [
        (i, collection.relevance[language, pool])
        for i, pool in enumerate(pools)
        if (language, pool) in collection.relevance
    ]
    grade = np.concatenate([judgements.grade for _, judgements in judged])
    relevant = grade > 0
    query = np.concatenate([judgements.query for _, judgements in judged])[relevant]
    passage = np.concatenate([judgements.passage for _, judgements in judged])[relevant]
    pool = np.concatenate([np.full(len(judgements.grade), i) for i, judgements in judged])[relevant]

    count_Q = np.bincount(query, minlength=len(collection.queries[language]))
    by_count = np.argsort(-count_Q, kind="stable")
    rows = by_count if collection.every_query_counts else by_count[: np.count_nonzero(count_Q)]
    row = np.argsort(by_count)[query]
    layer = np.empty_like(row)
    by_row = np.argsort(row, kind="stable")
    layer[by_row] = np.arange(len(row)) - np.searchsorted(row[by_row], row[by_row])
    order = np.lexsort((row, layer))
    return Relevant(rows, row[order], pool[order], passage[order], grade[relevant][order])


def unit(emb_ND: np.ndarray, name: str) -> np.ndarray:
    """A plain array of the embeddings. A NaN would beat nothing and be beaten by nothing, so it must not pass."""
    emb_ND = np.asarray(emb_ND)
    if not np.all(np.abs(np.einsum("nd,nd->n", emb_ND, emb_ND) - 1) < 2 * LENGTH_TOLERANCE):
        raise ValueError(f"{name} must be finite and of unit length, got other vectors")
    return emb_ND


def tensor(emb_ND: np.ndarray) -> torch.Tensor:
    """The same memory, unless it is read-only or has gaps."""
    return torch.from_numpy(np.require(emb_ND, requirements=["C", "W"]))


def _stream(
    emb_QD: np.ndarray, passages: Mapping[str, np.ndarray], relevant: Relevant, block: int, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many passages of each pool beat each relevant one [R, L]; the pools of each query's best passages [Q, K]."""
    offset_L = np.cumsum([0] + [len(emb_PD) for emb_PD in passages.values()])  # of each pool in their union
    position_R = offset_L[relevant.pool] + relevant.passage
    score_R = np.empty(len(position_R))
    for i, emb_PD in enumerate(passages.values()):
        own = relevant.pool == i
        score_R[own] = np.einsum("rd,rd->r", emb_QD[relevant.row[own]], emb_PD[relevant.passage[own]], dtype=np.float64)
    above_R, below_R = ((score_R + side * SCORE_TOLERANCE).astype(np.float32)[:, None] for side in (1, -1))

    beaten_RL = np.zeros((len(score_R), len(passages)), dtype=np.int64)
    best = _Best(len(emb_QD), top)
    queries_QD = tensor(emb_QD)
    for pool, (language, emb_PD) in enumerate(passages.items()):
        for start in range(0, len(emb_PD), block):
            emb_BD = unit(emb_PD[start : start + block], f"passages[{language!r}]")
            scores_QB = onednn.product(queries_QD, tensor(emb_BD)).numpy()
            first, end = offset_L[pool] + start, offset_L[pool] + start + len(emb_BD)

            # Of the passages that tie, only the earlier ones beat: all of the block, or none of it …
            limit_R = np.where(position_R[:, None] < end, above_R, below_R)
            beats_QB = np.zeros((len(emb_QD), -(-len(emb_BD) // 8) * 8), dtype=bool)  # whole words of 8 for the count
            for layer in relevant.layers():
                rows = slice(layer.stop - layer.start)
                np.greater(scores_QB[rows], limit_R[layer], out=beats_QB[rows, : len(emb_BD)])
                beaten_RL[layer, pool] += np.bitwise_count(beats_QB[rows].view(np.uint64)).sum(axis=1, dtype=np.int64)
            # … or, where the relevant passage itself lies in the block, those in front of it.
            own = np.flatnonzero((first <= position_R) & (position_R < end))
            scores_OB = scores_QB[relevant.row[own]]
            tied, column = np.nonzero((scores_OB > below_R[own]) & (scores_OB <= above_R[own]))
            in_front = first + column < position_R[own[tied]]
            beaten_RL[own, pool] += np.bincount(tied[in_front], minlength=len(own))

            if len(passages) > 1:
                best.add(scores_QB, pool)
    return beaten_RL, best.pool_QK


class _Best:
    """The scores and pools of each query's K best passages so far; of equal scores the earlier pool's come first."""

    def __init__(self, queries: int, top: int) -> None:
        self.score_QK = np.full((queries, top), -np.inf, dtype=np.float32)
        self.pool_QK = np.full((queries, top), -1, dtype=np.int16)

    def add(self, scores_QB: np.ndarray, pool: int) -> None:
        top = self.score_QK.shape[1]
        rows = np.flatnonzero(scores_QB.max(axis=1) > self.score_QK[:, -1])  # few, once many blocks are through
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
    """Cut the counts of the streamed pools into settings: each pool alone and, of several, their union."""
    top = best_pool_QK.shape[1]
    for pools in dict.fromkeys([*((pool,) for pool in streamed), streamed]):
        if not wanted(collection, language, pools):
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


def as_rankings(
    collection: Collection,
    language: str,
    pools: tuple[str, ...],
    relevant: Relevant,
    rank_R: np.ndarray,
    top_language_QK: np.ndarray,
) -> list[Ranking]:
    """One, or none where no query counts. `rank_R` goes with the arrays of `relevant`, `top_language_QK` with its rows;
    their order, also that of the layers, is no matter."""
    row_Q = np.arange(len(relevant.rows)) if collection.every_query_counts else np.unique(relevant.row)
    row_Q = row_Q[np.argsort(relevant.rows[row_Q])]
    query_R = relevant.rows[relevant.row]
    order = np.lexsort((rank_R, query_R))
    ranking = Ranking(
        setting=_setting(language, pools),
        query_language=language,
        pool_languages=pools,
        pool_sizes=tuple(len(collection.passages[pool]) for pool in pools),
        queries=relevant.rows[row_Q].astype(np.int32),
        query=query_R[order].astype(np.int32),
        rank=rank_R[order],
        grade=relevant.grade[order],
        language=relevant.pool[order].astype(np.int16),
        top_language_QK=top_language_QK[row_Q].astype(np.int16),
    )
    return [ranking] if len(row_Q) else []
