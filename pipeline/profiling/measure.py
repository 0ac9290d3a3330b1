"""Profile an encoder: each meter in a fresh child process (`worker`), one after another, while this process sleeps.

`experiment` calls `measure` with a benchmark's texts and a trained encoder, `architectures` with made-up texts.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.profiling import machine, meter
from pipeline.profiling.meter import Job, Texts
from pipeline.profiling.summary import summarize, with_index
from pipeline.store.records import Profile
from pipeline.values import Collection, UserError, Variant

PROFILED_TEXTS = 64  # per language and side


def sample_texts(collection: Collection) -> Texts:
    """Return real queries and passages for a profile, evenly spaced over those of each language."""

    def spaced(texts: Sequence[str]) -> list[str]:
        picks = np.linspace(0, len(texts) - 1, min(PROFILED_TEXTS, len(texts))).round().astype(int)
        return [texts[position] for position in picks]

    return {
        language: {"query": spaced(queries.texts), "passage": spaced(collection.passages[language].texts)}
        for language, queries in collection.queries.items()
    }


def measure(job: Job) -> Profile:
    """Return what an encoder costs.

    Raises:
        UserError: for bad input, such as a checkpoint of another architecture.
        RuntimeError: with the reason, if a child process dies.
    """
    results: dict[str, Any] = {}
    with _workers(meter.names(), job.threads) as workers:
        for name, worker in workers.items():
            results[name] = _result(name, worker, job)
            job = replace(job, token_budget=results["throughput"]["best"]["token_budget"])
    return summarize(results, machine.facts(job.device), job)


def measure_indexes(job: Job, base: Profile, variants: Sequence[Variant]) -> dict[Variant, Profile]:
    """Return what each width and index costs: `base`, the profile of this job, with another index.

    One child process measures them one after another on the same embeddings. Errors as of `measure`.
    """
    job = replace(job, token_budget=base.passage_token_budget, indexes=tuple(variants))
    with _workers(["index"], job.threads) as workers:
        result = _result("index", workers["index"], job)
    shared = {key: result[key] for key in ("watch", "threads")}
    return {
        variant: with_index(base, index | shared, job.seed)
        for variant, index in zip(variants, result["indexes"], strict=True)
    }


@contextmanager
def _workers(meters: Sequence[str], threads: int) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A child process per meter. Importing libraries takes longer than some meters, so all children import at once;
    none measures before all are done."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_start(name, threads)) for name in meters}
        for worker in workers.values():
            assert worker.stdout  # a pipe; it says "ready", or closes if the child died
            worker.stdout.readline()
        yield workers


def _start(name: str, threads: int) -> subprocess.Popen[str]:
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RAYON_NUM_THREADS": count}
    environment |= {"OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "pipeline.launch.start", "profiling.worker", name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True)


def _result(name: str, worker: subprocess.Popen[str], job: Job) -> Any:
    """Send the job to a child and sleep until it ends."""
    answer, log = worker.communicate(job.to_json())
    if worker.returncode < 0:
        raise RuntimeError(f"the {name} meter was killed by {signal.Signals(-worker.returncode).name}")
    if worker.returncode > 0:
        raise RuntimeError(f"the {name} meter failed: {log.strip().splitlines()[-1]}")
    result = json.loads(answer)
    if "refused" in result:
        raise UserError(result["refused"])
    return result
