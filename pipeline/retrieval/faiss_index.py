"""The same embeddings, cheaper to hold and to search: fewer dimensions, coarser storage, approximate search.

Beside `retrieval`, whose ranks are exact; here they are those that a FAISS index's own search gives.

An index is named by FAISS's factory string and, behind a semicolon, its parameters of building and searching
(FAISS's ParameterSpace):
    Flat, SQfp16, SQ8              exhaustive, float32, float16 or 8 bits a dimension
    LSH                            exhaustive, one bit a dimension: its sign; compared by Hamming distance
    IVF64,Flat;nprobe=8            64 cells, of which a search visits 8 (FAISS's default: 1)
    IVF64,PQ48;nprobe=8            the same, with product-quantised vectors of 48 bytes
    HNSW32;efSearch=64             a graph of 32 links a vector, searched with a beam of 64 (FAISS's default: 16)

Axes: N vectors, Q queries, P passages of all pools together, B queries of a block, R relevant passages, K results of
a search, L pools, D embedding width.
"""

import re
from collections.abc import Mapping

import faiss
import numpy as np

from pipeline.retrieval.exact import Relevant, as_rankings, check, relevant_passages, unit, wanted
from pipeline.values import Collection, Ranking, UserError

EXHAUSTIVE = (faiss.IndexFlatCodes, faiss.IndexFastScan)
MOST_RESULTS = 1000  # asked of an index that is not exhaustive
BLOCK_CELLS = 2**22  # queries x passages whose ranks are held at once


def truncate(emb_ND: np.ndarray, width: int) -> np.ndarray:
    """The first `width` dimensions at unit length, as Matryoshka embeddings are read off (Kusupati et al. 2022)."""
    if not 0 < width <= emb_ND.shape[1]:
        raise ValueError(f"width must lie in [1, {emb_ND.shape[1]}], got {width}")
    return emb_ND[:, :width] / np.linalg.norm(emb_ND[:, :width], axis=1, keepdims=True)


def empty_index(factory: str, width: int) -> faiss.Index:
    """UserError for a string that FAISS cannot read or make of this width, and for an index unlike those above."""
    description, _, parameters = factory.partition(";")
    if parameters and not re.fullmatch(r"\w+=[1-9]\d*(,\w+=[1-9]\d*)*", parameters):
        raise UserError(f"index {factory!r}: behind the semicolon stand names=positive numbers, as in nprobe=8.")
    if re.search(r"(IVF0|HNSW[01])(?!\d)", description):  # FAISS would end the process
        raise UserError(f"index {factory!r} has too few cells or links: IVF takes at least 1, HNSW 2.")
    # Hamming distance is a distance, so FAISS wants the L2 metric for it; all others compare by inner product.
    metric = faiss.METRIC_L2 if "LSH" in description else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(width, description, metric)
        faiss.ParameterSpace().set_index_parameters(index, parameters)  # type: ignore[arg-type]  # stub: first overload
    except RuntimeError as error:
        raise UserError(f"index {factory!r} is impossible for width {width}: {_reason(error)}.") from None
    if not isinstance(_core(index), (*EXHAUSTIVE, faiss.IndexIVF, faiss.IndexHNSW)):
        raise UserError(f"index {factory!r} is neither exhaustive nor IVF nor HNSW: its ranks would depend on k.")
    return index


def build_index(emb_ND: np.ndarray, factory: str = "Flat") -> faiss.Index:
    """The trained and filled index. UserError as for `empty_index`, and for too few vectors to train it on."""
    index = empty_index(factory, emb_ND.shape[1])
    core = _core(index)
    for part in (core, getattr(core, "pq", core)):  # what is clustered: vectors into cells, their pieces into codes
        if hasattr(part, "cp"):  # FAISS would print a warning a clustering below 39 vectors a centroid; recall tells
            part.cp.min_points_per_centroid = 1
    if hasattr(core, "do_polysemous_training"):  # takes minutes to renumber centroids for a filter that is not used
        core.do_polysemous_training = False
    try:
        index.train(emb_ND)
        index.add(emb_ND)
    except RuntimeError as error:
        raise UserError(f"index {factory!r} cannot be built of {len(emb_ND)} vectors: {_reason(error)}.") from None
    return index


def to_gpus(index: faiss.Index) -> faiss.Index:
    """The index on all GPUs that FAISS sees, to search there; itself where there is none."""
    # Without a GPU, index_cpu_to_all_gpus returns an index that fails at its first search.
    return faiss.index_cpu_to_all_gpus(index) if faiss.get_num_gpus() else index


def search(index: faiss.Index, emb_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The scores (distances for LSH) and positions, both [Q, K], of each query's k best; position -1: no more found."""
    return index.search(emb_QD, k)


def rank_by_index(
    queries: Mapping[str, np.ndarray],
    passages: Mapping[str, np.ndarray],
    collection: Collection,
    factory: str,
    *,
    top: int = 20,
) -> list[Ranking]:
    """As `retrieval.rank`, but ranks and top languages are those of an index's search: one index for each language's
    pool, one for their union. UserError where an index cannot be built.

    A relevant passage that the search does not return takes the pool's last rank. An exhaustive index returns the whole
    pool, IVF up to 1,000 passages, HNSW as many as its beam (efSearch) holds: more would widen the beam, and the ranks
    be those of a slower and better search than one for the first few.
    """
    check(queries, passages, collection)
    union = tuple(collection.passages)
    rankings: list[Ranking] = []
    for pools in dict.fromkeys([*((pool,) for pool in union), union]):
        languages = [language for language in collection.queries if wanted(collection, language, pools)]
        if not languages:
            continue
        index = build_index(np.concatenate([unit(passages[pool], f"passages[{pool!r}]") for pool in pools]), factory)
        offset_L = np.cumsum([0, *(len(passages[pool]) for pool in pools[:-1])])  # of each pool in the index
        for language in languages:
            relevant = relevant_passages(collection, language, pools)
            emb_QD = unit(queries[language][relevant.rows], f"queries[{language!r}]")
            rank_R, top_position_QK = _search_ranks(index, emb_QD, relevant, offset_L, top)
            top_language_QK = np.searchsorted(offset_L, top_position_QK, side="right") - 1
            rankings += as_rankings(collection, language, pools, relevant, rank_R, top_language_QK)
    order = list(collection.queries)
    return sorted(rankings, key=lambda ranking: order.index(ranking.query_language))


def _search_ranks(
    index: faiss.Index, emb_QD: np.ndarray, relevant: Relevant, offset_L: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rank of each relevant passage [R]; the positions of each query's `top` best passages, -1 past the last."""
    position_R = offset_L[relevant.pool] + relevant.passage
    rank_R = np.empty(len(position_R), dtype=np.int64)
    top_position_QK = np.full((len(emb_QD), top), -1, dtype=np.int64)
    block = max(1, BLOCK_CELLS // index.ntotal)
    for start in range(0, len(emb_QD), block):
        _, position_BK = search(index, emb_QD[start : start + block], _depth(index))
        top_position_QK[start : start + block, : position_BK.shape[1]] = position_BK[:, :top]
        # The ranks of all passages; position -1 falls into one more column, the last.
        rank_BP = np.full((len(position_BK), index.ntotal + 1), index.ntotal, dtype=np.int64)
        np.put_along_axis(rank_BP, position_BK, 1 + np.arange(position_BK.shape[1])[None], axis=1)
        own = (start <= relevant.row) & (relevant.row < start + block)
        rank_R[own] = rank_BP[relevant.row[own] - start, position_R[own]]
    return rank_R, top_position_QK


def _depth(index: faiss.Index) -> int:
    """How many results to ask for."""
    core = _core(index)
    if isinstance(core, EXHAUSTIVE):
        return index.ntotal
    most = core.hnsw.efSearch if isinstance(core, faiss.IndexHNSW) else MOST_RESULTS
    return min(most, MOST_RESULTS, index.ntotal)


def _core(index: faiss.Index) -> faiss.Index:
    """The index behind a transformation of the vectors, such as PCA's."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def _reason(error: RuntimeError) -> str:
    """A FAISS error without the place in its source, and without the code of the condition if words follow it."""
    return re.sub(r"^Error in .* at \S+:\d+: (Error: '.*' failed: (?=.))?", "", str(error)).strip()
