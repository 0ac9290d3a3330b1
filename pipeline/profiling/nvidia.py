"""The NVIDIA GPU that torch calls `cuda`, read through NVML: its energy counter, clock and reasons for slowing down.

NVML and CUDA number the cards differently, so the card is found by its UUID. If NVML cannot be read (the package
nvidia-ml-py is missing, or the driver refuses, as for a slice of a card), `problem` says why.
"""

from functools import cache
from typing import Any


@cache
def _nvml() -> tuple[Any, Any]:
    """Return the module, and the card's handle."""
    import pynvml
    import torch

    pynvml.nvmlInit()
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")


@cache
def problem() -> str | None:
    """Return why the counters cannot be read here; None if they can."""
    try:
        import pynvml
    except ImportError:
        return "pynvml is not installed"
    try:
        energy_j()
    except pynvml.NVMLError as error:
        return f"NVML says: {error}"
    return None


def facts() -> dict[str, object]:
    """Return what must be equal for two profiles to be of the same GPU, or the reason why NVML cannot be read."""
    import torch

    gpu: dict[str, object] = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    if reason := problem():
        return gpu | {"nvml": reason}
    nvml, handle = _nvml()
    return gpu | {
        "gpu_driver": nvml.nvmlSystemGetDriverVersion(),
        "gpu_power_limit_w": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
    }


def energy_j() -> float:
    """Return the joules since the driver was loaded; a counter in steps of some 20 to 100 ms. Cards before Volta have
    none."""
    nvml, handle = _nvml()
    return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def clock_state() -> dict[str, float]:
    """Return the multiprocessors' clock, and whether heat or a power brake slows them down.

    A power cap does not count: the card is sold with it. The result is empty if NVML cannot be read.
    """
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
