"""What should I deploy: the best within the limits, by hand; how sure, by counting draws; what binds."""

import numpy as np
import pandas as pd
import pytest
from records import add_run, add_sweep

from pipeline.recommend import LIMITS, answer, main, parse, recommend
from pipeline.store.results import ResultStore
from pipeline.values import UserError

P95, MEMORY = LIMITS[0], next(limit for limit in LIMITS if limit.flag == "--memory-mib")
TABLE = pd.DataFrame(
    {
        "model": ["small", "small", "big"],
        "strategy": ["hybrid", "monolingual", "hybrid"],
        "served": ["as trained", "SQ8", "as trained"],
        "seeds": [2, 2, 2],
        "profile.grade_passed": [True, True, False],
        "profile.query_latency_p95_ms": [5.0, 4.0, 9.0],
        "profile.sources.query_latency_p95_ms": ["measured: wall clock"] * 3,
        "profile.peak_rss_mib": [300.0, 280.0, 700.0],
        "profile.sources.peak_rss_mib": ["modelled: guess"] * 3,
        "accuracy": [0.6, 0.55, 0.8],
    },
    index=["a", "b", "c"],
)
DRAWS = pd.DataFrame({"a": [0.61, 0.59, 0.60, 0.60], "b": [0.54, 0.60, 0.53, 0.53], "c": [0.8, 0.8, 0.8, 0.8]})


def test_the_best_that_fits_the_runner_up_and_what_a_step_more_buys():
    best, second, sure, modelled = answer(TABLE, DRAWS, "accuracy", {P95: 6.0, MEMORY: 400.0}, "toy multi map")
    assert best == (
        "Deploy small with hybrid batches: toy multi map 0.600 [0.591, 0.609] at 5 ms a query (p95), 300 MiB."
    )
    assert second.startswith("Runner-up: small with monolingual batches, served SQ8, -0.050")
    assert "cannot tell apart" in second  # one draw of four has it ahead
    assert sure == "It is the best of the 2 that fit in 75% of the bootstrap's draws."
    assert modelled == "Modelled, not measured: peak_rss_mib."  # of a looser limit nothing: both shut the big one out


def test_one_limit_more_loosely():
    said = answer(TABLE, DRAWS, "accuracy", {P95: 6.0}, "toy multi map")
    assert "With 9 ms a query (p95): big with hybrid batches, +0.200 [+0.191, +0.209]." in said


def test_a_failed_grade_is_said():
    said = answer(TABLE, DRAWS, "accuracy", {}, "toy multi map")
    assert said[0].startswith("Deploy big with hybrid batches")
    assert any("failed its grade" in sentence for sentence in said)


def test_where_nothing_fits_the_binding_limit_is_named():
    (said,) = answer(TABLE, DRAWS, "accuracy", {P95: 3.0, MEMORY: 400.0}, "x")
    assert (
        said == "Nothing fits. --p95-ms binds: the least is 4 ms a query (p95), "
        "by small with monolingual batches, served SQ8."
    )
    (said,) = answer(TABLE, DRAWS, "accuracy", {P95: 3.0, MEMORY: 1.0}, "x")
    assert said.startswith("Nothing fits, whichever limit is dropped")


def test_on_a_sweep(tmp_path, monkeypatch, capsys):
    store = ResultStore(tmp_path)
    add_sweep(store)
    wishes = ["--sweep", "toy", "--results-dir", str(tmp_path)]
    said = recommend(parse([*wishes, "--accuracy", "cross.map", "--p95-ms", "9"]))
    assert said[0].startswith("Deploy e5-small-l6 with hybrid batches: facts cross map 0.")  # 12 layers take 14.9 ms
    assert any(sentence.startswith("With 14.9 ms a query (p95): e5-small-l12") for sentence in said)
    cheap = recommend(parse([*wishes, "--usd-per-million", "1000", "--prices", "gpu_example"]))
    assert cheap[0].startswith("Deploy e5-small-l12")
    with pytest.raises(UserError, match=r"--accuracy multi\.bleu: this sweep has facts\.mono\.map"):
        recommend(parse([*wishes, "--accuracy", "multi.bleu"]))
    monkeypatch.setattr("sys.argv", ["recommend", "--results-dir", str(tmp_path), "--sweep", "none"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith("error: no sweep none in")


def test_without_profiles_there_is_no_cost(tmp_path):
    store = ResultStore(tmp_path)
    add_run(store, "toy", 3, "hybrid", profiled=False)
    with pytest.raises(UserError, match="--p95-ms: no cell of sweep toy has that figure"):
        recommend(parse(["--sweep", "toy", "--results-dir", str(tmp_path), "--p95-ms", "9"]))
    (best, _, _) = recommend(parse(["--sweep", "toy", "--results-dir", str(tmp_path)]))
    assert np.char.endswith(best, "at a cost that was not measured.")
