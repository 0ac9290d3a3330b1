"""backend=openvino: OpenVINO on a CPU, in float32, bfloat16 or int8 weights."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.encoder.deployed import Description, Session, weights_on_disk
from pipeline.encoder.engine import Unavailable, refuse, require
from pipeline.encoder.reading import Reader

if TYPE_CHECKING:
    import openvino
    import torch

    from pipeline.encoder.model import Encoder

MODEL = "model.xml"
# Importing OpenVINO sends usage data from a fork of a process with threads, which may wait for ever and keep a
# meter's pipes open. Without this library OpenVINO's own stub takes its place.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def check(precision: str, device: "torch.device") -> None:
    """All precisions, on a CPU; bfloat16 where OpenVINO finds instructions for it."""
    refuse(device.type == "cuda", "backend=openvino does not support device=cuda")
    require("openvino", "onnx", "onnxscript", "openvino")
    import openvino

    if precision == "bfloat16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unavailable("variants: backend=openvino needs another processor for precision=bfloat16.")


def save(encoder: "Encoder", precision: str, folder: Path) -> int:
    """Export the encoder to ONNX, convert that, and compress the weights for int8."""
    import openvino

    from pipeline.encoder.onnx_export import export_onnx

    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary, "model.onnx")
        export_onnx(encoder, exported)
        model = openvino.Core().read_model(exported)
        if precision == "int8":
            compress(model)
        openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
    return weights_on_disk(folder)


def preload(folder: Path) -> None:
    """Import OpenVINO."""
    import openvino  # noqa: F401


def load(folder: Path, description: Description, tokenizer: Reader, *, threads: int, device: str) -> Session:
    """Return the encoder that OpenVINO computes."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if description.precision == "bfloat16" else "f32",
        "ENABLE_CPU_PINNING": False,  # torch's threads are not pinned either
    }
    compiled = openvino.Core().compile_model(folder / MODEL, "CPU", settings)
    request = compiled.create_infer_request()

    def run(ids_NT: np.ndarray, mask_NT: np.ndarray) -> np.ndarray:
        return request.infer({"input_ids": ids_NT, "attention_mask": mask_NT})[0]

    count = compiled.get_property("INFERENCE_NUM_THREADS")
    return Session(description, tokenizer, run, threads={"openvino": count}, device_type=device)


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
