"""The workers that encode a large corpus together: processes of this machine or actors of a Ray cluster (encode.ray).

Each loads the encoder once, takes a shard's texts from the run's process, stores the vectors itself (encoder.worker)
and asks for the next. Each has `threads` threads, as the run's own process has: so no vector depends on their number.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

from pipeline.bars import Bar
from pipeline.config import Config
from pipeline.encoder.worker import Answer, Task, Worker
from pipeline.launch.child import oom_kills, without_answer
from pipeline.store.shards import Shards
from pipeline.values import Side, UserError

COMMAND = [sys.executable, "-m", "pipeline.launch.start", "encoder.worker"]
RESTARTS = 3  # of an actor of Ray whose machine is gone; it then encodes its shard again


class Member(Protocol):
    """A worker, as seen from here."""

    def perform(self, task: Task) -> Answer:
        """Wait until it has stored a shard, or failed to."""
        ...

    def end(self) -> None:
        """End it at once, whatever it does."""
        ...

    def close(self) -> None:
        """End it, and free what belongs to it."""
        ...


class LocalProcess:
    """A worker in a process of its own, which ends when this process does.

    Args:
        setup: the arguments of Worker.
        environment: of the process.
    """

    def __init__(self, setup: dict[str, Any], environment: dict[str, str]):
        pipe = subprocess.PIPE
        self.kills_before = oom_kills()
        # its own process group: then one signal to the run's group does not end it before the run can say why
        self.process = subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, env=environment, process_group=0)
        self.tell(setup)

    def tell(self, value: Any) -> None:
        """Send a line of JSON."""
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it is dead, which its answer will show
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()

    def perform(self, task: Task) -> Answer:
        """Send the task and wait for the answer; why the process ended, if it did."""
        assert self.process.stdout
        self.tell(task)
        if line := self.process.stdout.readline():
            return json.loads(line)
        outcome = without_answer(self.process.wait(), self.kills_before)
        return {"error": outcome["reason"], "out_of_memory": outcome["status"] == "out of memory"}

    def end(self) -> None:
        """Kill the process and wait for it."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process and close its pipes."""
        self.end()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):  # of what it did not read
                assert pipe
                pipe.close()


class RayActor:
    """A worker on a Ray cluster, which may be on another machine."""

    def __init__(self, setup: dict[str, Any]):
        import ray

        gpus = 1 if setup["device"] == "cuda" else 0
        options = {"num_cpus": setup["threads"], "num_gpus": gpus, "max_restarts": RESTARTS}
        self.actor = ray.remote(**options, max_task_retries=RESTARTS)(Worker).remote(**setup)

    def perform(self, task: Task) -> Answer:
        """Send the task and wait for the answer."""
        import ray

        try:
            return ray.get(self.actor.perform.remote(task))
        except ray.exceptions.RayError as error:
            return {"error": f"Ray: {type(error).__name__}: {error}"[:2000], "out_of_memory": False}

    def end(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self.actor)

    close = end


class Crew:
    """The workers of an engine, started when there is a shard to encode; they end with the context.

    Args:
        folder: returns that of the encoder; with Ray it must be the same on all machines.
    """

    def __init__(self, config: Config, folder: Callable[[], Path]):
        self.config, self.folder = config, folder
        self.members: list[Member] = []
        self.stack = ExitStack()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.close()

    def start(self) -> None:
        """Start the workers.

        Raises:
            UserError: the Ray cluster is too small for them; the shards of those that never start would wait for ever.
        """
        address, folder = self.config.encode.ray, str(self.folder().absolute())
        setup = {"folder": folder, "threads": self.config.threads, "device": self.config.device.name}
        if address:
            import ray

            ray.init(address=address, include_dashboard=False, log_to_driver=False)
            self.stack.callback(ray.shutdown)
            check_room(self.config, ray.cluster_resources())
        for number in range(self.config.encode.workers):
            member: Member
            member = RayActor(setup) if address else LocalProcess(setup, environment(self.config, number))
            self.stack.callback(member.close)
            self.members.append(member)

    def encode(
        self,
        texts: Sequence[str],
        side: Side,
        shards: Shards,
        firsts: Sequence[int],
        *,
        token_budget: int,
        progress: str,
    ) -> None:
        """Encode the shards that begin at `firsts`; arguments as of `encoding.encode_shards`.

        Raises:
            RuntimeError: a worker failed or was killed; MemoryError if for want of memory. The others end as well.
        """
        if not firsts:
            return
        if not self.members:
            self.start()
        tasks, turn = self.tasks(texts, side, shards, firsts, token_budget), threading.Lock()

        def work(member: Member) -> None:
            while True:
                with turn:  # one shard of text is read at a time
                    task = next(tasks, None)
                if task is None:
                    return
                answer = member.perform(task)
                if "error" in answer:
                    kind = MemoryError if answer["out_of_memory"] else RuntimeError
                    raise kind(f"a worker that encodes: {answer['error']}")
                bar.update(len(task["texts"]))

        total = sum(min(shards.size, len(texts) - first) for first in firsts)
        with (
            Bar(desc=progress, total=total, unit=" texts", unit_scale=True, smoothing=0) as bar,
            ThreadPoolExecutor(len(self.members)) as pool,
        ):
            working = [pool.submit(work, member) for member in self.members]
            try:
                for future in as_completed(working):
                    future.result()
            except BaseException:
                for member in self.members:
                    member.end()  # which ends the others' waiting
                raise

    def tasks(
        self, texts: Sequence[str], side: Side, shards: Shards, firsts: Sequence[int], token_budget: int
    ) -> Iterator[Task]:
        """Yield the shards with their texts."""
        url, size, precision = shards.url, shards.size, shards.precision
        for first in firsts:
            of_shard = list(texts[first : first + size])
            yield Task(
                texts=of_shard, side=side, token_budget=token_budget, first=first, url=url, size=size,
                precision=precision,
            )  # fmt: skip


def check_room(config: Config, resources: Mapping[str, float]) -> None:
    """Raise UserError if a Ray cluster with these resources cannot hold all workers at once."""
    workers = config.encode.workers
    needed = {"CPU": workers * config.threads, "GPU": workers if config.device.name == "cuda" else 0}
    for name, count in needed.items():
        if resources.get(name, 0) < count:
            there = f"the Ray cluster at {config.encode.ray} has {resources.get(name, 0):.0f}"
            raise UserError(f"encode.workers={workers}: they need {count} {name}s; {there}.")


def environment(config: Config, number: int) -> dict[str, str]:
    """Return the environment of a local worker: it sees one GPU, the next worker the next."""
    if config.device.name != "cuda":
        return dict(os.environ)
    import torch

    every = ",".join(map(str, range(torch.cuda.device_count())))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", every).split(",")
    return os.environ | {"CUDA_VISIBLE_DEVICES": visible[number % len(visible)]}
