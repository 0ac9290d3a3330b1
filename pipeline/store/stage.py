"""A stage of a run: found in the store, or made once under its lock, timed and kept. `experiment` runs by stages."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.store.results import ResultStore


class Stages:
    """The stages of one run; `seconds` holds the time that each took here."""

    def __init__(self, store: ResultStore):
        self.store, self.seconds = store, dict[str, float]()

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
            start_s = time.perf_counter()
            yield
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start_s
