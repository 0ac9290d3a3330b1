"""Profile an encoder: each meter in a fresh child process (`worker`), one after another, while this process sleeps.

`experiment` calls `measure` with a benchmark's texts and a trained encoder, `profile_model` with made-up texts.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

from pipeline.launch.commands import REFUSED
from pipeline.profiling import machine
from pipeline.profiling.summary import summarise, with_index
from pipeline.store.results import fingerprint
from pipeline.values import Profile, Serving, Side, UserError

Texts = Mapping[str, Mapping[Side, Sequence[str]]]  # language -> side -> texts

METERS = ("throughput", "latency", "memory", "energy")  # in this order: throughput finds the others' token budget


def key(
    architecture: Mapping[str, Any], texts: Texts, settings: Mapping[str, Any], *, threads: int, device: str
) -> str:
    """Under which a profile may be shared: by every encoder of this architecture, on this machine and these texts."""
    return fingerprint([dict(architecture), texts, dict(settings), threads, machine.facts(device)])


@dataclass(frozen=True)
class Job:
    """What the meters measure, in plain values: `model` and `settings` are the config's nodes, `checkpoint` the folder
    that Encoder.save wrote, `device` cpu or cuda; `backend` and `precision` are those of `serving`."""

    model: Mapping[str, Any]
    checkpoint: str | None
    texts: Texts
    settings: Mapping[str, Any]
    _: KW_ONLY
    threads: int
    device: str
    seed: int
    backend: str = "eager"
    precision: str = "float32"
    made_up_words: bool = False


def measure(job: Job) -> Profile:
    """UserError for bad input; RuntimeError with the reason when a child dies."""
    asked, found = asdict(job), {}
    with _ready(METERS, job.threads) as children:
        for name, child in children.items():
            found[name] = _answer(name, child, asked)
            asked["token_budget"] = found["throughput"]["best"]["token_budget"]
    return summarise(found, machine.facts(job.device), threads=job.threads, made_up_words=job.made_up_words)


def measure_indexes(job: Job, base: Profile, servings: Sequence[Serving]) -> dict[Serving, Profile]:
    """What each width and index costs, read off the same embeddings: `base`, the profile of this job, with another
    index. One child measures them one after another. Errors as of `measure`."""
    wanted = [{"width": serving.width, "factory": serving.index.replace("exact", "Flat")} for serving in servings]
    asked = asdict(job) | {"token_budget": base.passage_token_budget, "indexes": wanted}
    with _ready(["index"], job.threads) as children:
        answer = _answer("index", children["index"], asked)
    seen = {key: answer[key] for key in ("watch", "threads")}
    return {
        serving: with_index(base, found | seen, job.seed)
        for serving, found in zip(servings, answer["indexes"], strict=True)
    }


@contextmanager
def _ready(meters: Sequence[str], threads: int) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A child for each meter. Importing takes longer than some meters, so all import at once; none measures before all
    are done."""
    with ExitStack() as stack:
        children = {name: stack.enter_context(_start(name, threads)) for name in meters}
        for child in children.values():
            assert child.stdout  # a pipe; it says "ready", or closes if the child died
            child.stdout.readline()
        yield children


def _start(meter: str, threads: int) -> subprocess.Popen[str]:
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RAYON_NUM_THREADS": count}
    environment |= {"OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "pipeline.launch.start", "profiling.worker", meter]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True)


def _answer(meter: str, child: subprocess.Popen[str], job: Mapping[str, Any]) -> Any:
    """Give the child its job and sleep until it ends."""
    answer, complaints = child.communicate(json.dumps(job))
    if child.returncode == 0:
        return json.loads(answer)
    if child.returncode < 0:
        raise RuntimeError(f"the {meter} meter was killed by {signal.Signals(-child.returncode).name}")
    reason = complaints.strip().splitlines()[-1]
    raise UserError(reason) if child.returncode == REFUSED else RuntimeError(f"the {meter} meter failed: {reason}")
