"""Latency meter: how long one query waits, alone in its batch, on real queries with their real lengths.

First tokenise and encode alone, then with a search behind them (end to end), each by itself: a search sweeps the
encoder's weights out of the caches, and would charge the next query for it. The clock is read after each stage, once
the device has finished, so encoding is known with tokenisation in and out.

Axes: C calls, S stages (tokenise, encode and, end to end, search; last the device's own time).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from pipeline.profiling.samples import percentiles, round_robin

Stage = Callable[[Any], Any]


def measure(
    tokenise: Callable[[str], Sequence[int]],
    encode: Callable[[Sequence[int]], Any],
    search: Callable[[Any], Any] | None,
    texts: Mapping[str, Sequence[str]],
    *,
    min_calls: int,
    min_seconds: float,
    synchronise: Callable[[], None],
    device_ms: Callable[[], float] | None,
    seed: int,
) -> dict[str, Any]:
    """`texts` holds queries by language; the first `min_calls`, over the languages in turn, are used.

    `device_ms`, where there is a device, gives its own time for the last encoding. Times are in ms, raw ones under
    `calls_ms`; a span that was not timed is None. `by_language` is of the queries, without a search.
    """
    order = round_robin(texts)[:min_calls]
    tokens = [len(tokenise(text)) for _, text in order]
    shapes = {count: text for count, (_, text) in zip(tokens, order, strict=True)}

    def timed(*stages: Stage) -> np.ndarray:
        """`ms_CS` of whole passes over the texts, so that a repeated profile times the same work."""

        def call(text: str) -> list[float]:
            clock_s, value = [time.perf_counter()], text
            for stage in stages:
                value = stage(value)
                synchronise()
                clock_s.append(time.perf_counter())
            return [*np.diff(clock_s) * 1000, device_ms() if device_ms else np.nan]

        _warm_up(call, list(shapes.values()), min_seconds)
        calls: list[list[float]] = []
        start_s = time.perf_counter()
        while len(calls) < min_calls or time.perf_counter() - start_s < min_seconds:
            calls += [call(text) for _, text in order]
        return np.array(calls)

    alone_CS = timed(tokenise, encode)
    calls_ms = {"query": alone_CS[:, :2].sum(axis=1), "encode": alone_CS[:, 1]}
    if device_ms:
        calls_ms["device"] = alone_CS[:, 2]
    if search:
        calls_ms["end_to_end"] = timed(tokenise, encode, search)[:, :3].sum(axis=1)

    passes = len(alone_CS) // len(order)
    language_C, tokens_C = np.array([language for language, _ in order] * passes), np.array(tokens * passes)
    by_language = {
        name: {
            "calls": int((language_C == name).sum()),
            "tokens_mean": float(tokens_C[language_C == name].mean()),
            "query_p50_ms": float(np.median(calls_ms["query"][language_C == name])),
        }
        for name in dict.fromkeys(language for language, _ in order)
    }
    spans = {span: percentiles(ms_C, seed) for span, ms_C in calls_ms.items()}
    return {
        **{"device": None, "end_to_end": None} | spans,
        "calls": len(alone_CS),
        "by_language": by_language,
        "calls_ms": {span: ms_C.round(4).tolist() for span, ms_C in calls_ms.items()},
    }


def _warm_up(call: Callable[[str], Any], shapes: Sequence[str], seconds: float) -> None:
    """One text of every length (batch 1 has one shape a length), then on for `seconds`, until the clocks are up."""
    start_s = time.perf_counter()
    for number, text in enumerate(cycle(shapes)):
        if number >= len(shapes) and time.perf_counter() - start_s >= seconds:
            return
        call(text)
