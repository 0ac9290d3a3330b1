"""Deploy a trained encoder as an inference variant: on another engine, or in fewer bits.

`experiment` and `profiling` pass an encoder through `deploy` and use the result as they would the encoder: only its
backbone differs. The same texts give nearly the same vectors. Each file in `backends/` is one engine.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.encoder.engine import Exported, Footprint, Unavailable, has_bfloat16
from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import positions
from pipeline.values import UserError, Variant


def deploy(encoder: Encoder, variant: Variant) -> Encoder:
    """Return a trained encoder (evaluation mode, float32) as `variant`. `retrieval` applies its width and index.

    `encoder` stays as it is; the result may share its weights. An engine keeps the thread count that torch has now.

    Raises:
        UserError: if the engine does not support the combination.
        Unavailable: if this machine lacks the engine, or bfloat16 instructions.
    """
    if variant.precision == "bfloat16" and not has_bfloat16(encoder.device):
        raise Unavailable(
            "variants: precision=bfloat16 needs a processor or GPU with bfloat16 instructions, which this one lacks: "
            "it would emulate them, slower than float32."
        )
    backend = import_module(f"pipeline.encoder.backends.{variant.backend}")
    build: Callable[[PreTrainedModel, str], nn.Module] = backend.build
    return Encoder(
        cast(PreTrainedModel, build(encoder.backbone, variant.precision)),  # has all that an Encoder reads of it
        encoder.tokenizer,
        pad_id=encoder.pad_id,
        pooling=encoder.pooling,
        prefixes=encoder.prefixes,
        max_tokens=encoder.max_tokens | ({"passage": variant.max_passage_tokens} if variant.max_passage_tokens else {}),
    ).eval()


def check(variants: Sequence[Variant], encoder: Encoder) -> None:
    """Raise UserError for the first length or width beyond the encoder's, before any work is done for it."""
    available = positions(encoder.backbone)
    for variant in variants:
        if (variant.max_passage_tokens or 0) > available:
            tokens = variant.max_passage_tokens
            raise UserError(f"variants: max_passage_tokens={tokens}: the model takes at most {available} tokens.")
        if (variant.width or 0) > encoder.width:
            raise UserError(f"variants: width={variant.width}: the model's embeddings have {encoder.width} dimensions.")


def threads(encoder: Encoder) -> dict[str, int]:
    """Return the number of threads by library; torch pools and normalizes, whatever engine runs the backbone."""
    return {"torch": torch.get_num_threads()} | getattr(encoder.backbone, "threads", {})


def footprint(encoder: Encoder) -> Footprint:
    """Return the size of an encoder's weights, in memory and as a file."""
    backbone = encoder.backbone
    if isinstance(backbone, Exported):
        return backbone.footprint
    tensors = [part for tensor in [*backbone.parameters(), *backbone.buffers()] for part in _parts(tensor)]
    state = [part for tensor in backbone.state_dict().values() for part in _parts(tensor)]
    return Footprint(
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        memory_bytes=sum(tensor.nbytes for tensor in tensors),
        disk_bytes=len(safetensors.torch.save({str(n): tensor.contiguous() for n, tensor in enumerate(state)})),
    )


def _parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that a quantized tensor is made of, since its own dtype is the one it stands for."""
    if tensor.is_mkldnn:
        return [tensor.to_dense()]
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
