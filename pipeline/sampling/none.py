"""No training: the pretrained encoder, the baseline of every Pareto front."""

import numpy as np

from pipeline.sampling.strategy import Corpus
from pipeline.values import Draw


class NoTraining:
    """Skip training."""

    trains = False

    def check(self, corpus: Corpus, size: int) -> None:
        """Accept any corpus."""

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """Never called, since `trains` is False."""
        raise AssertionError("a run without training draws no batch")
