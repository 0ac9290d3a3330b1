"""The interface of batch strategies, and what they share: the corpus they may see, and language weights.

A strategy is a function from (corpus, size, generator, progress) to one batch of Draws. Batch i of an epoch depends
only on (seed, epoch, i), so a run resumes at any step, and all processes of a distributed run draw the same batches.

Axes: N rows, L languages.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from pipeline.values import Draw, UserError

CHUNK_ROWS = 1 << 20


class Corpus:
    """The part of a ParallelText that strategies may see.

    Memory use does not grow with N: `available_NL` is only read.

    >>> corpus = Corpus(["de", "en"], np.array([[True, True], [False, True], [True, True]]))
    >>> corpus.sizes_L.tolist(), corpus.shared_LL[0, 1].item(), corpus.in_two_languages
    ([2, 3], 2, 2)

    Attributes:
        languages: the L languages, in the order of all language axes.
        available_NL: bool, whether a row exists in a language.
        shared_LL: int64, the number of rows that exist in both languages.
        in_one_language, in_two_languages: the number of rows that exist in at least one, at least two languages.
    """

    def __init__(self, languages: Sequence[str], available_NL: np.ndarray):
        self.languages = tuple(languages)
        self.available_NL = available_NL
        self.shared_LL = np.zeros((len(languages),) * 2, dtype=np.int64)
        self.in_one_language = self.in_two_languages = 0
        for start in range(0, len(available_NL), CHUNK_ROWS):
            chunk_NL = available_NL[start : start + CHUNK_ROWS].astype(np.float32)
            self.shared_LL += np.rint(chunk_NL.T @ chunk_NL).astype(np.int64)  # exact: a chunk has under 2^24 rows
            self.in_one_language += int((chunk_NL.sum(axis=1) >= 1).sum())
            self.in_two_languages += int((chunk_NL.sum(axis=1) >= 2).sum())

    @property
    def sizes_L(self) -> np.ndarray:
        """The number of rows that exist in each language."""
        return self.shared_LL.diagonal()

    def index(self, language: str, key: str) -> int:
        """Return the position of a language.

        Raises:
            UserError: if the corpus lacks it; the message names the config key that needs it.
        """
        if language not in self.languages:
            raise UserError(f"{key} needs {language}, which the data lacks; it has {', '.join(self.languages)}.")
        return self.languages.index(language)

    def rows(
        self, size: int, generator: np.random.Generator, needs: Sequence[int] = (), at_least: int = 1
    ) -> list[int]:
        """Draw distinct rows uniformly, by rejection: the cost depends on how rare eligible rows are, not on N.

        Args:
            size: number of rows; at least as many eligible rows must exist (`Strategy.check` sees to it).
            generator: source of randomness.
            needs: positions of the languages in which an eligible row exists.
            at_least: number of languages in which an eligible row exists.
        """
        rows: dict[int, None] = {}  # a set that keeps the order of the draws
        while len(rows) < size:
            candidates = generator.integers(len(self.available_NL), size=4 * size)
            available = self.available_NL[candidates]
            eligible = available[:, list(needs)].all(axis=1) & (available.sum(axis=1) >= at_least)
            rows |= dict.fromkeys(candidates[eligible].tolist())
        return list(rows)[:size]


class Strategy(Protocol):
    """What the `_target_` of a yaml in conf/sampler returns.

    Attributes:
        trains: False only for the baseline that skips training.
    """

    trains: bool

    def check(self, corpus: Corpus, size: int) -> None:
        """Check, before training, that the corpus can fill a batch.

        Raises:
            UserError: if it cannot.
        """
        ...

    def batch(self, corpus: Corpus, size: int, generator: np.random.Generator, progress: float) -> list[Draw]:
        """Draw one batch.

        Args:
            corpus: the training rows.
            size: number of draws; no row occurs twice.
            generator: the only source of randomness.
            progress: the part of training that is done, from 0 to 1.
        """
        ...


def batches(
    strategy: Strategy, corpus: Corpus, size: int, *, steps: int, seed: int, start: int = 0
) -> Iterator[list[Draw]]:
    """Yield the batches of a run from step `start` to `steps`. An epoch has as many batches as fill the corpus once.

    Raises:
        UserError: if the corpus cannot fill a batch.
    """
    strategy.check(corpus, size)
    per_epoch = max(1, len(corpus.available_NL) // size)
    for step in range(start, steps):
        epoch, index = divmod(step, per_epoch)
        yield strategy.batch(corpus, size, np.random.default_rng([seed, epoch, index]), step / steps)


def require(rows: int, size: int, description: str) -> None:
    """Raise a UserError if a batch needs more rows than exist; `description` completes "the 20 rows …"."""
    if rows < size:
        raise UserError(f"trainer.batch_size={size} is larger than the {rows} rows {description}.")


def weights(sizes: np.ndarray, size_exponent: float) -> np.ndarray:
    """Return probabilities proportional to size ** size_exponent; an empty language gets 0.

    Exponent 0 is uniform, 1 proportional to size, 1/T a temperature T (mT5, Xue et al. 2021).

    With the square roots 1 and 2 of sizes 1 and 4, the probabilities are 1/3 and 2/3:

    >>> weights(np.array([1, 4, 0]), size_exponent=0.5).round(3).tolist()
    [0.333, 0.667, 0.0]
    """
    unnormalised = np.where(sizes > 0, np.asarray(sizes, dtype=float) ** size_exponent, 0.0)
    return unnormalised / unnormalised.sum()


def check_exponent(size_exponent: float) -> None:
    """Raise a ValueError unless the exponent of `weights` lies in [0, 1]."""
    if not 0 <= size_exponent <= 1:
        raise ValueError(f"size_exponent must lie in [0, 1], got {size_exponent}")
