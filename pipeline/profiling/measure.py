"""Profile a deployed encoder: each meter in a fresh child process (`worker`), one after another, while this one sleeps.

All meters run once per round, so the rounds of each are spread over time. `experiment` calls `measure` with a
benchmark's texts and a trained encoder, `architectures` with made-up texts.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pipeline.profiling import machine, meter
from pipeline.profiling.meter import Job, Texts
from pipeline.profiling.samples import round_robin
from pipeline.profiling.summary import summarize, with_index
from pipeline.store.records import Profile
from pipeline.values import Collection, UserError, Variant

PROFILED_TEXTS = 64  # per language and side
REPEATED_CALLS = 64  # of the short latency meter at the end


def sample_texts(collection: Collection) -> Texts:
    """Return real queries and passages for a profile, evenly spaced over those of each language."""

    def spaced(texts: Sequence[str]) -> list[str]:
        picks = np.linspace(0, len(texts) - 1, min(PROFILED_TEXTS, len(texts))).round().astype(int)
        return [texts[position] for position in picks]

    return {
        language: {"query": spaced(queries.texts), "passage": spaced(collection.passages[language].texts)}
        for language, queries in collection.queries.items()
    }


def measure(job: Job, starting: Callable[[int, str], None] = lambda number, meter: None) -> Profile:
    """Return what an encoder costs: all meters in turn, `rounds` times, and a short latency meter at the end.

    Args:
        job: the encoder, and how long to measure.
        starting: told the number of the round, from 0, and the meter, whenever a meter starts.

    Raises:
        UserError: for bad input, such as an index that FAISS cannot build.
        RuntimeError: with the reason, if a child process dies.
    """
    rounds: list[dict[str, Any]] = []
    for number in range(job.settings.rounds):
        results: dict[str, Any] = {}
        with _workers(meter.names(), job) as workers:
            for name, worker in workers.items():
                starting(number, name)
                results[name] = _result(name, worker, _asked(name, job))
                if name == "ceiling":
                    job = replace(job, ceiling_flop_per_s=results[name]["flop_per_s"])
                if name == "throughput" and not job.token_budget:
                    job = replace(job, token_budget=results[name]["best"]["token_budget"])
        rounds.append(results)
    return summarize(rounds, _again(job, rounds[0]["latency"]), machine.facts(job.device), job)


def _asked(name: str, job: Job) -> Job:
    """Return the job of one meter: once the best token budget is known, throughput is measured with it alone."""
    if name != "throughput" or not job.token_budget:
        return job
    return replace(job, settings=replace(job.settings, token_budgets=[job.token_budget]))


def _again(job: Job, latency: dict[str, Any]) -> dict[str, Any]:
    """Measure the first queries once more; return their median latency in the first round and now."""
    queries = len(round_robin(job.texts_of("query"))[: job.settings.min_calls])
    calls = min(REPEATED_CALLS, queries)
    settings = replace(job.settings, min_calls=calls, min_seconds=min(1.0, job.settings.min_seconds))
    result = run_meter("latency", replace(job, settings=settings, end_to_end=False))
    return {
        "first_ms": float(np.median(latency["calls_ms"]["query"][:calls])),
        "again_ms": float(np.median(result["calls_ms"]["query"])),
        "calls": result["calls"],
    }


def measure_indexes(job: Job, base: Profile, variants: Sequence[Variant]) -> dict[Variant, Profile]:
    """Return what each width and index costs: `base`, the profile of this job, with another index.

    In every round one child process measures them one after another on the same embeddings. Errors as of `measure`.
    """
    job = replace(job, token_budget=base.passage_token_budget, indexes=tuple(variants))
    rounds: list[list[dict[str, Any]]] = []
    for _ in range(job.settings.rounds):
        result = run_meter("index", job)
        shared = {key: result[key] for key in ("watch", "threads")}
        rounds.append([index | shared for index in result["indexes"]])
    return {variant: with_index(base, by_round, job.seed) for variant, *by_round in zip(variants, *rounds, strict=True)}


class Worker(NamedTuple):
    """The child process of a meter, and the file of its standard error: nobody would read a pipe before it is full."""

    process: subprocess.Popen[str]
    log: IO[str]


@contextmanager
def _workers(meters: Sequence[str], job: Job) -> Iterator[dict[str, Worker]]:
    """A child process per meter. Importing libraries takes longer than some meters, so all children import at once;
    none measures before all are done."""
    with ExitStack() as stack:
        workers = {}
        for name in meters:
            log = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
            process = stack.enter_context(start(name, job, log))
            stack.callback(process.kill)  # an error or a signal does not wait for those that measure
            workers[name] = Worker(process, log)
        for process, _ in workers.values():
            assert process.stdout  # a pipe; it says "ready", or closes if the child died
            process.stdout.readline()
        yield workers


def start(name: str, job: Job, stderr: IO[str] | int, group: Path | None = None) -> subprocess.Popen[str]:
    """Start the child process of a meter.

    Args:
        stderr: as of `subprocess.Popen`.
        group: a control group that the child joins before anything else.
    """
    count = str(job.threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RAYON_NUM_THREADS": count}
    environment |= {"OPENBLAS_NUM_THREADS": count, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "pipeline.launch.start", "profiling.worker", name]
    command += [] if name in meter.WITHOUT_ENCODER else [job.folder, *filter(None, [job.variant.fusion])]
    if group:  # by a shell: Python's own code in a fork of a process with threads may wait for ever
        command = ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, env=environment, encoding="utf-8")


def run_meter(name: str, job: Job) -> Any:
    """Return the raw result of one meter, in a child process of its own. Errors as of `measure`."""
    with _workers([name], job) as workers:
        return _result(name, workers[name], job)


def _result(name: str, worker: Worker, job: Job) -> Any:
    """Send the job to a child and sleep until it ends."""
    process, log = worker
    answer, _ = process.communicate(job.to_json())
    if process.returncode < 0:
        raise RuntimeError(f"the {name} meter was killed by {signal.Signals(-process.returncode).name}")
    if process.returncode > 0:
        log.seek(0)
        raise RuntimeError(f"the {name} meter failed: {log.read().strip().splitlines()[-1]}")
    result = json.loads(answer)
    if "refused" in result:
        raise UserError(result["refused"])
    return result
