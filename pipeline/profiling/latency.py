"""Latency meter: how long one query waits, alone in its batch, on real queries with their real lengths.

Every call runs three stages, with the clock read after each once the device has finished: tokenise, encode, search.
So the figures come with tokenisation in (tokenise + encode) and out (encode), and end to end (all three).

Axes: C calls, S stages (tokenise, encode, search).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from pipeline.profiling.samples import percentiles, round_robin

SPANS = {"query": slice(0, 2), "encode": slice(1, 2), "end_to_end": slice(0, 3)}  # of the stages


def measure(
    tokenise: Callable[[str], Sequence[int]],
    encode: Callable[[Sequence[int]], Any],
    search: Callable[[Any], Any],
    texts: Mapping[str, Sequence[str]],
    *,
    min_calls: int,
    min_seconds: float,
    synchronise: Callable[[], None],
    seed: int,
) -> dict[str, Any]:
    """Time calls over the languages in turn until there are `min_calls` and `min_seconds` have passed.

    `texts` holds queries by language. Warm-up runs one text of every length: batch 1 has one shape a length.
    Times are in ms, raw ones under `calls_ms`.
    """
    order = round_robin(texts)
    tokens = {text: len(tokenise(text)) for _, text in order}
    for text in {tokens[text]: text for _, text in order}.values():
        search(encode(tokenise(text)))
    synchronise()

    called, stages_ms = [], []
    start_s = time.perf_counter()
    for language, text in cycle(order):
        clock_s = [time.perf_counter()]
        value: Any = text
        for stage in (tokenise, encode, search):
            value = stage(value)
            synchronise()
            clock_s.append(time.perf_counter())
        called.append((language, tokens[text]))
        stages_ms.append(np.diff(clock_s) * 1000)
        if len(stages_ms) >= min_calls and clock_s[-1] - start_s >= min_seconds:
            break
    ms_CS = np.array(stages_ms)

    language_C, tokens_C = (np.array(column) for column in zip(*called, strict=True))
    by_language = {
        name: {
            "calls": int((language_C == name).sum()),
            "tokens_mean": float(tokens_C[language_C == name].mean()),
            "query_p50_ms": float(np.median(ms_CS[language_C == name, SPANS["query"]].sum(axis=1))),
        }
        for name in dict.fromkeys(language for language, _ in called)
    }
    return {
        **{name: percentiles(ms_CS[:, span].sum(axis=1), seed) for name, span in SPANS.items()},
        "calls": len(ms_CS),
        "by_language": by_language,
        "calls_ms": {name: ms_CS[:, span].sum(axis=1).round(4).tolist() for name, span in SPANS.items()},
    }
