"""Run a request in a child process and wait for its outcome: done, refused, out of memory, or failed with a reason."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypedDict

from pipeline.launch.forkserver import Died, forked
from pipeline.launch.request import Request
from pipeline.launch.signals import Terminated, passed_on
from pipeline.values import WARNINGS

COMMAND = [sys.executable, "-m", "pipeline.launch.start", "launch.worker"]
CHECKPOINT_S = 60  # that a training may take for its last checkpoint; launcher=slurm warns 120 s before the end
HALVINGS = 2  # 1,024 tokens become 256, one passage of the greatest length; less would save no memory
# Files of the kernel that count its kills for memory: of the container (cgroup v2, v1), and of the whole machine.
KILL_COUNTS = [
    Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"), Path("/proc/vmstat"),
]  # fmt: skip


class Outcome(TypedDict, total=False):
    """How an attempt ended; `reason` is set unless it is done."""

    status: Literal["done", "refused", "out of memory", "failed"]
    reason: str


def attempt(request: Request, time_limit_min: float | None, *, fresh: bool) -> Outcome:
    """Run the child; after running out of memory again, with half as many tokens per forward pass.

    Args:
        fresh: whether the child is a process of its own from the start, rather than forked from one that has imported.
    """
    for _ in range(HALVINGS):
        outcome = run_child(request, time_limit_min, fresh=fresh)
        if outcome["status"] != "out of memory":
            return outcome
        print(f"  {request.name}: {outcome['reason']}", file=sys.stderr, flush=True)
        request = request.halved()
    return run_child(request, time_limit_min, fresh=fresh)


def run_child(request: Request, time_limit_min: float | None, *, fresh: bool) -> Outcome:
    """Start `worker` in a process group of its own, send it the request and sleep until it ends."""
    environment = os.environ | {"OMP_NUM_THREADS": str(request.config.threads), "OMP_WAIT_POLICY": "passive"}
    environment |= {"TOKENIZERS_PARALLELISM": "true", "HYDRA_FULL_ERROR": "0"}
    kills_before = oom_kills()
    child = started(environment) if fresh else forked(environment)
    try:
        with passed_on(), child as process:
            assert process.stdin
            assert process.stdout
            try:
                with suppress(BrokenPipeError):  # it is dead already
                    os.write(process.stdin.fileno(), f"{request.to_json()}\n".encode())
                # stdin stays open: when it closes, the child knows that this process is gone.
                code = process.wait(60 * time_limit_min if time_limit_min else None)
            except Terminated as end:
                if end.number in WARNINGS:
                    with suppress(ProcessLookupError, subprocess.TimeoutExpired, Died):
                        os.killpg(process.pid, end.number)
                        process.wait(CHECKPOINT_S)
                raise
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            answer = process.stdout.read()
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"took longer than time_limit_min={time_limit_min:g}"}
    except Died as end:
        outcome = without_answer(end.returncode, kills_before)
        return {**outcome, "reason": f"the fork server: {outcome['reason']}"}
    return json.loads(answer) if answer else without_answer(code, kills_before)


def started(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a fresh child process.

    Its own process group: Ctrl-C reaches this process alone, and one signal ends the child and all it started.
    """
    pipe = subprocess.PIPE
    return subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, env=environment, process_group=0)


def without_answer(returncode: int, kills_before: int | None) -> Outcome:
    """Why a child ended without saying so. SIGKILL means out of memory only if the kernel counted such a kill."""
    if returncode == -signal.SIGKILL:
        kills = oom_kills()
        if kills is None or kills_before is None:
            return {"status": "failed", "reason": "killed by SIGKILL (perhaps for memory: the kernel does not say)"}
        if kills > kills_before:
            return {"status": "out of memory", "reason": "killed by the kernel for want of memory"}
        return {"status": "failed", "reason": "killed by SIGKILL, not for memory"}
    if returncode < 0:
        return {"status": "failed", "reason": f"killed by {signal.Signals(-returncode).name}"}
    return {"status": "failed", "reason": f"the child process exited with code {returncode} and no outcome"}


def oom_kills() -> int | None:
    """How many processes the kernel has killed for memory, by all its counters together; None if it has none."""
    counts = []
    for path in KILL_COUNTS:
        with suppress(OSError):
            lines = dict(line.split() for line in path.read_text().splitlines() if len(line.split()) == 2)
            if "oom_kill" in lines:
                counts.append(int(lines["oom_kill"]))
    return sum(counts) if counts else None
