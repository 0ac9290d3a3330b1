"""A deployed encoder: load the folder that `deploy.save` wrote, and nothing of what made it.

A folder holds the engine's own model file or files, `deployed.json` (a Description), and `tokenizer.json` or, for an
engine without torch and a tokenizer of XLM-R's kind, `sentencepiece.model` (`sentencepieces`). For the
engines `onnx` and `openvino` loading imports neither torch nor transformers.

Axes: N texts of a batch, T tokens, D embedding width.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pipeline.encoder import sentencepieces
from pipeline.encoder.encoding import TextEncoder
from pipeline.encoder.reading import Reader, Reading
from pipeline.encoder.sentencepieces import Pieces
from pipeline.values import Side, UserError, Variant

DESCRIPTION, TOKENIZER = "deployed.json", "tokenizer.json"
# All other files of a folder hold weights.
NO_WEIGHTS = {DESCRIPTION, TOKENIZER, sentencepieces.FILE, "config.json", "done.json"}


@dataclass(frozen=True)
class Description:
    """What `deployed.json` says: how texts are read, how vectors are made of them, and how large the model is."""

    backend: str
    precision: str
    pooling: str
    dense: Sequence[Mapping[str, Any]]  # head.Dense, by field
    unit: bool  # whether vectors have length 1
    pad_id: int
    prefixes: Mapping[Side, str]
    max_tokens: Mapping[Side, int]
    width: int
    linear_weights: int  # of all linear layers
    attention_width: int  # heads x dimensions of a head, over all layers
    attention: str  # implementation, by transformers' name
    parameters: int
    weights_bytes: int  # in memory, without an engine's own copies and scratch memory: peak memory includes those


class Session(Reading):
    """An encoder that another engine than torch runs, from token ids to vectors.

    Args:
        run: returns `emb_ND` for `ids_NT` (int64) and `mask_NT` (bool: True at tokens, False at padding).
        threads: number of threads by library.
    """

    def __init__(
        self,
        description: Description,
        tokenizer: Reader,
        run: Callable[[np.ndarray, np.ndarray], np.ndarray],
        *,
        threads: dict[str, int],
        device_type: str,
    ):
        self.read_with(tokenizer, description.pad_id, description.prefixes, description.max_tokens)
        self.width, self.unit = description.width, description.unit
        self.run, self.threads, self.device_type = run, threads, device_type

    def embed(self, rows: list[list[int]]) -> np.ndarray:
        """Return `emb_ND` of a batch of token ids."""
        length = max(map(len, rows))
        ids_NT = np.full((len(rows), length), self.pad_id, np.int64)
        mask_NT = np.zeros((len(rows), length), bool)
        for ids_T, mask_T, row in zip(ids_NT, mask_NT, rows, strict=True):
            ids_T[: len(row)], mask_T[: len(row)] = row, True
        return self.run(ids_NT, mask_NT)

    def to_host(self, batches: Sequence[np.ndarray]) -> np.ndarray:
        """Return the embeddings of all batches."""
        return np.concatenate(batches)


class Fixed(Session, ABC):
    """An encoder that was published as the file of another engine: it runs as it is, in no other precision or backend.

    Attributes:
        layers: its depth.
        languages: that it was trained on.
        overridden: as of model.Encoder.
    """

    tokenizer: Tokenizer
    layers: int
    parameter_count: int
    languages: frozenset[str]

    def __init__(self, description: Description, *args: Any, **options: Any):
        super().__init__(description, *args, **options)
        self.description, self.overridden = description, list[str]()

    @property
    def all_layers(self) -> int:
        """As of model.Encoder: none were left out."""
        return self.layers

    def check(self, variant: Variant) -> None:
        """Raise UserError for an inference variant that changes more than width and index."""
        if variant.engine != Variant().engine:
            raise UserError(f"variants: {variant.label}: this model runs as published; vary width and index alone.")

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the engine's files."""

    @abstractmethod
    def architecture(self) -> dict[str, object]:
        """Return all that determines its cost."""


def describe(folder: Path) -> Description:
    """Return the description of a deployed encoder."""
    return Description(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))


def backend(name: str) -> ModuleType:
    """Return the module of `backends/` of this name."""
    return import_module(f"pipeline.encoder.backends.{name}")


def on_torch(variant: Variant) -> bool:
    """Return whether a variant's engine runs the encoder's own modules, so that evaluation needs no folder."""
    return hasattr(backend(variant.backend), "prepare")


def preload(folder: Path) -> None:
    """Import the libraries that loading this folder needs, without loading it."""
    backend(describe(folder).backend).preload(folder)


def load(folder: Path, *, threads: int, device: str = "cpu") -> TextEncoder:
    """Return the encoder of a folder.

    Args:
        threads: that the engine uses.
        device: cpu or cuda.
    """
    description = describe(folder)
    pieces = folder / sentencepieces.FILE
    tokenizer = Pieces(pieces) if pieces.exists() else Tokenizer.from_file(str(folder / TOKENIZER))
    return backend(description.backend).load(folder, description, tokenizer, threads=threads, device=device)


def weights_on_disk(folder: Path) -> int:
    """Return the bytes of the files that hold the weights."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file() and file.name not in NO_WEIGHTS)
