"""Throughput meter: passages per second in batches, as a curve over token budgets, against the machine's own ceiling.

Achieved FLOP/s counts the multiplications and additions of the matrix products of a transformer encoder on real
tokens only (padding is waste, not work). It is compared with the large matrix product of the ceiling meter.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from pipeline.profiling.meter import Figure, Job
from pipeline.profiling.samples import Z_95, distinct_texts, percentiles
from pipeline.profiling.served import Served

MIN_PASSES = 5  # per point of the curve


class Interval(TypedDict):
    low: float
    high: float


class Rates(TypedDict):
    passages_per_s: float
    passages_per_s_interval: Interval
    tokens_per_s: float
    flop_per_s: float


class Point(Rates):
    """One point of the curve."""

    token_budget: int
    passes_s: list[float]


class Throughput(TypedDict):
    best: Point
    curve: list[Point]
    passages: int
    tokens: int
    flop_share_of_matrix_product: float


def run(job: Job, load: Callable[[], Served]) -> Mapping[str, object]:
    """Measure an encoder, or the making of BM25's index, on the job's passages."""
    served = load()
    assert job.ceiling_flop_per_s  # the ceiling meter ran before
    measured = measure(
        lambda texts, budget: served.encode(texts, "passage", budget),
        lambda text: len(served.tokenize(text, "passage")),
        job.texts_of("passage"),
        token_budgets=job.settings.token_budgets,
        min_seconds=job.settings.min_seconds,
        flop=served.flop,
        ceiling_flop_per_s=job.ceiling_flop_per_s,
        seed=job.seed,
    )
    return {**measured, "attn_implementation": served.facts()["attention"]}


def figures(result: Throughput, job: Job) -> dict[str, Figure]:
    """Return the rates of the best token budget."""
    best = result["best"]
    interval = best["passages_per_s_interval"]
    error = (interval["high"] - interval["low"]) / (2 * Z_95) / best["passages_per_s"]
    wall_clock = f"measured: wall clock, median pass{', tokenization of made-up words' if job.made_up_words else ''}"
    flop, budget = "modelled: FLOP by formula", "measured: the fastest of those tried"
    if not best["flop_per_s"]:
        flop, budget = "modelled: no matrix products", "measured: all alike, since BM25 reads texts one by one"
    return {
        "passages_per_s": Figure(best["passages_per_s"], wall_clock, error),
        "passage_tokens_per_s": Figure(best["tokens_per_s"], wall_clock, error),
        "passage_token_budget": Figure(best["token_budget"], budget),
        "flop_per_s": Figure(best["flop_per_s"], f"{flop} over measured seconds", error),
        "flop_share_of_matrix_product": Figure(
            result["flop_share_of_matrix_product"], f"{flop}, over a matrix product measured just before", error
        ),
    }


def transformer_flop(lengths: Sequence[int], linear_weights: int, attention_width: int) -> int:
    """Return the FLOP to encode texts of these numbers of tokens, at 2 FLOP per multiply-add.

    Per text of T tokens: 2 T linear_weights, and 4 T^2 attention_width for the scores and their product with the
    values, as if every token saw every other. Norms, softmax, activations, look-ups and the head are left out.

    Args:
        linear_weights: number of weights of all linear layers.
        attention_width: heads x dimensions of a head, over all layers.

    >>> transformer_flop([1, 3], linear_weights=32, attention_width=2)  # 4 * 64 + 8 * (1 + 9)
    336
    """
    return sum(2 * length * linear_weights + 4 * length**2 * attention_width for length in lengths)


def measure(
    encode: Callable[[list[str], int], object],
    count_tokens: Callable[[str], int],
    texts: Mapping[str, Sequence[str]],
    *,
    token_budgets: Sequence[int],
    min_seconds: float,
    flop: Callable[[Sequence[int]], int],
    ceiling_flop_per_s: float,
    seed: int,
) -> Throughput:
    """Return one point per token budget.

    All points encode the same passages: enough to fill one batch of the largest budget, or all there are. Warm-up is
    one whole pass of each budget, so every batch shape. Then passes of the budgets take turns, so that a drift of the
    machine affects all alike, until each budget has MIN_PASSES and `min_seconds`. A rate is that of the median pass (a
    disturbed pass moves a mean, and hardly a median), with a 95 % bootstrap interval over passes.

    Args:
        encode: takes texts and a token budget; returns when the embeddings are in host memory.
        count_tokens: of one text.
        texts: by language.
        token_budgets: tokens per batch.
        min_seconds: of timed passes per budget.
        flop: of encoding texts of these lengths.
        ceiling_flop_per_s: of the machine's own matrix product.
        seed: of the bootstrap.
    """
    passages = distinct_texts(texts, count_tokens, max(token_budgets))
    lengths = [count_tokens(text) for text in passages]

    def pass_s(budget: int) -> float:
        start_s = time.perf_counter()
        encode(passages, budget)
        return time.perf_counter() - start_s

    for budget in token_budgets:
        pass_s(budget)
    passes_s: dict[int, list[float]] = {budget: [] for budget in token_budgets}
    while any(len(times_s) < MIN_PASSES or sum(times_s) < min_seconds for times_s in passes_s.values()):
        for budget, times_s in passes_s.items():
            times_s.append(pass_s(budget))

    curve: list[Point] = [
        {
            "token_budget": budget,
            **_rates(times_s, len(passages), sum(lengths), flop(lengths), seed),
            "passes_s": times_s,
        }
        for budget, times_s in passes_s.items()
    ]
    best = max(curve, key=lambda point: point["passages_per_s"])
    return {
        "best": best,
        "curve": curve,
        "passages": len(passages),
        "tokens": sum(lengths),
        "flop_share_of_matrix_product": best["flop_per_s"] / ceiling_flop_per_s,
    }


def _rates(passes_s: Sequence[float], passages: int, tokens: int, flop: int, seed: int) -> Rates:
    median_s = percentiles(np.array(passes_s), seed)["p50"]
    assert median_s  # a median is always given
    return {
        "passages_per_s": passages / median_s["value"],
        "passages_per_s_interval": {"low": passages / median_s["high"], "high": passages / median_s["low"]},
        "tokens_per_s": tokens / median_s["value"],
        "flop_per_s": flop / median_s["value"],
    }
