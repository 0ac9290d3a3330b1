"""A model in a folder, in the hub's format: read as data. No code of it runs, and no file outside of it is read.

The folder may be a snapshot in the hub's cache, whose links lead to the blobs beside it.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from pipeline.encoder.declared import Declared, declared
from pipeline.encoder.static_folder import from_static, is_static
from pipeline.values import UserError


class Source(NamedTuple):
    """What a source gives, before prefixes and lengths are known."""

    backbone: PreTrainedModel
    tokenizer: Tokenizer
    pad_id: int
    declared: Declared
    all_layers: int  # of the model, before any were left out


def from_folder(model_folder: Path, layers: int | None, dtype: torch.dtype) -> Source:
    """Read a model in the hub's format, downloaded or local; code in the folder never runs."""
    check_links(model_folder)
    try:
        table = from_static(model_folder, dtype) if is_static(model_folder) else None
        settings = table[-1] if table else declared(model_folder)
    except UserError as error:
        raise UserError(f"model.weights: {str(error).removeprefix('model.weights: ')}") from error
    if table:
        depth(layers, 0)
        return Source(*table, all_layers=0)
    folder = settings.transformer
    shards = "model.safetensors.index.json"
    weights = shards if (folder / shards).is_file() else "model.safetensors"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", weights):
        if not (folder / name).is_file():
            raise UserError(f"model.weights: {folder / name} is missing.")
    if (folder / "adapter_config.json").exists():  # transformers would load the model that it names
        raise UserError(f"model.weights: {folder} holds an adapter: merge it into its model, and name that folder.")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        if config.is_encoder_decoder:
            raise ValueError(f"it is an encoder-decoder, {config.model_type}, and encoders alone are supported")
        if getattr(config, "quantization_config", None):
            raise ValueError("its weights are quantized, which is not supported")
        all_layers = config.num_hidden_layers
        config.num_hidden_layers = depth(layers, all_layers)
        # Attention is named: the config could ask transformers to fetch a kernel from the hub.
        options |= {"attn_implementation": attention(config)}
        backbone, report = AutoModel.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        largest, rows = max(tokenizer.get_vocab().values()), backbone.get_input_embeddings().num_embeddings
        backend = tokenizer.backend_tokenizer
    except (MemoryError, UserError):
        raise
    except Exception as error:  # what transformers raises for a file of any content is not documented
        raise UserError(f"model.weights: the model in {folder} cannot be loaded: {one_line(error)}.") from error
    if missing := [name for name in report["missing_keys"] if not name.startswith("pooler.")]:
        raise UserError(f"model.weights: {folder} lacks the weights {sorted(missing)[0]} of its architecture.")
    if tokenizer.pad_token_id is None:
        raise UserError(f"model.weights: {folder / 'tokenizer_config.json'} names no pad_token.")
    if largest >= rows:
        raise UserError(
            f"model.weights: {folder / 'tokenizer.json'} has the id {largest}, but there are {rows} word embeddings."
        )
    return Source(backbone, backend, tokenizer.pad_token_id, settings, all_layers)


def attention(config: PretrainedConfig) -> str:
    """Return the attention implementation of an architecture: torch's fused one, where transformers has it."""
    architecture: Any = MODEL_MAPPING.get(type(config), None)
    return "sdpa" if architecture is None or architecture._supports_sdpa else "eager"


def depth(layers: int | None, available: int) -> int:
    """Return how many layers to build: the first `layers`, or all of them."""
    if layers and layers > available:
        raise UserError(f"model.layers={layers}: the model has {available} layers.")
    return layers or available


def check_links(folder: Path) -> None:
    """Raise UserError for a symbolic link that leads out of a folder, or out of its repository in the hub's cache."""
    root = folder.resolve()
    if root.parent.name == "snapshots" and (root.parents[1] / "blobs").is_dir():
        root = root.parents[1]
    for path in folder.rglob("*"):
        try:
            target = path.resolve()
            inside = not path.is_symlink() or (target.is_relative_to(root) and not target.is_symlink())
        except (OSError, RuntimeError):  # a link to itself; from Python 3.13 on its target is such a link
            inside = False
        if not inside:
            raise UserError(f"model.weights: {path} is a link out of the model's folder: put the file itself there.")


def one_line(error: Exception) -> str:
    """Return the start of another library's message, on one line."""
    return " ".join(str(error).split())[:200].rstrip(".")
