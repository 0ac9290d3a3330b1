"""A training that is told that its machine will soon be taken away ends after the step in hand, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from pipeline.values import WARNINGS


class Warned(Protocol):
    """A training that ends itself once `warning` is the number of a signal."""

    warning: int | None


@contextmanager
def heeding_warnings(module: Warned) -> Iterator[None]:
    """Let one of WARNINGS end the process after the step in hand, with its checkpoint written."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return

    def heed(number: int, frame: FrameType | None) -> None:
        module.warning = number

    before = {number: signal.signal(number, heed) for number in WARNINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if module.warning:
            end_by(module.warning)


def end_by(number: int) -> None:
    """End this process by a signal, so that its parent knows which."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
