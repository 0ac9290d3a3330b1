"""X-X-mono (arXiv 2408.10536): all pairs of a batch are in one language, and so are all in-batch negatives."""

import numpy as np

from pipeline.sampling.strategy import Corpus, check_exponent, require, weights
from pipeline.values import Draw


class Monolingual:
    """Draw one language per batch.

    All rows exist in both languages; a batch of two pairs has one language and two rows:

    >>> corpus = Corpus(["de", "en"], np.ones((2, 2), dtype=bool))
    >>> batch = Monolingual().batch(corpus, 2, np.random.default_rng(0), progress=0.0)
    >>> sorted(draw.row for draw in batch), len({language for draw in batch for language in draw[1:]})
    ([0, 1], 1)
    """

    trains = True

    def __init__(self, size_exponent: float = 0.0):
        """Configure the exponent of the language weights, see `weights`."""
        check_exponent(size_exponent)
        self.size_exponent = size_exponent

    def check(self, corpus: Corpus, size: int) -> None:
        """Raise a UserError unless enough rows exist in every language."""
        for language, rows in zip(corpus.languages, corpus.sizes_L, strict=True):
            require(rows, size, f"that exist in {language}")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """Draw a language by weight, then rows that exist in it."""
        index = generator.choice(len(corpus.languages), p=weights(corpus.sizes_L, self.size_exponent))
        language = corpus.languages[index]
        return [Draw(row, language, language) for row in corpus.rows(size, generator, needs=[index])]
