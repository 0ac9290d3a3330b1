"""En-En (LAReQA, Roy et al. 2020): every pair is English; a baseline that relies on zero-shot transfer."""

import numpy as np

from pipeline.sampling.strategy import Corpus, require
from pipeline.values import Draw


class English:
    """Draw English pairs only.

    Only rows 1 and 2 exist in English:

    >>> corpus = Corpus(["de", "en"], np.array([[True, False], [True, True], [False, True]]))
    >>> sorted(English().batch(corpus, 2, np.random.default_rng(0), progress=0.0))
    [Draw(row=1, query_language='en', passage_language='en'), Draw(row=2, query_language='en', passage_language='en')]
    """

    trains = True

    def check(self, corpus: Corpus, size: int) -> None:
        """Raise a UserError unless enough rows exist in English."""
        require(corpus.sizes_L[corpus.index("en", "sampler=english")], size, "that exist in en")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """Draw rows that exist in English."""
        index = corpus.languages.index("en")
        return [Draw(row, "en", "en") for row in corpus.rows(size, generator, needs=[index])]
