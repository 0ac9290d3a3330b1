"""The machine under a measurement: what it is, and what else it did meanwhile. Needs Linux's /proc.

A meter runs inside `watch()`, whose result the quality checks read. torch is imported only where it is asked.
"""

import importlib.util
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.profiling import nvidia

CPU_FOLDER = Path("/sys/devices/system/cpu")


def missing(module: str) -> str | None:
    """Return why a library cannot be used; None if it can."""
    return None if importlib.util.find_spec(module) else f"{module} is not installed"


def cpu_model() -> str:
    """Return what the processor calls itself; ARM's have no name in /proc/cpuinfo."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def facts(device: str) -> dict[str, object]:
    """Return, as JSON values, what must be equal for two profiles to be of the same machine."""
    import torch

    cpu: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        cpu.setdefault(key.strip(), value.strip())
    memory_kib = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    return {
        "cpu": cpu_model(),
        "cpu_family_model_stepping": [cpu.get(key) for key in ("cpu family", "model", "stepping")],
        "cpu_vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "ram_gib": round(int(memory_kib) / 2**20, 1),
        "governor": _read(CPU_FOLDER / "cpu0/cpufreq/scaling_governor"),
        "torch": torch.__version__,
        "device": device,
        **(nvidia.facts() if device == "cuda" else {}),
    }


def _read(path: Path) -> str | None:
    """Return the text of a file of /sys, or None where the machine (a virtual one, mostly) has none."""
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def _cpu_s() -> dict[str, float]:
    """Return CPU seconds of all cores since boot (all, busy, stolen by other virtual machines); and this process's."""
    ticks = [int(value) for value in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    user, nice, system, idle, iowait, irq, softirq, steal = (value / os.sysconf("SC_CLK_TCK") for value in ticks)
    own = os.times()
    busy = user + nice + system + irq + softirq
    return {
        "all": busy + idle + iowait + steal,
        "busy": busy,
        "steal": steal,
        "own": own.user + own.system + own.children_user + own.children_system,
    }


def _throttle_events() -> int | None:
    """Return the thermal slow-downs that the CPU has counted since boot."""
    counts = [_read(path) for path in CPU_FOLDER.glob("cpu*/thermal_throttle/*_throttle_count")]
    return sum(int(count) for count in counts if count) if counts else None


@contextmanager
def watch(device: str) -> Iterator[dict[str, float | None]]:
    """Yield a dict that holds, after the block, what the machine did: shares are of all its cores' time."""
    activity: dict[str, float | None] = {"load_average_before": os.getloadavg()[0]}
    before, events, start_s = _cpu_s(), _throttle_events(), time.perf_counter()
    yield activity
    after, events_after = _cpu_s(), _throttle_events()
    spent = {name: after[name] - before[name] for name in after}
    spent["all"] = spent["all"] or math.inf  # a block shorter than a tick of the kernel's clock: nothing to share
    activity |= {
        "seconds": time.perf_counter() - start_s,
        "load_average_after": os.getloadavg()[0],
        "own_share": spent["own"] / spent["all"],
        "others_share": max(0.0, spent["busy"] - spent["own"]) / spent["all"],
        "steal_share": spent["steal"] / spent["all"],
        "throttle_events": None if events is None or events_after is None else events_after - events,
    }
    if device == "cuda":
        activity |= nvidia.clock_state()
