"""Signals that end a command: SIGTERM and SIGHUP as Ctrl-C does, Slurm's warning after a checkpoint.

All of them raise in the main thread, as Ctrl-C does, so whatever they interrupt cleans up. A signal that the shell told
this process to ignore, such as SIGHUP by `nohup`, stays ignored.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.values import WARNINGS

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
LONGEST_S = 9.0  # from one of ENDINGS to the end of the process: `docker stop` waits 10 s
WORDS = {signal.SIGINT: "interrupted", **dict.fromkeys(ENDINGS, "terminated"), **dict.fromkeys(WARNINGS, "preempted")}


class Terminated(KeyboardInterrupt):
    """One of ENDINGS or WARNINGS has arrived.

    A KeyboardInterrupt, so that every library treats it as Ctrl-C.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Raise Terminated in the block when one of ENDINGS or WARNINGS arrives."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    before = {number: signal.getsignal(number) for number in (*ENDINGS, *WARNINGS)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def handle(number: int, frame: FrameType | None) -> None:
        for repeated in before if number in ENDINGS else WARNINGS:  # they would interrupt the cleaning up
            signal.signal(repeated, signal.SIG_IGN)
        if number in ENDINGS:
            timer = threading.Timer(LONGEST_S, end_at_once, [number])
            timer.daemon = True
            timer.start()
        raise Terminated(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def passed_on() -> Iterator[None]:
    """`raised`, and the signal then reaches whoever handled it before: this command, or a launcher.

    The processes of a launcher do not begin with a command of ours. Submitit's requeues its Slurm job.
    """
    try:
        with raised():
            yield
    except Terminated as end:
        signal.raise_signal(end.number)
        raise


def ended_by(error: BaseException | None) -> int | None:
    """Return the signal that led to an error; None if none did.

    Code that a signal interrupts, such as a copy in OmegaConf, may raise another error.
    """
    if error is None:
        return None
    if isinstance(error, KeyboardInterrupt):
        return getattr(error, "number", signal.SIGINT)
    return ended_by(error.__context__)


def farewell(number: int) -> int:
    """Say on stderr that a signal ends the command, and return the exit code: 128 and the signal, as in shells."""
    print(f"{WORDS[signal.Signals(number)]}: run the same command again to resume", file=sys.stderr, flush=True)
    return 128 + number


def end_at_once(number: int) -> None:
    """End a process that a library holds up. Children notice that their parent is gone."""
    os._exit(farewell(number))
