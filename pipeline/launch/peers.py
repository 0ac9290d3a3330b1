"""The processes of a training beside the run's own, on this machine (trainer.devices) and on others (num_nodes).

On several machines the same command runs on each: `srun`, torchrun or the variables NODE_RANK and MASTER_ADDR tell it
which one it is on. The first machine makes the runs, keeps the records and reports. The others take part in the
trainings: a training that is in the store they skip, for any other they wait until the first machine is ready.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.groups import TrainerConfig
from pipeline.launch.child import oom_kills, without_answer
from pipeline.launch.request import Request, trains
from pipeline.store.results import ResultStore, RunState
from pipeline.values import UserError, World

COMMAND = [sys.executable, "-m", "pipeline.launch.start", "launch.peer"]
NODE_RANKS = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")  # set by the user, torchrun, srun
PORT = 29500  # of torch.distributed, where several machines meet
POLL_S, LAST_WORDS_S = 0.5, 30.0

Process = subprocess.Popen[bytes]


def node_rank(trainer: TrainerConfig) -> int:
    """Return the number of this machine; UserError if nothing says it and there are several."""
    if trainer.num_nodes == 1:
        return 0
    for name in NODE_RANKS:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    raise UserError(
        f"trainer.num_nodes={trainer.num_nodes}: start the same command on each machine with srun or torchrun, or set "
        "NODE_RANK and MASTER_ADDR."
    )


def meeting(trainer: TrainerConfig) -> tuple[str, int]:
    """Return address and port of the first of several machines; UserError if nothing says the address."""
    port = int(os.environ.get("MASTER_PORT", PORT))
    if "TORCHELASTIC_USE_AGENT_STORE" in os.environ:  # torchrun itself listens there
        port += 1
    if address := os.environ.get("MASTER_ADDR"):
        return address, port
    if nodes := os.environ.get("SLURM_JOB_NODELIST"):
        from pytorch_lightning.plugins.environments import SLURMEnvironment  # with torch: not before it is needed

        return SLURMEnvironment.resolve_root_node_address(nodes), port
    raise UserError(f"trainer.num_nodes={trainer.num_nodes}: set MASTER_ADDR to the name of the first machine.")


@contextmanager
def peers(request: Request) -> Iterator[World]:
    """Start the other processes of a training on this machine, and yield the World of this one, which leads.

    Raises:
        RuntimeError: if one of them fails; MemoryError if the kernel killed it for want of memory.
    """
    trainer = request.config.trainer
    if trainer.processes == 1:
        yield World()
        return
    kills_before = oom_kills()
    with socket.socket() as held:  # nobody else gets the port; the process of rank 0 may bind it once more
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address, port = meeting(trainer) if trainer.num_nodes > 1 else ("127.0.0.1", 0)
        held.bind(("", port))
        threads = max(1, request.config.threads // trainer.devices)
        world = World(0, trainer.processes, 0, address, held.getsockname()[1], threads)
        with started(request, world, range(1, trainer.devices)) as processes:
            try:
                yield world
            except RuntimeError as error:
                for process in processes:
                    if code := ended(process, LAST_WORDS_S):
                        outcome = without_answer(code, kills_before)
                        kind = MemoryError if outcome["status"] == "out of memory" else RuntimeError
                        raise kind(f"a process of the training: {outcome['reason']}") from error
                raise


def follow(request: Request) -> RunState:
    """Take part in the training of a run on another machine than the first, unless it is in the store."""
    config, node = request.config, node_rank(request.config.trainer)
    trainer, store, start_s = config.trainer, ResultStore(config.results_dir), time.monotonic()

    def over() -> bool:
        return store.outcome("train", request.keys["train"]) is not None

    if not trains(config) or over():
        return RunState(request.name, "cached", request.choices, 0.0)
    address, port = meeting(trainer)
    threads = max(1, config.threads // trainer.devices)
    world = World(node * trainer.devices, trainer.processes, 0, address, port, threads)
    with started(request, world, range(trainer.devices)) as processes:
        while not over() and any(process.poll() is None for process in processes):
            time.sleep(POLL_S)
        codes = [ended(process, LAST_WORDS_S) for process in processes]
    failed = [code for code in codes if code] if not over() else []
    seconds = time.monotonic() - start_s
    if failed:
        return RunState(request.name, "failed", request.choices, seconds, without_answer(failed[0], None)["reason"])
    return RunState(request.name, "done", request.choices, seconds)


@contextmanager
def started(request: Request, first: World, local_ranks: range) -> Iterator[list[Process]]:
    """Start a process per local rank. They have ended when the block has, and end when this process is gone.

    Args:
        first: the World of local rank 0.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(first.threads), "OMP_WAIT_POLICY": "passive"}
    processes: list[Process] = []
    try:
        for local_rank in local_ranks:
            world = first._replace(rank=first.rank + local_rank, local_rank=local_rank)
            process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, env=environment, process_group=0)
            processes.append(process)
            assert process.stdin
            told = f"{request.to_json()}\n{json.dumps(world)}\n".encode()
            os.write(process.stdin.fileno(), told)  # stdin stays open: when it closes, the peer ends
        yield processes
        for process in processes:
            ended(process, LAST_WORDS_S)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()


def ended(process: Process, within_s: float) -> int | None:
    """Return the exit code of a process, None if it goes on for longer."""
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        return None


def wait(world: World) -> None:
    """Wait until the process of rank 0 listens; this one is ended if that never happens."""
    while True:
        try:
            socket.create_connection((world.address, world.port), timeout=POLL_S).close()
            return
        except OSError:
            time.sleep(POLL_S)
