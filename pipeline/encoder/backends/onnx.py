"""backend=onnx: ONNX Runtime on a CPU or GPU, in float32 or (CPU only) int8.

Axes: N texts of a batch, T tokens, D embedding width.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.encoder.engine import Exported, Unavailable, refuse, require
from pipeline.encoder.onnx_export import export_onnx, file_bytes

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def build(backbone: PreTrainedModel, precision: str) -> nn.Module:
    """Return a stand-in for the backbone that ONNX Runtime computes."""
    device = backbone.device
    refuse(precision == "bfloat16", "backend=onnx does not support precision=bfloat16")
    refuse(precision == "int8" and device.type == "cuda", "backend=onnx does not support precision=int8 on device=cuda")
    require("onnx", "onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    provider = PROVIDERS[device.type]
    if provider not in onnxruntime.get_available_providers():
        raise Unavailable(
            "variants: this onnxruntime does not support CUDA: uninstall it, then pip install onnxruntime-gpu."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as torch under OMP_WAIT_POLICY=passive
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(backbone, Path(folder))
        if precision == "int8":
            path = quantize(path)
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
        size_bytes = file_bytes(path)
    (output,) = session.get_outputs()
    place = device.type, device.index or 0

    def run(**inputs: Tensor) -> Tensor:
        hidden_NTD = torch.empty(*inputs["input_ids"].shape, backbone.config.hidden_size, device=device)
        binding = session.io_binding()
        for name, tensor in inputs.items():
            dtype = {torch.int64: np.int64, torch.bool: np.bool_}[tensor.dtype]
            binding.bind_input(name, *place, dtype, tensor.shape, tensor.data_ptr())
        binding.bind_output(output.name, *place, np.float32, hidden_NTD.shape, hidden_NTD.data_ptr())
        if device.type == "cuda":
            torch.cuda.synchronize()  # ONNX Runtime works on a CUDA stream of its own
        session.run_with_iobinding(binding)
        return hidden_NTD

    return Exported(backbone, run, {"onnxruntime": session.get_session_options().intra_op_num_threads}, size_bytes)


def quantize(path: Path) -> Path:
    """Quantize weights and embeddings to 7 bits, activations to 8.

    A processor without VNNI adds pairs of products in 16 bits: products of 8 and 8 bits would overflow them.
    """
    from onnxruntime.quantization import quantize_dynamic

    quantized = path.with_name("quantized.onnx")
    quantize_dynamic(path, quantized, per_channel=True, reduce_range=True)
    return quantized
