"""Encoding in shards: a killed run encodes the lost one again and no other, and its ranks are bit-identical."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from test_config import composed

from pipeline import config, embeddings, experiment
from pipeline.encoder import encoding, model
from pipeline.launch.request import Request, make_request
from pipeline.retrieval.rankings import RANKINGS

pytestmark = pytest.mark.slow

PASSAGES, QUERIES = {"de": 20, "en": 50}, 5  # queries per language
RUN = ["model=e5-small-l3", "model.layers=1", "sampler=none", "eval=beir", "profile=off", "tracking.wandb=false"]
RUN += ["threads=1"]


def encode(request: str, answer: Path, dies_after: int) -> None:
    """What a process does: a run with shards of 16 texts. It kills itself in a batch after so many, workers do not."""
    encoding.CHUNK, encoding.SHARD, embeddings.SHARD = 16, 16, 16
    encoded, embed = 0, model.Encoder.embed

    def counted(self: model.Encoder, rows: list[list[int]]) -> torch.Tensor:
        nonlocal encoded
        encoded += len(rows)
        if encoded > dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return embed(self, rows)

    model.Encoder.embed = counted
    (record,) = experiment.run(Request.from_json(request))
    answer.write_text(json.dumps([encoded, record.metrics, record.corpus]), encoding="utf-8")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A benchmark in BEIR's layout; no text occurs twice."""
    for language, count in PASSAGES.items():
        folder = tmp_path / "corpus" / language
        (folder / "qrels").mkdir(parents=True)
        words = [" and more" * (n % 7) for n in range(count)]
        passages = [{"_id": f"p{n}", "text": f"{language} passage {n}{words[n]}"} for n in range(count)]
        queries = [{"_id": f"q{n}", "text": f"{language} query {n}"} for n in range(QUERIES)]
        for name, rows in {"corpus": passages, "queries": queries}.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "qrels/test.tsv").write_text("".join(f"q{n}\tp{3 * n}\t1\n" for n in range(QUERIES)))
    return tmp_path / "corpus"


def run(corpus: Path, results: Path, *overrides: str, dies_after: int = 10**6) -> tuple[int, list[Any]]:
    """Return the exit code of a run, and what it answered."""
    cfg = composed(*RUN, *overrides, f"eval.beir.path={corpus}", f"results_dir={results}")
    request = make_request(config.check(cfg), {"model": "m", "sampler": "s", "data": "d"}).to_json()
    answer, stderr, cache = (results.with_suffix(suffix) for suffix in (".json", ".stderr", ".cache"))
    process = forked.start(encode, request, answer, dies_after, stderr=stderr, HF_DATASETS_CACHE=str(cache))
    return forked.finish(process), json.loads(answer.read_text()) if answer.exists() else []


def ranks(results: Path) -> dict[str, np.ndarray]:
    (path,) = results.glob(f"stages/rank-*/{RANKINGS}")
    with np.load(path) as arrays:
        return dict(arrays)


def shards(folder: Path) -> dict[str, int]:
    """Each shard, with the time at which it was written."""
    (stage,) = folder.glob("encode-*")
    return {str(path.relative_to(stage)): path.stat().st_mtime_ns for path in sorted(stage.rglob("*.npy"))}


def test_a_killed_run_encodes_only_the_lost_shard_again(corpus: Path, tmp_path: Path) -> None:
    """And two workers that finish what one process began give the ranks of one process, bit for bit."""
    code, (encoded, metrics, of_corpus) = run(corpus, tmp_path / "whole")
    assert (code, encoded) == (0, 2 * QUERIES + 70)
    folder = f"encode.folder={tmp_path / 'shards'}"
    code, _ = run(corpus, tmp_path / "killed", folder, dies_after=2 * QUERIES + 44)  # in the middle of the fourth shard
    assert code == -signal.SIGKILL
    before = shards(tmp_path / "shards")
    assert [*before] == ["passage-de/0.npy", "passage-de/16.npy", "passage-en/0.npy"]
    code, (again, same_metrics, same_corpus) = run(corpus, tmp_path / "killed", folder, "encode.workers=2")
    assert (code, again) == (0, 2 * QUERIES)
    assert same_metrics == metrics
    assert [facts["passages"] for facts in (*of_corpus.values(), *same_corpus.values())] == [70, 70]
    assert [facts.get("workers") for facts in (*of_corpus.values(), *same_corpus.values())] == [None, 2]
    after = shards(tmp_path / "shards")  # a folder of the user's own, where they stay
    assert [*after] == [*before, *(f"passage-en/{first}.npy" for first in (16, 32, 48))]
    assert {name: after[name] for name in before} == before
    expected, here = ranks(tmp_path / "whole"), ranks(tmp_path / "killed")
    assert expected.keys() == here.keys()
    for name, array in expected.items():
        assert here[name].dtype == array.dtype
        np.testing.assert_array_equal(here[name], array)
    assert not list((tmp_path / "whole").glob("stages/encode-*"))  # in the results they would serve no one any more
    for results in ("whole", "killed"):
        assert not list((tmp_path / results / "locks").iterdir())
