"""The NVIDIA GPU that torch calls `cuda`, as NVML sees it: its energy counter, clock and reasons for slowing down.

NVML and CUDA number the cards differently, so the card is found by its UUID.
"""

from functools import cache
from typing import Any

import pynvml

SLOWED = (
    pynvml.nvmlClocksEventReasonSwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
    | pynvml.nvmlClocksEventReasonHwSlowdown
)


@cache
def _handle() -> Any:
    import torch

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")


def facts() -> dict[str, Any]:
    handle = _handle()
    return {
        "gpu": pynvml.nvmlDeviceGetName(handle),
        "gpu_driver": pynvml.nvmlSystemGetDriverVersion(),
        "gpu_power_limit_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
    }


def energy_j() -> float:
    """Joules since the driver was loaded; a counter in steps of some 20 to 100 ms. Cards before Volta have none."""
    return pynvml.nvmlDeviceGetTotalEnergyConsumption(_handle()) / 1000


def clock_state() -> dict[str, Any]:
    """The multiprocessors' clock, and whether heat or a power brake slows them down. A power cap does not count: the
    card is sold so."""
    reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(_handle())
    return {
        "sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(_handle(), pynvml.NVML_CLOCK_SM),
        "slowed": bool(reasons & SLOWED),
    }
