"""Hybrid batches (arXiv 2408.10536): a batch is X-X-mono with probability alpha, else X-Y; 0.4 to 0.6 served best."""

import math
from typing import Literal

import numpy as np

from pipeline.sampling.crosslingual import Crosslingual
from pipeline.sampling.monolingual import Monolingual
from pipeline.sampling.strategy import Corpus
from pipeline.values import Draw


class Hybrid:
    trains = True

    def __init__(
        self,
        alpha: float = 0.5,
        alpha_end: float | None = None,
        schedule: Literal["linear", "cosine"] = "linear",
        languages_by: Literal["pair", "batch"] = "pair",
        size_exponent: float = 0.0,
    ):
        """`alpha_end`: where alpha has moved by the end of training along the schedule; None keeps it fixed."""
        for name, value in (("alpha", alpha), ("alpha_end", alpha_end)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        self.start, self.end = alpha, alpha if alpha_end is None else alpha_end
        self.schedule = schedule
        self.monolingual = Monolingual(size_exponent)
        self.crosslingual = Crosslingual(languages_by, size_exponent)

    def alpha(self, progress: float) -> float:
        travelled = progress if self.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * travelled

    def check(self, corpus: Corpus, size: int) -> None:
        self.monolingual.check(corpus, size)
        self.crosslingual.check(corpus, size)

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        monolingual = generator.random() < self.alpha(progress)
        return (self.monolingual if monolingual else self.crosslingual).batch(corpus, size, generator, progress)
