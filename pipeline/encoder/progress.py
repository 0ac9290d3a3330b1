"""The progress bar of bulk encoding: it counts tokens, and its time left is steady from the first chunk on.

Time follows tokens. Counted in texts, the time left would swing by a factor of 25, since the longest texts of a chunk
are encoded first. The number of tokens is known only after tokenizing, so a sample stands for the chunks not yet read.

Axes: C chunks, S sampled texts.
"""

from collections.abc import Callable, Sequence
from threading import Timer

import numpy as np

from pipeline.bars import BAR_DELAY_S, Bar

SAMPLE = 1024  # texts; if token counts vary by their mean, the estimated total is within 6 % (two standard errors)


class TokenBar:
    """A progress bar over tokens; use it as a context manager.

    Args:
        title: of the bar, which appears after BAR_DELAY_S; None for no bar.
        tokens_C: tokens of each chunk, estimated; 0 where unknown.
    """

    def __init__(self, title: str | None, tokens_C: np.ndarray):
        self.tokens_C = tokens_C
        self.bar = Bar(
            desc=title,
            total=round(tokens_C.sum()) or None,
            unit=" tokens",
            unit_scale=True,
            smoothing=0,  # the mean rate since the start: recent batches hold long texts only, or short ones only
            miniters=1,
            delay=BAR_DELAY_S,
            disable=title is None,
        )

    @property
    def shown(self) -> bool:
        """Whether there is a bar, on a terminal."""
        return self.bar.on_terminal and not self.bar.disable

    def __enter__(self) -> "TokenBar":
        if self.shown:
            self.appear = Timer(BAR_DELAY_S, self.bar.refresh)  # the first batch of a large encoder may take minutes
            self.appear.daemon = True
            self.appear.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.appear.cancel()
            self.appear.join()
        self.bar.close()

    def tokenized(self, chunk: int, tokens: int) -> None:
        """Replace the estimate of a chunk by its number of tokens."""
        self.tokens_C[chunk] = tokens
        self.bar.total = round(self.tokens_C.sum())

    def encoded(self, tokens: int) -> None:
        """Add to the tokens that are done."""
        self.bar.update(tokens)


def estimate_tokens(
    tokenize: Callable[[list[str]], list[list[int]]], texts: Sequence[str], starts: Sequence[int], chunk: int
) -> np.ndarray:
    """Return about how many tokens each chunk of texts has, as float64 [C], in less than a second.

    One text is drawn from each of SAMPLE equal parts of all texts, so texts sorted by length are no problem.

    Args:
        tokenize: returns token ids.
        texts: may be a column on disk; SAMPLE texts are read.
        starts: positions of the first text of each chunk, increasing.
        chunk: texts per chunk. Only the last chunk may be shorter.

    >>> def tokenize(texts):
    ...     return [[0] * len(text) for text in texts]
    >>> estimate_tokens(tokenize, ["ab"] * 4096 + ["abc"] * 4096, [0, 4096], 4096)
    array([ 8192., 12288.])
    """
    count = (len(starts) - 1) * chunk + len(texts) - starts[-1]
    spacing = count / SAMPLE
    drawn_S = ((np.arange(SAMPLE) + np.random.default_rng(0).random(SAMPLE)) * spacing).astype(int)
    places = [starts[drawn // chunk] + drawn % chunk for drawn in drawn_S.tolist()]
    lengths_S = [len(row) for row in tokenize([texts[place] for place in places])]
    return np.bincount(drawn_S // chunk, lengths_S, minlength=len(starts)) * spacing
