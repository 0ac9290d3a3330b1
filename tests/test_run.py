"""The line as a user types it: real processes, from the command to the record, and the ways in which it ends early."""

import os
import time

import pytest
from command import SMALL, TINY, inside, records, run

LITTLE = ["model=e5-small-l3", "model.layers=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A multirun of two runs at a time, one with and one without training, up to the fronts."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, *run("-m", "launcher=joblib", *SMALL, "sampler=none,hybrid", "sweep=two", cwd=folder)


def test_a_multirun_leaves_a_record_per_run_and_the_fronts(finished):
    folder, code, out, err = finished
    assert code == 0, err
    untrained, trained = sorted(records(folder), key=lambda record: record["choices"]["sampler"], reverse=True)
    assert (untrained["choices"]["sampler"], trained["choices"]["sampler"]) == ("none", "hybrid")
    for record in (untrained, trained):
        assert record["status"] == "done"
        assert 0 < record["metrics"]["worldfacts.multi.map"] < record["metrics"]["worldfacts.mono.map"] <= 1
        assert record["config"]["model"]["layers"] == record["provenance"]["layers"] == 1
        assert any("not evidence" in note for note in record["notes"])
    assert untrained["choices"]["data"] == "none"  # it was trained on nothing, so nothing is said of a training set
    assert untrained["provenance"]["data"] is None
    assert "-none-none-s0-" in untrained["name"]
    assert untrained["metrics"] != trained["metrics"]
    assert sum(trained["training"]["language_pairs"].values()) == 2 * 4
    assert "hybrid" in out
    assert "The most accurate system on worldfacts is " in out
    assert err.count("  train …") == 1  # a line per stage, and no progress bar in a log
    assert not any(mark in err for mark in ("it/s", "texts/s", "%|"))
    assert (folder / "results/two/pareto.csv").exists()
    assert not list(folder.rglob(".*-*"))  # no temporary file


def test_a_finished_run_is_cached(finished):
    folder, *_ = finished
    tomorrow_s = time.time() + 86_400  # as if the clock had been set back since
    for path in folder.rglob("*"):
        os.utime(path, (tomorrow_s, tomorrow_s))
    before = {path: path.stat().st_mtime_ns for path in (folder / "results/runs").rglob("*") if path.is_file()}
    code, out, err = run(*SMALL, "sampler=none", "sweep=three", cwd=folder)
    assert code == 0, err
    assert "cached" in err
    (record,) = [record for record in records(folder) if record["choices"]["sampler"] == "none"]
    mono, cross, multi = (record["metrics"][f"worldfacts.{setting}.map"] for setting in ("mono", "cross", "multi"))
    assert out.splitlines() == [
        f"worldfacts, mAP: mono {mono:.3f}, cross {cross:.3f}, multi {multi:.3f}",
        "costs: not measured",
        f"record: {folder}/results/runs/{record['name']}/record.json",
    ]
    assert {path: path.stat().st_mtime_ns for path in (folder / "results/runs").rglob("*") if path.is_file()} == before


def test_what_another_sweep_has_made_counts_from_the_start(finished):
    code, _, err = run("-m", *SMALL, "sampler=none,hybrid", "sweep=again", cwd=finished[0])
    assert code == 0, err
    assert [line.partition("; ")[2] for line in err.splitlines() if "cached in" in line] == ["2 of 2 runs"] * 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sampler=hybird"], "hybird"),
        (["metrics=[map,ncdg_10]"], "did you mean ndcg"),
        (["variants.grids=[{backend:[onxx]}]"], "did you mean onnx"),
        (["trainer.step=3"], "step"),
        (["trainer.steps=many"], "many"),
        (["sampler.alpha=1.5"], "sampler.alpha must lie in [0, 1], got 1.5"),
        (["-m", "sampler.alpha=0.5,1.5"], "sampler.alpha must lie in [0, 1], got 1.5"),
        (["trainer.batch_size=100000"], "trainer.batch_size=100000 is larger than"),
        (["data.languages=[en,xx]"], "xx"),
        (["data=xquad_r_articles", "data.path=nowhere", "eval.xquad_r_articles.path=nowhere"], "nowhere"),
        (["device=cuda"], "device=cuda"),
        (["-m", "seed=0,1", "sweep=stages"], "sweep=stages: a name has"),
        (["sweep=2026_11_28"], "sweep=2026_11_28 is read as the number 20261128: write 'sweep=\"2026_11_28\"'."),
        (["variants.grids=[{index:['IVF512,Flat']}]"], "index 'IVF512,Flat' needs 512 vectors to be trained on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, says):
    code, _, err = inside(*arguments, *LITTLE, cwd=tmp_path)
    assert code == 2, err
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert says in sentence
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_the_child_process_refuses_is_one_sentence_too(tmp_path):
    """What the parent refuses without one is tested in test_bad_command_lines."""
    code, _, err = run("data.languages=[en,xx]", *LITTLE, cwd=tmp_path)
    assert (code, err) == inside("data.languages=[en,xx]", *LITTLE, cwd=tmp_path)[::2]
    assert (code, err.count("error: "), "xx" in err) == (2, 1, True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_broken_json_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/en.json").write_text('{"data": [')
    paths = ["data.path=data", "eval.xquad_r_articles.path=data"]
    languages = ["data.languages=[en]", "eval.xquad_r_articles.languages=[en]"]
    code, _, err = inside("data=xquad_r_articles", "sampler=monolingual", *paths, *languages, cwd=tmp_path)
    assert code == 2, err
    assert "en.json" in err
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_an_unreachable_hub_says_so_within_20_s_and_names_the_two_ways_out(tmp_path):
    code, _, err = run("model=xlmr-large", cwd=tmp_path)
    assert code == 2, err
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "model.weights=random" in sentence
    assert "folder" in sentence or "local path" in sentence
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_random_weights_cost_but_are_not_scored(tmp_path):
    code, _, err = inside(*TINY, cwd=tmp_path)
    assert code == 0, err
    (record,) = records(tmp_path)
    assert record["metrics"] == {}
    assert any("no accuracy" in note for note in record["notes"])
