"""Throughput meter: passages a second in batches, as a curve over token budgets, against the machine's own ceiling.

Achieved FLOP/s counts the multiplications and additions of the matrix products of a transformer encoder on real
tokens only (padding is waste, not work), and is set beside one large matrix product measured in the same process.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.profiling.samples import percentiles, round_robin

MATRIX_WIDTH = {"cpu": 2048, "cuda": 8192}  # rows and columns: large enough to reach the device's peak
MIN_PRODUCTS = 7  # the fastest of fewer jumps from one measurement to the next
MIN_PASSES = 5  # of each point of the curve


def transformer_flop(lengths: Sequence[int], *, layers: int, width: int, feed_forward: int) -> int:
    """FLOP to encode texts of so many tokens each, 2 a multiply-add: per layer and text of T tokens

    8 T width^2 (query, key, value and output projections) + 4 T width feed_forward (two feed-forward products)
    + 4 T^2 width (scores, and their product with the values). Norms, softmax, activations and look-ups are left out.
    """
    projections = 8 * width**2 + 4 * width * feed_forward
    return layers * sum(length * projections + 4 * length**2 * width for length in lengths)


def matrix_product_flop_per_s(dtype: Any, device: str, seconds: float = 1.0) -> float:
    """The fastest of repeated square matrix products over `seconds`, after one to warm up, in FLOP/s. On a CPU by
    torch's own product and by oneDNN's, in turn: in float32 either may be half as fast as the other.

    The fastest, since whatever else the machine does can only slow a product down: it follows the clock alone.
    """
    import torch

    from pipeline import onednn

    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None

    def product_s(left: Any, right: Any) -> float:
        taken_s = []
        for product in (torch.matmul, onednn.product) if device == "cpu" else (torch.matmul,):
            start_s = time.perf_counter()
            product(left, right)
            synchronise()
            taken_s.append(time.perf_counter() - start_s)
        return min(taken_s)

    # Up to the width that reaches the device's peak; a processor that emulates the dtype would take minutes for it.
    width = MATRIX_WIDTH[device] // 8
    while True:
        pair = torch.rand(2, width, width, device=device, dtype=dtype)
        taken_s = product_s(*pair)
        if width == MATRIX_WIDTH[device] or taken_s > seconds / MIN_PRODUCTS:
            break
        width *= 2
    times_s: list[float] = []
    while sum(times_s) < seconds or len(times_s) < MIN_PRODUCTS:
        times_s.append(product_s(*pair))
    return 2 * width**3 / min(times_s)


def sample(texts: Mapping[str, Sequence[str]], count_tokens: Callable[[str], int], tokens: int) -> list[str]:
    """Distinct texts over the languages in turn, until they hold `tokens` tokens or run out.

    Distinct, because bulk encoding does the work of equal texts once.
    """
    chosen, held = [], 0
    for text in dict.fromkeys(text for _, text in round_robin(texts)):
        chosen.append(text)
        held += count_tokens(text)
        if held >= tokens:
            break
    return chosen


def measure(
    encode: Callable[[list[str], int], Any],
    count_tokens: Callable[[str], int],
    texts: Mapping[str, Sequence[str]],
    *,
    token_budgets: Sequence[int],
    min_seconds: float,
    flop: Callable[[Sequence[int]], int],
    ceiling_flop_per_s: Callable[[], float],
    seed: int,
) -> dict[str, Any]:
    """One point a token budget; all encode the same passages: enough to fill one batch of the largest
    budget, or all there are.

    `encode(texts, token_budget)` returns when the embeddings are in host memory. Warm-up is one whole pass of each
    budget, so every batch shape. Then passes are timed round the budgets, so that a drift of the machine meets all
    alike, until each has MIN_PASSES and `min_seconds`. A rate is that of the median pass (a disturbed one moves a mean,
    and hardly a median), with a 95 % bootstrap interval over passes. The ceiling is taken before and after.
    """
    chosen = sample(texts, count_tokens, max(token_budgets))
    lengths = [count_tokens(text) for text in chosen]

    def pass_s(budget: int) -> float:
        start_s = time.perf_counter()
        encode(chosen, budget)
        return time.perf_counter() - start_s

    for budget in token_budgets:
        pass_s(budget)
    ceiling_before = ceiling_flop_per_s()
    passes_s: dict[int, list[float]] = {budget: [] for budget in token_budgets}
    while any(len(times_s) < MIN_PASSES or sum(times_s) < min_seconds for times_s in passes_s.values()):
        for budget, times_s in passes_s.items():
            times_s.append(pass_s(budget))
    ceiling_after = ceiling_flop_per_s()

    curve = [
        {"token_budget": budget, **_rates(times_s, len(chosen), sum(lengths), flop(lengths), seed), "passes_s": times_s}
        for budget, times_s in passes_s.items()
    ]
    best = max(curve, key=lambda point: point["passages_per_s"])
    return {
        "best": best,
        "curve": curve,
        "passages": len(chosen),
        "tokens": sum(lengths),
        "matrix_product_flop_per_s": {"before": ceiling_before, "after": ceiling_after},
        "flop_share_of_matrix_product": best["flop_per_s"] / max(ceiling_before, ceiling_after),
    }


def _rates(passes_s: Sequence[float], passages: int, tokens: int, flop: int, seed: int) -> dict[str, Any]:
    median_s = percentiles(np.array(passes_s), seed)["p50"]
    assert median_s  # a median is always given
    return {
        "passages_per_s": passages / median_s["value"],
        "passages_per_s_interval": {"low": passages / median_s["high"], "high": passages / median_s["low"]},
        "tokens_per_s": tokens / median_s["value"],
        "flop_per_s": flop / median_s["value"],
    }
