"""En-En (LAReQA, Roy et al. 2020): every pair is English; the baseline that relies on zero-shot transfer."""

import numpy as np

from pipeline.sampling.strategy import Corpus, require
from pipeline.values import Draw


class English:
    trains = True

    def check(self, corpus: Corpus, size: int) -> None:
        require(corpus.sizes_L[corpus.index("en", "sampler=english")], size, "that exist in en")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        index = corpus.languages.index("en")
        return [Draw(row, "en", "en") for row in corpus.rows(size, generator, needs=[index])]
