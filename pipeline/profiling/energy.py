"""Energy meter: joules above idle for queries (one at a time) and passages (in batches), and where they come from.

CPU and RAM by codecarbon's offline tracker, one task a block of work; the GPU by NVML's counter over the same block.
Idle power is taken just before and subtracted; the gross figures are kept. Without a counter in the processor (RAPL),
codecarbon *models*: then the figure is a constant times the CPU time of this process, and is labelled so.
codecarbon's RAM power is always modelled; what idles draws it too, so it cancels out of the figures above idle.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from itertools import cycle
from typing import Any

import numpy as np

from pipeline.profiling.samples import relative_standard_error

J_PER_KWH = 3.6e6
IDLE_SHARE = 0.25  # of the window, spent idle before it
KEEP_S = 10.0  # of a stage that a kill can leave unmeasured
BLOCK_S = 1.0  # of one task: to start and stop one takes codecarbon up to 10 ms
MIN_PASSES = 5  # fewer say little of a standard error
ERROR_LIMIT = 0.05  # relative standard error at which a window may end early

Chunks = Mapping[str, Sequence[list[str]]]  # label (a language, say) -> lists of texts, each encoded by one call
Spent = dict[str, float]  # of one block: texts, seconds, cpu_j, ram_j, gpu_j


class Tracker:
    """codecarbon's tracker, silent and offline: it writes no file and makes no connection.

    Process mode keeps a neighbour's load out of a modelled figure; RAPL's counter holds the whole processor anyway.
    """

    def __init__(self, country: str, gpu_energy_j: Callable[[], float] | None):
        logging.getLogger("codecarbon").disabled = True  # its log_level does not silence it
        from codecarbon import OfflineEmissionsTracker, __version__

        self._gpu_energy_j = gpu_energy_j or (lambda: 0.0)
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=country, output_methods=[], tracking_mode="process", allow_multiple_runs=True
        )
        self.track(lambda: 0)  # the first task takes seconds: it looks the hardware up
        cpu = next(part for part in self._tracker._hardware if hasattr(part, "get_model"))
        self.source = (
            f"measured: RAPL counter of the processor, by codecarbon {__version__}"
            if cpu._mode == "intel_rapl"
            else f"modelled: codecarbon {__version__} {cpu._mode}, TDP {cpu._tdp:g} W ({cpu.get_model()}) x this "
            "process's share of all cores, so a constant times its CPU time"
        )
        if gpu_energy_j:
            self.source += "; GPU measured: NVML energy counter"

    def track(self, work: Callable[[], int]) -> Spent:
        """What `work`, which returns its number of texts, took."""
        with self.tracking() as spent:
            texts = work()
        return {"texts": texts} | spent

    @contextmanager
    def tracking(self) -> Iterator[Spent]:
        """Yields a dict that holds, after the block, what the block took."""
        spent: Spent = {}
        gpu_before_j = self._gpu_energy_j()
        self._tracker.start_task()
        try:
            yield spent
        finally:  # else codecarbon takes no further task
            task = self._tracker.stop_task()
        spent |= {"seconds": task.duration, "cpu_j": task.cpu_energy * J_PER_KWH}
        spent |= {"ram_j": task.ram_energy * J_PER_KWH, "gpu_j": self._gpu_energy_j() - gpu_before_j}


class StageMeter:
    """Wall time and gross energy of a whole stage - training, encoding a corpus - of the process that calls it.

    Without a country, wall time alone. Gross: what the machine's idle power was at that time is not known.
    """

    def __init__(self, country: str | None, gpu_energy_j: Callable[[], float] | None):
        self._tracker = cache(partial(Tracker, country, gpu_energy_j)) if country else None  # it takes seconds to start

    @contextmanager
    def __call__(
        self, earlier: Mapping[str, Any] | None = None, keep: Callable[[Mapping[str, Any]], None] = lambda spent: None
    ) -> Iterator[dict[str, Any]]:
        """Yields a dict that holds, after the block, what it took together with `earlier` attempts metered alike.

        `keep` is told the sum every KEEP_S seconds, so that what a killed attempt took is known to the next.
        """
        tracker = self._tracker() if self._tracker else None
        spent: dict[str, Any] = {"seconds": 0.0}
        if tracker:
            spent |= {"gross_energy_j": 0.0, "energy_source": tracker.source}
        if earlier and earlier.keys() == spent.keys():
            spent |= earlier
        tracking: Callable[[], AbstractContextManager[Spent]] = tracker.tracking if tracker else lambda: nullcontext({})
        ended = threading.Event()

        def watch() -> None:
            while True:
                start_s = time.perf_counter()
                with tracking() as found:
                    last = ended.wait(KEEP_S)
                spent["seconds"] += time.perf_counter() - start_s
                if tracker:
                    spent["gross_energy_j"] += joules(found)
                keep(spent)
                if last:
                    return

        with ThreadPoolExecutor(1) as executor:
            watching = executor.submit(watch)
            try:
                yield spent
            finally:
                ended.set()
                watching.result()


def joules(spent: Spent, idle_w: float = 0.0) -> float:
    """Of a block, above a constant power."""
    return spent["cpu_j"] + spent["ram_j"] + spent["gpu_j"] - idle_w * spent["seconds"]


def _j_per_text(one_pass: Mapping[str, Spent], idle_w: float) -> float:
    """The mean over labels, so that every language weighs the same."""
    return float(np.mean([joules(spent, idle_w) / spent["texts"] for spent in one_pass.values()]))


def window(
    tracker: Tracker, encode: Callable[[list[str]], Any], chunks: Chunks, *, seconds: float, idle_w: float
) -> dict[str, Any]:
    """Pass over the labels, one block each, for `seconds` or until the standard error over passes is under 5 %.

    Beside every block, before or after it in turn, stands one without the tracker: what the tracker costs is the
    median over such pairs, in which a drift of the machine cancels out.
    """
    supply = {label: cycle(lists) for label, lists in chunks.items()}
    for label in chunks:
        encode(next(supply[label]))  # warm-up
    passes: list[dict[str, Spent]] = []
    costs: list[float] = []

    def texts_per_s(label: str, tracked: bool) -> float:
        block = partial(work, encode, supply[label], BLOCK_S)
        start_s = time.perf_counter()
        if tracked:
            passes[-1][label] = tracker.track(block)
        texts = passes[-1][label]["texts"] if tracked else block()
        return texts / (time.perf_counter() - start_s)

    while True:
        passes.append({})
        for label in supply:
            order = (True, False) if len(costs) % 2 == 0 else (False, True)
            rate = {tracked: texts_per_s(label, tracked) for tracked in order}
            costs.append(1 - rate[True] / rate[False])
        elapsed_s = sum(spent["seconds"] for one_pass in passes for spent in one_pass.values())
        net_j = [_j_per_text(one_pass, idle_w) for one_pass in passes]
        error = relative_standard_error(net_j)
        if elapsed_s >= seconds or (len(passes) >= MIN_PASSES and error is not None and error < ERROR_LIMIT):
            break
    of_label = {label: [one_pass[label] for one_pass in passes] for label in chunks}
    return {
        "j_per_1k": 1000 * float(np.mean(net_j)),
        "gross_j_per_1k": 1000 * float(np.mean([_j_per_text(one_pass, 0.0) for one_pass in passes])),
        "relative_error": error,
        "seconds": elapsed_s,
        "j_per_1k_by_label": {
            label: 1000 * sum(joules(spent, idle_w) for spent in blocks) / sum(spent["texts"] for spent in blocks)
            for label, blocks in of_label.items()
        },
        "tracker_cost": float(np.median(costs)),  # share of the untracked rate
        "passes": passes,
    }


def work(encode: Callable[[list[str]], Any], chunks: Iterator[list[str]], seconds: float) -> int:
    """Encode chunks, at least one, until `seconds` have passed; the number of texts."""
    texts, start_s = 0, time.perf_counter()
    while texts == 0 or time.perf_counter() - start_s < seconds:
        chunk = next(chunks)
        encode(chunk)
        texts += len(chunk)
    return texts


def idle(tracker: Tracker, seconds: float) -> Spent:
    """What the process draws with the encoder loaded and nothing to do."""

    def sleep() -> int:
        time.sleep(seconds)
        return 0

    return tracker.track(sleep)


def measure(
    tracker: Tracker,
    encode: Callable[[list[str]], Any],
    queries: Chunks,
    encode_batch: Callable[[list[str]], Any],
    passages: Chunks,
    *,
    seconds: float,
    intensity_g_per_kwh: float,
) -> dict[str, Any]:
    """Idle, then a window of queries and one of passages.

    kWh are what was found; CO2 is kWh times the grid's intensity.
    """
    idled = idle(tracker, seconds * IDLE_SHARE)
    idle_w = joules(idled) / idled["seconds"]
    found: dict[str, Any] = {"source": tracker.source, "intensity_g_per_kwh": intensity_g_per_kwh}
    found |= {"idle_w": idle_w, "ram_w": idled["ram_j"] / idled["seconds"]}
    for side, run, chunks in (("query", encode, queries), ("passage", encode_batch, passages)):
        found[side] = window(tracker, run, chunks, seconds=seconds, idle_w=idle_w)
        kwh_per_1m = 1000 * found[side]["j_per_1k"] / J_PER_KWH
        found[side] |= {"kwh_per_1m": kwh_per_1m, "co2_g_per_1m": kwh_per_1m * intensity_g_per_kwh}
    return found
