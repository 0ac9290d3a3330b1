"""Records survive the way to disk and back; what is not as it was written is not believed."""

import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import records
from omegaconf import OmegaConf

import pipeline
from pipeline.launch.sweep import begin, end
from pipeline.store.files import Damaged, others, read_json, write_atomically, write_csv, write_json
from pipeline.store.keys import cache_key
from pipeline.store.names import check_sweep
from pipeline.store.provenance import commit
from pipeline.store.records import Profile, Record, row
from pipeline.store.results import PER_QUERY, ResultStore, RunState
from pipeline.store.stage import Stages
from pipeline.values import UserError


@pytest.fixture
def profile():
    fields = Profile.__dataclass_fields__.items()
    numbers = {name: field.type(1.5) for name, field in fields if field.type in (float, int)}
    optional = {name: None for name, field in fields if "None" in str(field.type)}
    machine = {"cpu": "Imaginary 9000", "device": "cpu"}
    details = {"raw_ms": [1.0, 2.0], "machine": machine, "threads": 2, "quality": {"checks": []}}
    further = {"quality": "passed", "relative_errors": {"peak_rss_mib": 0.02}, "encoder_key": "0a1b"}
    return Profile(**numbers | optional | further, sources={"peak_rss_mib": "measured: VmHWM"}, details=details)


@pytest.fixture
def record(profile):
    return Record(
        name="m-s-d-s0-1234",
        cache_key="1234",
        status="done",
        choices={"model": "m", "sampler": "s", "data": "d"},
        config={"model": {"family": "f"}, "sampler": {}},
        seed=0,
        provenance={"layers": 3, "time": "2026-01-01T00:00:00Z"},
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


def test_a_sweep_lists_its_runs_and_flattens_the_finished_ones(tmp_path, record):
    store = ResultStore(tmp_path)
    store.save(record)
    store.add_to_manifest("one", RunState(record.name, "done", record.choices, 3.0))
    store.add_to_manifest("one", RunState("other", "failed", {"model": "n"}, 1.0, "killed by SIGKILL"))
    assert [(state.name, state.status, state.reason) for state in store.runs("one")] == [
        (record.name, "done", None),
        ("other", "failed", "killed by SIGKILL"),
    ]
    done, _ = store.runs("one")
    flat = row(done.record)
    assert flat["model"] == "m"
    assert flat["metrics.b.mono.map"] == 0.5
    assert flat["profile.peak_rss_mib"] == 1.5
    assert flat["profile.quality"] == "passed"
    assert flat["profile.sources.peak_rss_mib"] == "measured: VmHWM"
    with pytest.raises(UserError, match=r"no sweep two in .*: There are: one"):
        store.runs("two")


def test_frames_come_back(tmp_path):
    store = ResultStore(tmp_path)
    frame = pd.DataFrame(dict.fromkeys(PER_QUERY, "a") | {"map": [0.25]})
    store.save_frame(store.run_dir("run"), "per_query-b", frame)
    pd.testing.assert_frame_equal(store.per_query("run", "b"), frame)
    assert store.curve("run").empty


def test_no_text_of_a_csv_is_a_formula(tmp_path):
    texts = ["=1+1", "+1", "@SUM(A1)", "-x", "\t=1", "-", "-0.5", "en", None]
    write_csv(tmp_path / "table.csv", pd.DataFrame({"text": texts, "gain": -0.5}))
    read = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    assert read["text"].tolist() == ["'=1+1", "'+1", "'@SUM(A1)", "'-x", "'\t=1", "-", "-0.5", "en", ""]
    assert (read["gain"] == -0.5).all()
    package = Path(pipeline.__file__).parent
    writers = [path for path in package.rglob("*.py") if "to_csv" in path.read_text(encoding="utf-8")]
    assert [path.name for path in writers if path.parent.name != "bench"] == ["files.py"]  # nobody writes another way


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


def test_no_file_is_believed_that_lacks_its_end_or_has_a_flipped_bit(tmp_path):
    path = tmp_path / "value.json"
    value = {"text": "größer", "numbers": [1, 2.5, None], "by": {"b": 1, "a": True}}
    write_json(path, value)
    assert read_json(path) == value
    whole = path.read_bytes()
    same = 0
    for position in range(len(whole)):
        for broken in (whole[:position], whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]):
            path.write_bytes(broken)
            with suppress(Damaged):
                assert read_json(path) == value  # white space: what it says is what was written
                same += 1
    assert same < len(whole) / 5
    with pytest.raises(UserError, match=r"nothing\.json does not exist"):
        read_json(tmp_path / "nothing.json")


def test_keys_that_are_numbers_come_back_as_json_has_them(tmp_path):
    write_json(tmp_path / "value.json", {"by": {2: 1.0, 10: 2.0}})
    assert read_json(tmp_path / "value.json") == {"by": {"2": 1.0, "10": 2.0}}


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_stage_is_made_again_when_a_file_of_it_is_damaged(tmp_path, capsys, harm):
    store = ResultStore(tmp_path)
    folder = store.stage_dir("train", "key")
    assert store.outcome("train", "key") is None
    store.save_frame(folder, "training", pd.DataFrame({"step": [1, 2]}))
    weights = folder / "encoder" / "model.safetensors"
    write_atomically(weights, lambda path: path.write_bytes(bytes(1000)))
    (folder / "encoder" / ".model-a1b2c3d4.safetensors").write_text("half")
    store.finish("train", "key", {"loss": 0.5})
    assert store.outcome("train", "key") == {"loss": 0.5}
    assert capsys.readouterr().err == ""
    assert not list(folder.rglob(".model*"))
    if harm == "remove":
        weights.unlink()
    else:
        weights.write_bytes(bytes(999) + b"\1" if harm == "flip" else bytes(999))
    assert store.outcome("train", "key") is None
    assert f"{weights} is damaged or missing: it has to be made again." in capsys.readouterr().err
    weights.write_bytes(bytes(1000))
    assert store.outcome("train", "key") == {"loss": 0.5}


def test_a_run_whose_table_is_damaged_is_not_finished(tmp_path, record, capsys):
    store = ResultStore(tmp_path)
    store.save_frame(store.run_dir(record.name), "per_query-b", pd.DataFrame({"map": [0.25]}))
    store.save(record)
    assert store.finished(record.name) == record
    table = store.run_dir(record.name) / "per_query-b.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    assert store.finished(record.name) is None
    assert str(table) in capsys.readouterr().err
    with pytest.raises(UserError, match=r"per_query-b\.parquet is damaged"):
        store.load(record.name)


def test_results_of_another_version_are_named(tmp_path, record):
    store = ResultStore(tmp_path)
    path = store.save(record)
    for schema, says in ((1, "was made by an older version"), (99, "was written by a newer version: its schema is 99")):
        write_json(path, asdict(record) | {"schema": schema})
        for read in (store.load, store.finished):
            with pytest.raises(UserError, match=rf"record\.json {says}"):
                read(record.name)
    raw = asdict(record)
    del raw["schema"]  # as the first version wrote it
    write_json(path, raw)
    with pytest.raises(UserError, match="was made by an older version"):
        store.load(record.name)
    for sweep, folder in {"old": "manifest", "older": "cells"}.items():
        (tmp_path / sweep / folder).mkdir(parents=True)
        with pytest.raises(UserError, match=f"{sweep} was made by an older version: move it away"):
            store.runs(sweep)


def test_a_stage_is_made_once_and_timed(tmp_path, capsys):
    stages, made = Stages(ResultStore(tmp_path)), []

    def make(folder):
        made.append(folder)
        write_atomically(folder / "table.txt", lambda path: path.write_text("a table"))
        return {"rows": 1}

    assert stages("rank", "key", make) == {"rows": 1}
    assert Stages(stages.store)("rank", "key", make) == {"rows": 1}
    assert made == [stages.store.stage_dir("rank", "key")]
    assert capsys.readouterr().err == "  rank …\n"
    assert list(stages.seconds) == ["rank"]
    (made[0] / "table.txt").write_text("another")
    assert stages("rank", "key", make) == {"rows": 1}
    assert len(made) == 2


def test_a_stage_that_fails_is_not_kept(tmp_path):
    stages = Stages(ResultStore(tmp_path))
    with pytest.raises(ValueError, match="no luck"):
        stages("rank", "key", lambda folder: (_ for _ in ()).throw(ValueError("no luck")))
    assert stages("rank", "key", lambda folder: {"rows": 2}) == {"rows": 2}


def test_a_new_plan_keeps_what_was_done_and_forgets_what_failed_or_is_no_longer_wanted(tmp_path, record):
    store = ResultStore(tmp_path)
    for name in ("stays", "stays+SQ8", "earlier"):
        store.save(replace(record, name=name))
        store.add_to_manifest("sweep", RunState(name, "done", record.choices, 3.0))
    store.add_to_manifest("sweep", RunState("again", "failed", record.choices, 1.0, "killed by SIGKILL"))
    choices = {"model": "m"}
    store.clear("sweep", keep=["stays", "stays+SQ8", "again", "new"])
    store.plan("sweep", dict.fromkeys(("stays", "again", "new"), choices))
    assert list(store.planned("sweep")) == ["stays", "again", "new"]
    assert [state.name for state in store.runs("sweep")] == ["stays", "stays+SQ8"]
    assert store.finished("earlier")


def test_what_was_not_profiled_costs_what_the_same_model_costs_in_another_sweep(tmp_path):
    store = ResultStore(tmp_path)
    costs = {layers: records.add_run(store, "costs", layers, "none").profile for layers in (3, 6)}
    for layers in (3, 6, 12):
        records.add_run(store, "trained", layers, "hybrid", profiled=False)
    assert [state.record.profile for state in store.runs("trained")] == [None] * 3
    store.plan("trained", {}, costs_from="costs")
    profiles = {state.record.provenance["layers"]: state.record.profile for state in store.runs("trained")}
    assert profiles == {**costs, 12: None}
    assert costs[3] != costs[6]


def changed(record: Record, **config) -> Record:
    return replace(record, config=record.config | config)


@pytest.mark.parametrize(
    ("there", "here", "sentence"),
    [
        ({}, {"model": {"max_query_tokens": 32}}, "model.max_query_tokens differs: 64 there, 32 here"),
        ({"eval": {"xquad_r": {}}}, {}, "texts differ: xquad_r there, facts here"),
        ({}, {"eval": {"facts": {"languages": ["ar"]}}}, r"eval.facts.languages differs: \['ar', 'en'\] there"),
    ],
)
def test_costs_of_another_deployment_are_refused(tmp_path, there, here, sentence):
    store = ResultStore(tmp_path)
    same = {"eval": {"facts": {"languages": ["ar", "en"], "path": "/here"}}}
    records_ = (
        records.add_run(store, "costs", 3, "none"),
        records.add_run(store, "trained", 3, "hybrid", profiled=False),
    )
    for record, change in zip(records_, (there, here), strict=True):
        model = {"max_query_tokens": 64} | change.get("model", {})
        store.save(changed(record, **same | change | {"model": record.config["model"] | model}))
    store.plan("trained", {}, costs_from="costs")
    with pytest.raises(UserError, match=f"^costs_from=costs: {sentence}"):
        store.runs("trained")


def test_what_does_not_change_a_cost_may_differ(tmp_path):
    """Weights, the device and threads that trained, the benchmark's folder, the settings of a profile that is off."""
    store = ResultStore(tmp_path)
    settings = {"enabled": True, "min_calls": 1000}
    record = records.add_run(store, "costs", 3, "none")
    store.save(changed(record, device="cpu", eval={"facts": {"path": "/there"}}, profile=settings))
    run = records.add_run(store, "trained", 3, "hybrid", profiled=False)
    model = run.config["model"] | {"weights": "elsewhere", "freeze_word_embeddings": True}
    off = {"enabled": False, "min_calls": 150}
    store.save(changed(run, device="cuda", threads=64, eval={"facts": {"path": "/here"}}, profile=off, model=model))
    store.plan("trained", {}, costs_from="costs")
    assert store.runs("trained")[0].record.profile == record.profile


def test_several_profiles_of_one_model_are_not_chosen_from(tmp_path):
    store = ResultStore(tmp_path)
    first, second = (records.add_run(store, "costs", 3, "none", seed) for seed in (0, 1))
    records.add_run(store, "trained", 3, "hybrid", profiled=False)
    store.plan("trained", {}, costs_from="costs")
    assert store.runs("trained")[0].record.profile == first.profile  # shared by both runs
    store.save(replace(second, profile=replace(second.profile, peak_rss_mib=99.0)))
    with pytest.raises(UserError, match="costs_from=costs: it has 2 profiles of e5-small-l3, as trained; name"):
        store.runs("trained")
    store.save(changed(second, profile={"min_calls": 5}))
    store.save(changed(first, profile={"min_calls": 7}))
    with pytest.raises(
        UserError, match=r"costs_from=costs: profile.min_calls differs: 7 in .*-s0-abcd, 5 in .*-s1-abcd"
    ):
        store.runs("trained")
    with_8 = replace(first.profile, details=first.profile.details | {"threads": 8})
    store.save(replace(first, profile=with_8))
    store.save(second)
    with pytest.raises(UserError, match=r"costs_from=costs: threads differ: 8 in .*-s0-abcd, 2 in .*-s1-abcd"):
        store.runs("trained")


@pytest.mark.parametrize(
    "name", ["../up", "..", ".", "", "a/b", "runs", "stages", "locks", "wandb", "a" * 101, "$x", "a b"]
)
def test_a_sweep_is_a_folder_of_its_own(name):
    with pytest.raises(UserError, match=r"^sweep=.*: a name has 1 to 100 letters, digits"):
        check_sweep("sweep", name)
    check_sweep("sweep", "2026-11-28_first.try")


def test_profiles_of_unlike_devices_are_not_mixed(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 3, "none")
    own = records.add_run(store, "trained", 6, "hybrid")
    details = own.profile.details | {"machine": {"cpu": "EPYC", "gpu": "H200", "device": "cuda"}}
    store.save(replace(own, profile=replace(own.profile, details=details)))
    records.add_run(store, "trained", 3, "hybrid", profiled=False)
    store.plan("trained", {}, costs_from="costs")
    with pytest.raises(
        UserError, match=r"costs_from=costs: device differs: cuda in e5-small-l6-.*, cpu in e5-small-l3-"
    ):
        store.runs("trained")


def test_a_cache_key_does_not_depend_on_the_order_of_keys():
    assert cache_key({"a": 1, "b": [1, 2]}) == cache_key({"b": [1, 2], "a": 1})
    assert cache_key({"a": 1}) != cache_key({"a": 2})


@pytest.mark.parametrize("name", ["../x", "", "a/b", "-a", "a b", "a" * 201])
def test_a_run_is_a_folder_of_its_own(tmp_path, name):
    with pytest.raises(UserError, match=r"^run=.*: a run's name has up to 200"):
        ResultStore(tmp_path).run_dir(name)
    assert ResultStore(tmp_path).run_dir("e5-small-none-s0-1a2b+HNSW32-efSearch=64").parent.name == "runs"


def test_only_files_of_ours_are_removed(tmp_path):
    store = ResultStore(tmp_path)
    store.add_to_manifest("one", RunState("left", "failed", {}, 1.0))
    folder = store.kept_dir("one") / "manifest"
    (folder / "mine.json").write_text('{"status": "failed"}')
    store.clear("one", keep=[])
    assert [path.name for path in folder.iterdir()] == ["mine.json"]
    kept = tmp_path / ".notes"
    kept.touch()
    (tmp_path / ".record-a1b2c3d4.json").touch()
    others(tmp_path / "record.json")
    assert kept.exists()
    assert not (tmp_path / ".record-a1b2c3d4.json").exists()


def test_a_sweep_at_work_keeps_its_definition(tmp_path):
    store, config = ResultStore(tmp_path), OmegaConf.create({"sweep": "one", "costs_from": None})

    def planned(*names):
        return [SimpleNamespace(name=name, run_names=[name], choices={"model": "m"}) for name in names]

    store.plan("one", {"a": {"model": "m"}, "b": {"model": "m"}})
    with store.lock("sweep-one", shared=True):
        with pytest.raises(UserError, match="sweep=one is at work with other runs: wait for its end, or name another"):
            begin(store, config, planned("a", "c"))
        assert [*store.planned("one")] == ["a", "b"]


def test_a_report_that_fails_shows_why_and_ends_with_1(tmp_path, monkeypatch, capsys):
    """By an error that nobody foresaw, after runs that are all done."""
    store = ResultStore(tmp_path)
    store.plan("one", {"a": {"model": "m"}})
    store.add_to_manifest("one", RunState("a", "done", {"model": "m"}, 3.0))
    monkeypatch.setattr("pipeline.reporting.publish.report", lambda results_dir, sweep: 1 / 0)
    with pytest.raises(SystemExit, match="1"):
        end(str(tmp_path), "one")
    assert capsys.readouterr().err.endswith("\nZeroDivisionError: division by zero\n")


def test_provenance_needs_no_git(monkeypatch, tmp_path):
    """Container images have none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None
