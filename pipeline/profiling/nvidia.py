"""The NVIDIA GPU that torch calls `cuda`, as NVML sees it: its energy counter, clock and reasons for slowing down.

NVML and CUDA number the cards differently, so the card is found by its UUID. Where NVML cannot be asked (the package
nvidia-ml-py is missing, or the driver refuses, as for a slice of a card), `problem` says why.
"""

from functools import cache
from typing import Any


@cache
def _nvml() -> tuple[Any, Any]:
    """The module, and the card's handle."""
    import pynvml
    import torch

    pynvml.nvmlInit()
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")


@cache
def problem() -> str | None:
    """Why the counters cannot be read here; None where they can."""
    try:
        import pynvml
    except ImportError:
        return "pynvml is not installed"
    try:
        energy_j()
    except pynvml.NVMLError as error:
        return f"NVML says: {error}"
    return None


def facts() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    if problem():
        return found | {"nvml": problem()}
    nvml, handle = _nvml()
    return found | {
        "gpu_driver": nvml.nvmlSystemGetDriverVersion(),
        "gpu_power_limit_w": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
    }


def energy_j() -> float:
    """Joules since the driver was loaded; a counter in steps of some 20 to 100 ms. Cards before Volta have none."""
    nvml, handle = _nvml()
    return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def clock_state() -> dict[str, Any]:
    """The multiprocessors' clock, and whether heat or a power brake slows them down; nothing where NVML cannot be
    asked. A power cap does not count: the card is sold so."""
    if problem():
        return {}
    nvml, handle = _nvml()
    slowed = (
        nvml.nvmlClocksEventReasonSwThermalSlowdown
        | nvml.nvmlClocksEventReasonHwThermalSlowdown
        | nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
        | nvml.nvmlClocksEventReasonHwSlowdown
    )
    return {
        "sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "slowed": bool(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle) & slowed),
    }
