"""A table of vectors in a folder, as Model2Vec or sentence-transformers' StaticEmbedding write it: reading and writing.

    modules.json        StaticEmbedding, perhaps Normalize; the files below lie in the folder of the first
    model.safetensors   `embedding.weight`, or Model2Vec's `embeddings` with perhaps `mapping` (token id -> row) and
                        `weights` (of each token id)
    tokenizer.json      its special tokens are not added; it may truncate
    config.json         Model2Vec's only: model_type, normalize, max_length

Read as data: no code of the folder runs. `folder.from_folder` calls `from_static` for a folder of this kind.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from pipeline.data.reading import read_as
from pipeline.encoder.declared import Declared, Module, check_similarity, module_folder, read_prompts
from pipeline.encoder.static import StaticBackbone, TableConfig
from pipeline.values import UserError

FILES = ("model.safetensors", "tokenizer.json")
PAD_ID = 0  # any: the mean leaves out padding
MODEL2VEC_TOKENS = 512  # Model2Vec's own maximum length where a folder names none


@dataclass
class _Config:
    """config.json of Model2Vec, as far as it is read."""

    model_type: str | None = None
    normalize: bool = False
    max_length: int | None = MODEL2VEC_TOKENS


def is_static(folder: Path) -> bool:
    """Return whether a folder holds a table of vectors."""
    if (folder / "modules.json").is_file():
        return [module.kind for module in read_as(list[Module], folder / "modules.json")][:1] == ["StaticEmbedding"]
    return (folder / "config.json").is_file() and read_as(_Config, folder / "config.json").model_type == "model2vec"


def from_static(folder: Path, dtype: torch.dtype) -> tuple[StaticBackbone, Tokenizer, int, Declared]:
    """Return the table as a backbone, its tokenizer, the id that pads, and what the folder says.

    Model2Vec leaves unknown tokens out of the mean, sentence-transformers does not. Where the folder is Model2Vec's,
    the vector of the unknown token is zero here, which gives the mean of the others up to its length.

    Raises:
        UserError: for a file that is missing or damaged, other modules, or a table that does not fit the tokenizer.
    """
    config = read_as(_Config, folder / "config.json") if (folder / "config.json").is_file() else _Config()
    of_model2vec, normalize, inner = config.model_type == "model2vec", config.normalize, folder
    if (folder / "modules.json").is_file():
        modules = read_as(list[Module], folder / "modules.json")
        kinds = [module.kind for module in modules]
        if kinds not in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
            raise UserError(
                f"model.weights: {folder / 'modules.json'} lists the modules {', '.join(kinds)}; an encoder here has "
                "StaticEmbedding and perhaps Normalize."
            )
        normalize, inner = kinds[-1] == "Normalize", module_folder(folder, modules[0])
    check_similarity(folder, normalize)
    for name in FILES:
        if not (inner / name).is_file():
            raise UserError(f"model.weights: {inner / name} is missing.")
    tokenizer = read_tokenizer(inner / "tokenizer.json")
    table_VD = read_table(inner / "model.safetensors")
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < len(table_VD):
        path, rows = inner / "tokenizer.json", len(table_VD)
        raise UserError(f"model.weights: {path} has the id {largest}, but the table has {rows} vectors.")
    if of_model2vec and (unknown := unknown_id(tokenizer)) is not None:
        table_VD[unknown] = 0
    longest = config.max_length if of_model2vec else None
    if tokenizer.truncation:
        longest = tokenizer.truncation["max_length"]
    declared = Declared(inner, "mean", normalize=normalize, prompts=read_prompts(folder), max_tokens=longest)
    return backbone_of(table_VD.to(dtype)), tokenizer, PAD_ID, declared


def read_tokenizer(path: Path) -> Tokenizer:
    """Return a tokenizer that adds no special tokens."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise UserError(f"model.weights: {path} cannot be read as a tokenizer: {str(error)[:200]}.") from error
    tokenizer.post_processor = None  # type: ignore[assignment]  # its stub does not know of none
    return tokenizer


def read_table(path: Path) -> Tensor:
    """Return one float32 vector per token id, with Model2Vec's mapping and weights applied."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"model.weights: {path} cannot be read as weights: {error}.") from error
    table_VD = state.get("embedding.weight", state.get("embeddings"))
    if table_VD is None or table_VD.ndim != 2 or 0 in table_VD.shape:
        raise UserError(f"model.weights: {path} holds no table of vectors (embedding.weight or embeddings).")
    try:
        if "mapping" in state:
            table_VD = table_VD[state["mapping"].long()]
        table_VD = table_VD.float()
        if "weights" in state:
            table_VD = table_VD * state["weights"].float()[:, None]
    except (IndexError, RuntimeError) as error:
        raise UserError(f"model.weights: {path}: mapping or weights do not fit the table: {error}.") from error
    return table_VD.clone()


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token for what no other token covers."""
    model: Mapping[str, object] = json.loads(tokenizer.to_str())["model"]
    if isinstance(number := model.get("unk_id"), int):
        return number
    return tokenizer.token_to_id(str(token)) if (token := model.get("unk_token")) is not None else None


def backbone_of(table_VD: Tensor) -> StaticBackbone:
    """Return a backbone with this table."""
    rows, width = table_VD.shape
    backbone = StaticBackbone(TableConfig(vocab_size=rows, hidden_size=width))
    backbone.embeddings.weight.data = table_VD
    return backbone


def write_static(
    folder: Path,
    table_VD: Tensor,
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None = None,
    normalize: bool = True,
    prompts: Mapping[str, str] | None = None,
) -> None:
    """Write a table as a folder that sentence-transformers loads.

    Args:
        max_tokens: to which the tokenizer truncates; None for texts of any length.
    """
    own = Tokenizer.from_str(tokenizer.to_str())
    own.post_processor = None  # type: ignore[assignment]
    own.no_padding()
    own.no_truncation() if max_tokens is None else own.enable_truncation(max_tokens)
    own.save(str(folder / "tokenizer.json"), pretty=False)
    save_file({"embedding.weight": table_VD.detach().cpu().contiguous()}, folder / "model.safetensors")
    kinds = ["StaticEmbedding", "Normalize"] if normalize else ["StaticEmbedding"]
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    settings = {"prompts": dict(prompts or {}), "similarity_fn_name": "cosine"}
    for name, content in {"modules.json": modules, "config_sentence_transformers.json": settings}.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
