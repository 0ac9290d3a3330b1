"""What a model's folder says of itself in sentence-transformers' files: pooling, dense layers, prompts, lengths.

    modules.json                         the modules in order: Transformer, Pooling, Dense, …, Normalize
    1_Pooling/config.json, 2_Dense/…     of each module
    sentence_bert_config.json            maximum length and lower case, beside the transformer; the former may be in
    tokenizer_config.json
    config_sentence_transformers.json    prompts and similarity

A folder without modules.json is a plain transformer, whose mean sentence-transformers pools. Classes that files name
are looked up in tables here and never imported.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.data.reading import read_as
from pipeline.encoder.head import ACTIVATIONS, POOLINGS, Dense
from pipeline.values import Side, UserError, conforming

LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
LENGTH_FILES = "sentence_*config.json"  # sentence_bert_config.json, sentence_xlm-roberta_config.json, …
PROMPT_NAMES: dict[Side, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}
SIMILARITIES = ("cosine", "dot")  # dot where vectors are normalized: then it is the cosine


@dataclass
class Module:
    """An entry of modules.json."""

    type: str
    path: str

    @property
    def kind(self) -> str:
        """The last part of its type: Transformer, Pooling, …"""
        return self.type.rsplit(".", 1)[-1]


@dataclass
class _Prompts:
    """config_sentence_transformers.json, as far as it is read."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None


@dataclass
class _Dense:
    """config.json of a Dense module."""

    in_features: int
    out_features: int
    activation_function: str = "torch.nn.modules.activation.Tanh"
    module_input_name: str = "sentence_embedding"
    use_residual: bool = False


@dataclass
class _Lengths:
    """sentence_bert_config.json, as far as it is read."""

    max_seq_length: int | None = None
    do_lower_case: bool | None = False


@dataclass
class _Tokenizer:
    """tokenizer_config.json, as far as it is read here; it may hold a float, beyond all lengths."""

    model_max_length: float | None = None


@dataclass(frozen=True)
class Declared:
    """What a folder says; None, or no prompt, where it says nothing.

    Attributes:
        transformer: the folder of the transformer's own files.
        weights: of the dense layers, by parameter name of head.Head.
    """

    transformer: Path
    pooling: str | None = None
    dense: tuple[Dense, ...] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    normalize: bool | None = None
    prompts: Mapping[Side, str] = field(default_factory=dict)
    max_tokens: int | None = None
    lower_case: bool = False


def declared(folder: Path) -> Declared:
    """Read what a folder says.

    Raises:
        UserError: for a module or a setting that this encoder does not have; the sentence names the file.
    """
    prompts = read_prompts(folder)
    if not (folder / "modules.json").is_file():
        return Declared(folder, prompts=prompts, **lengths(folder))
    modules = read_as(list[Module], folder / "modules.json")
    where = f"model.weights: {folder / 'modules.json'}"
    order = [(module.kind, module_folder(folder, module)) for module in modules]
    names = [name for name, _ in order if name != "Dropout"]  # which does nothing but in training
    middle = names[2:-1] if names[-1:] == ["Normalize"] else names[2:]
    if names[:2] != ["Transformer", "Pooling"] or any(name != "Dense" for name in middle):
        supported = "Transformer, Pooling, any number of Dense and perhaps Normalize"
        raise UserError(f"{where} lists the modules {', '.join(names) or 'none'}; an encoder here has {supported}.")
    transformer, pooling = order[0][1], pooling_of(order[1][1], prompts)
    layers: list[Dense] = []
    weights: dict[str, Tensor] = {}
    for name, path in order:
        if name == "Dense":
            layer, state = dense_of(path)
            weights |= {f"layers.{len(layers)}.{key}": value for key, value in state.items()}
            layers.append(layer)
    normalize = names[-1] == "Normalize"
    check_similarity(folder, normalize)
    return Declared(transformer, pooling, tuple(layers), weights, normalize, prompts, **lengths(transformer))


def module_folder(folder: Path, module: Module) -> Path:
    """Return the folder of a module's files; UserError if it lies elsewhere than in the model's folder."""
    path = Path(module.path)
    if ".." in path.parts or path.is_absolute():
        where = f"model.weights: {folder / 'modules.json'}"
        raise UserError(f"{where} names {module.path!r:.80}, which is not in its folder.")
    return folder / path


def read_prompts(folder: Path) -> dict[Side, str]:
    """Return the prompt of each side, as `encode_query` and `encode_document` of sentence-transformers choose it."""
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return {}
    config = read_as(_Prompts, path)
    prompts = {name: text for name, text in (config.prompts or {}).items() if text is not None}
    default = prompts.get(config.default_prompt_name or "", "")
    chosen: dict[Side, str] = {}
    for side, names in PROMPT_NAMES.items():
        text = next((prompts[name] for name in names if name in prompts), default)
        if prompts:
            chosen[side] = text
    return chosen


def pooling_of(folder: Path, prompts: Mapping[Side, str]) -> str:
    """Return the pooling of a Pooling module."""
    path = folder / "config.json"
    config = read_as(dict[str, Any], path)
    named = config.get("pooling_mode") or [name for key, name in LEGACY_POOLINGS.items() if config.get(key)] or "mean"
    modes = conforming(list[str], [named] if isinstance(named, str) else named, f"{path}: pooling_mode")
    if len(modes) != 1 or modes[0] not in POOLINGS:
        known = ", ".join(POOLINGS)
        raise UserError(f"model.weights: {path} pools by {' and '.join(modes)}; here it is one of {known}.")
    if config.get("include_prompt", True) is False and any(prompts.values()):
        raise UserError(f"model.weights: {path} leaves prompts out of pooling, which is not supported.")
    return modes[0]


def dense_of(folder: Path) -> tuple[Dense, dict[str, Tensor]]:
    """Return a Dense module and its weights, from safetensors, or a pickle read without running code."""
    path = folder / "config.json"
    config = read_as(_Dense, path)
    activation = config.activation_function
    name = activation.rsplit(".", 1)[-1].lower()
    if not activation.startswith("torch.nn.") or name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UserError(f"model.weights: {path}: activation_function={activation} is not among {known}.")
    for key in ("module_input_name", "use_residual"):
        if (value := getattr(config, key)) != getattr(_Dense, key):
            raise UserError(f"model.weights: {path}: {key}={value} is not supported.")
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    try:
        state = load_file(safe) if safe.is_file() else torch.load(pickled, weights_only=True, map_location="cpu")
        state = {key.removeprefix("linear."): value.float() for key, value in state.items()}
    except MemoryError:
        raise
    except Exception as error:  # what torch raises for a file of any content is not documented
        raise UserError(f"model.weights: the dense layer in {folder} cannot be loaded: {error}.") from error
    shape = (config.out_features, config.in_features)
    if "weight" not in state or tuple(state["weight"].shape) != shape:
        raise UserError(f"model.weights: the weights in {folder} are not those of its config.json, {shape}.")
    return Dense(config.out_features, name, "bias" in state), state


def check_similarity(folder: Path, normalize: bool) -> None:
    """Raise UserError for a similarity that ranks otherwise than the cosine does."""
    path = folder / "config_sentence_transformers.json"
    similarity = (read_as(_Prompts, path).similarity_fn_name if path.is_file() else None) or "cosine"
    if similarity not in SIMILARITIES or (similarity == "dot" and not normalize):
        compares = "retrieval here compares by cosine, or by the inner product of normalized vectors"
        raise UserError(f"model.weights: {path}: similarity_fn_name={similarity}: {compares}.")


def lengths(transformer: Path) -> dict[str, Any]:
    """Return the maximum length, where a file of sentence-transformers or the tokenizer's says one, and lower case."""
    path = next(iter(sorted(transformer.glob(LENGTH_FILES))), None)
    config = read_as(_Lengths, path) if path else _Lengths()
    longest: float | None = config.max_seq_length
    tokenizer = transformer / "tokenizer_config.json"
    if longest is None and tokenizer.is_file():
        path = tokenizer
        longest = read_as(_Tokenizer, path).model_max_length  # a number beyond all lengths where it is not known
    if longest is not None and not 3 <= longest < math.inf:  # fewer tokens leave no text between the special ones
        raise UserError(f"model.weights: {path}: a maximum length of {longest} tokens is none.")
    return {"max_tokens": longest and int(longest), "lower_case": bool(config.do_lower_case)}
