"""Throughput meter: passages a second in batches, as a curve over token budgets, against the machine's own ceiling.

Achieved FLOP/s counts the multiplications and additions of the matrix products of a transformer encoder on real
tokens only (padding is waste, not work), and is set beside one large matrix product measured in the same process.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.profiling.samples import round_robin

MATRIX_WIDTH = {"cpu": 2048, "cuda": 8192}  # rows and columns: large enough to reach the device's peak


def transformer_flop(lengths: Sequence[int], *, layers: int, width: int, feed_forward: int) -> int:
    """FLOP to encode texts of so many tokens each, 2 a multiply-add: per layer and text of T tokens

    8 T width^2 (query, key, value and output projections) + 4 T width feed_forward (two feed-forward products)
    + 4 T^2 width (scores, and their product with the values). Norms, softmax, activations and look-ups are left out.
    """
    projections = 8 * width**2 + 4 * width * feed_forward
    return layers * sum(length * projections + 4 * length**2 * width for length in lengths)


def matrix_product_flop_per_s(dtype: Any, device: str, seconds: float = 0.5) -> float:
    """The fastest of repeated square matrix products over `seconds`, in FLOP/s."""
    import torch

    width = MATRIX_WIDTH[device]
    left, right = torch.rand(2, width, width, device=device, dtype=dtype)
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    times_s: list[float] = []
    while sum(times_s) < seconds or len(times_s) < 3:  # the first warms up; the fastest is kept
        start_s = time.perf_counter()
        left @ right
        synchronise()
        times_s.append(time.perf_counter() - start_s)
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
) -> dict[str, Any]:
    """One point a token budget; all encode the same passages: enough to fill one batch of the largest
    budget, or all there are.

    `encode(texts, token_budget)` returns when the embeddings are in host memory. Warm-up is one whole pass, so every
    batch shape; then passes are timed until `min_seconds` have passed. The ceiling is taken before and after.
    """
    chosen = sample(texts, count_tokens, max(token_budgets))
    lengths = [count_tokens(text) for text in chosen]
    ceiling_before = ceiling_flop_per_s()
    curve: list[dict[str, Any]] = []
    for budget in token_budgets:
        encode(chosen, budget)
        passes_s: list[float] = []
        while sum(passes_s) < min_seconds or not passes_s:
            start_s = time.perf_counter()
            encode(chosen, budget)
            passes_s.append(time.perf_counter() - start_s)
        per_s = len(passes_s) / sum(passes_s)
        point: dict[str, Any] = {
            "token_budget": budget,
            "passages_per_s": len(chosen) * per_s,
            "tokens_per_s": sum(lengths) * per_s,
        }
        curve.append(point | {"flop_per_s": flop(lengths) * per_s, "passes_s": passes_s})
    ceiling_after = ceiling_flop_per_s()
    best = max(curve, key=lambda point: point["passages_per_s"])
    return {
        "best": best,
        "curve": curve,
        "passages": len(chosen),
        "tokens": sum(lengths),
        "matrix_product_flop_per_s": {"before": ceiling_before, "after": ceiling_after},
        "flop_share_of_matrix_product": best["flop_per_s"] / max(ceiling_before, ceiling_after),
    }
