"""The study at its own scale, sweeps/paper.yaml, dry-run: all of its sources at once, small, in their own formats."""

import gzip
import json
from pathlib import Path

import pytest
from command import SIZES, inside, manifest, records

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
WORDS = ["river", "mountain", "city", "king", "war", "treaty", "language", "island", "planet", "metal", "song", "bird"]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Overrides that name mMARCO, XQuAD-R, MLQA-R and MIRACL in two languages, a dozen rows each."""
    for language in ("english", "german"):
        lines = [f"{n}\t{language} {word}" for n, word in enumerate(WORDS)]
        write(tmp_path / f"mmarco/data/google/collections/{language}_collection.tsv", "\n".join(lines) + "\n")
        write(tmp_path / f"mmarco/data/google/queries/train/{language}_queries.train.tsv", "\n".join(lines) + "\n")
    triples = "".join(f"{n}\t{n}\t{(n + 1) % len(WORDS)}\n" for n in range(len(WORDS)))
    write(tmp_path / "mmarco/data/triples.train.ids.small.tsv", triples)
    for benchmark in ("xquad-r", "mlqa-r"):
        for language in ("de", "en"):
            paragraphs = []
            for word in WORDS:
                context = f"{language} {word}. Other."
                qa = {"id": word, "question": f"{word}?", "answers": [{"text": word, "answer_start": 3}]}
                end = context.index(".") + 1
                breaks = [[0, end], [end + 1, len(context)]]
                sentences = [context[start:end] for start, end in breaks]
                paragraphs.append({"context": context, "qas": [qa], "sentence_breaks": breaks, "sentences": sentences})
            article = {"title": "A title", "paragraphs": paragraphs}
            write(tmp_path / f"{benchmark}/{language}.json", json.dumps({"version": 1.0, "data": [article]}))
    for language in ("de", "en"):
        dev = tmp_path / f"miracl/miracl-v1.0-{language}"
        topics = "".join(f"{n}\t{word}?\n" for n, word in enumerate(WORDS))
        write(dev / f"topics/topics.miracl-v1.0-{language}-dev.tsv", topics)
        qrels = "".join(f"{n}\tQ0\t{n}#0\t1\n" for n in range(len(WORDS)))
        write(dev / f"qrels/qrels.miracl-v1.0-{language}-dev.tsv", qrels)
        passages = [json.dumps({"docid": f"{n}#0", "title": "T", "text": word}) for n, word in enumerate(WORDS)]
        write(tmp_path / f"miracl/miracl-corpus-v1.0-{language}/docs-0.jsonl.gz", "\n".join(passages) + "\n")
    paths = {"data": "mmarco", "eval.xquad_r": "xquad-r", "eval.mlqa_r": "mlqa-r", "eval.miracl": "miracl"}
    overrides = [f"{key}.path={tmp_path / folder}" for key, folder in paths.items()]
    return overrides + [f"{key}.languages=[de,en]" for key in paths]


def paper(*overrides: str, cwd: Path) -> tuple[int, str, str]:
    small = ["profile=off", "tracking.wandb=false", "trainer.steps=2", "trainer.batch_size=4", "threads=1"]
    return inside("--config-dir", str(ROOT / "sweeps"), "--config-name", "paper", *small, *overrides, cwd=cwd)


def test_every_source_is_read_and_every_benchmark_scored(sources, tmp_path):
    code, _, err = paper(*sources, "model=e5-small-l3", "model.layers=1", "sampler=hybrid", "seed=0,1", cwd=tmp_path)
    assert code == 0, err
    assert "paper: 2 runs\n" in err  # a key of the command line replaces the sweep's own values
    runs = records(tmp_path)
    assert [record["seed"] for record in runs] == [0, 1]
    for record in runs:
        for benchmark, metric in {"xquad_r": "map", "mlqa_r": "map", "miracl": "ndcg_10"}.items():
            assert [name for name in record["metrics"] if name.startswith(benchmark) and name.endswith(f".{metric}")]
        assert all(0 <= record["metrics"][f"{name}.cross.map"] <= 1 for name in ("xquad_r", "mlqa_r"))
        assert sum(record["training"]["language_pairs"].values()) == 2 * 4


def test_its_models_are_built_with_random_weights(sources, tmp_path):
    tiny = [f"model.architecture.{size}" for size in SIZES]
    tiny += ["model.architecture.num_attention_heads=2", "model.layers=1", "model.weights=random"]
    code, _, err = paper(*sources, *tiny, "model=xlmr-base,xlmr-large,labse", "sampler=none", "seed=0", cwd=tmp_path)
    assert code == 0, err
    assert [run["status"] for run in manifest(tmp_path, "paper")] == ["done"] * 3
    assert all("Random weights: cost only, no accuracy." in record["notes"] for record in records(tmp_path))
