"""Processes that need not import torch, Lightning and transformers first, which takes each 5 s of processor time.

A server process imports them once and does nothing else: no thread of theirs runs in it, as it would in a fork of the
process of pytest. Each process is a fork of that server, alone in every other respect.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pipeline.launch.worker", "pipeline.training.fit", "pipeline.data.worldfacts", "pytest"])


def start(target: Callable[..., None], *arguments: Any, stderr: Path, **environment: str) -> BaseProcess:
    """Call a function of a module in a process of its own, which writes its stderr to a file."""
    process = SERVER.Process(target=call, args=(target, arguments, stderr, environment))
    process.start()
    return process


def call(target: Callable[..., None], arguments: tuple[Any, ...], stderr: Path, environment: dict[str, str]) -> None:
    """What the process does."""
    with stderr.open("ab") as file:
        os.dup2(file.fileno(), 2)
    os.environ |= environment
    target(*arguments)


def finish(process: BaseProcess) -> int:
    """Wait for a process and return its exit code: minus the signal that ended it."""
    process.join(timeout=240)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode
