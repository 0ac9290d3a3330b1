"""backend=openvino: OpenVINO on a CPU, in float32, bfloat16 or int8 weights."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.encoder.engine import Exported, Unavailable, refuse, require
from pipeline.encoder.onnx_export import export_onnx, file_bytes

if TYPE_CHECKING:
    import openvino


def build(backbone: PreTrainedModel, precision: str) -> nn.Module:
    """Return a stand-in for the backbone that OpenVINO computes."""
    refuse(backbone.device.type == "cuda", "backend=openvino does not support device=cuda")
    require("openvino", "onnx", "onnxscript", "openvino")
    import openvino

    core = openvino.Core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unavailable("variants: backend=openvino needs another processor for precision=bfloat16.")
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "ENABLE_CPU_PINNING": False,  # torch's threads are not pinned either
    }
    with tempfile.TemporaryDirectory() as folder:
        model = core.read_model(export_onnx(backbone, Path(folder)))
        if precision == "int8":
            compress(model)
        path = Path(folder, "model.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        compiled = core.compile_model(path, "CPU", settings)
        size_bytes = file_bytes(path)
    request = compiled.create_infer_request()

    def run(**inputs: Tensor) -> Tensor:
        return torch.from_numpy(request.infer({name: tensor.numpy() for name, tensor in inputs.items()})[0])

    return Exported(backbone, run, {"openvino": compiled.get_property("INFERENCE_NUM_THREADS")}, size_bytes)


def compress(model: "openvino.Model") -> None:
    """Replace float32 weights and embeddings by int8, with one scale per output and one per embedding.

    With VNNI, OpenVINO quantizes the activations as well; without, it multiplies in float32.
    """
    import openvino.opset13 as op

    operands = {"MatMul": (1, 0), "Gather": (0, 1)}  # which input holds the weights, and the axis that shares a scale
    for node in model.get_ops():
        if node.get_type_name() not in operands:
            continue
        port, axis = operands[node.get_type_name()]
        source = node.input_value(port).get_node()
        if source.get_type_name() == "Constant" and (weight := source.get_data()).dtype == np.float32:
            scale = np.maximum(np.abs(weight).max(axis, keepdims=True) / 127, np.finfo(np.float32).tiny)
            int8 = op.convert(op.constant(np.round(weight / scale).astype(np.int8)), "f32")
            node.input(port).replace_source_output(op.multiply(int8, op.constant(scale)).output(0))
