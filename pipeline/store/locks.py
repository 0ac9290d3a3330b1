"""Locks between processes: flock on files of <results>/locks, so that a lock dies with whoever holds it.

Linux passes flock on to NFS servers, so the machines of a sweep may share a results folder (mounts.py says where they
may not). To avoid deadlock, locks are taken in this order: a run (by the parent), then in its child process an engine's
texts, a stage, the machine.
"""

import fcntl
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def hold(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for the lock, saying so, and hold it; its file is there only while somebody holds or awaits it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  waiting for {path.name}, which another process works on", file=sys.stderr, flush=True)
            fcntl.flock(file, kind)
        if _is(file, path):
            break
        os.close(file)  # who held it before has removed the file: it locks nothing
    try:
        yield
    finally:
        with suppress(BlockingIOError):  # others share it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        os.close(file)


def held(path: Path) -> bool:
    """Whether a living process holds the lock. Needs no right to write, except on NFS, where flock does."""
    try:
        file = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@contextmanager
def machine(folder: Path, *, alone: bool) -> Iterator[None]:
    """Work on this machine: together with others, or, for timings that can be believed, alone among all that ask.

    Everybody passes one queue: who waits to be alone is not overtaken by those who need not be. A machine is a running
    kernel: the containers of one have names of their own and share its processors, and machines may share a name.
    """
    name = f"machine-{BOOT.read_text(encoding='ascii').strip() if BOOT.exists() else platform.node()}"
    with ExitStack() as stack:
        with hold(folder / f"{name}-queue"):
            stack.enter_context(hold(folder / name, shared=not alone))
        yield


def _is(file: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(path))
    return False
