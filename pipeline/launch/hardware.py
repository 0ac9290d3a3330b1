"""Resolve `auto`: the device and the training precision that this machine offers, without importing torch (seconds).

Cache keys hold resolved values, so a CPU and a GPU that share a results folder never take each other's results.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from pipeline.config import Config
from pipeline.groups import Device, Precision
from pipeline.values import LEXICAL

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is ARM's
BFLOAT16_CAPABILITY = 8  # compute capability of the first NVIDIA GPUs with bfloat16 units


def resolve(config: Config) -> Config:
    """Replace `device: auto` and the `precision: auto` of a training or a distillation, in place.

    `device: cuda` may name a GPU of another machine, where a run was made or will be made: the run is then looked up
    here, and refused in the child process only if it is not in the store.
    """
    if config.device is Device.auto:
        on_cpu = config.model.weights == LEXICAL or gpu_capability() is None
        config.device = Device.cpu if on_cpu else Device.cuda
    for training in filter(None, (config.trainer, config.model.distill)):
        if training.precision is Precision.auto:
            training.precision = Precision.bfloat16 if has_bfloat16(config.device) else Precision.float32
    return config


def has_bfloat16(device: Device) -> bool:
    """Whether the processor or GPU has instructions for bfloat16; elsewhere it is emulated, and slower than float32."""
    if device is Device.cuda:
        capability = gpu_capability()
        return capability is None or capability >= BFLOAT16_CAPABILITY  # of a GPU elsewhere: all have them since 2020
    return not BFLOAT16_FLAGS.isdisjoint(CPUINFO.read_text(encoding="utf-8").split())


def gpu_capability() -> int | None:
    """Major compute capability of the first NVIDIA GPU that torch can use; None without one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1") or not torch_has_cuda():
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return int(pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0])
    except pynvml.NVMLError:
        return None


def torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA, as its version file says."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    text = Path(spec.origin).with_name("version.py").read_text()
    return re.search(r"^cuda\b[^=]*= *['\"]", text, re.MULTILINE) is not None
