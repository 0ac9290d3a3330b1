"""backend=onnx: ONNX Runtime on a CPU or GPU, in float32 or (CPU only) int8.

Axes: N texts of a batch, T tokens, D embedding width.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.encoder.deployed import Description, Session, weights_on_disk
from pipeline.encoder.engine import Unavailable, refuse, require
from pipeline.encoder.reading import Reader

if TYPE_CHECKING:
    import torch

    from pipeline.encoder.model import Encoder

MODEL = "model.onnx"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def check(precision: str, device: "torch.device") -> None:
    """Float32 and int8, the latter on a CPU only."""
    refuse(precision == "bfloat16", "backend=onnx does not support precision=bfloat16")
    refuse(precision == "int8" and device.type == "cuda", "backend=onnx does not support precision=int8 on device=cuda")
    require("onnx", "onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    if PROVIDERS[device.type] not in onnxruntime.get_available_providers():
        raise Unavailable(
            "variants: this onnxruntime does not support CUDA: uninstall it, then pip install onnxruntime-gpu."
        )


def save(encoder: "Encoder", precision: str, folder: Path) -> int:
    """Export the encoder, and quantize it for int8."""
    from pipeline.encoder.onnx_export import export_onnx

    if precision == "int8":
        with tempfile.TemporaryDirectory() as temporary:
            exported = Path(temporary, MODEL)
            export_onnx(encoder, exported)
            quantize(exported, folder / MODEL)
    else:
        export_onnx(encoder, folder / MODEL)
    return weights_on_disk(folder)


def quantize(exported: Path, quantized: Path) -> None:
    """Quantize weights and embeddings to 7 bits, activations to 8.

    A processor without VNNI adds pairs of products in 16 bits: products of 8 and 8 bits would overflow them.
    """
    from onnxruntime.quantization import quantize_dynamic

    options = {"per_channel": True, "reduce_range": True, "use_external_data_format": True}
    quantize_dynamic(exported, quantized, **options)


def preload(folder: Path) -> None:
    """Import ONNX Runtime."""
    import onnxruntime  # noqa: F401


def load(folder: Path, description: Description, tokenizer: Reader, *, threads: int, device: str) -> Session:
    """Return the encoder that ONNX Runtime computes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as torch under OMP_WAIT_POLICY=passive
    session = onnxruntime.InferenceSession(folder / MODEL, options, providers=[PROVIDERS[device]])

    def run(ids_NT: np.ndarray, mask_NT: np.ndarray) -> np.ndarray:
        return session.run(None, {"input_ids": ids_NT, "attention_mask": mask_NT})[0]

    count = session.get_session_options().intra_op_num_threads
    return Session(description, tokenizer, run, threads={"onnxruntime": count}, device_type=device)
