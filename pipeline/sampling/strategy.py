"""What every batch strategy is: a function from (corpus, size, generator, progress) to one batch of Draws.

Legend: N rows, L languages. A strategy sees which rows exist in which languages and never a text; batch i of a run is
a function of (seed, epoch, i) alone, so a run resumes at any step and all ranks of a distributed run draw alike.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from pipeline.values import Draw, UserError

CHUNK_ROWS = 1 << 20


class Corpus:
    """The part of a ParallelText that strategies may see. Memory does not grow with N: `available_NL` is only read."""

    def __init__(self, languages: Sequence[str], available_NL: np.ndarray):
        self.languages = tuple(languages)
        self.available_NL = available_NL
        self.shared_LL = np.zeros((len(languages),) * 2, dtype=np.int64)  # rows that exist in both languages
        self.in_two_languages = 0
        for start in range(0, len(available_NL), CHUNK_ROWS):
            chunk_NL = available_NL[start : start + CHUNK_ROWS].astype(np.float32)
            self.shared_LL += np.rint(chunk_NL.T @ chunk_NL).astype(np.int64)  # exact: a chunk holds under 2^24 rows
            self.in_two_languages += int((chunk_NL.sum(axis=1) >= 2).sum())

    @property
    def sizes_L(self) -> np.ndarray:
        return self.shared_LL.diagonal()

    def index(self, language: str, key: str) -> int:
        if language not in self.languages:
            raise UserError(f"{key} needs {language}, which the data lacks; it has {', '.join(self.languages)}.")
        return self.languages.index(language)

    def rows(
        self, size: int, generator: np.random.Generator, needs: Sequence[int] = (), at_least: int = 1
    ) -> list[int]:
        """`size` different rows that exist in every language of `needs` and in `at_least` languages, uniformly.

        By rejection: the cost depends on how rare such rows are, not on N. The caller knows that enough of them exist.
        """
        kept: dict[int, None] = {}
        while len(kept) < size:
            candidates = generator.integers(len(self.available_NL), size=4 * size)
            available = self.available_NL[candidates]
            fits = available[:, list(needs)].all(axis=1) & (available.sum(axis=1) >= at_least)
            kept |= dict.fromkeys(candidates[fits].tolist())
        return list(kept)[:size]


class Strategy(Protocol):
    trains: bool

    def check(self, corpus: Corpus, size: int) -> None:
        """UserError where the corpus cannot fill a batch of this size."""
        ...

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """`size` draws, no row twice; `progress` runs from 0 to 1 over the training."""
        ...


def batches(
    strategy: Strategy, corpus: Corpus, size: int, *, steps: int, seed: int, start: int = 0
) -> Iterator[list[Draw]]:
    """The batches of a run from step `start` on. An epoch is as many batches as fill the corpus once."""
    strategy.check(corpus, size)
    per_epoch = max(1, len(corpus.available_NL) // size)
    for step in range(start, steps):
        epoch, index = divmod(step, per_epoch)
        yield strategy.batch(corpus, size, np.random.default_rng([seed, epoch, index]), step / steps)


def require(rows: int, size: int, what: str) -> None:
    if rows < size:
        raise UserError(f"trainer.batch_size={size} is larger than the {rows} rows {what}.")


def weights(sizes: np.ndarray, size_exponent: float) -> np.ndarray:
    """Probabilities in proportion to size ** exponent: 0 uniform, 1 by size, 1/T a temperature (mT5, Xue 2021)."""
    raw = np.where(sizes > 0, np.asarray(sizes, dtype=float) ** size_exponent, 0.0)
    return raw / raw.sum()


def check_exponent(size_exponent: float) -> None:
    if not 0 <= size_exponent <= 1:
        raise ValueError(f"size_exponent must lie in [0, 1], got {size_exponent}")
