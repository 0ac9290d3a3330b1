"""The command line as a user types it, in a real process, on runs small enough for a test."""

import json
import os
import subprocess
import sys
import time

import psutil

RUN = ["data.languages=[de,en]", "eval.worldfacts.languages=[de,en]", "trainer.steps=2", "trainer.batch_size=4"]
RUN += ["profile=off", "tracking.wandb=false"]
SMALL = ["model=e5-small-l3", "model.layers=1", *RUN]  # trains and evaluates
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


def child_of(process, other_than=None):
    """The child process of a run, once there is one."""
    for _ in range(2400):
        for child in psutil.Process(process.pid).children(recursive=True):
            if child != other_than and "pipeline.launch.start launch.worker" in " ".join(child.cmdline()):
                return child
        time.sleep(0.05)
    raise AssertionError("no child appeared")


def records(folder):
    return [json.loads(path.read_text()) for path in sorted((folder / "results/runs").glob("*/record.json"))]


def manifest(folder, sweep):
    paths = sorted((folder / f"results/{sweep}/.store/manifest").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]
