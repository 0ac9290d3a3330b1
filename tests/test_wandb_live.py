"""W&B beside real runs: processes as a user starts them, killed and resumed, and started by W&B's own agent."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from command import SMALL, child_of, records, run, start
from test_config import composed
from wandb_copies import OWN, read_back
from wandb_server import WandbServer

from pipeline import config
from pipeline.launch import live
from pipeline.launch.request import make_request

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
STEPS = 6
TRAINS = [*(item for item in SMALL if not item.startswith(("tracking", "trainer.steps"))), f"trainer.steps={STEPS}"]
TRAINS += ["sampler=hybrid", "trainer.checkpoint_every=2", "threads=1"]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """W&B without the API key and the settings of the user who runs the tests."""
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home/netrc"))
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.5")  # seconds, as the next
    monkeypatch.setenv("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "0.2")
    return tmp_path


def request(*overrides):
    choices = {"model": "e5-small-l3", "sampler": "hybrid", "data": "worldfacts", "eval": "worldfacts"}
    return make_request(config.check(composed(*overrides)), choices)


def wait_for(condition):
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_a_run_is_logged_step_by_step(alone, monkeypatch):
    with TemporaryDirectory() as temporary:  # not below `alone`: the path of a socket has 108 bytes at most
        monkeypatch.setenv("TMPDIR", temporary)
        code, _, err = run(*TRAINS, cwd=alone)
        assert code == 0, err
        assert os.listdir(temporary) == []
    (record,) = records(alone)
    (copy,) = read_back(alone / "results")
    assert copy["run_id"] == record["cache_key"]
    assert [point["_step"] for point in copy["history"]] == list(range(1, STEPS + 1))
    assert {"train/loss", "train/learning_rate", "train/pairs_per_s"} <= copy["history"][0].keys()
    assert copy["summary"]["_runtime"] < copy["summary"]["_wandb.runtime"] + 1
    keys = {key for sample in copy["stats"] for key in sample}
    assert any("cpu" in key for key in keys)
    assert any("memory" in key for key in keys)
    assert (copy["summary"]["stage"], copy["exit_code"]) == ("done", 0)


def test_a_run_that_is_killed_goes_on_where_it_was(alone):
    """Its steps are logged while it trains, not at its end, and its copies hold every step once."""
    many = [*TRAINS, "trainer.steps=100", "trainer.checkpoint_every=10"]
    killed = start(*many, cwd=alone)
    worker = child_of(killed)
    wait_for(lambda: any(b"train/loss" in path.read_bytes() for path in alone.glob("results/wandb/*/*.wandb")))
    wait_for(lambda: list(alone.glob("results/stages/unfinished-*/step-*")))
    worker.kill()
    killed.communicate(timeout=60)
    assert killed.returncode == 1
    (first,) = read_back(alone / "results")
    assert first["history"][0]["_step"] == 1
    assert first["exit_code"] in (None, 1)  # 1 if its W&B process could still say so before the group was killed
    code, _, err = run(*many, cwd=alone)
    assert code == 0, err
    copies = read_back(alone / "results")
    assert copies[0]["history"] == first["history"]
    assert [point["_step"] for copy in copies for point in copy["history"]] == list(range(1, 101))
    assert copies[0]["run_id"] == copies[1]["run_id"]


def test_tracking_that_is_off_imports_nothing_and_starts_no_process(alone, monkeypatch):
    monkeypatch.setattr(live, "COMMAND", ["/nonexistent"])
    with live.followed(request("tracking.wandb=false")) as log:
        log({"stage": "train"})
    code = "import sys, pipeline.launch.worker; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["/nonexistent"], "not logged: "),
        (["false"], "incomplete: exit code 1"),
        (["sleep", "600"], "incomplete: no end after 0.5 s"),
    ],
    ids=["cannot start", "dies", "hangs"],
)
def test_a_process_that_fails_costs_the_run_one_line(command, says, monkeypatch, capfd):
    monkeypatch.setattr(live, "COMMAND", command)
    monkeypatch.setattr(live, "LONGEST_S", 0.5)
    with live.followed(request()) as log:
        for step in range(20_000):  # more than a pipe holds
            log({"step": step, "loss": 0.5})
    (line,) = capfd.readouterr().err.splitlines()
    assert says in line


def test_messages_wait_for_a_process_that_is_slow(monkeypatch, tmp_path):
    """It gets all of them, in order, though the pipe is full meanwhile."""
    code = f"import sys, time; time.sleep(1); open({str(tmp_path / 'taken')!r}, 'w').write(sys.stdin.read())"
    monkeypatch.setattr(live, "COMMAND", [sys.executable, "-c", code])
    with live.followed(request()) as log:
        for step in range(20_000):
            log({"step": step})
    about, *messages = map(json.loads, (tmp_path / "taken").read_text().splitlines())
    assert [message["step"] for message in messages] == list(range(20_000))
    assert about["config"]["tracking"]["wandb"]


@pytest.mark.parametrize(
    ("overrides", "job"),
    [([], "train"), (["sampler=none"], "evaluate"), (["model.weights=random"], "profile")],
)
def test_job_types(overrides, job):
    assert live.about(request(*overrides))["job_type"] == job


def test_an_agent_of_wandb_runs_the_cells_of_a_sweep(alone, monkeypatch):
    """The second is in the store already; its run gets its metrics all the same."""
    sweep = yaml.safe_load((ROOT / "sweeps/wandb.yaml").read_text())
    small = dict(item.split("=", 1) for item in TRAINS if item.startswith(("model.", "data.", "eval.", "profile")))
    fixed = {key: entry["value"] for key, entry in sweep["parameters"].items() if "value" in entry}
    first = {key: entry["values"][0] for key, entry in sweep["parameters"].items() if "values" in entry}
    assert composed(*(f"{key}={value}" for key, value in (first | fixed).items())).sweep == "agents"
    args = first | fixed | small | {"trainer.steps": 2, "trainer.batch_size": 4}
    with WandbServer() as server:
        server.sweep, server.queue = sweep, {"one": args, "two": args}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | server.environment | {"PATH": path, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "wandb", "agent", "me/toy/sweep"]
        ended = subprocess.run(
            command, cwd=alone, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert server.unknown == []
    (record,) = records(alone)
    for run_id in ("one", "two"):
        logged = server.runs[run_id]
        assert logged.fields["sweep"] == "sweep"
        assert [point["_step"] for point in logged.history] == [1, 2]
        metric = sweep["metric"]["name"]
        assert logged.summary[metric] == record["metrics"][metric.removeprefix("metrics/").replace("/", ".")]
        assert {key: logged.config[key] for key in first} == first
        assert logged.config["strategy"] == first["sampler"]
    assert (alone / "results/agents/.store/manifest").is_dir()
