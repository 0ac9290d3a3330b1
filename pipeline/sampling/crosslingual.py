"""X-Y (arXiv 2408.10536): question and passage of a pair are in different languages."""

from typing import Literal

import numpy as np

from pipeline.sampling.strategy import Corpus, check_exponent, require, weights
from pipeline.values import Draw, UserError


class Crosslingual:
    trains = True

    def __init__(self, languages_by: Literal["pair", "batch"] = "pair", size_exponent: float = 0.0):
        """`languages_by`: every pair of a batch draws its own two languages, or one two for the whole batch."""
        check_exponent(size_exponent)
        self.languages_by = languages_by
        self.size_exponent = size_exponent

    def check(self, corpus: Corpus, size: int) -> None:
        if len(corpus.languages) < 2:
            raise UserError(f"data.languages={list(corpus.languages)}: cross-lingual batches need two languages.")
        if self.languages_by == "pair":
            require(corpus.in_two_languages, size, "that exist in two languages")
        else:
            require(int(np.triu(corpus.shared_LL, 1).max()), size, "that the closest two languages share")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        draw = self._by_pair if self.languages_by == "pair" else self._by_batch
        return draw(corpus, size, generator)

    def _by_pair(self, corpus: Corpus, size: int, generator: np.random.Generator) -> list[Draw]:
        weights_L = weights(corpus.sizes_L, self.size_exponent)
        draws = []
        for row in corpus.rows(size, generator, at_least=2):
            row_weights_L = weights_L * corpus.available_NL[row]
            query, passage = generator.choice(len(weights_L), 2, replace=False, p=row_weights_L / row_weights_L.sum())
            draws.append(Draw(row, corpus.languages[query], corpus.languages[passage]))
        return draws

    def _by_batch(self, corpus: Corpus, size: int, generator: np.random.Generator) -> list[Draw]:
        """Language pairs that share fewer rows than a batch holds are never drawn; the run logs those that were."""
        weights_L = weights(corpus.sizes_L, self.size_exponent)
        weights_LL = np.outer(weights_L, weights_L) * (corpus.shared_LL >= size)
        np.fill_diagonal(weights_LL, 0)
        choice = generator.choice(weights_LL.size, p=weights_LL.ravel() / weights_LL.sum())
        query, passage = divmod(int(choice), len(corpus.languages))
        rows = corpus.rows(size, generator, needs=[query, passage])
        return [Draw(row, corpus.languages[query], corpus.languages[passage]) for row in rows]
