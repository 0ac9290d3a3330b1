"""X-X-mono (arXiv 2408.10536): all pairs of a batch are in one language, so every negative is in it too."""

import numpy as np

from pipeline.sampling.strategy import Corpus, check_exponent, require, weights
from pipeline.values import Draw


class Monolingual:
    trains = True

    def __init__(self, size_exponent: float = 0.0):
        check_exponent(size_exponent)
        self.size_exponent = size_exponent

    def check(self, corpus: Corpus, size: int) -> None:
        for language, rows in zip(corpus.languages, corpus.sizes_L, strict=True):
            require(rows, size, f"that exist in {language}")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        index = generator.choice(len(corpus.languages), p=weights(corpus.sizes_L, self.size_exponent))
        language = corpus.languages[index]
        return [Draw(row, language, language) for row in corpus.rows(size, generator, needs=[index])]
