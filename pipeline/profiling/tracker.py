"""Joules of a block of work: a processor's RAPL counter by codecarbon, else a model; the GPU by NVML's counter.

The energy meter uses `Tracker`; `experiment` uses `StageTracker` for whole stages. Without a counter that can be read,
the processor's energy is *modelled*: constant power x time, the watts of `processors` times the CPU seconds of this
process. Such a figure repeats the CPU time, its source says so, and it knows no idle power.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar, cast

from pipeline.profiling import machine, processors

J_PER_KWH = 3.6e6
KEEP_S = 10.0  # of a stage that a kill can leave unmeasured
COUNTERS = Path("/sys/class/powercap")
Made = TypeVar("Made")

# Every setting of codecarbon's offline tracker: what is not passed it takes from CODECARBON_… variables and from files
# in the home folder and the current one. An empty token keeps it off the network.
CODECARBON: dict[str, Any] = {
    "project_name": "pipeline", "measure_power_secs": 15, "api_call_interval": -1, "api_endpoint": "", "api_key": "",
    "output_dir": ".", "output_file": "emissions.csv", "output_methods": [], "logging_logger": None,
    "prometheus_url": "", "output_handlers": [], "gpu_ids": None, "emissions_endpoint": None, "experiment_id": "",
    "experiment_name": "", "electricitymaps_api_token": "", "tracking_mode": "process", "log_level": "critical",
    "on_csv_write": "append", "logger_preamble": "", "force_cpu_power": None, "force_ram_power": 0.0, "pue": 1.0,
    "wue": 0.0, "force_carbon_intensity_g_co2e_kwh": None, "force_mode_cpu_load": False, "allow_multiple_runs": True,
    "rapl_include_dram": False, "rapl_prefer_psys": False, "metadata": None, "region": None, "cloud_provider": None,
    "cloud_region": None, "country_2letter_iso_code": None,
}  # fmt: skip


class Block(TypedDict):
    """What a block of work took."""

    seconds: float
    cpu_j: float
    gpu_j: float


class StageCost(TypedDict):
    """What a stage took; wall time alone, if energy is not tracked. Gross: the idle machine's power is included."""

    seconds: float
    gross_energy_j: NotRequired[float]
    energy_source: NotRequired[str]


class Tracker:
    """Measures or models the energy of blocks of work.

    Attributes:
        source: how, for the sources of a profile; it starts with "measured: " or with "modelled: ".
        has_idle: whether an idle machine has a power that the tracker can tell.
        block_s: the shortest block that it can tell from nothing.
    """

    def __init__(self, country: str, gpu_energy_j: Callable[[], float] | None):
        self._gpu_energy_j = gpu_energy_j or (lambda: 0.0)
        self._codecarbon: Any = None
        self.power = processors.power(machine.cpu_model())
        if measures_cpu():
            from codecarbon import __version__

            self._codecarbon = codecarbon_tracker(country)
            self.track(lambda: None)  # the first task takes seconds: it looks the hardware up
            self.source = f"measured: RAPL counter of the processor, by codecarbon {__version__}"
        else:
            self.source = f"modelled: constant power x time, {self.power.source}, x CPU seconds of the process"
        self.has_idle = bool(self._codecarbon or gpu_energy_j)
        # codecarbon takes up to 10 ms to start and stop a task; a GPU's counter has steps of up to 100 ms.
        self.block_s = 1.0 if self.has_idle else 0.1
        if gpu_energy_j:
            self.source += "; GPU measured: NVML energy counter"

    def track(self, work: Callable[[], Made]) -> tuple[Made, Block]:
        """Return the result of `work`, and what it took."""
        gpu_before_j = self._gpu_energy_j()
        start_s, cpu_before_s = time.perf_counter(), cpu_s()
        if self._codecarbon:
            self._codecarbon.start_task()
        try:
            made = work()
        finally:  # else codecarbon takes no further task
            task = self._codecarbon.stop_task() if self._codecarbon else None
        seconds = time.perf_counter() - start_s
        modelled_j = self.power.w_per_thread * (cpu_s() - cpu_before_s)
        return made, {
            "seconds": task.duration if task else seconds,
            "cpu_j": task.cpu_energy * J_PER_KWH if task else modelled_j,
            "gpu_j": self._gpu_energy_j() - gpu_before_j,
        }


def cpu_s() -> float:
    """Return the CPU seconds of all threads of this process, and of the children that it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def measures_cpu() -> bool:
    """Return whether a RAPL counter can be read, and codecarbon is here to read it."""
    readable = any(os.access(path, os.R_OK) for path in COUNTERS.glob("*/energy_uj"))
    if not readable or machine.missing("codecarbon"):
        return False
    from codecarbon.core import cpu

    return cpu.is_rapl_available()


def codecarbon_tracker(country: str) -> Any:
    """Return codecarbon's tracker, silent and offline, with no setting from outside.

    It writes no file and makes no connection. Its RAM power is a constant, so it is left out.
    """
    logging.getLogger("codecarbon").disabled = True  # its log_level does not silence it
    from codecarbon import OfflineEmissionsTracker

    return OfflineEmissionsTracker(country_iso_code=country, **CODECARBON)


def joules(block: Block, idle_w: float = 0.0) -> float:
    """Return the energy of a block above a constant power."""
    return block["cpu_j"] + block["gpu_j"] - idle_w * block["seconds"]


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
