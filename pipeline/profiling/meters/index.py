"""Index meter: what a FAISS index costs to build, to hold and to search, and what it misses.

FAISS runs on the number of threads that was set before.

Axes: N passages, Q queries, K results, B queries of a block, D embedding width.
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TypedDict, TypeVar

import faiss
import numpy as np

from pipeline.profiling.meter import TOP_K, Job
from pipeline.profiling.samples import Percentiles, percentiles, round_robin
from pipeline.profiling.served import Served
from pipeline.retrieval import faiss_index
from pipeline.retrieval.vectors import truncate
from pipeline.values import Side

TIE = 1e-6  # float32 products of unit vectors round by less
BLOCK = 256  # queries whose exact scores are held at once
WARM_UP_CALLS = 20
NOISE = 0.3  # length of the noise on a unit vector: the repetitions of a passage have a cosine of .96 to it

Made = TypeVar("Made")


class IndexCost(TypedDict):
    build_s: float
    bytes_per_passage: float
    latency_ms: Percentiles
    queries_per_s: float
    recall: float
    k: int
    passages: int
    queries: int
    calls: int
    builds_s: list[float]
    batches_s: list[float]
    calls_ms: list[float]


class MeasuredIndex(IndexCost):
    width: int
    factory: str


class IndexResult(TypedDict):
    indexes: list[MeasuredIndex]


def run(job: Job, load: Callable[[], Served]) -> IndexResult:
    """Measure every width and index of the job, filled with `index_rows` vectors and searched for the job's queries.

    The vectors are those of the passages (`filled`).
    """
    served, settings = load(), job.settings
    faiss.omp_set_num_threads(job.threads)

    def embed(side: Side) -> np.ndarray:
        texts = [text for _, text in round_robin(job.texts_of(side))]
        return served.encode(texts, side, job.token_budget)

    emb_QD, emb_ND = embed("query"), embed("passage")
    full_width = emb_ND.shape[1]
    emb_ND = filled(emb_ND, settings.index_rows, job.seed)
    measured: list[MeasuredIndex] = []
    for variant in job.indexes:
        width, factory = variant.width or full_width, variant.index.replace("exact", "Flat")
        cost = measure(
            partial(faiss_index.build_index, factory=factory),
            faiss_index.search,
            truncate(emb_ND, width),
            truncate(emb_QD, width),
            k=TOP_K,
            min_calls=settings.min_calls,
            min_seconds=settings.min_seconds,
            seed=job.seed,
        )
        measured.append({**cost, "width": width, "factory": factory})
    return {"indexes": measured}


def filled(emb_ND: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Return `rows` vectors: those given, each repeated many times with a little noise (NOISE).

    Without noise, all graphs and inverted lists of an index would end in the same place.

    >>> filled(np.eye(2, dtype=np.float32), 5, seed=0).shape
    (5, 2)
    """
    emb_ND = np.resize(emb_ND, (rows, emb_ND.shape[1]))
    noise_ND = np.random.default_rng(seed).standard_normal(emb_ND.shape, np.float32)
    return emb_ND + NOISE * noise_ND / np.linalg.norm(noise_ND, axis=1, keepdims=True)


def measure(
    build: Callable[[np.ndarray], faiss.Index],
    search: Callable[[faiss.Index, np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    emb_ND: np.ndarray,
    emb_QD: np.ndarray,
    *,
    k: int,
    min_calls: int,
    min_seconds: float,
    seed: int,
) -> IndexCost:
    """Build repeatedly, search for all queries in one batch, then for one query after another.

    Each runs for `min_seconds`, the single queries also `min_calls` times. The result has the raw times.

    Args:
        build: returns an index of vectors [N, D].
        search: takes an index, queries and k; returns scores and positions [Q, K], -1 where it found no more.
        emb_ND: passages.
        emb_QD: queries.
        k: results per search.
        min_calls: timed searches for one query.
        min_seconds: of timed builds, batches and single searches.
        seed: of the bootstrap.
    """
    builds_s, index = _repeat(lambda _: build(emb_ND), 1, min_seconds)

    _, position_QK = search(index, emb_QD, k)  # warm-up
    batches_s, _ = _repeat(lambda _: search(index, emb_QD, k), 1, min_seconds)

    def search_one(call: int) -> tuple[np.ndarray, np.ndarray]:
        row = call % len(emb_QD)
        return search(index, emb_QD[row : row + 1], k)

    _repeat(search_one, WARM_UP_CALLS, 0)
    calls_s, _ = _repeat(search_one, min_calls, min_seconds)
    calls_ms = 1000 * np.array(calls_s)
    return {
        "build_s": float(np.median(builds_s)),
        "bytes_per_passage": bytes_per_passage(index),
        "latency_ms": percentiles(calls_ms, seed),
        "queries_per_s": len(emb_QD) / float(np.median(batches_s)),
        "recall": recall(emb_ND, emb_QD, position_QK),
        "k": k,
        "passages": len(emb_ND),
        "queries": len(emb_QD),
        "calls": len(calls_s),
        "builds_s": builds_s,
        "batches_s": batches_s,
        "calls_ms": calls_ms.round(4).tolist(),
    }


def bytes_per_passage(index: faiss.Index) -> float:
    """Return by how many bytes the serialised index grows per vector: without its header, centroids and tables.

    >>> bytes_per_passage(faiss_index.build_index(np.eye(3, dtype=np.float32)))
    12.0
    """
    empty = faiss.clone_index(index)
    empty.reset()
    return (faiss.serialize_index(index).nbytes - faiss.serialize_index(empty).nbytes) / index.ntotal


def _repeat(call: Callable[[int], Made], min_calls: int, min_seconds: float) -> tuple[list[float], Made]:
    """Return the seconds of each of `call(0)`, `call(1)`, …, and what the last one returned."""
    times_s: list[float] = []
    for number in count():
        start_s = time.perf_counter()
        result = call(number)
        times_s.append(time.perf_counter() - start_s)
        if len(times_s) >= min_calls and sum(times_s) >= min_seconds:
            break
    return times_s, result


def recall(emb_ND: np.ndarray, emb_QD: np.ndarray, position_QK: np.ndarray) -> float:
    """Return recall@K: the share of the K results that are as near as the exact K-th neighbour, averaged over queries.

    By scores, as ann-benchmarks counts it (Aumüller et al. 2018), so that choosing among ties is no error.

    >>> recall(np.eye(3), np.eye(3)[:1], np.array([[0]])), recall(np.eye(3), np.eye(3)[:1], np.array([[2]]))
    (1.0, 0.0)
    """
    k = min(position_QK.shape[1], len(emb_ND))
    correct = 0
    for start in range(0, len(emb_QD), BLOCK):
        position_BK = position_QK[start : start + BLOCK, :k]
        scores_BN = emb_QD[start : start + BLOCK] @ emb_ND.T
        kth_B1 = np.partition(scores_BN, -k, axis=1)[:, [-k]]
        near_BK = np.take_along_axis(scores_BN, position_BK, axis=1) >= kth_B1 - TIE
        correct += int((near_BK & (position_BK >= 0)).sum())
    return correct / (len(emb_QD) * k)
