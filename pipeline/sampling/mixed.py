"""X-X (LAReQA, Roy et al. 2020): question and passage of a pair share a language, the pairs of a batch do not."""

import numpy as np

from pipeline.sampling.strategy import Corpus, check_exponent, require, weights
from pipeline.values import Draw


class Mixed:
    trains = True

    def __init__(self, size_exponent: float = 0.0):
        check_exponent(size_exponent)
        self.size_exponent = size_exponent

    def check(self, corpus: Corpus, size: int) -> None:
        require(len(corpus.available_NL), size, "of the data")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        weights_L = weights(corpus.sizes_L, self.size_exponent)
        draws = []
        for row in corpus.rows(size, generator):
            row_weights_L = weights_L * corpus.available_NL[row]
            language = corpus.languages[generator.choice(len(weights_L), p=row_weights_L / row_weights_L.sum())]
            draws.append(Draw(row, language, language))
        return draws
