"""Export a backbone to ONNX: the file that the backends `onnx` and `openvino` run.

Axes: N texts of a batch, T tokens.
"""

import logging
import warnings
from pathlib import Path

import torch
from transformers import PreTrainedModel

from pipeline.encoder.engine import example_batch


def export_onnx(backbone: PreTrainedModel, folder: Path) -> Path:
    """Write a backbone as ONNX, for any number of texts and tokens, and return the file."""
    import onnxscript  # noqa: F401  # torch's exporter uses it: an import here makes its version part of cache keys

    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # "no torchvision"
    axes_NT = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    example = example_batch(backbone, texts=2)
    with warnings.catch_warnings():  # from torch's exporter, about torch
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            backbone, kwargs=example, dynamic_shapes=dict.fromkeys(example, axes_NT), dynamo=True, verbose=False
        )
    assert program  # its type is optional because of torch's older exporter
    # Tells onnxruntime's quantizer that shapes are inferred and the graph is simplified: torch did both.
    program.model.metadata_props["onnx.quant.pre_process"] = "onnxruntime.quant"
    path = folder / "exported.onnx"
    program.save(path, external_data=True)
    return path


def file_bytes(path: Path) -> int:
    """Return the size of a model's file and of the file beside it that holds its weights, if there is one."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
