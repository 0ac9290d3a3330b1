"""The material of all comparisons: XQuAD's real queries and paragraphs, and one encoder on both sides."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

from pipeline.config import Config, typed
from pipeline.encoder import model_folder, sources
from pipeline.encoder.deploy import describe
from pipeline.encoder.model import Encoder
from pipeline.profiling.meters.throughput import transformer_flop
from pipeline.profiling.samples import round_robin
from pipeline.values import CONF, UserError, Variant

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")


def config(*overrides: str) -> Config:
    """Return the config of a run with these overrides; the default model is e5-small-l12."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(hydra.compose("config", list(overrides)))


def encoder(*overrides: str) -> Encoder:
    """Return the encoder of a run with these overrides, untrained and on the CPU."""
    return sources.load(config(*overrides).model, seed=0)


def folder() -> Path:
    """Return XQuAD-R's folder.

    Raises:
        UserError: if XQUAD_R_DIR does not name it.
    """
    path = os.environ.get("XQUAD_R_DIR")
    if not path or not (Path(path) / "en.json").is_file():
        raise UserError("XQUAD_R_DIR must name the folder of XQuAD-R's json files (docs/data.md).")
    return Path(path)


def paragraphs() -> dict[str, list[dict[str, Any]]]:
    """Return XQuAD-R's paragraphs by language, in the same order in all: objects with `context` and `qas`."""
    files = {
        language: json.loads((folder() / f"{language}.json").read_text(encoding="utf-8")) for language in LANGUAGES
    }
    return {
        language: [paragraph for article in file["data"] for paragraph in article["paragraphs"]]
        for language, file in files.items()
    }


def contexts(count: int) -> list[str]:
    """Return texts of paragraphs, of all languages in turn."""
    by_language = {
        language: [paragraph["context"] for paragraph in of_language] for language, of_language in paragraphs().items()
    }
    return in_turn(by_language, count)


def queries(count: int) -> list[str]:
    """Return texts of queries, of all languages in turn."""
    by_language = {
        language: [qa["question"] for paragraph in of_language for qa in paragraph["qas"]]
        for language, of_language in paragraphs().items()
    }
    return in_turn(by_language, count)


def in_turn(by_language: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Return the first `count` texts, one of each language in turn."""
    return [text for _, text in round_robin(by_language)][:count]


def work(encoder: Encoder, passages: Sequence[str]) -> tuple[float, int]:
    """Return the mean number of tokens per passage, and the FLOP to encode all passages."""
    sizes = describe(encoder, Variant(), 0)
    lengths = [len(row) for row in encoder.tokenize(passages, "passage")]
    flop = transformer_flop(lengths, sizes.linear_weights, sizes.attention_width)
    return sum(lengths) / len(lengths), flop


def sentence_transformer(ours: Encoder, device: str = "cpu", **options: Any) -> "SentenceTransformer":
    """Return the same encoder as sentence-transformers loads it; `options` are those of SentenceTransformer."""
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as folder:
        model_folder.fill(Path(folder), ours)
        return SentenceTransformer(folder, device=device, **options)
