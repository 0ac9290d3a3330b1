"""An encoder fused with BM25 in one process, as the meters measure it (profiling.served imports this module by name).

A query is read by both, embedded and scored, then both searches return their lists, which are fused: all costs are
measured as they arise, one after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.retrieval import lexical_served
from pipeline.retrieval.fusion import DEPTH, fuse
from pipeline.retrieval.lexical import fused_with
from pipeline.retrieval.lexical_served import Lexical
from pipeline.retrieval.results import best
from pipeline.values import Side


def preload() -> None:
    """Import BM25's libraries and FAISS."""
    import faiss  # noqa: F401

    lexical_served.preload()


class Fused:
    """An encoder and BM25 over the same passages.

    Args:
        dense: the encoder, as profiling.served.Dense.
        fusion: as of the inference variant.
        texts, rows, top: as of Lexical.
    """

    def __init__(
        self,
        dense: Any,
        fusion: str,
        texts: Mapping[str, Mapping[Side, Sequence[str]]],
        rows: int,
        top: int,
    ):
        self.dense, self.lexical = dense, Lexical(vars(fused_with(fusion)), texts, rows, top)
        self.threads, self.missing, self.scored = dense.threads, dense.missing, self.lexical.scored

    def tokenize(self, text: str, side: Side) -> "Tokens":
        """Return the ids and the terms of a text."""
        return Tokens(self.dense.tokenize(text, side), self.lexical.tokenize(text, side))

    def embed(self, tokens: "Tokens") -> tuple[np.ndarray, np.ndarray]:
        """Return a query's embedding, and its BM25 score of every passage."""
        return self.dense.embed(tokens.ids), self.lexical.embed(tokens.terms)

    def encode(self, texts: Sequence[str], side: Side, token_budget: int | None) -> tuple[Any, Any]:
        """Do the work of both."""
        return self.dense.encode(texts, side, token_budget), self.lexical.encode(texts, side, token_budget)

    def search(self) -> tuple[Callable[[tuple[np.ndarray, np.ndarray]], np.ndarray], str]:
        """Search both indexes DEPTH deep, and fuse."""
        from pipeline.retrieval import faiss_index

        flat, description = self.dense.flat()

        def search(query: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            emb_1D, score_N = query
            hits = faiss_index.search(flat, emb_1D, min(DEPTH, flat.ntotal))[1][0]
            return fuse([hits, best(score_N, DEPTH)])[: self.lexical.top]

        _, lexical = self.lexical.search()
        return search, f"{description}, and {lexical} of the first {DEPTH} of both by reciprocal rank"

    def index_bytes(self, encoded: tuple[Any, Any]) -> float:
        """Return the bytes per passage of both indexes."""
        return self.dense.index_bytes(encoded[0]) + self.lexical.index_bytes(encoded[1])

    def facts(self) -> dict[str, Any]:
        """Return the encoder's: BM25 has no weights."""
        return self.dense.facts()

    def flop(self, lengths: Sequence[int]) -> int:
        """Return the encoder's."""
        return self.dense.flop(lengths)

    def timer(self) -> Callable[[], float] | None:
        """Return the encoder's."""
        return self.dense.timer()


class Tokens:
    """A text as both read it; its length is the encoder's."""

    def __init__(self, ids: list[int], terms: list[str]):
        self.ids, self.terms = ids, terms

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> int:
        return self.ids[place]
