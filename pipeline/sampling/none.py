"""No training: the encoder as it comes, the baseline of every front."""

import numpy as np

from pipeline.sampling.strategy import Corpus
from pipeline.values import Draw


class NoTraining:
    trains = False

    def check(self, corpus: Corpus, size: int) -> None:
        pass

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        raise AssertionError("a run without training draws no batch")
