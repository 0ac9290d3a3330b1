"""Several processes train as one: DDP and FSDP2 over gloo, resumed after a kill, on one machine and on two."""

import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked
import numpy as np
import psutil
import pytest
import torch
from command import SMALL, records, start
from tiny import train, two_layers

from pipeline.training import world
from pipeline.training.checkpoints import latest
from pipeline.values import World

pytestmark = pytest.mark.slow


def train_there(rank, size, ports, nan, trainings):
    """What each process does: the trainings of all folders, one after another."""
    for port, (folder, changes) in zip(ports, trainings.items(), strict=True):
        model, before = two_layers(), dict(os.environ)
        if nan:
            with torch.no_grad():
                model.backbone.encoder.layer[0].output.dense.weight.fill_(float("nan"))
        try:
            train(folder, model=model, world=World(rank, size, rank, port=port), devices=size, **changes)
        finally:
            assert dict(os.environ) == before


ALL = {"grad_cache": True, "hard_negatives": 2, "matryoshka_widths": [32, 8], "exit_layers": [1]}
STATE = {"steps": 40, "learning_rate": 5e-3, "dropout": 0.1, "checkpoint_every": 5, "patience": 99, "validate_every": 7}


OTHERS = {"RANK": "7", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1"}  # what Slurm or another training has left


def begin(size, trainings, nan=False, there=train_there):
    """Start the processes of the trainings of each folder with its changes."""
    with ExitStack() as held:  # a port per training, as a run has: a late process must not find the store of the last
        ports = []
        for _ in trainings:
            bound = held.enter_context(socket.socket())
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", 0))
            ports.append(bound.getsockname()[1])
    arguments = (size, ports, nan, trainings)
    return [forked.start(there, rank, *arguments, stderr=said(trainings, rank), **OTHERS) for rank in range(size)]


def said(trainings, rank):
    """The file of what a process writes."""
    return Path(next(iter(trainings))).parent / f"stderr-{rank}"


def finish(processes):
    """Wait for all of them and return their exit codes."""
    return [forked.finish(process) for process in processes]


def together(size, trainings, **options):
    codes = finish(begin(size, trainings, **options))
    assert codes == [0] * size, said(trainings, 0).read_text()


def losses(checkpoint):
    return [point["loss"] for point in checkpoint.state["progress"]["curve"]]


@pytest.mark.parametrize(
    ("size", "changes"),
    [(2, {}), (3, ALL), (2, {"strategy": "fsdp"}), (2, {"strategy": "fsdp", **ALL})],
    ids=["ddp", "ddp 3 all", "fsdp", "fsdp all"],
)
def test_several_processes_train_as_one(tmp_path, size, changes):
    """AdamW's first moment after one step is a tenth of the gradient. Later weights are not compared: AdamW moves
    parameters whose true gradient is 0, such as the attention's key bias, by the sign of rounding errors.
    """
    same = {"batch_size": 12, "forward_tokens": 60, **changes}
    short, long = {**same, "steps": 1}, {**same, "learning_rate": 1e-3}
    train(tmp_path / "short, one", model=two_layers(), **short)
    train(tmp_path / "long, one", model=two_layers(), **long)
    together(size, {str(tmp_path / "short, several"): short, str(tmp_path / "long, several"): long})
    one, several, one_end, several_end = (
        latest(tmp_path / f"{length}, {number}") for length in ("short", "long") for number in ("one", "several")
    )
    for index, moments in one.state["optimizer"]["state"].items():
        of_several = several.state["optimizer"]["state"][index]["exp_avg"]
        torch.testing.assert_close(of_several, moments["exp_avg"], atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(losses(several_end), losses(one_end), rtol=1e-4)
    assert several_end.state["progress"]["language_pairs"] == one_end.state["progress"]["language_pairs"]
    before = two_layers().state_dict()
    assert several_end.weights.keys() == one_end.weights.keys()
    assert any(not torch.equal(value, before[name]) for name, value in several_end.weights.items())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_training_of_two_processes_ends_bit_identical(tmp_path, strategy):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    changes = {**STATE, "strategy": strategy}
    together(2, {str(undisturbed): changes})
    processes = begin(2, {str(killed): changes})
    while not (killed / "step-00000010").exists() and all(map(BaseProcess.is_alive, processes)):
        time.sleep(0.001)
    for process in processes:
        process.kill()
    assert finish(processes) == [-signal.SIGKILL] * 2
    assert latest(killed).state["progress"]["step"] < STATE["steps"]
    together(2, {str(killed): changes})
    expected, resumed = latest(undisturbed), latest(killed)
    assert losses(resumed) == losses(expected)
    for weights, of_resumed in ((expected.weights, resumed.weights), (expected.best_weights, resumed.best_weights)):
        assert weights.keys() == of_resumed.keys() != set()
        assert all(torch.equal(value, of_resumed[name]) for name, value in weights.items())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_warning_to_one_process_ends_both_with_a_checkpoint(tmp_path, strategy):
    folder = tmp_path / "checkpoints"
    processes = begin(2, {str(folder): {**STATE, "steps": 5000, "checkpoint_every": 10, "strategy": strategy}})
    while not list(folder.glob("step-*")) and all(map(BaseProcess.is_alive, processes)):
        time.sleep(0.001)
    os.kill(processes[1].pid, signal.SIGUSR1)
    assert finish(processes) == [-signal.SIGUSR1] * 2
    assert latest(folder).state["progress"]["step"] < 5000


def test_a_nan_loss_ends_all_processes(tmp_path):
    trainings = {str(tmp_path / "checkpoints"): {}}
    assert finish(begin(2, trainings, nan=True)) == [1, 1]
    for rank in range(2):
        assert said(trainings, rank).read_text().splitlines()[-1] == "FloatingPointError: the loss is nan at step 0"


RUN = [*SMALL, "sampler=hybrid", "threads=2", "trainer.devices=2"]


def impatient(*arguments):
    world.SILENCE = timedelta(seconds=3)
    train_there(*arguments)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_process_that_hangs_does_not_hold_the_others_for_ever(tmp_path, strategy):
    trainings = {str(tmp_path / "checkpoints"): {**STATE, "steps": 100_000, "strategy": strategy}}
    processes = begin(2, trainings, there=impatient)
    while not list((tmp_path / "checkpoints").glob("step-*")) and all(map(BaseProcess.is_alive, processes)):
        time.sleep(0.001)
    os.kill(processes[1].pid, signal.SIGSTOP)
    try:
        assert finish(processes[:1]) == [1]
    finally:
        processes[1].kill()
    assert re.search("[Tt]imed out|timeout", said(trainings, 0).read_text())


def test_a_run_trains_in_two_processes_and_none_is_left(tmp_path, monkeypatch):
    """In spite of a port that another training has left in the environment, and somebody listens at."""
    taken = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
    process = start(*RUN, cwd=tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    taken.close()
    (record,) = records(tmp_path)
    assert sum(record["training"]["language_pairs"].values()) == 2 * 4
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]  # None of a zombie
    assert not [line for line in lines if str(tmp_path) in line]


def test_a_process_of_the_training_that_is_killed_is_named(tmp_path):
    process = start(*RUN, "trainer.steps=500", cwd=tmp_path)
    peer = None
    while peer is None:
        children = psutil.Process(process.pid).children(recursive=True)
        peer = next((child for child in children if "launch.peer" in " ".join(child.cmdline())), None)
        time.sleep(0.05)
    while not list(tmp_path.glob("results/stages/unfinished-*/step-*")):
        time.sleep(0.05)
    peer.kill()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "a process of the training: killed by SIGKILL" in err


def test_two_machines_make_a_sweep_together(tmp_path, monkeypatch):
    """The second trains with the first and leaves records and report to it."""
    command = ["-m", *RUN, "trainer.num_nodes=2", "sampler=none,hybrid", "sweep=shared"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    processes = []
    for node in ("0", "1"):
        monkeypatch.setenv("NODE_RANK", node)
        processes.append(start(*command, cwd=tmp_path))
    outputs = [process.communicate(timeout=280) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "The most accurate system" in outputs[0][0]
    assert outputs[1][0] == ""
    assert len(records(tmp_path)) == 2


def test_machines_that_nobody_numbered_are_refused(tmp_path):
    process = start(*RUN, "trainer.num_nodes=2", cwd=tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "error: trainer.num_nodes=2: start the same command on each machine with srun or torchrun" in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
