"""An encoder on torch as a folder: its weights as they will lie in memory, and the config that its modules follow from.

The backends `eager`, `onednn` and `compile` share it; they differ in what they do to the modules once those are loaded.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from pipeline.encoder.deployed import Description
from pipeline.encoder.engine import require
from pipeline.encoder.head import Dense, Head
from pipeline.encoder.model import WEIGHTS, Encoder
from pipeline.encoder.static import StaticBackbone  # noqa: F401  # makes transformers know the architecture
from pipeline.store.files import full_disk_named

QUANTIZED = "model.pt"  # safetensors has no quantized tensors; read without running code (weights_only)


def convert(backbone: PreTrainedModel, precision: str) -> PreTrainedModel:
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


def save(encoder: Encoder, precision: str, folder: Path) -> int:
    """Write weights and config; return the bytes of the weights in memory."""
    backbone = convert(encoder.backbone, precision)
    backbone.config.save_pretrained(folder)
    modules = {"backbone": backbone, "head": encoder.head}
    state = {
        f"{part}.{name}": value.contiguous()
        for part, module in modules.items()
        for name, value in module.state_dict().items()
    }
    with full_disk_named(folder):
        if precision == "int8":
            torch.save(state, folder / QUANTIZED)
        else:
            save_file(state, folder / WEIGHTS)
    tensors = [*backbone.parameters(), *backbone.buffers(), *encoder.head.parameters()]
    return sum(tensor.nbytes for tensor in parts(tensors))


def preload(folder: Path) -> None:
    """Import the module of the architecture; importing this file has imported torch and transformers."""
    MODEL_MAPPING[type(AutoConfig.from_pretrained(folder, local_files_only=True))]


def load(
    folder: Path,
    description: Description,
    tokenizer: Tokenizer,
    prepare: Callable[[PreTrainedModel], PreTrainedModel],
    *,
    threads: int,
    device: str,
) -> Encoder:
    """Return the encoder in evaluation mode.

    The weights are read, not mapped into memory: the process then holds all that it may need, however few words it
    has met so far.

    Args:
        prepare: turns the loaded backbone into that of the backend.
    """
    torch.set_num_threads(threads)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with no_init_weights():
        backbone = AutoModel.from_config(config, dtype=torch.float32, attn_implementation=description.attention)
    if hasattr(backbone, "pooler"):
        backbone.pooler = None
    if description.precision == "int8":
        require("int8", "torchao")
        import torchao  # noqa: F401  # tells torch which classes a file may name

        state = torch.load(folder / QUANTIZED, weights_only=True)
    else:
        state = load_file(folder / WEIGHTS, backend="pread")
    head = Head(
        description.pooling, config.hidden_size, [Dense(**layer) for layer in description.dense], description.unit
    )
    encoder = wrapped(backbone, head, description, tokenizer)
    encoder.load_state_dict(state, assign=True)
    if description.precision == "bfloat16":
        backbone.to(torch.bfloat16)  # buffers that no file holds
    encoder.requires_grad_(False).to(device)
    encoder.backbone = prepare(encoder.backbone)
    return encoder


def wrapped(backbone: PreTrainedModel, head: Head, description: Description, tokenizer: Tokenizer) -> Encoder:
    """Return the encoder of a backbone and a head."""
    return Encoder(
        backbone,
        head,
        tokenizer,
        pad_id=description.pad_id,
        prefixes=description.prefixes,
        max_tokens=description.max_tokens,
    ).eval()


def sharing(backbone: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a backbone's modules that shares its weights, so that replacing modules leaves it as it is."""
    shared = copy.deepcopy(backbone, {id(parameter): parameter for parameter in backbone.parameters()})
    return cast(PreTrainedModel, shared)


def parts(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the plain tensors that quantized tensors are made of, since their own dtype is the one they stand for."""
    plain: list[Tensor] = []
    for tensor in tensors:
        if hasattr(tensor, "__tensor_flatten__"):
            plain += [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
        else:
            plain.append(tensor)
    return plain
