"""backend=eager: torch as it is, in float32, bfloat16 or int8 (torchao)."""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.encoder.engine import require


def build(backbone: PreTrainedModel, precision: str) -> nn.Module:
    """Return the backbone itself in float32, or a copy in fewer bits."""
    if precision == "float32":
        return backbone
    converted = copy.deepcopy(backbone)
    if precision == "bfloat16":
        return converted.to(torch.bfloat16)  # type: ignore[arg-type]  # a decorator of transformers hides the signature
    require("int8", "torchao")
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(converted, Int8DynamicActivationInt8WeightConfig())  # of linear layers; embeddings stay float32
    return converted
