"""BM25 in the process that serves it, as the meters measure it (profiling.served, which imports this module by name).

The index that is searched holds `rows` passages: those of the profile, repeated. Each text is read in its own language,
as whoever calls the service knows it. bm25s computes on one thread.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from pipeline.retrieval.lexical import Bm25, Index
from pipeline.retrieval.results import best
from pipeline.values import Side


def preload() -> None:
    """Import BM25's libraries."""
    import bm25s  # noqa: F401
    import icu4py.breakers  # noqa: F401
    import Stemmer  # noqa: F401


class Lexical:
    """BM25 and its index; a query's tokens are its terms, and it is embedded as its scores of all passages.

    >>> texts = {"en": {"query": ["panthers"], "passage": ["The panther.", "A lion."]}}
    >>> served = Lexical({}, texts, rows=5, top=2)
    >>> terms = served.tokenize("panthers", "query")
    >>> terms, served.search()[0](served.embed(terms)).tolist()
    (['panther'], [0, 2])
    """

    threads: Mapping[str, int] = {}
    missing = None

    def __init__(
        self, settings: Mapping[str, Any], texts: Mapping[str, Mapping[Side, Sequence[str]]], rows: int, top: int
    ):
        self.bm25, self.rows, self.top, self.scored = Bm25(**settings), rows, top, f"BM25 over {rows} passages"
        self.language = {
            text: language for language, sides in texts.items() for side in sides.values() for text in side
        }
        self.passages = list(dict.fromkeys(text for sides in texts.values() for text in sides["passage"]))

    @cached_property
    def index(self) -> Index:
        """What is searched."""
        terms = [self.tokenize(text, "passage") for text in self.passages]
        return Index([terms[row % len(terms)] for row in range(self.rows)], self.bm25)

    def tokenize(self, text: str, side: Side) -> list[str]:
        """Return the terms of a text."""
        return self.bm25.terms(text, self.language[text])

    def embed(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the score of every passage [N] for a query's terms."""
        return self.index.scores(tokens)

    def encode(self, texts: Sequence[str], side: Side, token_budget: int | None) -> Any:
        """Score all passages for each query, or make an index of passages."""
        terms = [self.tokenize(text, side) for text in texts]
        return [self.embed(each) for each in terms] if side == "query" else Index(terms, self.bm25)

    def search(self) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
        """Select the best of all scores."""
        return partial(best, k=self.top), f"{self.scored}, top {self.top}"

    def index_bytes(self, encoded: Index) -> float:
        """Return the bytes per passage of the saved index, postings and vocabulary, of all passages of the profile."""
        return Index([self.tokenize(text, "passage") for text in self.passages], self.bm25).bytes / len(self.passages)

    def facts(self) -> dict[str, Any]:
        """BM25 has no weights."""
        return {"parameters": None, "weights_bytes": 0, "weights_on_disk": 0, "attention": None}

    def flop(self, lengths: Sequence[int]) -> int:
        """BM25 multiplies no matrices."""
        return 0

    def timer(self) -> None:
        """BM25 runs on the processor."""
