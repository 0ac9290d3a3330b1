"""The index of records gives what the folders hold, notices every change, and is made again whatever happens to it."""

from dataclasses import replace

import pytest
import records

from pipeline.store import index
from pipeline.store.files import Damaged
from pipeline.store.results import ReadOnce, ResultStore
from pipeline.values import UserError


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A sweep of nine runs with an index."""
    monkeypatch.setattr(index, "MANY", 9)
    store = ResultStore(tmp_path)
    records.add_sweep(store, seeds=1)
    assert len(store.runs("toy")) == 9
    return store


def read_anew(store, monkeypatch):
    """Return the runs of the sweep, and the names of those whose folders were read."""
    loads, load = [], ResultStore.load_vouched
    with monkeypatch.context() as patch:
        patch.setattr(ResultStore, "load_vouched", lambda self, name: loads.append(name) or load(self, name))
        return ReadOnce(store.root).runs("toy"), loads


def test_the_index_gives_what_the_folders_hold(store, monkeypatch):
    runs, loads = read_anew(store, monkeypatch)
    assert not loads
    for run in runs:
        assert run.record == index.light(store.load(run.name))
        assert run.record.profile.details.keys() <= index.READ
        assert (run.record.metrics, run.record.profile.peak_rss_mib) == (
            store.load(run.name).metrics,
            store.load(run.name).profile.peak_rss_mib,
        )


def test_a_record_that_is_written_again_is_read_again(store, monkeypatch):
    record = store.load(store.runs("toy")[4].name)
    store.save(replace(record, metrics=dict(record.metrics) | {"facts.multi.map": 0.123}))
    runs, loads = read_anew(store, monkeypatch)
    assert loads == [record.name]
    assert runs[4].record.metrics["facts.multi.map"] == 0.123


def test_what_is_damaged_is_refused_in_spite_of_the_index(store):
    first, second = (store.run_dir(run.name) for run in store.runs("toy")[:2])
    (table,) = first.glob("per_query-*.parquet")
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + b"!")
    with pytest.raises(Damaged, match=table.name):
        store.runs("toy")
    table.write_bytes(whole)
    assert len(store.runs("toy")) == 9
    (second / "record.json").write_text("{}")
    with pytest.raises(Damaged, match=second.name):
        store.runs("toy")
    (second / "record.json").unlink()
    with pytest.raises(UserError, match=f"no run {second.name}"):
        store.runs("toy")


@pytest.mark.parametrize("part", range(9))
def test_a_damaged_index_is_made_again(store, monkeypatch, part):
    """A byte is flipped in each ninth of the file; the last two harms cut it and put a folder in its place."""
    path = store.root / "runs" / index.NAME
    expected, whole = read_anew(store, monkeypatch)[0], bytearray(path.read_bytes())
    if part == 8:
        path.unlink()
        path.mkdir()
    elif part == 7:
        path.write_bytes(whole[: len(whole) // 2])
    else:
        whole[len(whole) * part // 7 + 1] ^= 0x10
        path.write_bytes(whole)
    assert read_anew(store, monkeypatch)[0] == expected
    if part < 8:
        assert read_anew(store, monkeypatch)[1] == []


def test_an_index_of_another_version_is_made_again(store, monkeypatch):
    monkeypatch.setattr(index, "VERSION", {b"pipeline": b"another"})
    for loads in (9, 0):
        assert len(read_anew(store, monkeypatch)[1]) == loads


def test_few_runs_leave_no_index(tmp_path):
    store = ResultStore(tmp_path)
    records.add_sweep(store, seeds=1)
    store.runs("toy")
    assert not [path for path in tmp_path.rglob("*") if "index" in path.name]
