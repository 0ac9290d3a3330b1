"""What W&B receives, against the records: read back from its own files with its own reader, and sent by its own client
to a server on loopback."""

import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import records
import wandb
from wandb_server import WandbServer

from pipeline.reporting import publish
from pipeline.reporting import wandb as tracking
from pipeline.retrieval import metrics
from pipeline.store.results import ResultStore
from pipeline.values import UserError


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store, and a W&B without the API key and the settings of the user who runs the tests."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # registered, so that variables set by the tracking are undone
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home/netrc"))
    wandb.teardown()  # its service keeps the environment it was started with
    yield ResultStore(tmp_path / "results")
    wandb.teardown()


def read_back(store: ResultStore) -> list[dict]:
    """Config, summary, history and files of each offline run, as `wandb leet inspect` prints them."""
    runs = []
    for path in sorted(store.root.glob("wandb/offline-run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        run = {"history": [], "summary": {}, "config": {}, "folder": path.parent}
        for entry in map(json.loads, lines):
            kind = entry["type"]
            if kind == "run":
                run |= entry["run"] | {"config": dict(entry["run"]["config"]["update"])}
            elif kind == "config":
                run["config"] |= entry["config"]["update"]
            elif kind == "history":
                run["history"].append(entry["history"]["item"])
            elif kind == "summary":
                # a table in the summary is nested, a logged one is flat
                update = pd.json_normalize(entry["summary"]["update"])
                run["summary"] |= update.iloc[0].to_dict()
        runs.append(run)
    return runs


@pytest.fixture
def server(store, monkeypatch):
    """Where the client of `store` sends its runs."""
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.teardown()
        assert server.unknown == []


def table_of(run: dict, key: str) -> pd.DataFrame:
    """A wandb.Table from the file that waits beside the run to be sent."""
    path = run["folder"] / "files" / run["summary"][f"{key}.path"]
    raw = json.loads(path.read_text())
    return pd.DataFrame(raw["data"], columns=raw["columns"])


def test_a_run_is_logged_completely(store, capsys):
    record = records.add_run(store, "toy", 3, "hybrid")
    tracking.log_run(store, record)
    (run,) = read_back(store)
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
    assert {key: run["config"][key] for key in record.config} == record.config
    assert run["config"]["choices"] == record.choices
    assert run["config"]["variant"] == "as trained"
    assert run["config"]["provenance"] == record.provenance
    assert run["config"]["machine"] == record.profile.details["machine"]
    matrix = table_of(run, "matrix/facts").set_index("query_language")
    expected = metrics.language_matrix(store.per_query(record.name, "facts"), "map")
    assert matrix.loc[expected.index, expected.columns].to_numpy().tolist() == expected.to_numpy().tolist()
    means = table_of(run, "languages/facts").groupby("setting")["map"].mean()
    for setting in ("mono", "cross", "multi"):
        assert means[setting] == pytest.approx(record.metrics[f"facts.{setting}.map"], rel=1e-12)
    curve = store.curve(record.name)
    assert [step["_step"] for step in run["history"]] == curve["step"].tolist()
    for column in ("loss", "learning_rate", "pairs_per_s"):
        assert [step[f"train/{column}"] for step in run["history"]] == curve[column].tolist()
    assert capsys.readouterr().err == f"W&B, offline: {run['folder']} (send it with: wandb sync {run['folder']})\n"
    assert not (store.root.parent / "home").exists()  # nothing is staged elsewhere


def test_the_matrix_is_of_the_main_metric(store):
    record = records.add_run(store, "toy", 3, "none")
    scores = store.per_query(record.name, "facts")
    store.save_frame(store.run_dir(record.name), "per_query-facts", scores.assign(ndcg_10=1 - scores["map"]))
    ndcg = {key.replace(".map", ".ndcg_10"): 1 - value for key, value in record.metrics.items() if "map" in key}
    provenance = record.provenance | {"main_metrics": {"facts": "ndcg_10"}}
    tracking.log_run(store, replace(record, metrics=record.metrics | ndcg, provenance=provenance))
    matrix = table_of(read_back(store)[0], "matrix/facts").set_index("query_language")
    expected = metrics.language_matrix(store.per_query(record.name, "facts"), "ndcg_10")
    assert matrix.loc[expected.index, expected.columns].to_numpy().tolist() == expected.to_numpy().tolist()


def test_the_run_of_a_sweep_holds_table_scatters_and_figure(store):
    for layers in (3, 6):
        records.add_run(store, "toy", layers, "hybrid")
    records.add_run(store, "toy", 24, "none", cost_only=True)
    publish.report(store.root, "toy")
    (run,) = read_back(store)
    assert (run["job_type"], run["run_group"]) == ("report", "toy")
    systems = pd.read_csv(store.root / "toy/systems.csv")
    sent = table_of(run, "systems")
    assert sent["system"].tolist() == systems["system"].tolist()
    multi = "metrics.facts.multi.map"
    assert sent[multi].tolist()[:2] == systems[multi].tolist()[:2]
    assert sent[multi].isna().tolist() == [False, False, True]  # of random weights
    points = pd.read_csv(store.root / "toy/pareto.csv")
    for (setting, cost), panel in points.groupby(["setting", "cost"]):
        key = f"pareto/facts/{setting}/{cost}"
        chart = run["config"][f"_wandb.visualize.{key}"]["panel_config"]
        assert chart["panelDefId"] == "wandb/scatter/v0"
        assert chart["fieldSettings"] == {"x": cost, "y": f"facts_{setting}_map"}
        scatter = table_of(run, f"{key}_table")
        assert scatter[cost].tolist() == panel["value"].tolist()
        assert scatter[f"facts_{setting}_map"].tolist() == panel["accuracy"].tolist()
    image = run["folder"] / "files" / run["summary"]["pareto/facts/figure.path"]
    assert image.read_bytes() == (store.root / "toy/pareto.png").read_bytes()


@pytest.mark.parametrize(("sampler", "cost_only", "job"), [("none", False, "evaluate"), ("none", True, "profile")])
def test_job_types(store, sampler, cost_only, job):
    tracking.log_run(store, records.add_run(store, "toy", 3, sampler, cost_only=cost_only))
    (run,) = read_back(store)
    assert run["job_type"] == job
    assert run["history"] == []


def test_a_run_is_sent_to_a_server_and_resumed_when_it_is_logged_again(store, server, capsys):
    record = records.add_run(store, "toy", 3, "hybrid")
    curve = store.curve(record.name)
    for seconds in (12.5, 14.0):  # the second: after a crash, the run was repeated
        tracking.log_run(store, replace(record, stage_s={"train": seconds}))
        (run,) = server.runs.values()
        assert (run.fields["groupName"], run.fields["jobType"], run.complete) == ("toy", "train", True)
        assert [point["_step"] for point in run.history] == curve["step"].tolist()
        assert [point["train/loss"] for point in run.history] == curve["loss"].tolist()
        assert run.summary["stage_s/train"] == seconds
        assert {key: run.config[key] for key in record.config} == record.config
    assert list(server.runs) == [record.cache_key]
    for key, value in record.metrics.items():
        assert run.summary[f"metrics/{key.replace('.', '/')}"] == value
    sent = json.loads(run.files[run.summary["matrix/facts"]["path"]])
    assert sent["columns"] == ["query_language", *records.LANGUAGES]
    assert capsys.readouterr().err == 2 * f"W&B, online: {server.url}/me/toy/runs/{record.cache_key}\n"


def test_the_report_is_an_artifact(store, server):
    for layers in (3, 6):
        records.add_run(store, "toy", layers, "hybrid")
    publish.report(store.root, "toy")
    (run,) = server.runs.values()
    assert (run.fields["groupName"], run.fields["jobType"]) == ("toy", "report")
    folder = store.root / "toy"
    for name in ("report.html", "pareto.csv", "systems.csv", "tests.csv"):
        assert server.artifacts["toy-report"][name] == (folder / name).read_bytes()
    assert run.files[run.summary["pareto/facts/figure"]["path"]] == (folder / "pareto.png").read_bytes()
    assert run.config["_wandb"]["visualize"]["pareto/facts/multi/serving_mib"]["panel_type"] == "Vega2"


def test_offline_runs_are_sent_once(store, monkeypatch, capfd):
    """Of a run that was logged twice only the later copy is kept, and a curve is sent once."""

    def log(seconds: float) -> None:
        for number, path in enumerate(sorted(store.root.glob("wandb/offline-run-*"))):
            path.rename(path.with_name(f"offline-run-{number}-{record.cache_key}"))  # W&B names them by the second
        tracking.log_run(store, replace(record, stage_s={"train": seconds}))

    record = records.add_run(store, "toy", 3, "hybrid")
    log(12.5)
    log(14.0)
    assert len(read_back(store)) == 1
    with pytest.raises(UserError, match="no W&B API key, unsent runs: 1"):
        tracking.sync(store.root)
    wandb.teardown()
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for seconds in (14.0, 15.5):
            tracking.sync(store.root)
            assert capfd.readouterr().out == "runs sent: 1\n"
            (run,) = server.runs.values()
            assert (run.fields["groupName"], run.fields["jobType"], run.complete) == ("toy", "train", True)
            assert [point["train/loss"] for point in run.history] == store.curve(record.name)["loss"].tolist()
            assert run.summary["stage_s/train"] == seconds
            monkeypatch.setenv("WANDB_MODE", "offline")
            log(15.5)
            monkeypatch.delenv("WANDB_MODE")
            wandb.teardown()
        tracking.sync(store.root)
        wandb.teardown()
        assert server.unknown == []
    tracking.sync(store.root)
    assert capfd.readouterr().out == f"runs sent: 1\nno unsent runs in {store.root / 'wandb'}\n"


def test_an_unreachable_server_costs_one_warning_and_keeps_the_run(store, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setattr(tracking, "SERVER_TIMEOUT_S", 1)
    record = records.add_run(store, "toy", 3, "hybrid")
    tracking.log_run(store, record)
    (warning,) = [
        entry
        for entry in caplog.records
        if entry.levelno >= logging.WARNING and entry.name == "pipeline.reporting.wandb"
    ]
    assert record.name in warning.getMessage()
    (run,) = read_back(store)
    assert run["summary"]["metrics/facts/multi/map"] == record.metrics["facts.multi.map"]


def test_a_folder_that_cannot_be_written_costs_a_warning(store, caplog):
    record = records.add_run(store, "toy", 3, "none")
    (store.root / "file").write_text("")
    record.config["tracking"]["dir"] = str(store.root / "file" / "below")
    tracking.log_run(store, record)
    (warning,) = caplog.records
    assert record.name in warning.getMessage()


def test_disabled_tracking_writes_nothing(store, monkeypatch):
    record = records.add_run(store, "toy", 3, "none")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracking.log_run(store, record)
    monkeypatch.delenv("WANDB_MODE")
    record.config["tracking"]["wandb"] = False
    tracking.log_run(store, record)
    assert read_back(store) == []


def test_bad_input_of_the_command_is_one_sentence(tmp_path):
    command = [sys.executable, "-m", "pipeline.reporting.wandb"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {tracking.USAGE}\n"
    ended = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stdout == f"no unsent runs in {tmp_path / 'wandb'}\n"


def test_a_service_that_does_not_end_is_killed(monkeypatch):
    """W&B waits for it without a limit: seen with a server that could not be reached."""
    monkeypatch.setattr(tracking, "SERVICE_S", 0.5)
    service = subprocess.Popen(["bash", "-c", "exec -a wandb-core sleep 600"])
    monkeypatch.setattr("psutil.Process.name", lambda process: process.cmdline()[0])
    tracking.end_service(service.wait)
    assert service.returncode == -signal.SIGKILL
