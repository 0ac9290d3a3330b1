"""backend=onednn: torch, with all linear layers computed by oneDNN on a CPU, in float32 or bfloat16."""

from functools import partial

import torch
from transformers import PreTrainedModel

from pipeline.encoder import onednn, torch_folder
from pipeline.encoder.engine import Unavailable, refuse


def check(precision: str, device: torch.device) -> None:
    """oneDNN's layers are for a CPU, and do without int8."""
    refuse(precision == "int8", "backend=onednn does not support precision=int8")
    refuse(device.type == "cuda", "backend=onednn does not support device=cuda")
    if not onednn.available():
        raise Unavailable(
            "variants: backend=onednn needs torch with oneDNN, which this build lacks: install torch from "
            "https://download.pytorch.org/whl/cpu."
        )


def prepare(backbone: PreTrainedModel) -> PreTrainedModel:
    """Replace the linear layers: their weights are converted to a layout that depends on the processor."""
    onednn.replace_linear(backbone)
    return backbone


save, preload = torch_folder.save, torch_folder.preload
load = partial(torch_folder.load, prepare=prepare)
