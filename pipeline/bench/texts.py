"""What the comparisons work on: XQuAD's real questions and paragraphs, and one encoder on both sides."""

import json
import os
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline import encoder as encoders
from pipeline import export
from pipeline.encoder import Encoder
from pipeline.values import Record, UserError

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
MODEL = {
    "family": "e5-small", "weights": "packaged", "revision": None, "layers": 12, "pooling": "mean",
    "query_prefix": "query: ", "passage_prefix": "passage: ", "max_query_tokens": 64, "max_passage_tokens": 256,
    "freeze_word_embeddings": True, "architecture": {},
}  # fmt: skip


def folder() -> Path:
    """XQuAD-R's folder; UserError where XQUAD_R_DIR does not name it."""
    named = os.environ.get("XQUAD_R_DIR")
    if not named or not (Path(named) / "en.json").is_file():
        raise UserError("XQUAD_R_DIR must name the folder of XQuAD-R's json files (docs/data.md).")
    return Path(named)


def paragraphs() -> dict[str, list[dict[str, Any]]]:
    """By language, in the same order in all: context and qas."""
    articles = {language: json.loads((folder() / f"{language}.json").read_text())["data"] for language in LANGUAGES}
    return {language: [p for article in of for p in article["paragraphs"]] for language, of in articles.items()}


def contexts(count: int) -> list[str]:
    """Of all languages in turn."""
    columns = [[paragraph["context"] for paragraph in column] for column in paragraphs().values()]
    return list(chain.from_iterable(zip(*columns, strict=True)))[:count]


def questions(count: int) -> list[str]:
    columns = [[qa["question"] for p in column for qa in p["qas"]] for column in paragraphs().values()]
    return list(chain.from_iterable(zip(*columns, strict=True)))[:count]


def encoder(layers: int = 12) -> Encoder:
    return encoders.load(**MODEL | {"layers": layers}, seed=0)


def sentence_transformer(ours: Encoder) -> Any:
    """The same encoder as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as folder:
        about: dict[str, Any] = {"layers": ours.backbone.config.num_hidden_layers, "commit": None}
        choices = {"model": "bench", "sampler": "none", "data": "none"}
        export.fill(Path(folder), ours, Record("bench", "", "done", choices, {"model": MODEL}, 0, about))
        return SentenceTransformer(folder, device="cpu")
