"""The command line as a user types it, in a real process or inside this one, on runs small enough for a test."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from unittest.mock import patch

import psutil
import torch
from small_model import FOLDER

from pipeline.launch import worker
from pipeline.store.stage import unheard

RUN = ["data.languages=[de,en]", "eval.worldfacts.languages=[de,en]", "trainer.steps=2", "trainer.batch_size=4"]
RUN += ["profile=off", "tracking.wandb=false"]
PACKAGED = ["model=e5-small-l3", "model.layers=1", *RUN]
SMALL = [*PACKAGED, f"model.weights={FOLDER}"]  # trains and evaluates
SIZES = ["hidden_size=48", "intermediate_size=64", "vocab_size=500"]
TINY = ["model=e5-small", "model.weights=random", "model.layers=1", *(f"model.architecture.{size}" for size in SIZES)]
TINY += RUN  # has no accuracy: only its record is made


def start(*arguments, cwd, module="pipeline.run", stderr=subprocess.PIPE):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=stderr)


def run(*arguments, cwd, module="pipeline.run"):
    process = start(*arguments, cwd=cwd, module=module)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def inside(*arguments, cwd, module="pipeline.run"):
    """The same in this process, which has the imports done; test_run and test_faults test what a process adds."""
    out, err, code, threads = io.StringIO(), io.StringIO(), 0, torch.get_num_threads()
    as_it_is = [patch.dict(os.environ), patch.object(sys, "argv", [module, *arguments]), contextlib.chdir(cwd)]
    caught = [contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)]
    made_here = patch("pipeline.launch.runs.attempt", lambda request, *_, **__: worker.perform(request, unheard))
    with contextlib.ExitStack() as stack:
        for context in (*as_it_is, *caught, made_here):
            stack.enter_context(context)
        try:
            import_module(module).main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            torch.set_num_threads(threads)
    return code, out.getvalue(), err.getvalue()


def is_server(process):
    """Whether a process is a fork server. Its forks have the same command line, so it is no fork of one."""
    return is_of(process, "launch.forkserver") and not is_of(process.parent(), "launch.forkserver")


def makes_a_run(process):
    """Whether a process is the child process of a run, fresh or forked."""
    forked = is_of(process, "launch.forkserver") and is_of(process.parent(), "launch.forkserver")
    return forked or is_of(process, "launch.worker")


def is_of(process, module):
    return process is not None and f"pipeline.launch.start {module}" in " ".join(process.cmdline())


def descendants(process, which):
    """The descendants of a process that are of a kind."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if which(child):
                found.append(child)
    return found


def child_of(process, other_than=None):
    """The child process of a run, once there is one."""
    for _ in range(2400):
        for child in descendants(psutil.Process(process.pid), makes_a_run):
            if child != other_than:
                return child
        time.sleep(0.05)
    raise AssertionError("no child appeared")


def records(folder):
    return [json.loads(path.read_text()) for path in sorted((folder / "results/runs").glob("*/record.json"))]


def manifest(folder, sweep):
    paths = sorted((folder / f"results/{sweep}/.store/manifest").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]
