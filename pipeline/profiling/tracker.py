"""Joules of a block of work: CPU and RAM by codecarbon's offline tracker, the GPU by NVML's counter.

The energy meter uses `Tracker`; `experiment` uses `StageTracker` for whole stages. Without a counter in the processor
(RAPL), codecarbon *models*: then the figure is a constant times the CPU time of this process, and its source says so.
codecarbon's RAM power is always modelled; the idle machine draws it too, so it cancels out of the figures above idle.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import NotRequired, TypedDict, TypeVar, cast

J_PER_KWH = 3.6e6
KEEP_S = 10.0  # of a stage that a kill can leave unmeasured
Made = TypeVar("Made")


class Block(TypedDict):
    """What a block of work took."""

    seconds: float
    cpu_j: float
    ram_j: float
    gpu_j: float


class StageCost(TypedDict):
    """What a stage took; wall time alone, if energy is not tracked. Gross: the idle machine's power is included."""

    seconds: float
    gross_energy_j: NotRequired[float]
    energy_source: NotRequired[str]


class Tracker:
    """codecarbon's tracker, silent and offline: it writes no file and makes no connection.

    Process mode keeps a neighbour's load out of a modelled figure; RAPL's counter holds the whole processor anyway.
    """

    def __init__(self, country: str, gpu_energy_j: Callable[[], float] | None):
        logging.getLogger("codecarbon").disabled = True  # its log_level does not silence it
        from codecarbon import OfflineEmissionsTracker, __version__

        self._gpu_energy_j = gpu_energy_j or (lambda: 0.0)
        power_w = modelled_power_w()
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=country,
            output_methods=[],
            tracking_mode="process",
            allow_multiple_runs=True,
            force_cpu_power=power_w,
            force_mode_cpu_load=power_w is not None,
        )
        self.track(lambda: None)  # the first task takes seconds: it looks the hardware up
        if power_w is None:
            self.source = f"measured: RAPL counter of the processor, by codecarbon {__version__}"
        else:
            model = self._tracker.get_detected_hardware()["cpu_model"]
            self.source = (
                f"modelled: codecarbon {__version__} cpu_load, TDP {power_w:g} W ({model}) x this process's share of "
                "all cores, so a constant times its CPU time"
            )
        if gpu_energy_j:
            self.source += "; GPU measured: NVML energy counter"

    def track(self, work: Callable[[], Made]) -> tuple[Made, Block]:
        """Return the result of `work`, and what it took."""
        gpu_before_j = self._gpu_energy_j()
        self._tracker.start_task()
        try:
            made = work()
        finally:  # else codecarbon takes no further task
            task = self._tracker.stop_task()
        return made, {
            "seconds": task.duration,
            "cpu_j": task.cpu_energy * J_PER_KWH,
            "ram_j": task.ram_energy * J_PER_KWH,
            "gpu_j": self._gpu_energy_j() - gpu_before_j,
        }


def modelled_power_w() -> float | None:
    """Return the power at full load from which codecarbon models this CPU's energy; None if a RAPL counter measures it.

    As codecarbon chooses: a power set by its user (CODECARBON_FORCE_CPU_POWER), RAPL, the TDP of its list of CPUs.
    """
    from codecarbon.core import cpu
    from codecarbon.core.config import get_hierarchical_config
    from codecarbon.core.hardware_cache import get_cached_tdp
    from codecarbon.core.util import count_physical_cpus

    configured_w = get_hierarchical_config().get("force_cpu_power")
    if configured_w is not None:
        return float(configured_w)
    return None if cpu.is_rapl_available() else get_cached_tdp(cpu).tdp * count_physical_cpus()


def joules(block: Block, idle_w: float = 0.0) -> float:
    """Return the energy of a block above a constant power."""
    return block["cpu_j"] + block["ram_j"] + block["gpu_j"] - idle_w * block["seconds"]


class StageTracker:
    """Wall time and gross energy of whole stages - training, encoding a corpus - of the process that calls it.

    Without a country, wall time alone. Gross: the idle power of the machine at that time is not known.
    """

    def __init__(self, country: str | None, gpu_energy_j: Callable[[], float] | None):
        self._tracker = cache(partial(Tracker, country, gpu_energy_j)) if country else None  # it takes seconds to start

    @contextmanager
    def __call__(
        self, earlier: Mapping[str, object] | None = None, keep: Callable[[StageCost], None] = lambda cost: None
    ) -> Iterator[StageCost]:
        """Yield a dict that holds, after the block, what the block took.

        Args:
            earlier: the cost of earlier attempts at this stage, which is added if it was tracked alike.
            keep: takes the sum every KEEP_S seconds, so that the next attempt knows what a killed one took.
        """
        tracker = self._tracker() if self._tracker else None
        cost: StageCost = {"seconds": 0.0}
        if tracker:
            cost |= {"gross_energy_j": 0.0, "energy_source": tracker.source}
        if earlier and earlier.keys() == cost.keys():
            cost |= cast(StageCost, earlier)
        ended = threading.Event()

        def watch() -> None:
            wait, last = partial(ended.wait, KEEP_S), False
            while not last:
                start_s = time.perf_counter()
                last, block = tracker.track(wait) if tracker else (wait(), None)
                cost["seconds"] += time.perf_counter() - start_s
                if block:
                    cost["gross_energy_j"] += joules(block)
                keep(cost)

        with ThreadPoolExecutor(1) as executor:
            watching = executor.submit(watch)
            try:
                yield cost
            finally:
                ended.set()
                watching.result()
