"""backend=eager: torch as it is, in float32, bfloat16 or int8 (torchao)."""

from functools import partial

import torch
from transformers import PreTrainedModel

from pipeline.encoder import torch_folder
from pipeline.encoder.engine import require


def check(precision: str, device: torch.device) -> None:
    """int8 needs torchao."""
    if precision == "int8":
        require("int8", "torchao")


def prepare(backbone: PreTrainedModel) -> PreTrainedModel:
    """Return the backbone as it is."""
    return backbone


save, preload = torch_folder.save, torch_folder.preload
load = partial(torch_folder.load, prepare=prepare)
