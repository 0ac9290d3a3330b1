"""A process that encodes shards of a large corpus for a run: `python -m pipeline.launch.start encoder.worker`.

launch.crew starts it. It reads lines of JSON on stdin: the arguments of Worker, then one task after another; for each
task it answers with a line. It loads the encoder once, from its folder, and writes the shards itself. It ends when
stdin closes: then the run is gone. An actor of Ray is the same Worker.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypedDict

from pipeline.encoder import deployed
from pipeline.encoder.encoding import TextEncoder, as_unit, encode
from pipeline.store.shards import Shards
from pipeline.values import Side


class Task(TypedDict):
    """One shard: its texts, and where its vectors go."""

    texts: Sequence[str]
    side: Side
    token_budget: int
    first: int  # position of its first text in the corpus
    url: str  # of the Shards
    size: int
    precision: str


class Answer(TypedDict, total=False):
    """Empty if the shard is stored."""

    error: str
    out_of_memory: bool


class Worker:
    """Encodes shards with the encoder that `deploy.save` wrote to a folder, which is loaded when it is first needed."""

    def __init__(self, folder: str, threads: int, device: str):
        self.folder, self.threads, self.device = folder, threads, device

    @cached_property
    def encoder(self) -> TextEncoder:
        return deployed.load(Path(self.folder), threads=self.threads, device=self.device)

    def perform(self, task: Task) -> Answer:
        """Encode and store one shard."""
        try:
            emb_SD = encode(self.encoder, task["texts"], task["side"], token_budget=task["token_budget"])
            shards = Shards(task["url"], task["size"], task["precision"])
            shards.save(task["first"], as_unit(self.encoder, emb_SD))
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"[:2000], "out_of_memory": is_out_of_memory(error)}
        return {}


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is want of memory. torch has a class for a GPU, and only a sentence for main memory."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def main() -> None:
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        worker, tasks = Worker(**json.loads(sys.stdin.readline())), SimpleQueue[Any]()
        threading.Thread(target=read, args=[tasks], daemon=True).start()
        while True:
            print(json.dumps(worker.perform(tasks.get())), file=answers, flush=True)


def read(tasks: SimpleQueue[Any]) -> None:
    """Queue the tasks of stdin; once it is closed, end this process and all that it started, whatever they do."""
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os.killpg(0, signal.SIGKILL)
