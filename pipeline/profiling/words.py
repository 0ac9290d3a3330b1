"""Made-up texts of given lengths, and their tokenizer: what an architecture costs, without a vocabulary of its own.

`architectures` uses them, so that its figures are comparable wherever it runs. Every word is one token, drawn from the
whole vocabulary: embedding look-ups must not be easier than with real text. A real tokenizer takes longer.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline.values import Side

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # with the ids of XLM-R
CLOSING = 2  # special tokens of a text: <s> A </s>
SIDES: tuple[Side, Side] = ("query", "passage")


def tokenizer(vocabulary: int) -> Tokenizer:
    """Return a tokenizer with this number of entries: the special tokens, then the words w4, w5, …

    >>> tokenizer(300).encode("w7 w299").ids
    [0, 7, 299, 2]
    """
    entries = [*SPECIAL, *(f"w{id}" for id in range(len(SPECIAL), vocabulary))]
    words = Tokenizer(models.WordLevel({entry: id for id, entry in enumerate(entries)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return words


def texts(
    tokens: Mapping[str, Mapping[str, Sequence[int]]], count: int, vocabulary: int, seed: int
) -> dict[str, dict[Side, list[str]]]:
    """Return `count` texts of each language and side.

    Args:
        tokens: the lengths of texts by language and side, in tokens with special ones. Texts take them in random order
            and repeatedly: any prefix of the list holds short and long texts in equal shares.
        count: texts per language and side.
        vocabulary: entries of the tokenizer.
        seed: of the order and the words.
    """
    rng = np.random.default_rng(seed)

    def text(length: int) -> str:
        return " ".join(f"w{id}" for id in rng.integers(len(SPECIAL), vocabulary, length - CLOSING))

    def column(lengths: Sequence[int]) -> list[str]:
        return [text(length) for length in islice(cycle(rng.permutation(lengths)), count)]

    return {language: {side: column(lengths[side]) for side in SIDES} for language, lengths in tokens.items()}
