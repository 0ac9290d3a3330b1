"""Memory meter: what the encoder adds to a process that has only imported its libraries. Needs Linux's /proc."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 2**20


def status_mib(field: str) -> float:
    """VmRSS (resident now), VmHWM (its peak) or RssAnon (now, but for mapped files) of this process.

    proc_pid_status(5) gives KiB.
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # proc_pid_clear_refs(5): sets VmHWM to VmRSS


def measure(build: Callable[[], Any], use: Callable[[Any], Any], *, device: str) -> dict[str, Any]:
    """Build the encoder and let it work. The peak while loading depends on the file format, so it is kept apart.

    The GPU's peaks, at work too, are torch's own: what it handed out (allocated) and took from the driver (reserved).
    """
    idle_mib = status_mib("VmRSS")
    _reset_peak()
    built = build()
    load_peak_mib = status_mib("VmHWM")
    _reset_peak()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    use(built)
    peak_mib = status_mib("VmHWM")
    gpu: dict[str, float | None] = {"gpu_peak_allocated_mib": None, "gpu_peak_reserved_mib": None}
    if device == "cuda":
        gpu = {
            "gpu_peak_allocated_mib": torch.cuda.max_memory_allocated() / MIB,
            "gpu_peak_reserved_mib": torch.cuda.max_memory_reserved() / MIB,
        }
    return {
        "idle_rss_mib": idle_mib,
        "load_peak_rss_mib": load_peak_mib - idle_mib,
        "peak_rss_mib": peak_mib - idle_mib,
        **gpu,
    }
