"""An archive gives the report of the results that it was made from; the committed one gives the committed tables."""

import io
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import records
from reports import add_details
from test_notebooks import assert_same_text

from pipeline.analysis.analyse import analyse
from pipeline.reporting.archive import archive
from pipeline.reporting.config import options
from pipeline.reporting.publish import publish
from pipeline.store.files import Damaged
from pipeline.store.frames import KEYS, read_frame, write_frame
from pipeline.store.results import ResultStore, RunState
from pipeline.values import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results/reference"
EDITION = REFERENCE / "edition2"
SWEEPS = sorted(path.parent.name for path in EDITION.glob("*/.store"))
COMMITTED = {".csv", ".tex", ".md", ".png"}  # files of a report; the others are too large


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def report(sweep: str, results_dir: str = "results") -> dict[str, bytes]:
    """The report of a sweep of this folder, by file."""
    with redirect_stdout(io.StringIO()):
        publish(options(results_dir, sweep))
    return {name: content for name, content in files_of(Path(results_dir, sweep)).items() if ".store" not in name}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The results of a sweep of 9 runs, whose profiles have all that meters keep, and a failed run."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = ResultStore("results")
    for record in records.add_sweep(store, "toy", seeds=1):
        add_details(store, replace(record, config=record.config | {"data": {"path": "/home/me/data/xquad-r"}}))
    return store


def test_the_report_of_an_archive_is_that_of_the_results(results, tmp_path, monkeypatch):
    archive(results, ResultStore(tmp_path / "there/results"), "toy")
    expected = report("toy")
    monkeypatch.chdir(tmp_path / "there")  # under the same relative name, which the page shows
    made = report("toy")
    page = re.sub(rb'<p class="command">.*?</p>', b"", expected.pop("report.html"))  # an archive exports no encoder
    assert made.pop("report.html").split() == page.split()
    assert {name for name in expected if made.get(name) != expected[name]} == set()
    assert made.keys() == expected.keys()
    assert len(made) > 20


def test_an_archive_grows_by_the_runs_that_are_new(results, tmp_path):
    target = ResultStore(tmp_path / "archive")
    first = archive(results, target, "toy")
    assert len(first) == 9
    before = files_of(target.root)
    assert archive(results, target, "toy") == []
    assert files_of(target.root) == before
    other = ResultStore(tmp_path / "elsewhere")  # another session's results
    added = records.add_run(other, "toy", 3, "hybrid", seed=1)
    other.add_to_manifest("toy", RunState("dead", "failed", {}, 1.0, "killed by SIGKILL"))
    assert archive(other, target, "toy") == [added.name]
    assert files_of(target.root).items() >= before.items()
    assert [state.name for state in target.runs("toy")] == sorted([*first, added.name])


def test_it_keeps_what_reports_read_and_no_folder_of_this_machine(results, tmp_path):
    name = "e5-small-l3-hybrid-toy-s0-abcd"
    record = results.load(name)
    frame = results.per_query(name, "facts").assign(mrr=0.25)
    results.save_frame(results.run_dir(name), "per_query-facts", frame)
    results.save(replace(record, config=record.config | {"results_dir": "/home/me/results"}))
    target = ResultStore(tmp_path / "archive")
    archive(results, target, "toy")
    kept = target.load(name)
    assert kept.profile == record.profile
    assert kept.config["data"]["path"] == "xquad-r"
    assert kept.config["results_dir"] == "results"
    assert not kept.config["tracking"]["wandb"]
    assert target.per_query(name, "facts").columns.tolist() == [*KEYS, "map", "rank_distance"]
    pd.testing.assert_frame_equal(target.per_query(name, "facts"), frame.drop(columns="mrr"), check_exact=False)
    pd.testing.assert_frame_equal(target.curve(name), results.curve(name))
    long = pd.concat([results.curve(name)] * 50)
    results.save_frame(results.run_dir(name), "training", long)
    results.save(record)
    archive(results, shorter := ResultStore(tmp_path / "shorter"), "toy")
    assert shorter.curve(name).empty


def test_a_bad_run_is_refused_before_anything_is_written(results, tmp_path):
    target = ResultStore(tmp_path / "archive")
    name = "e5-small-l6-hybrid-toy-s0-abcd"
    table = results.run_dir(name) / "per_query-facts.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:-1])
    with pytest.raises(Damaged, match=r"per_query-facts\.parquet is damaged"):
        archive(results, target, "toy")
    assert not target.root.exists()
    table.write_bytes(whole)
    archive(results, target, "toy")
    before = files_of(target.root)
    results.save(replace(results.load(name), cache_key="another"))
    with pytest.raises(UserError, match=f"{name} is another run: move it away"):
        archive(results, target, "toy")
    assert files_of(target.root) == before


def test_costs_of_another_sweep_are_archived_before(results, tmp_path):
    records.add_run(results, "trained", 3, "hybrid", profiled=False)
    results.plan("trained", {}, costs_from="toy")
    target = ResultStore(tmp_path / "archive")
    with pytest.raises(UserError, match=r"^the costs of trained come from toy, which .* lacks: archive it first"):
        archive(results, target, "trained")
    assert not target.root.exists()
    for sweep in ("toy", "trained"):
        archive(results, target, sweep)
    assert [state.record.profile for state in target.runs("trained")] == [
        state.record.profile for state in results.runs("trained")
    ]
    assert target.planned("trained").keys() == target.manifest("trained").keys()


def test_the_tables_of_real_runs_come_back_to_the_digits_that_float32_keeps(tmp_path):
    """Runs of an earlier version, whose scores are float64; real profiles with all their rounds."""
    source, target = ResultStore(REFERENCE), ResultStore(tmp_path)
    names = archive(source, target, "small")
    config = options("results", "small")
    expected, made = (analyse(store, "small", config.prices, config.scenario) for store in (source, target))
    assert expected.keys() == made.keys()
    for name, table in expected.items():
        pd.testing.assert_frame_equal(made[name], table, rtol=1e-5, atol=1e-7)
    for name in names:
        assert target.load(name).profile == source.load(name).profile
        size, before = (
            sum(path.stat().st_size for path in store.run_dir(name).iterdir()) for store in (target, source)
        )
        assert size < before / 4


def test_scores_of_one_over_an_integer_and_integers_come_back_exactly(tmp_path):
    rank = np.arange(1, 3001)
    keys = dict.fromkeys(KEYS, "x")
    frame = pd.DataFrame(
        keys | {"map": 1 / rank, "rank_distance": rank.astype(float), "ndcg_10": 1 / np.log2(1 + rank)}
    )
    frame.loc[5, ["map", "rank_distance"]] = np.nan
    frame.loc[6, "map"], frame.loc[7, "map"] = 0.0, 1e-300
    write_frame(tmp_path / "table.parquet", frame)
    back = read_frame(tmp_path / "table.parquet")
    exact, near = ["map", "rank_distance"], "ndcg_10"
    pd.testing.assert_frame_equal(back[exact].drop(index=7), frame[exact].drop(index=7), check_exact=True)
    assert back["map"][7] == 0  # below what float32 holds
    np.testing.assert_allclose(back[near], frame[near], rtol=6e-8)
    write_frame(tmp_path / "again.parquet", back)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "table.parquet").read_bytes()


def pinned(library: str) -> str:
    return re.search(rf"^{library}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_committed_report_is_that_of_the_archive(sweep, tmp_path, monkeypatch):
    """Byte for byte, but for the last digits of numbers, which processors round differently."""
    folder = tmp_path / EDITION.relative_to(ROOT)
    shutil.copytree(EDITION, folder)
    committed = {path.name: path for path in (EDITION / sweep).iterdir() if path.suffix in COMMITTED}
    for name in committed:
        (folder / sweep / name).unlink()
    monkeypatch.chdir(tmp_path)
    made = report(sweep, str(EDITION.relative_to(ROOT)))
    for name, path in committed.items():
        if made[name] == path.read_bytes():
            continue
        if path.suffix != ".png":
            assert_same_text(made[name].decode(), path.read_text(encoding="utf-8"))
        elif matplotlib.__version__ == pinned("matplotlib"):
            pictures = [matplotlib.image.imread(file) for file in (folder / sweep / name, path)]
            assert np.abs(pictures[0] - pictures[1]).mean() < 0.001, name
