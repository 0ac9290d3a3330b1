"""Runs that a fork server makes: like fresh processes, and alone in their misfortunes. Real processes and signals."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from command import SMALL, child_of, descendants, is_server, manifest, run
from hydra import compose, initialize_config_dir

from pipeline.config import check
from pipeline.launch import child, forkserver
from pipeline.launch.request import make_request

pytestmark = pytest.mark.slow

CONF = Path(__file__).parent.parent / "conf"
KILLED = {"status": "failed", "reason": child.without_answer(-signal.SIGKILL, child.oom_kills())["reason"]}


def request(folder, *changes):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[*SMALL, "sampler=hybrid", f"results_dir={folder / 'results'}", *changes])
    return make_request(check(cfg), {"model": "m", "sampler": "s", "data": "d"})


def attempt(folder, *changes):
    return child.attempt(request(folder, *changes), None, fresh=False)


def servers():
    return descendants(psutil.Process(), is_server)


def meanwhile(action):
    """Do something to the child of a run once it is there."""
    thread = threading.Thread(target=lambda: action(child_of(psutil.Process())))
    thread.start()
    return thread


def test_forks_of_one_server_train_and_score_like_fresh_processes(tmp_path):
    results = {}
    for name, fresh in {"fork": False, "second fork": False, "fresh": True}.items():
        folder = tmp_path / name
        assert child.attempt(request(folder), None, fresh=fresh) == {"status": "done"}
        (encoder,) = folder.glob("results/stages/train-*/encoder/model.safetensors")
        (record,) = folder.glob("results/runs/*/record.json")
        kept = json.loads(record.read_text())
        results[name] = encoder.read_bytes(), kept["metrics"], kept["training"]["final_loss"]
        assert len(servers()) == 1
    assert results["fork"] == results["second fork"] == results["fresh"]


SPY = """
import gc, json, os, resource, signal, sys, time, warnings
from pathlib import Path
from pipeline.values import UserError

class Spy:
    trains = False

    def __init__(self):
        if "pipeline.launch.worker" not in sys.modules:
            return  # the sweep's own process checks its config
        import numpy, torch, transformers
        import pipeline.training.fit  # which a run imports once it trains
        signals = {*signal.Signals} - {signal.SIGKILL, signal.SIGSTOP}
        seen = {
            "torch": [torch.get_num_threads(), torch.__config__.parallel_info()],
            "cuda": torch.cuda.is_initialized(),
            "environment": dict(os.environ),
            "folder": [os.getcwd(), sys.path, os.umask(0o22)],
            "signals": {each.name: str(signal.getsignal(each)) for each in signals},
            "blocked": [*signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            "leads its group": os.getpgid(0) == os.getpid(),
            "warnings": [str(each) for each in warnings.filters],
            "garbage": [gc.isenabled(), gc.get_threshold()],
            "files": sorted(os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in (0, 1, 2)),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "niceness": os.nice(0),
            "logging": transformers.logging.get_verbosity(),
        }
        drawn = [torch.initial_seed(), numpy.random.random()]
        Path(f"{time.monotonic_ns()}.json").write_text(json.dumps([os.getppid(), drawn, seen]))
        raise UserError("seen")
"""


def test_a_fork_finds_what_a_fresh_process_finds_and_the_threads_of_its_run(tmp_path):
    (tmp_path / "spy.py").write_text(SPY)
    spied = [*SMALL, "sampler=none", "sampler._target_=spy.Spy", "allow_targets=[spy]"]
    code, _, err = run("-m", *spied, "threads=1,2", "seed=0,1", "sweep=spied", cwd=tmp_path)
    assert code == 1, err
    assert [state["reason"] for state in manifest(tmp_path, "spied")] == ["seen"] * 4
    code, _, err = run(*spied, "threads=2", cwd=tmp_path)
    assert code == 2, err
    parents, draws, (one, one_again, two, two_again, fresh) = zip(
        *(json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))), strict=True
    )
    assert parents[0] == parents[1] != parents[2] == parents[3]
    assert len({tuple(drawn) for drawn in draws}) == 5  # what draws without a seed does not draw alike
    assert (one["torch"][0], two["torch"][0]) == (1, 2)
    assert "omp_get_max_threads() : 1" in one["torch"][1]
    assert "omp_get_max_threads() : 2" in two["torch"][1]
    assert one == one_again
    assert two == two_again == fresh


def test_a_killed_child_leaves_the_server_to_the_next_run(tmp_path):
    thread = meanwhile(psutil.Process.kill)
    assert attempt(tmp_path, "trainer.steps=100000") == KILLED
    thread.join()
    before = servers()
    assert attempt(tmp_path) == {"status": "done"}
    assert servers() == before


def test_a_killed_server_takes_its_child_along_and_the_next_run_gets_another(tmp_path):
    children = []

    def kill_server(process):
        children.append(process)
        process.parent().kill()

    thread = meanwhile(kill_server)
    assert attempt(tmp_path, "trainer.steps=100000") == KILLED | {"reason": f"the fork server: {KILLED['reason']}"}
    thread.join()
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert servers() == []
    assert attempt(tmp_path) == {"status": "done"}
    assert len(servers()) == 1


def test_signals_are_for_runs_and_not_for_the_server(tmp_path):
    def interrupt(process):
        for number in forkserver.SIGNALS:
            process.parent().send_signal(number)
        process.send_signal(signal.SIGTERM)

    thread = meanwhile(interrupt)
    assert attempt(tmp_path, "trainer.steps=100000") == {"status": "failed", "reason": "killed by SIGTERM"}
    thread.join()
    (server,) = servers()
    for number in forkserver.SIGNALS:
        server.send_signal(number)
    assert attempt(tmp_path) == {"status": "done"}
    assert servers() == [server]


def test_a_child_that_hangs_ends_with_its_server(tmp_path):
    children = []

    def stop(process):
        children.append(process)
        process.suspend()

    thread = meanwhile(stop)
    hangs = request(tmp_path, "trainer.steps=100000")
    assert child.attempt(hangs, 0.02, fresh=False) == {
        "status": "failed",
        "reason": "took longer than time_limit_min=0.02",
    }
    thread.join()
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert servers() == []


IMPORTING = """
from pipeline.launch import forkserver
import os, sys
server = forkserver.Server(dict(os.environ))
print(server.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_idle_server_ends_with_its_parent(number):
    with subprocess.Popen([sys.executable, "-c", IMPORTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(number)
        assert parent.wait(timeout=20) == -number
    assert not psutil.wait_procs([server], timeout=60)[1]
