"""Latency meter: how long one query waits, alone in its batch, on real queries with their real lengths.

Tokenization and encoding are timed alone first, then with a search behind them (end to end), each by itself: a search
sweeps the encoder's weights out of the caches, and would slow the next query down. The clock is read after each stage;
an embedding counts once it is in host memory, so encoding is known with and without tokenization.

Axes: C calls, S stages (tokenize, encode and, end to end, search; last the device's own time), T tokens, N vectors of
the index, D embedding width; 1 for a single query.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, TypedDict

import numpy as np

from pipeline.profiling.meter import Figure, Job
from pipeline.profiling.samples import Percentiles, percentiles, relative_error, round_robin
from pipeline.profiling.served import Served

FIELDS = {  # field of the Profile -> span and percentile
    "query_latency_p50_ms": ("query", "p50"),
    "query_latency_p90_ms": ("query", "p90"),
    "query_latency_p95_ms": ("query", "p95"),
    "query_latency_p99_ms": ("query", "p99"),
    "query_latency_without_tokenisation_p50_ms": ("encode", "p50"),
    "query_device_time_p50_ms": ("device", "p50"),
    "end_to_end_latency_p50_ms": ("end_to_end", "p50"),
    "end_to_end_latency_p95_ms": ("end_to_end", "p95"),
}


class LanguageLatency(TypedDict):
    """Of the queries of one language, without a search."""

    calls: int
    tokens_mean: float
    query_p50_ms: float


class Latency(TypedDict):
    """Percentiles per span, in ms; `calls_ms` has the raw times. A span that was not timed is None."""

    query: Percentiles  # tokenize and encode
    encode: Percentiles
    device: Percentiles | None
    end_to_end: Percentiles | None  # tokenize, encode and search
    calls: int
    by_language: dict[str, LanguageLatency]
    calls_ms: dict[str, list[float]]


class LatencyResult(Latency):
    index: str | None  # what was searched
    index_missing: str | None  # why there was no index
    scored: str | None  # the index whose passages are scored before the search, as by BM25


def run(job: Job, load: Callable[[], Served]) -> LatencyResult:
    """Measure what serves on the job's queries, end to end where FAISS is installed (BM25 does without)."""
    served = load()
    device_ms = served.timer() if job.device == "cuda" else None
    missing = served.missing if job.end_to_end else "no index asked for"
    search, index = (None, None) if missing else served.search()
    measured = measure(
        lambda text: served.tokenize(text, "query"),
        served.embed,
        search,
        job.texts_of("query"),
        min_calls=job.settings.min_calls,
        min_seconds=job.settings.min_seconds,
        device_ms=device_ms,
        seed=job.seed,
    )
    return {**measured, "index": index, "index_missing": missing, "scored": served.scored}


def figures(result: LatencyResult, job: Job) -> dict[str, Figure]:
    """Return the percentiles that FIELDS lists."""
    reasons = {"device": "no CUDA device, or an engine without CUDA events", "end_to_end": result["index_missing"]}
    spans: dict[str, Percentiles | None] = {"query": result["query"], "encode": result["encode"]}
    spans |= {"device": result["device"], "end_to_end": result["end_to_end"]}

    def figure(span: str, percentile: str) -> Figure:
        estimates = spans[span]
        if estimates is None:
            return Figure(None, f"not measured: {reasons[span]}")
        estimate = estimates[percentile]
        clock = "CUDA events around the forward pass" if span == "device" else "wall clock"
        tokenized = job.made_up_words and span in ("query", "end_to_end")
        words = ", tokenization of made-up words" if tokenized else ""
        few = "" if estimate else f", too few for a {percentile}"
        scored = f", with the scores of {result['scored']}" if result["scored"] and span != "device" else ""
        source = f"measured: {clock}, {len(result['calls_ms'][span])} calls{scored}{words}{few}"
        return Figure(estimate["value"], source, relative_error(estimate)) if estimate else Figure(None, source)

    return {field: figure(span, percentile) for field, (span, percentile) in FIELDS.items()}


def measure(
    tokenize: Callable[[str], Sequence[int]],
    encode: Callable[[Sequence[int]], Any],
    search: Callable[[Any], object] | None,
    texts: Mapping[str, Sequence[str]],
    *,
    min_calls: int,
    min_seconds: float,
    device_ms: Callable[[], float] | None,
    seed: int,
) -> Latency:
    """Time queries one after another, in whole passes, so that a repeated profile times the same work.

    Args:
        tokenize: returns the ids of a text.
        encode: returns the embedding of ids, in host memory, which `search` takes.
        search: of an index; None to leave it out.
        texts: queries by language; the first `min_calls`, over the languages in turn, are used.
        min_calls: timed calls.
        min_seconds: of timed calls, and of the warm-up before them.
        device_ms: returns the device's own time for the last encoding, where there is a device.
        seed: of the bootstrap.
    """
    queries = round_robin(texts)[:min_calls]
    tokens = [len(tokenize(text)) for _, text in queries]
    shapes = {count: text for count, (_, text) in zip(tokens, queries, strict=True)}

    def timed(*stages: Callable[[Any], Any]) -> np.ndarray:
        """Return the ms of each call and stage, [C, S]."""

        def call(text: str) -> list[float]:
            clock_s, value = [time.perf_counter()], text
            for stage in stages:
                value = stage(value)
                clock_s.append(time.perf_counter())
            return [*np.diff(clock_s) * 1000, device_ms() if device_ms else np.nan]

        _warm_up(call, list(shapes.values()), min_seconds)
        calls: list[list[float]] = []
        start_s = time.perf_counter()
        while len(calls) < min_calls or time.perf_counter() - start_s < min_seconds:
            calls += [call(text) for _, text in queries]
        return np.array(calls)

    alone_CS = timed(tokenize, encode)
    spans_C = {"query": alone_CS[:, :2].sum(axis=1), "encode": alone_CS[:, 1]}
    if device_ms:
        spans_C["device"] = alone_CS[:, 2]
    if search:
        spans_C["end_to_end"] = timed(tokenize, encode, search)[:, :3].sum(axis=1)

    passes = len(alone_CS) // len(queries)
    language_C, tokens_C = np.array([language for language, _ in queries] * passes), np.array(tokens * passes)
    by_language: dict[str, LanguageLatency] = {
        name: {
            "calls": int((language_C == name).sum()),
            "tokens_mean": float(tokens_C[language_C == name].mean()),
            "query_p50_ms": float(np.median(spans_C["query"][language_C == name])),
        }
        for name in dict.fromkeys(language for language, _ in queries)
    }
    spans = {span: percentiles(ms_C, seed) for span, ms_C in spans_C.items()}
    return {
        "query": spans["query"],
        "encode": spans["encode"],
        "device": spans.get("device"),
        "end_to_end": spans.get("end_to_end"),
        "calls": len(alone_CS),
        "by_language": by_language,
        "calls_ms": {span: ms_C.round(4).tolist() for span, ms_C in spans_C.items()},
    }


def _warm_up(call: Callable[[str], object], shapes: Sequence[str], seconds: float) -> None:
    """Call one text of every length (a batch of one has one shape per length), and go on for `seconds`, until the
    clocks are up."""
    start_s = time.perf_counter()
    for number, text in enumerate(cycle(shapes)):
        if number >= len(shapes) and time.perf_counter() - start_s >= seconds:
            return
        call(text)
