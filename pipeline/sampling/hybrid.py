"""Hybrid (arXiv 2408.10536): a batch is X-X-mono with probability alpha, else X-Y; alpha 0.4 to 0.6 scored best."""

import math
from typing import Literal

import numpy as np

from pipeline.sampling.crosslingual import Crosslingual
from pipeline.sampling.monolingual import Monolingual
from pipeline.sampling.strategy import Corpus
from pipeline.values import Draw


class Hybrid:
    """Choose between a monolingual and a cross-lingual batch at random.

    With alpha 1 every batch is monolingual:

    >>> corpus = Corpus(["de", "en"], np.ones((4, 2), dtype=bool))
    >>> batch = Hybrid(alpha=1.0).batch(corpus, 3, np.random.default_rng(0), progress=0.0)
    >>> {draw.query_language == draw.passage_language for draw in batch}
    {True}
    """

    trains = True

    def __init__(
        self,
        alpha: float = 0.5,
        alpha_end: float | None = None,
        schedule: Literal["linear", "cosine"] = "linear",
        languages_by: Literal["pair", "batch"] = "pair",
        size_exponent: float = 0.0,
    ):
        """Configure the strategy.

        Args:
            alpha: probability of a monolingual batch, at the start of training.
            alpha_end: the same at the end of training; None keeps alpha constant.
            schedule: how alpha changes from start to end.
            languages_by: of the cross-lingual batches, see `Crosslingual`.
            size_exponent: of the language weights, see `weights`.
        """
        for name, value in (("alpha", alpha), ("alpha_end", alpha_end)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        self.start, self.end = alpha, alpha if alpha_end is None else alpha_end
        self.schedule = schedule
        self.monolingual = Monolingual(size_exponent)
        self.crosslingual = Crosslingual(languages_by, size_exponent)

    def alpha(self, progress: float) -> float:
        """Return the probability of a monolingual batch.

        >>> Hybrid(alpha=1.0, alpha_end=0.0).alpha(progress=0.25)
        0.75
        """
        fraction = progress if self.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * fraction

    def check(self, corpus: Corpus, size: int) -> None:
        """Raise a UserError unless the corpus can fill monolingual and cross-lingual batches."""
        self.monolingual.check(corpus, size)
        self.crosslingual.check(corpus, size)

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """Draw the kind of batch, then the batch."""
        monolingual = generator.random() < self.alpha(progress)
        return (self.monolingual if monolingual else self.crosslingual).batch(corpus, size, generator, progress)
