"""Made-up texts of given lengths, and their tokenizer: what an architecture costs, without a vocabulary of its own.

The command of `profile` uses them, so that its figures come about alike wherever it runs. Every word is one token,
drawn from the whole vocabulary: looking embeddings up must not be easier than with real text. A real tokenizer takes
longer than this one.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np

from pipeline.values import Side

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # with the ids of XLM-R
CLOSING = 2  # special tokens of a text: <s> A </s>


def tokenizer(vocabulary: int) -> Any:
    """A `tokenizers.Tokenizer` of so many entries: the special tokens, then the words w4, w5, …"""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    entries = [*SPECIAL, *(f"w{id}" for id in range(len(SPECIAL), vocabulary))]
    made = Tokenizer(models.WordLevel({entry: id for id, entry in enumerate(entries)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return made


def texts(
    tokens: Mapping[str, Mapping[Side, Sequence[int]]], count: int, vocabulary: int, seed: int
) -> dict[str, dict[Side, list[str]]]:
    """`count` texts of each language and side. Their tokens, special ones included, are those listed, in random order
    and over again: any beginning holds short and long texts in equal shares."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> str:
        return " ".join(f"w{id}" for id in rng.integers(len(SPECIAL), vocabulary, length - CLOSING))

    def column(lengths: Sequence[int]) -> list[str]:
        return [text(length) for length in islice(cycle(rng.permutation(lengths)), count)]

    return {language: {side: column(lengths) for side, lengths in sides.items()} for language, sides in tokens.items()}
