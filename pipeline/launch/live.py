"""Tells a run's W&B process what happens. That process (reporting.wandb.live) can neither fail the run nor hold it up.

W&B has threads and waits for its server. In a process of its own it does so elsewhere: training may fork
(trainer.devices), and a message is a write to a pipe that never blocks.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.config import plain
from pipeline.launch.request import Request, trains
from pipeline.store.records import AS_TRAINED
from pipeline.store.stage import Log, unheard

LONGEST_S = 300  # that W&B may take at the end of a run; its own limits of time are shorter
COMMAND = [sys.executable, "-m", "pipeline.launch.start", "reporting.wandb.live"]


@contextmanager
def followed(request: Request) -> Iterator[Log]:
    """Yield the Log of a run: messages to its W&B process. Nobody hears them with tracking.wandb=false."""
    if not request.config.tracking.wandb or os.environ.get("WANDB_MODE") == "disabled":
        yield unheard
        return
    try:
        pipe = Pipe(request)
    except OSError as error:  # no memory for another process
        print(f"W&B · {request.name} · not logged: {error}", file=sys.stderr, flush=True)
        yield unheard
        return
    try:
        yield pipe
    finally:
        pipe.close()


class Pipe:
    """A W&B process and the messages that it has not taken yet."""

    def __init__(self, request: Request):
        self.name, self.unsent = request.name, bytearray()
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE)
        assert self.process.stdin
        self.stdin = self.process.stdin.fileno()
        os.set_blocking(self.stdin, False)
        self(about(request))

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Send a message, after those that found the pipe full; what does not fit now waits for the next call."""
        self.unsent += f"{json.dumps(message)}\n".encode()
        with suppress(OSError):  # the pipe is full, or the process has ended, which `close` reports
            del self.unsent[: os.write(self.stdin, self.unsent)]

    def close(self) -> None:
        """Wait until all is logged, within limits of time."""
        late = False
        with self.process:  # which closes the pipe
            try:
                self.process.communicate(bytes(self.unsent), timeout=LONGEST_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                late = True
        if code := self.process.returncode:
            reason = f"no end after {LONGEST_S} s" if late else f"exit code {code}"
            print(f"W&B · {self.name} · incomplete: {reason}", file=sys.stderr, flush=True)


def about(request: Request) -> dict[str, Any]:
    """Return what the W&B process has to know of a run before it begins."""
    untrained = "profile" if request.config.model.cost_only else "evaluate"
    return {
        "id": request.record_key(AS_TRAINED),
        "name": request.name,
        "job_type": "train" if trains(request.config) else untrained,
        "choices": dict(request.choices),
        "config": plain(request.config),
    }


def log_again(request: Request) -> None:
    """Log a finished run: a W&B agent that is handed one expects its metrics under an id of the agent's."""
    with followed(request) as log:
        log({"record": request.name})
        log({"outcome": {"status": "done"}})
