"""Index meter: what a FAISS index costs to build, to hold and to search, and what it misses.

FAISS runs on as many threads as it was given before.

Axes: N passages, Q queries, K results, B queries of a block, D embedding width.
"""

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import faiss
import numpy as np

from pipeline.profiling.samples import percentiles

TIE = 1e-6  # float32 products of unit vectors round by less
BLOCK = 256  # queries whose exact scores are held at once
WARM_UP_CALLS = 20


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
) -> dict[str, Any]:
    """Build over and over, search for all queries in one batch, then for one after another: each for `min_seconds`,
    the single queries also `min_calls` times. Raw times are in the result.

    `search(index, emb_QD, k)` answers scores and positions [Q, K], -1 where it found no more.
    """
    builds_s, index = _repeat(lambda _: build(emb_ND), 1, min_seconds)

    _, position_QK = search(index, emb_QD, k)  # warm-up
    batches_s, _ = _repeat(lambda _: search(index, emb_QD, k), 1, min_seconds)

    def search_one(call: int) -> Any:
        row = call % len(emb_QD)
        return search(index, emb_QD[row : row + 1], k)

    _repeat(search_one, WARM_UP_CALLS, 0)
    calls_s, _ = _repeat(search_one, min_calls, min_seconds)
    calls_ms = 1000 * np.array(calls_s)
    return {
        "build_s": float(np.median(builds_s)),
        "bytes_per_passage": faiss.serialize_index(index).nbytes / index.ntotal,
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


def _repeat(run: Callable[[int], Any], min_calls: int, min_seconds: float) -> tuple[list[float], Any]:
    """The seconds of each call of `run(0)`, `run(1)`, …; and what the last one returned."""
    times_s: list[float] = []
    for call in count():
        start_s = time.perf_counter()
        result = run(call)
        times_s.append(time.perf_counter() - start_s)
        if len(times_s) >= min_calls and sum(times_s) >= min_seconds:
            break
    return times_s, result


def recall(emb_ND: np.ndarray, emb_QD: np.ndarray, position_QK: np.ndarray) -> float:
    """Recall@K: the share of the K results that are as near as the exact K-th neighbour, averaged over queries.

    By scores, as ann-benchmarks counts it (Aumüller et al. 2018), so that it is no error to choose among ties.
    """
    k = min(position_QK.shape[1], len(emb_ND))
    found = 0
    for start in range(0, len(emb_QD), BLOCK):
        position_BK = position_QK[start : start + BLOCK, :k]
        scores_BN = emb_QD[start : start + BLOCK] @ emb_ND.T
        kth_B1 = np.partition(scores_BN, -k, axis=1)[:, [-k]]
        near_BK = np.take_along_axis(scores_BN, position_BK, axis=1) >= kth_B1 - TIE
        found += int((near_BK & (position_BK >= 0)).sum())
    return found / (len(emb_QD) * k)
