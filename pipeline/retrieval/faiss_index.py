"""FAISS indexes: the same embeddings with fewer dimensions, coarser storage or approximate search, at lower cost.

exact.py gives exact ranks; this module gives the ranks of an index's own search.

A FAISS factory string names an index. Its build and search parameters (FAISS's ParameterSpace) follow a semicolon:
    Flat, SQfp16, SQ8              exhaustive; float32, float16 or 8 bits per dimension
    LSH                            exhaustive; one bit per dimension, its sign; compared by Hamming distance
    IVF64,Flat;nprobe=8            64 cells, of which a search visits 8 (FAISS's default: 1)
    IVF64,PQ48;nprobe=8            the same, with product-quantised vectors of 48 bytes
    HNSW32;efSearch=64             a graph of 32 links per vector, searched with a beam of 64 (FAISS's default: 16)

Axes: N vectors, Q queries, P passages of all pools together, B queries of a block, R relevant passages, K results of
a search, L pools, D embedding width.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import faiss
import numpy as np

from pipeline.retrieval.relevant import (
    Relevant,
    as_rankings,
    check_embeddings,
    check_unit,
    is_ranked,
    rank_pools,
    relevant_passages,
)
from pipeline.retrieval.vectors import Vectors
from pipeline.values import Collection, Ranking, UserError

Read = Callable[[Vectors, str], np.ndarray]  # returns the plain array of vectors, given the name of their pool
EXHAUSTIVE = (faiss.IndexFlatCodes, faiss.IndexFastScan)
MAX_RESULTS = 1000  # that a search of a non-exhaustive index returns
BLOCK_RANKS = 2**22  # queries x passages whose ranks are held at once
ADDED = 2**16  # vectors that are read and added at once
TRAINED, TRAINED_PER_CENTROID = 2**18, 256  # vectors that train an index of more; FAISS's clustering takes 256 at most


def empty_index(factory: str, width: int) -> faiss.Index:
    """Return the untrained index that a factory string names, for vectors of this width.

    Raises:
        UserError: for a string that FAISS cannot read or make of this width, and for an index that is neither
            exhaustive nor IVF nor HNSW.

    >>> empty_index("SQ8", 384).code_size
    384
    >>> empty_index("IVF0,Flat", 384)
    Traceback (most recent call last):
    pipeline.values.UserError: index 'IVF0,Flat' has too few cells or links: IVF takes at least 1, HNSW 2.
    """
    description, _, parameters = factory.partition(";")
    if parameters and not re.fullmatch(r"\w+=[1-9]\d*(,\w+=[1-9]\d*)*", parameters):
        raise UserError(
            f"index {factory!r}: the semicolon must be followed by names and positive numbers, as in nprobe=8."
        )
    if re.search(r"(IVF0|HNSW[01])(?!\d)", description):  # FAISS would end the process
        raise UserError(f"index {factory!r} has too few cells or links: IVF takes at least 1, HNSW 2.")
    # FAISS wants the L2 metric for Hamming distance, which is a distance; all other indexes compare by inner product.
    metric = faiss.METRIC_L2 if "LSH" in description else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(width, description, metric)
        faiss.ParameterSpace().set_index_parameters(index, parameters)  # type: ignore[arg-type]  # stub: first overload
    except RuntimeError as error:
        raise UserError(f"index {factory!r} is impossible for width {width}: {_reason(error)}.") from None
    if not isinstance(_core(index), (*EXHAUSTIVE, faiss.IndexIVF, faiss.IndexHNSW)):
        raise UserError(f"index {factory!r} is neither exhaustive nor IVF nor HNSW: its ranks would depend on k.")
    return index


def check_index(factory: str, width: int, collection: Collection) -> None:
    """Check, before any work, that an index can be made and trained on every pool of a collection.

    Raises:
        UserError: as `build_index`.

    >>> from pipeline.retrieval import example
    >>> check_index("IVF4,Flat", 2, example.COLLECTION)
    Traceback (most recent call last):
    pipeline.values.UserError: index 'IVF4,Flat' needs 4 vectors to be trained on; the en pool of angles has 3.
    """
    needed = _centroids(empty_index(factory, width))
    for pool, passages in collection.passages.items():
        if len(passages) < needed and any(is_ranked(collection, language, [pool]) for language in collection.queries):
            trained = f"index {factory!r} needs {needed} vectors to be trained on"
            raise UserError(f"{trained}; the {pool} pool of {collection.name} has {len(passages)}.")


def build_index(emb_ND: np.ndarray, factory: str = "Flat") -> faiss.Index:
    """Return an index trained on the float32 unit vectors [N, D] and filled with them. Errors as of `index_of`.

    >>> from pipeline.retrieval import example
    >>> index = build_index(example.PASSAGES["en"], "SQfp16")
    >>> index.ntotal, index.code_size  # 2 dimensions of 2 bytes
    (3, 4)
    """
    return index_of({"": emb_ND}, factory, lambda block_ND, _: np.asarray(block_ND))


def index_of(pools: Mapping[str, Vectors], factory: str, read: Read) -> faiss.Index:
    """Return an index filled with the float32 vectors of all pools, a block at a time.

    It is trained on all of them or, of more than 262,144 (and 256 per centroid), on a random sample of as many.

    Args:
        read: makes a plain array of a block.

    Raises:
        UserError: as `empty_index`, and for too few vectors to train the index on.
    """
    index = empty_index(factory, next(iter(pools.values())).shape[1])
    core = _core(index)
    for part in (core, getattr(core, "pq", core)):  # both cluster: vectors into cells, their pieces into codes
        if hasattr(part, "cp"):  # below 39 vectors per centroid FAISS would print a warning; recall shows the effect
            part.cp.min_points_per_centroid = 1
    if hasattr(core, "do_polysemous_training"):  # takes minutes to renumber centroids for a filter that is not used
        core.do_polysemous_training = False
    count = sum(map(len, pools.values()))
    try:
        if not index.is_trained:
            index.train(_sample(pools, read, max(TRAINED, TRAINED_PER_CENTROID * _centroids(index))))
        for block_ND in _blocks(pools, read):
            index.add(block_ND)
    except RuntimeError as error:
        raise UserError(f"index {factory!r} cannot be built of {count} vectors: {_reason(error)}.") from None
    return index


def _blocks(pools: Mapping[str, Vectors], read: Read) -> Iterator[np.ndarray]:
    """Yield the vectors of one pool after another in blocks of ADDED: HNSW links those that it is given together."""
    block: list[np.ndarray] = []
    for pool, emb_PD in pools.items():
        start = 0
        while start < len(emb_PD):
            block.append(read(emb_PD[start : start + ADDED - sum(map(len, block))], pool))
            start += len(block[-1])
            if sum(map(len, block)) == ADDED:
                yield np.concatenate(block)
                block = []
    if block:
        yield np.concatenate(block)


def _sample(pools: Mapping[str, Vectors], read: Read, size: int) -> np.ndarray:
    """Return all vectors of the pools or, of more than `size`, as many at random, in their order."""
    offset_L = np.cumsum([0, *map(len, pools.values())])
    if offset_L[-1] <= size:
        return np.concatenate([read(emb_PD, pool) for pool, emb_PD in pools.items()])
    drawn_N = np.sort(np.random.default_rng(0).choice(offset_L[-1], size, replace=False))
    bounds = np.searchsorted(drawn_N, offset_L)
    parts = zip(pools, offset_L[:-1], pairwise(bounds), strict=True)
    return np.concatenate([read(pools[pool][drawn_N[slice(*own)] - offset], pool) for pool, offset, own in parts])


def _centroids(index: faiss.Index) -> int:
    """Return the largest number of centroids that training looks for at once."""
    core = _core(index)
    return max(getattr(core, "nlist", 0), getattr(getattr(core, "pq", None), "ksub", 0))


def to_gpus(index: faiss.Index) -> faiss.Index:
    """Return a copy of the index on all GPUs that FAISS sees, to search there; without a GPU, the index itself.

    >>> index = build_index(np.eye(3, dtype=np.float32))
    >>> to_gpus(index).ntotal
    3
    """
    # Without a GPU, index_cpu_to_all_gpus returns an index that fails at its first search.
    return faiss.index_cpu_to_all_gpus(index) if faiss.get_num_gpus() else index


def search(index: faiss.Index, emb_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (distances for LSH) and the positions, both [Q, K], of each query's k best vectors.

    Position -1 fills the row of a query for which the index finds fewer than k vectors.

    >>> from pipeline.retrieval import example
    >>> search(build_index(example.PASSAGES["en"]), example.QUERIES["en"], 2)[1]  # of 0, 40 and 90 degrees
    array([[0, 1],
           [2, 1]])
    """
    return index.search(emb_QD, k)


def rank_by_index(
    queries: Mapping[str, Vectors],
    passages: Mapping[str, Vectors],
    collection: Collection,
    factory: str,
    *,
    top: int = 20,
) -> list[Ranking]:
    """Return the ranking of every setting as an index's search gives it, in the order of the query languages.

    Each language's pool has an index of its own, and so has their union. A relevant passage that the search does not
    return takes the pool's last rank. A search of an exhaustive index returns the whole pool, of IVF up to 1,000
    passages, of HNSW as many as its beam (efSearch) holds. Asking HNSW for more would widen the beam, and the first
    ranks would be those of a slower and better search.

    Args:
        queries, passages, top: as for `exact.rank`.
        factory: names the index (see the top of this file).

    Raises:
        ValueError: as `exact.rank`.
        UserError: for an index that cannot be built.

    The signs of two dimensions are the same for all angles of the example, so under LSH all passages tie and rank in
    the order of their positions:

    >>> from pipeline.retrieval import example
    >>> for ranking in rank_by_index(example.QUERIES, example.PASSAGES, example.COLLECTION, "LSH")[:3]:
    ...     print(ranking.setting, ranking.query_language, ranking.query.tolist(), ranking.rank.tolist())
    mono en [0, 1] [2, 3]
    cross en [0] [1]
    multi en [0, 0, 1] [2, 4, 3]
    """
    check_embeddings(queries, passages, collection)

    def rank(pools: tuple[str, ...], languages: list[str]) -> Iterator[Ranking]:
        index = index_of({pool: passages[pool] for pool in pools}, factory, _checked)
        offset_L = np.cumsum([0, *(len(passages[pool]) for pool in pools[:-1])])  # of each pool in the index
        for language in languages:
            relevant = relevant_passages(collection, language, pools)
            emb_QD = check_unit(queries[language][relevant.rows], f"queries[{language!r}]")
            rank_R, top_position_QK = _search_ranks(index, emb_QD, relevant, offset_L, top)
            top_language_QK = np.searchsorted(offset_L, top_position_QK, side="right") - 1
            yield from as_rankings(collection, language, pools, relevant, rank_R, top_language_QK)

    return rank_pools(collection, rank)


def _checked(emb_PD: Vectors, pool: str) -> np.ndarray:
    return check_unit(emb_PD, f"passages[{pool!r}]")


def _search_ranks(
    index: faiss.Index, emb_QD: np.ndarray, relevant: Relevant, offset_L: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of each relevant passage [R] and the positions of each query's `top` best [Q, K], -1 past them.

    Example: a search returns positions 2 and 0 of three passages. The row of rank_BP starts as [3, 3, 3, 3]: the last
    rank, for the passages and for position -1, whose rank nobody reads. Ranks 1 and 2 go to columns 2 and 0, which
    gives [2, 3, 1, 3].
    """
    position_R = offset_L[relevant.pool] + relevant.passage
    rank_R = np.empty(len(position_R), dtype=np.int64)
    top_position_QK = np.full((len(emb_QD), top), -1, dtype=np.int64)
    block = max(1, BLOCK_RANKS // index.ntotal)
    for start in range(0, len(emb_QD), block):
        _, position_BK = search(index, emb_QD[start : start + block], _depth(index))
        top_position_QK[start : start + block, : position_BK.shape[1]] = position_BK[:, :top]
        rank_BP = np.full((len(position_BK), index.ntotal + 1), index.ntotal, dtype=np.int64)
        np.put_along_axis(rank_BP, position_BK, 1 + np.arange(position_BK.shape[1])[None], axis=1)
        own = (start <= relevant.row) & (relevant.row < start + block)
        rank_R[own] = rank_BP[relevant.row[own] - start, position_R[own]]
    return rank_R, top_position_QK


def _depth(index: faiss.Index) -> int:
    """Return how many results to search for."""
    core = _core(index)
    if isinstance(core, EXHAUSTIVE):
        return index.ntotal
    most = core.hnsw.efSearch if isinstance(core, faiss.IndexHNSW) else MAX_RESULTS
    return min(most, MAX_RESULTS, index.ntotal)


def _core(index: faiss.Index) -> faiss.Index:
    """Return the index behind a transformation of the vectors, such as PCA."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def _reason(error: RuntimeError) -> str:
    """Return a FAISS error without its place in FAISS's source, and without the failed condition if words follow it."""
    return re.sub(r"^Error in .* at \S+:\d+: (Error: '.*' failed: (?=.))?", "", str(error)).strip()
