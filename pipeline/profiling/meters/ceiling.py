"""Ceiling meter: FLOP/s of one large matrix product, the scale of throughput and the proof of a steady clock.

It runs in a process without the encoder, so that all engines are compared with the same product.
"""

import time
from collections.abc import Callable
from typing import TypedDict

import torch

from pipeline.encoder import onednn
from pipeline.profiling.meter import Figure, Job
from pipeline.profiling.served import Served

MATRIX_WIDTH = {"cpu": 2048, "cuda": 8192}  # rows and columns: large enough to reach the device's peak
MIN_PRODUCTS = 7  # the fastest of fewer jumps from one measurement to the next


class Ceiling(TypedDict):
    flop_per_s: float
    dtype: str
    float32_matmul_precision: str  # highest: no TF32


def run(job: Job, load: Callable[[], Served]) -> Ceiling:
    """Measure the product in the precision of the job's variant; int8 is compared with float32."""
    torch.set_num_threads(job.threads)
    dtype = torch.bfloat16 if job.variant.precision == "bfloat16" else torch.float32
    return {
        "flop_per_s": matrix_product_flop_per_s(dtype, job.device),
        "dtype": str(dtype),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def figures(result: Ceiling, job: Job) -> dict[str, Figure]:
    """Return nothing: throughput is divided by the ceiling."""
    return {}


def matrix_product_flop_per_s(dtype: torch.dtype, device: str, seconds: float = 1.0) -> float:
    """Return the FLOP/s of the fastest of repeated square matrix products over `seconds`, after a warm-up.

    On a CPU, torch's own product and oneDNN's take turns: in float32 either may be half as fast as the other. The
    fastest counts, since whatever else the machine does can only slow a product down: it follows the clock alone.
    """

    def product_s(left: torch.Tensor, right: torch.Tensor) -> float:
        times_s = []
        for product in (torch.matmul, onednn.product) if device == "cpu" else (torch.matmul,):
            start_s = time.perf_counter()
            product(left, right)
            if device == "cuda":
                torch.cuda.synchronize()
            times_s.append(time.perf_counter() - start_s)
        return min(times_s)

    # Up to the width that reaches the device's peak; a processor that emulates the dtype would take minutes for it.
    width = MATRIX_WIDTH[device] // 8
    while True:
        pair = torch.rand(2, width, width, device=device, dtype=dtype)
        time_s = product_s(*pair)
        if width == MATRIX_WIDTH[device] or time_s > seconds / MIN_PRODUCTS:
            break
        width *= 2
    times_s: list[float] = []
    while sum(times_s) < seconds or len(times_s) < MIN_PRODUCTS:
        times_s.append(product_s(*pair))
    return 2 * width**3 / min(times_s)
