"""Records survive the way to disk and back; a write that fails leaves the old file as it was."""

import os

import pandas as pd
import pytest

from pipeline.results import Cell, ResultStore, fingerprint, write_atomically
from pipeline.values import Profile, Record, UserError


@pytest.fixture
def profile():
    numbers = {name: 1.5 for name, field in Profile.__dataclass_fields__.items() if field.type in (float, int, bool)}
    optional = {name: None for name, field in Profile.__dataclass_fields__.items() if "None" in str(field.type)}
    return Profile(**numbers, **optional, sources={"peak_rss_mib": "measured: VmHWM"}, details={"raw_ms": [1.0, 2.0]})


@pytest.fixture
def record(profile):
    return Record(
        name="m-s-d-s0-1234",
        fingerprint="1234",
        status="done",
        choices={"model": "m", "sampler": "s", "data": "d"},
        config={"model": {"family": "f"}},
        seed=0,
        provenance={"layers": 3},
        metrics={"b.mono.map": 0.5},
        profile=profile,
        notes=("an exercise",),
    )


def test_a_record_comes_back_as_it_was(tmp_path, record):
    store = ResultStore(tmp_path)
    assert not store.finished(record.name)
    store.save(record)
    assert store.load(record.name) == record
    assert store.finished(record.name)


def test_a_sweep_lists_its_cells_and_flattens_the_finished_ones(tmp_path, record):
    store = ResultStore(tmp_path)
    store.save(record)
    store.note("one", Cell(record.name, "done", record.choices, 3.0))
    store.note("one", Cell("other", "failed", {"model": "n"}, 1.0, "killed by SIGKILL"))
    assert [(cell.name, cell.status, cell.reason) for cell in store.cells("one")] == [
        (record.name, "done", None),
        ("other", "failed", "killed by SIGKILL"),
    ]
    (row,) = store.table("one").to_dict("records")
    assert row["model"] == "m"
    assert row["metrics.b.mono.map"] == 0.5
    assert row["profile.peak_rss_mib"] == 1.5
    assert row["profile.sources.peak_rss_mib"] == "measured: VmHWM"
    with pytest.raises(UserError, match=r"no sweep two in .*; there are: one"):
        store.cells("two")


def test_frames_and_profiles(tmp_path, profile):
    store = ResultStore(tmp_path)
    frame = pd.DataFrame({"query_id": ["a"], "map": [0.25]})
    store.save_frame(store.run_dir("run"), "per_query-b", frame)
    pd.testing.assert_frame_equal(store.per_query("run", "b"), frame)
    assert store.curve("run").empty
    assert store.profile("key") is None
    store.save_profile("key", profile)
    assert store.profile("key") == profile


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    write_atomically(path, lambda temporary: temporary.write_text("old"))

    def half(temporary):
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_broken_record_names_its_file(tmp_path):
    store = ResultStore(tmp_path)
    path = store.run_dir("run") / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"name": ')
    with pytest.raises(UserError, match=r"record\.json is not valid JSON"):
        store.finished("run")


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
