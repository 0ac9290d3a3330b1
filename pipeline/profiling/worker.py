"""The child process of one meter: `python -m pipeline.launch.start profiling.worker METER`, started by `measure`.

It prints "ready" once its libraries are imported, reads a Job (JSON) on stdin and prints the meter's result (JSON) on
stdout; everything else that prints goes to stderr. Bad input is the result `{"refused": sentence}`.
"""

import json
import os
import sys
from pathlib import Path

import torch

from pipeline.encoder.deploy import deploy, threads
from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import load
from pipeline.profiling import machine, meter, words
from pipeline.profiling.meter import Job, Meter
from pipeline.values import UserError


def main(name: str) -> None:
    """Answer one job with the result of the meter `name`."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        module = meter.find(name)
        print("ready", file=answer, flush=True)
        job = Job.from_json(sys.stdin.read())
        torch.set_num_threads(job.threads)
        result: dict[str, object]
        try:
            result = measured(module, job)
        except UserError as error:
            result = {"refused": str(error)}
        json.dump(result, answer)


def measured(module: Meter, job: Job) -> dict[str, object]:
    """Return the meter's result; with what the machine did meanwhile, and the number of threads by library."""
    counts: dict[str, int] = {}

    def load_encoder() -> Encoder:
        encoder = deployed(job)
        counts.update(threads(encoder))
        return encoder

    with machine.watch(job.device) as activity:
        result = module.run(job, load_encoder)
    if faiss := sys.modules.get("faiss"):
        counts["faiss"] = faiss.omp_get_max_threads()
    return {**result, "watch": activity, "threads": counts}


def deployed(job: Job) -> Encoder:
    """Return the encoder of a job on its device, in its inference variant."""
    encoder = load(job.model, seed=job.seed, random_tokenizer=words.tokenizer if job.made_up_words else None)
    if job.checkpoint:
        encoder.restore(Path(job.checkpoint))
    return deploy(encoder.to(job.device), job.variant)
