"""What W&B receives, against the records: read back from its own files with its own reader, and sent by its own client
to a server on loopback."""

import json
import logging
import signal
import subprocess
from dataclasses import replace

import pytest
import records
import wandb
from command import inside
from wandb_copies import OWN, read_back, table_of
from wandb_server import WandbServer

from pipeline.reporting.wandb import client, live
from pipeline.retrieval import metrics
from pipeline.store.results import ResultStore
from pipeline.values import UserError


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store, and a W&B without the API key and the settings of the user who runs the tests."""
    for name in OWN:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # registered, so that variables set by the client are undone
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home/netrc"))
    wandb.teardown()  # its service keeps the environment it was started with
    yield ResultStore(tmp_path / "results")
    wandb.teardown()


@pytest.fixture
def server(store, monkeypatch):
    """Where the client of `store` sends its runs."""
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.teardown()
        assert server.unknown == []


def about(record):
    """What a run tells its W&B process first."""
    return {name: getattr(record, name) for name in ("name", "choices", "config")} | {
        "id": record.cache_key,
        "job_type": "train",
    }


def log_run(store, record, *messages):
    """What the W&B process of a run does that sent these messages and then made this record."""
    live.follow(about(record), [*messages, {"record": record.name}, {"outcome": {"status": "done"}}])


def test_a_run_is_logged_completely(store, capsys):
    record = records.add_run(store, "toy", 3, "hybrid")
    log_run(store, record)
    (run,) = read_back(store.root)
    assert (run["run_id"], run["run_group"], run["job_type"]) == (record.cache_key, "toy", "train")
    assert (run["display_name"], run["project"]) == (record.name, "toy")
    summary = run["summary"]
    for key, value in record.metrics.items():
        assert summary[f"metrics/{key.replace('.', '/')}"] == value
    for key in ("query_latency_p95_ms", "passages_per_s", "serving_mib", "energy_j_per_1k_queries"):
        assert summary[f"profile/{key}"] == getattr(record.profile, key)
    assert summary["profile/query_latency_p99_ms"] is None
    assert summary["profile/sources/energy_j_per_1k_queries"] == "modelled: TDP of 120 W"
    assert summary["stage_s/train"] == 12.5
    assert (summary["stage"], run["exit_code"]) == ("done", 0)
    columns = {key: value for key, value in run["config"].items() if not isinstance(value, dict | list)}
    assert columns == {
        **{"model": "e5-small-l3", "sampler": "hybrid", "strategy": "hybrid", "data": "toy", "family": "e5-small"},
        **{"layers": 3, "seed": 0, "variant": "as trained"},
    }
    assert run["config"]["config"] == record.config
    assert run["config"]["provenance"] == record.provenance
    assert run["config"]["machine"] == record.profile.details["machine"]
    matrix = table_of(run, "matrix/facts").set_index("query_language")
    expected = metrics.language_matrix(store.per_query(record.name, "facts"), "map")
    assert matrix.loc[expected.index, expected.columns].to_numpy().tolist() == expected.to_numpy().tolist()
    means = table_of(run, "languages/facts").groupby("setting")["map"].mean()
    for setting in ("mono", "cross", "multi"):
        assert means[setting] == pytest.approx(record.metrics[f"facts.{setting}.map"], rel=1e-7)
    curve = store.curve(record.name)
    assert [step["_step"] for step in run["history"]] == curve["step"].tolist()
    for column in ("loss", "learning_rate", "pairs_per_s"):
        assert [step[f"train/{column}"] for step in run["history"]] == curve[column].tolist()
    sentence = f"W&B, offline: {run['folder']} (send it with: python -m pipeline.sync {store.root})\n"
    assert capsys.readouterr().err == sentence
    assert not (store.root.parent / "home").exists()  # nothing is staged elsewhere


def test_the_matrix_is_of_the_main_metric(store):
    record = records.add_run(store, "toy", 3, "none")
    scores = store.per_query(record.name, "facts")
    store.save_frame(store.run_dir(record.name), "per_query-facts", scores.assign(ndcg_10=1 - scores["map"]))
    ndcg = {key.replace(".map", ".ndcg_10"): 1 - value for key, value in record.metrics.items() if "map" in key}
    provenance = record.provenance | {"main_metrics": {"facts": "ndcg_10"}}
    store.save(replace(record, metrics=record.metrics | ndcg, provenance=provenance))
    log_run(store, record)
    matrix = table_of(read_back(store.root)[0], "matrix/facts").set_index("query_language")
    expected = metrics.language_matrix(store.per_query(record.name, "facts"), "ndcg_10")
    assert matrix.loc[expected.index, expected.columns].to_numpy().tolist() == expected.to_numpy().tolist()


def test_points_are_logged_as_they_come_and_once(store):
    """Of a training that was killed after step 2 and resumed from a checkpoint after step 1."""
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name).to_dict("records")
    live.follow(about(record), [{"stage": "load"}, {"stage": "train"}, *curve[:3]])  # no outcome: the run was killed
    (killed,) = read_back(store.root)
    assert [step["_step"] for step in killed["history"]] == [0, 1, 2]
    assert (killed["summary"]["stage"], killed["exit_code"]) == ("train", 1)
    log_run(store, record, {"stage": "train"}, *curve[:2], *curve[2:4], {"stage": "rank"})
    killed, run = read_back(store.root)
    assert [step["_step"] for step in killed["history"] + run["history"]] == [0, 1, 2, 3, 4]
    assert run["run_id"] == killed["run_id"]
    assert (run["summary"]["stage"], run["exit_code"]) == ("done", 0)


def test_a_validation_is_part_of_its_point(store):
    """In the store, points without one have NaN, which W&B would draw as text."""
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name).assign(held_out_loss=[None, None, 0.5, None, None])
    store.save_frame(store.run_dir(record.name), "training", curve)
    store.save(record)
    log_run(store, record)
    (run,) = read_back(store.root)
    assert [step.get("train/held_out_loss") for step in run["history"]] == [None, None, 0.5, None, None]
    assert "train/held_out_loss" not in run["history"][0]


def test_a_failed_run_says_why(store):
    record = records.add_run(store, "toy", 3, "hybrid")
    outcome = {"status": "failed", "reason": "FloatingPointError: the loss is nan at step 7"}
    live.follow(about(record), [{"stage": "train"}, {"outcome": outcome}])
    (run,) = read_back(store.root)
    assert (run["summary"]["stage"], run["summary"]["reason"]) == ("failed", outcome["reason"])
    assert run["exit_code"] == 1


def test_a_run_is_sent_to_a_server_and_resumed_when_it_is_logged_again(store, server, capsys):
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name)
    for seconds in (12.5, 14.0):  # the second: after a crash, the run was repeated
        store.save(replace(record, stage_s={"train": seconds}))
        log_run(store, record)
        (run,) = server.runs.values()
        assert (run.fields["groupName"], run.fields["jobType"], run.complete) == ("toy", "train", True)
        assert [point["_step"] for point in run.history] == curve["step"].tolist()
        assert [point["train/loss"] for point in run.history] == curve["loss"].tolist()
        assert run.summary["stage_s/train"] == seconds
        assert run.config["config"] == record.config
    assert list(server.runs) == [record.cache_key]
    for key, value in record.metrics.items():
        assert run.summary[f"metrics/{key.replace('.', '/')}"] == value
    sent = json.loads(run.files[run.summary["matrix/facts"]["path"]])
    assert sent["columns"] == ["query_language", *records.LANGUAGES]
    assert capsys.readouterr().err == 2 * f"W&B, online: {server.url}/me/toy/runs/{record.cache_key}\n"


def test_a_killed_run_resumes_on_the_server(store, server):
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name).to_dict("records")
    live.follow(about(record), [{"stage": "train"}, *curve[:3]])
    assert [point["_step"] for point in server.runs[record.cache_key].history] == [0, 1, 2]
    log_run(store, record, {"stage": "train"}, *curve[:2], *curve[2:4])
    (run,) = server.runs.values()
    assert [point["_step"] for point in run.history] == [0, 1, 2, 3, 4]
    assert [point["train/loss"] for point in run.history] == [point["loss"] for point in curve]
    assert run.summary["stage"] == "done"


def test_copies_of_a_killed_run_are_one_run_when_they_are_sent(store, monkeypatch, capfd):
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name).to_dict("records")
    live.follow(about(record), [{"stage": "train"}, *curve[:3]])
    log_run(store, record, {"stage": "train"}, *curve[:2], *curve[2:4])
    wandb.teardown()
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        client.sync(store.root)
        wandb.teardown()
        assert server.unknown == []
    assert capfd.readouterr().out == "runs sent: 2\n"
    (run,) = server.runs.values()
    assert [point["_step"] for point in run.history] == [0, 1, 2, 3, 4]
    assert (run.summary["stage"], run.summary["stage_s/train"]) == ("done", 12.5)


@pytest.mark.slow
def test_a_server_that_dies_costs_one_warning_and_leaves_an_offline_copy(store, monkeypatch, caplog, capfd):
    monkeypatch.setattr(client, "SERVER_TIMEOUT_S", 2)
    monkeypatch.setattr(client, "SERVICE_S", 2)
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name).to_dict("records")
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)

        def messages():
            yield from curve[:2]
            server.__exit__()
            yield from curve[2:]
            yield {"record": record.name}
            yield {"outcome": {"status": "done"}}

        live.follow(about(record), messages())
    (warning,) = [entry for entry in caplog.records if entry.name == client.__name__]
    (run,) = read_back(store.root)
    assert record.name in warning.getMessage()
    assert str(run["folder"]) in warning.getMessage()
    assert [step["_step"] for step in run["history"]] == [0, 1, 2, 3, 4]
    assert run["summary"]["stage_s/train"] == 12.5
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        client.sync(store.root)
        assert capfd.readouterr().out == "runs sent: 1\n"
        wandb.teardown()
    assert [point["_step"] for point in server.runs[record.cache_key].history] == [0, 1, 2, 3, 4]


def test_an_online_run_replaces_the_offline_copies_of_its_earlier_attempts(store, monkeypatch):
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name).to_dict("records")
    live.follow(about(record), [{"stage": "train"}, *curve[:3]])
    wandb.teardown()
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        log_run(store, record, {"stage": "train"}, *curve[:2], *curve[2:])
        wandb.teardown()
    assert [point["_step"] for point in server.runs[record.cache_key].history] == [0, 1, 2, 3, 4]
    assert client.copies(store.root) == []


@pytest.mark.slow
def test_offline_runs_are_sent_once(store, monkeypatch, capfd):
    """Also those of a run that is logged again after it was sent."""
    record = records.add_run(store, "toy", 3, "hybrid")
    log_run(store, record)
    with pytest.raises(UserError, match="no W&B API key, unsent runs: 1"):
        client.sync(store.root)
    wandb.teardown()
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for seconds in (12.5, 15.5):
            capfd.readouterr()
            client.sync(store.root)
            assert capfd.readouterr().out == "runs sent: 1\n"
            (run,) = server.runs.values()
            assert (run.fields["groupName"], run.fields["jobType"], run.complete) == ("toy", "train", True)
            assert [point["train/loss"] for point in run.history] == store.curve(record.name)["loss"].tolist()
            assert run.summary["stage_s/train"] == seconds
            monkeypatch.setenv("WANDB_MODE", "offline")
            store.save(replace(record, stage_s={"train": 15.5}))
            log_run(store, record)
            monkeypatch.delenv("WANDB_MODE")
            wandb.teardown()
        client.sync(store.root)
        wandb.teardown()
        assert server.unknown == []
    capfd.readouterr()
    client.sync(store.root)
    assert capfd.readouterr().out == f"no unsent runs in {store.root / 'wandb'}\n"


def test_a_run_at_work_is_not_sent(store, capfd):
    record = records.add_run(store, "toy", 3, "hybrid")

    def messages():
        yield {"stage": "train"}
        capfd.readouterr()
        client.sync(store.root)
        yield {"outcome": {"status": "done"}}

    live.follow(about(record), [{"stage": "train"}])  # in its first seconds a copy is empty, so this one stands for it
    live.follow(about(record), messages())
    first, second = capfd.readouterr().out.splitlines()
    assert first.startswith("runs at work, to be sent once they have ended: ")
    assert second == f"no unsent runs in {store.root / 'wandb'}"


@pytest.mark.parametrize("content", [b"", b":W&B\xed\xbe\x00"], ids=["nothing", "header"])
def test_the_empty_copy_of_a_run_that_was_killed_at_once_is_left_out(store, capfd, content):
    folder = store.root / "wandb/offline-run-20260101_000000-id"
    folder.mkdir(parents=True)
    (folder / "run-id.wandb").write_bytes(content)
    client.sync(store.root)
    assert capfd.readouterr().out == f"no unsent runs in {store.root / 'wandb'}\n"


def test_an_unreachable_server_costs_one_warning_and_keeps_the_run(store, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setattr(client, "SERVER_TIMEOUT_S", 1)
    record = records.add_run(store, "toy", 3, "hybrid")
    log_run(store, record)
    (warning,) = [
        entry for entry in caplog.records if entry.levelno >= logging.WARNING and entry.name == client.__name__
    ]
    assert record.name in warning.getMessage()
    (run,) = read_back(store.root)
    assert run["summary"]["metrics/facts/multi/map"] == record.metrics["facts.multi.map"]


def test_a_folder_that_cannot_be_written_costs_a_warning(store, caplog):
    record = records.add_run(store, "toy", 3, "none")
    (store.root / "file").write_text("")
    record.config["tracking"]["dir"] = str(store.root / "file" / "below")
    log_run(store, record)
    (warning,) = caplog.records
    assert record.name in warning.getMessage()


def test_disabled_tracking_writes_nothing(store, monkeypatch):
    record = records.add_run(store, "toy", 3, "none")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_run(store, record)
    monkeypatch.delenv("WANDB_MODE")
    record.config["tracking"]["wandb"] = False
    log_run(store, record)
    assert read_back(store.root) == []


def test_a_folder_without_runs_has_nothing_to_send(tmp_path):
    code, out, _ = inside(f"results_dir={tmp_path}", cwd=tmp_path, module="pipeline.sync")
    assert (code, out) == (0, f"no unsent runs in {tmp_path / 'wandb'}\n")


def test_a_service_that_does_not_end_is_killed(monkeypatch):
    """W&B waits for it without a limit: seen with a server that could not be reached."""
    monkeypatch.setattr(client, "SERVICE_S", 0.5)
    service = subprocess.Popen(["bash", "-c", "exec -a wandb-core sleep 600"])
    monkeypatch.setattr("psutil.Process.name", lambda process: (process.as_dict(["cmdline"])["cmdline"] or [""])[0])
    client.end_service(service.wait)
    assert service.returncode == -signal.SIGKILL
