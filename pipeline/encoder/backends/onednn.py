"""backend=onednn: torch, with all linear layers computed by oneDNN on a CPU, in float32 or bfloat16."""

import copy

from torch import nn
from transformers import PreTrainedModel

from pipeline.encoder import onednn
from pipeline.encoder.backends import eager
from pipeline.encoder.engine import Unavailable, refuse


def build(backbone: PreTrainedModel, precision: str) -> nn.Module:
    """Return a copy of the backbone with oneDNN's linear layers; in float32 it shares all other weights."""
    refuse(precision == "int8", "backend=onednn does not support precision=int8")
    refuse(backbone.device.type == "cuda", "backend=onednn does not support device=cuda")
    if not onednn.available():
        raise Unavailable(
            "variants: backend=onednn needs torch with oneDNN, which this build lacks: install torch from "
            "https://download.pytorch.org/whl/cpu."
        )
    converted = eager.build(backbone, precision)
    if converted is backbone:
        converted = copy.deepcopy(backbone, {id(parameter): parameter for parameter in backbone.parameters()})
    onednn.replace_linear(converted)
    return converted
