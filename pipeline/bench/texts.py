"""What the comparisons work on: XQuAD's real questions and paragraphs, and one encoder on both sides."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra

from pipeline import config, export
from pipeline.encoder import model as encoders
from pipeline.encoder.model import Encoder
from pipeline.profiling.samples import round_robin
from pipeline.profiling.throughput import transformer_flop
from pipeline.values import Record, UserError

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
CONF = Path(__file__).parents[2] / "conf"


def settings(group: str, *overrides: str) -> dict[str, Any]:
    """A group of the config as a run composes it, of e5-small-l12 unless told otherwise."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return config.plain(hydra.compose("config", list(overrides) or ["model=e5-small-l12"])[group])


def model() -> dict[str, Any]:
    return settings("model")


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
    return in_turn({language: [p["context"] for p in some] for language, some in paragraphs().items()}, count)


def questions(count: int) -> list[str]:
    asked = {language: [qa["question"] for p in some for qa in p["qas"]] for language, some in paragraphs().items()}
    return in_turn(asked, count)


def in_turn(texts: dict[str, list[str]], count: int) -> list[str]:
    return [text for _, text in round_robin(texts)][:count]


def encoder() -> Encoder:
    return encoders.load(**model(), seed=0)


def work(encoder: Encoder, passages: Sequence[str]) -> tuple[float, int]:
    """Mean tokens of a passage, and the FLOP to encode all."""
    config = encoder.backbone.config
    lengths = [len(row) for row in encoder.tokenize(passages, "passage")]
    sizes = {"layers": config.num_hidden_layers, "width": config.hidden_size, "feed_forward": config.intermediate_size}
    return sum(lengths) / len(lengths), transformer_flop(lengths, **sizes)


def sentence_transformer(ours: Encoder, device: str = "cpu", **options: Any) -> Any:
    """The same encoder as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as folder:
        about: dict[str, Any] = {"layers": ours.backbone.config.num_hidden_layers, "commit": None}
        choices = {"model": "bench", "sampler": "none", "data": "none"}
        export.fill(Path(folder), ours, Record("bench", "", "done", choices, {"model": model()}, 0, about))
        return SentenceTransformer(folder, device=device, **options)
