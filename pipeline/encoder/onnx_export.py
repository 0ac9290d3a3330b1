"""Export an encoder to ONNX, from token ids to embeddings: the file that `onnx` runs and `openvino` converts.

Axes: N texts of a batch, T tokens.
"""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.encoder.model import Encoder

if TYPE_CHECKING:
    import onnxscript

INPUTS, OUTPUT = ("input_ids", "attention_mask"), "embeddings"


def export_onnx(encoder: Encoder, path: Path) -> None:
    """Write an encoder with its head, for any number of texts and tokens."""
    import onnxscript  # noqa: F401  # torch's exporter uses it: an import here makes its version part of cache keys

    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # "no torchvision"
    axes_NT = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    # torch.export treats sizes 0 and 1 as special, so the example has two texts; its ids do not matter.
    ids_NT = torch.full((2, 7), 5, device=encoder.device)
    with warnings.catch_warnings():  # from torch's exporter, about torch
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            encoder,
            (ids_NT, torch.ones_like(ids_NT, dtype=torch.bool)),
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes=(axes_NT, axes_NT),
            dynamo=True,
            verbose=False,
        )
    assert program  # its type is optional because of torch's older exporter
    drop_nan_guards(program.model)
    # Tells onnxruntime's quantizer that shapes are inferred and the graph is simplified: torch did both.
    program.model.metadata_props["onnx.quant.pre_process"] = "onnxruntime.quant"
    program.save(path, external_data=True)


def drop_nan_guards(model: "onnxscript.ir.Model") -> None:
    """Let attention be a softmax alone; torch exports zeros where the softmax is NaN, as if nothing were attended to.

    It exports masks as the lowest finite number, so the softmax is never NaN, even in a row of padding. Without these
    guards OpenVINO fuses attention into one kernel (docs/decisions.md).
    """
    from onnxscript.optimizer import remove_unused_nodes
    from onnxscript.rewriter.pattern import RewriteRule

    def guarded(op, scores, zero):  # type: ignore[no-untyped-def]
        softmax = op.Softmax(scores, _outputs=["softmax"])
        return op.Where(op.IsNaN(softmax), zero, softmax)

    def unguarded(op, softmax, **_):  # type: ignore[no-untyped-def]
        return op.Identity(softmax)

    RewriteRule(guarded, unguarded, remove_nodes=False).apply_to_model(model)
    remove_unused_nodes(model)
