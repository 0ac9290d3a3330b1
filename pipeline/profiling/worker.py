"""The child process of a meter: `python -m pipeline.launch.start profiling.worker METER [FOLDER [FUSION]]`.

It imports what serves FOLDER and no more, prints "ready", reads a Job (JSON) on stdin and prints
the meter's result (JSON) on stdout; everything else that prints goes to stderr. Bad input is the result
`{"refused": sentence}`.
"""

import gc
import json
import os
import sys
from pathlib import Path

from pipeline.profiling import machine, meter, served
from pipeline.profiling.meter import Job, Meter
from pipeline.values import UserError


def main(name: str, folder: str | None = None, fusion: str | None = None) -> None:
    """Answer one job with the result of the meter `name`."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        gc.disable()  # as launch.start
        module = meter.find(name)
        if folder:
            served.preload(Path(folder), fusion)
        gc.freeze()
        gc.enable()
        print("ready", file=answer, flush=True)
        job = Job.from_json(sys.stdin.read())
        result: dict[str, object]
        try:
            result = measured(module, job)
        except UserError as error:
            result = {"refused": str(error)}
        json.dump(result, answer)


def measured(module: Meter, job: Job) -> dict[str, object]:
    """Return the meter's result; with what the machine did meanwhile, and the number of threads by library."""
    counts: dict[str, int] = {}

    def load() -> served.Served:
        loaded = served.load(job)
        counts.update(loaded.threads)
        return loaded

    with machine.watch(job.device) as activity:
        result = module.run(job, load)
    if faiss := sys.modules.get("faiss"):
        counts["faiss"] = faiss.omp_get_max_threads()
    return {**result, "watch": activity, "threads": counts}
