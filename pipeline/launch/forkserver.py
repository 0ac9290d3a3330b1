"""The fork server of a multirun: it imports once what runs need, and forks the child process of each run.

`forked` is called in the sweep's process, `main` is the server's. The server has one child at a time. It never
computes, so its children start without threads, an OpenMP pool or a CUDA context and behave as fresh processes do. It
ends when the sweep's process is gone, since that closes its socket.
"""

import atexit
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import IO, NamedTuple

from pipeline.launch.signals import ENDINGS
from pipeline.values import WARNINGS

COMMAND = [sys.executable, "-m", "pipeline.launch.start", "launch.forkserver"]
WORKER = "pipeline.launch.worker"
PRELOADED = [WORKER, "pipeline.training.fit"]  # the second brings Lightning
SIGNALS = {signal.SIGINT, *ENDINGS, *WARNINGS}  # meant for the sweep's process and for runs
PATIENCE_S = 1.0  # that a server without a child may take to end
# macOS cannot fork a process that has used its frameworks. A job that submitit starts on Slurm makes a single run.
AVAILABLE = sys.platform == "linux" and "SUBMITIT_EXECUTOR" not in os.environ


class Died(Exception):
    """The server ended before its child did."""

    def __init__(self, returncode: int):
        super().__init__(returncode)
        self.returncode = returncode


class Server:
    """A fork server, as the sweep's process sees it.

    Args:
        environment: of the server and its children. Libraries read it when they are imported, OpenMP among them, so a
            run with another number of threads needs another server.
    """

    def __init__(self, environment: dict[str, str]):
        self.environment, self.folder = environment, os.getcwd()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                COMMAND, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment, process_group=0
            )

    def serves(self, environment: dict[str, str]) -> bool:
        """Whether a child of this server would be like a fresh process, started here with these variables."""
        return (self.environment, self.folder) == (environment, os.getcwd()) and self.process.poll() is None

    def fork(self, stdin: IO[bytes], stdout: IO[bytes]) -> int:
        """Fork a child with these files and this process's stderr, and return its process id. Errors as of `hear`."""
        with suppress(BrokenPipeError):  # it is dead, which `hear` says
            socket.send_fds(self.channel, [b"fork"], [stdin.fileno(), stdout.fileno(), 2])
        return self.hear()

    def hear(self, timeout_s: float | None = None) -> int:
        """Wait for the number that the server sends next: a child's process id, then its exit code.

        Raises:
            Died: the server is gone.
            TimeoutError: it took longer than `timeout_s`.
        """
        self.channel.settimeout(timeout_s)
        with suppress(ConnectionResetError):  # it died before it had read everything
            if message := self.channel.recv(32):
                return int(message)
        raise Died(self.process.wait())

    def end(self) -> None:
        """End the server: once its child has ended, so that no zombie stays, but at once while it imports."""
        self.channel.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_S)
        self.process.kill()
        self.process.wait()


class Forked(NamedTuple):
    """A child process, with as much of subprocess.Popen's interface as `launch.child` uses."""

    server: Server
    pid: int
    stdin: IO[bytes]
    stdout: IO[bytes]

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; Died if the server is gone, subprocess.TimeoutExpired if that takes too long."""
        try:
            return self.server.hear(timeout)
        except TimeoutError as error:
            raise subprocess.TimeoutExpired(COMMAND, timeout or 0) from error


idle: list[Server] = []  # those without a child: at most one, unless threads make runs side by side


@contextmanager
def forked(environment: dict[str, str]) -> Iterator[Forked]:
    """Yield a child process that runs `launch.worker`; the block waits for its end.

    The first child waits until its server has imported. After an error in the block the server is ended.

    Raises:
        Died: the server ended before the child was there.
    """
    server = server_of(environment)
    try:
        with piped() as (their_stdin, stdin), piped() as (stdout, their_stdout):
            pid = server.fork(their_stdin, their_stdout)
            their_stdin.close()
            their_stdout.close()  # else reading the answer would wait for this process
            yield Forked(server, pid, stdin, stdout)
    except BaseException:
        server.end()
        raise
    idle.append(server)


def server_of(environment: dict[str, str]) -> Server:
    """Return an idle server with this environment, or a new one; idle servers that do not fit end."""
    while idle:
        server = idle.pop()
        if server.serves(environment):
            return server
        server.end()
    return Server(environment)


@atexit.register
def end_idle() -> None:
    """End the servers that nobody needs any more."""
    while idle:
        idle.pop().end()


@contextmanager
def piped() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yield both ends of a pipe, as files."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb") as writer:
        yield reader, writer


def main() -> None:
    """Import, then fork a child whenever the sweep's process asks for one, and say how it ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    channel = socket.socket(fileno=os.dup(0))
    gc.disable()  # as launch.start
    for module in PRELOADED:
        import_module(module)
    gc.freeze()
    gc.enable()
    while files := socket.recv_fds(channel, 32, 3)[1]:
        pid = os.fork()
        if not pid:
            channel.close()
            become_run(files)
            return
        for file in files:
            os.close(file)
        with suppress(ProcessLookupError):
            os.setpgid(pid, pid)  # here as well: the sweep's process may kill the group before the child has one
        with suppress(BrokenPipeError):  # the sweep's process is gone, and the child notices by itself
            channel.send(b"%d" % pid)
            channel.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def become_run(files: list[int]) -> None:
    """Go on as the child process of a run, which has these files as stdin, stdout and stderr."""
    import numpy
    import torch

    os.setpgid(0, 0)
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    numpy.random.seed()  # what draws without a seed must not draw alike in all runs
    torch.seed()
    import_module(WORKER).main()
