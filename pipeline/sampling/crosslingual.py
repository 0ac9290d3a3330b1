"""X-Y (arXiv 2408.10536): query and passage of a pair are in different languages."""

from typing import Literal

import numpy as np

from pipeline.sampling.strategy import Corpus, check_exponent, require, weights
from pipeline.values import Draw, UserError


class Crosslingual:
    """Draw pairs whose query and passage are in two languages.

    Row 0 exists in one language only, so it is never drawn:

    >>> corpus = Corpus(["de", "en"], np.array([[False, True], [True, True], [True, True]]))
    >>> batch = Crosslingual().batch(corpus, 2, np.random.default_rng(0), progress=0.0)
    >>> sorted(draw.row for draw in batch), {draw.query_language != draw.passage_language for draw in batch}
    ([1, 2], {True})
    """

    trains = True

    def __init__(self, languages_by: Literal["pair", "batch"] = "pair", size_exponent: float = 0.0):
        """Configure the strategy.

        Args:
            languages_by: `pair` draws two languages per pair, `batch` draws two languages for the whole batch.
            size_exponent: of the language weights, see `weights`.
        """
        check_exponent(size_exponent)
        self.languages_by = languages_by
        self.size_exponent = size_exponent

    def check(self, corpus: Corpus, size: int) -> None:
        """Raise a UserError unless enough rows exist in two languages (for `batch`: in the same two)."""
        if len(corpus.languages) < 2:
            raise UserError(f"data.languages={list(corpus.languages)}: cross-lingual batches need two languages.")
        if self.languages_by == "pair":
            require(corpus.in_two_languages, size, "that exist in two languages")
        else:
            require(int(np.triu(corpus.shared_LL, 1).max()), size, "that two languages share at most")

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """Draw languages by weight: for each row among those in which it exists, or once per batch."""
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
        """Skip language pairs that share fewer rows than a batch; the record counts the pairs that were drawn."""
        weights_L = weights(corpus.sizes_L, self.size_exponent)
        weights_LL = np.outer(weights_L, weights_L) * (corpus.shared_LL >= size)
        np.fill_diagonal(weights_LL, 0)
        choice = generator.choice(weights_LL.size, p=weights_LL.ravel() / weights_LL.sum())
        query, passage = divmod(int(choice), len(corpus.languages))
        rows = corpus.rows(size, generator, needs=[query, passage])
        return [Draw(row, corpus.languages[query], corpus.languages[passage]) for row in rows]
