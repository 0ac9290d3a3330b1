"""Deploy a trained encoder as an inference variant: on another engine, or in fewer bits.

`save` writes a folder, once; `deployed.load` makes an encoder of it in any process, without what made it. `profiling`
measures what was saved, and `experiment` evaluates it. `deploy` gives the same encoder in this process. Vectors are
nearly those of the trained encoder. Each file in `backends/` is one engine.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pipeline.encoder import deployed, sentencepieces
from pipeline.encoder.deployed import DESCRIPTION, TOKENIZER, Description, Fixed, on_torch
from pipeline.encoder.encoding import TextEncoder
from pipeline.encoder.engine import Unavailable, has_bfloat16
from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import positions
from pipeline.encoder.static import LONGEST, StaticBackbone
from pipeline.encoder.torch_folder import convert, sharing, wrapped
from pipeline.values import UserError, Variant


def save(encoder: Encoder | Fixed, variant: Variant, folder: Path) -> None:
    """Write a trained encoder (evaluation mode, float32) as `variant`; `retrieval` applies its width and index.

    Raises:
        UserError: if the engine does not support the combination.
        Unavailable: if this machine lacks the engine, or bfloat16 instructions.
    """
    check_engine(encoder, variant)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(encoder, Fixed):
        encoder.save(folder)
        description = encoder.description
    else:
        weights_bytes = deployed.backend(variant.backend).save(encoder, variant.precision, folder)
        description = describe(encoder, variant, weights_bytes)
    save_tokenizer(encoder, variant, folder)
    text = json.dumps(asdict(description), indent=1, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)  # some exporters write for their user only


def save_tokenizer(encoder: Encoder | Fixed, variant: Variant, folder: Path) -> None:
    """Write the tokenizer: sentencepiece's where the evaluation, too, reads it from the folder, and it fits."""
    pieces = None if on_torch(variant) or isinstance(encoder, Fixed) else sentencepieces.convert(encoder.tokenizer)
    if pieces:
        (folder / sentencepieces.FILE).write_bytes(pieces)
    else:
        encoder.tokenizer.save(str(folder / TOKENIZER))


def deploy(encoder: Encoder | Fixed, variant: Variant, folder: Path | None = None) -> TextEncoder:
    """Return a trained encoder as `variant`, in this process and on the encoder's device. Errors as of `save`.

    An engine on torch takes the weights from memory, to the same vectors as from a folder, which takes longer.

    Args:
        folder: what `save` wrote; by default the files of another engine are written for this process only.
    """
    check_engine(encoder, variant)
    if isinstance(encoder, Fixed):
        return encoder
    if on_torch(variant):
        backend = deployed.backend(variant.backend)
        converted = convert(encoder.backbone, variant.precision)
        kept = sharing(converted) if converted is encoder.backbone else converted
        return wrapped(backend.prepare(kept), encoder.head, describe(encoder, variant, 0), encoder.tokenizer)
    load = partial(deployed.load, threads=torch.get_num_threads(), device=encoder.device_type)
    if folder:
        return load(folder)
    with tempfile.TemporaryDirectory() as temporary:
        save(encoder, variant, Path(temporary))
        return load(Path(temporary))


def check_engine(encoder: Encoder | Fixed, variant: Variant) -> None:
    """Raise UserError or Unavailable for a variant that cannot be deployed."""
    if isinstance(encoder, Fixed):
        encoder.check(variant)
        return
    if variant.precision == "bfloat16" and not has_bfloat16(encoder.device):
        raise Unavailable(
            "variants: precision=bfloat16 needs a processor or GPU with bfloat16 instructions, which this one lacks: "
            "it would emulate them, slower than float32."
        )
    if on_torch(variant) and variant.precision == "int8" and isinstance(encoder.backbone, StaticBackbone):
        raise UserError(f"variants: backend={variant.backend} precision=int8 is for linear layers; a table has none.")
    if not on_torch(variant) and encoder.backbone.dtype != torch.float32:
        raise UserError(f"variants: backend={variant.backend} needs model.precision=float32.")
    deployed.backend(variant.backend).check(variant.precision, encoder.device)


def describe(encoder: Encoder, variant: Variant, weights_bytes: int) -> Description:
    """Return the description of an encoder as `variant`."""
    backbone, head, config = encoder.backbone, encoder.head, encoder.backbone.config
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    linear = [layer for layer in backbone.modules() if isinstance(layer, nn.Linear)]
    return Description(
        backend=variant.backend,
        precision=variant.precision,
        pooling=head.pooling,
        dense=[asdict(layer) for layer in head.dense],
        unit=head.normalize,
        pad_id=encoder.pad_id,
        prefixes=encoder.prefixes,
        max_tokens={
            "query": encoder.max_tokens["query"],
            "passage": variant.max_passage_tokens or encoder.max_tokens["passage"],
        },
        width=encoder.width,
        linear_weights=sum(layer.in_features * layer.out_features for layer in linear),
        attention_width=config.num_hidden_layers * config.num_attention_heads * head_width,
        attention=config._attn_implementation,
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        weights_bytes=weights_bytes,
    )


def check(variants: Sequence[Variant], encoder: Encoder | Fixed) -> None:
    """Raise UserError for the first length or width beyond the encoder's, before any work is done for it."""
    available = LONGEST if isinstance(encoder, Fixed) else positions(encoder.backbone)
    for variant in variants:
        if (variant.max_passage_tokens or 0) > available:
            tokens = variant.max_passage_tokens
            raise UserError(f"variants: max_passage_tokens={tokens}: the model takes at most {available} tokens.")
        if (variant.width or 0) > encoder.width:
            raise UserError(f"variants: width={variant.width}: the model's embeddings have {encoder.width} dimensions.")
