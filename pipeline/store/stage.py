"""A stage of a run: found in the store, or made once under its lock, timed and kept. `experiment` runs by stages."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.store.results import ResultStore

Log = Callable[[Mapping[str, Any]], None]  # takes what happens in a run: {"stage": "train"}, a point of a curve, …


def unheard(message: Mapping[str, Any]) -> None:
    """The Log of a run that nobody follows."""


class Stages:
    """The stages of one run; `seconds` holds the time that each took here, and `log` hears of each that begins."""

    def __init__(self, store: ResultStore, log: Log = unheard):
        self.store, self.log, self.seconds = store, log, dict[str, float]()

    def __call__(
        self, name: str, key: str, make: Callable[[Path], Mapping[str, Any]], *, alone: bool = False
    ) -> dict[str, Any]:
        """Return the outcome of a stage, from the store if it is there.

        Args:
            name: of the stage; its results are shared by all runs with the same `key`.
            key: cache key of all that the result follows from.
            make: fills the stage's folder with files and returns its outcome (JSON values).
            alone: whether no other stage may run on this machine meanwhile, as for timings.
        """
        with self.store.lock(f"{name}-{key}"):
            outcome = self.store.outcome(name, key)
            if outcome is None:
                with self.timed(name, alone=alone):
                    outcome = dict(make(self.store.stage_dir(name, key)))
                    self.store.finish(name, key, outcome)
        return outcome

    @contextmanager
    def timed(self, name: str, *, alone: bool = False) -> Iterator[None]:
        """Log the start of a stage on stderr and add its time to `seconds`."""
        with self.store.machine(alone=alone):
            print(f"  {name} …", file=sys.stderr, flush=True)
            self.log({"stage": name})
            start_s = time.perf_counter()
            yield
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start_s
