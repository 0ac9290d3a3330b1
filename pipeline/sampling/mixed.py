"""X-X (LAReQA, Roy et al. 2020): query and passage of a pair share a language, and a batch mixes languages."""

import numpy as np

from pipeline.sampling.strategy import Corpus, check_exponent, require, weights
from pipeline.values import Draw


class Mixed:
    """Draw same-language pairs, each in a language of its own.

    Each row exists in one language only, so its language is certain:

    >>> corpus = Corpus(["de", "en"], np.array([[True, False], [False, True]]))
    >>> sorted(Mixed().batch(corpus, 2, np.random.default_rng(0), progress=0.0))
    [Draw(row=0, query_language='de', passage_language='de'), Draw(row=1, query_language='en', passage_language='en')]
    """

    trains = True

    def __init__(self, size_exponent: float = 0.0):
        """Configure the exponent of the language weights, see `weights`."""
        check_exponent(size_exponent)
        self.size_exponent = size_exponent

    def check(self, corpus: Corpus, size: int) -> None:
        """Raise a UserError unless enough rows exist."""
        require(corpus.in_one_language, size, "of the data")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """Draw rows, and for each a language by weight among those in which it exists."""
        weights_L = weights(corpus.sizes_L, self.size_exponent)
        draws = []
        for row in corpus.rows(size, generator):
            row_weights_L = weights_L * corpus.available_NL[row]
            language = corpus.languages[generator.choice(len(weights_L), p=row_weights_L / row_weights_L.sum())]
            draws.append(Draw(row, language, language))
        return draws
