"""What a training set shares with a benchmark: ids, titles of articles, questions and passages, word for word.

`cell` puts the result into the record. Texts count as the same up to case, white space and underscores (Wikipedia's
titles carry them), in whatever language. Memory holds 8 bytes (a hash) for each text of the benchmark and a chunk of
the training set, which is streamed. Paraphrases and translations are not found.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from pipeline.values import Collection, ParallelText

CHUNK = 1 << 14  # texts hashed at a time
EXAMPLES = 3


def check(data: ParallelText, collection: Collection) -> dict[str, Any]:
    """Distinct shared items by kind, None where one side has none of the kind; up to 3 examples of each, as trained on.

    `checked` counts the training set's texts; one that occurs twice counts twice.
    """
    queries, passages = collection.queries.values(), collection.passages.values()
    ours: dict[str, Iterable[str | None]] = {
        "ids": data.ids,
        "titles": data.titles or (),
        "questions": chain.from_iterable(data.questions.values()),
        "passages": chain.from_iterable(data.passages.values()),
    }
    theirs: dict[str, Iterable[str]] = {
        "ids": chain.from_iterable(texts.ids for texts in queries),
        "titles": collection.titles,
        "questions": chain.from_iterable(texts.texts for texts in queries),
        "passages": chain.from_iterable(texts.texts for texts in passages),
    }
    result: dict[str, Any] = {"examples": {}, "checked": {}}
    for kind in ours:
        shared, result["examples"][kind], result["checked"][kind] = _shared(ours[kind], theirs[kind])
        known = kind != "titles" or (data.titles is not None and collection.titles)
        result[kind] = shared if known else None
    return result


def _shared(ours: Iterable[str | None], theirs: Iterable[str]) -> tuple[int, list[str], int]:
    """How many distinct texts both hold, the first of them as they stand in `ours`, and how many `ours` holds."""
    known = np.unique(np.concatenate([np.empty(0, np.uint64), *(hashes for _, hashes in _chunks(theirs))]))
    found: set[int] = set()
    examples: list[str] = []
    checked = 0
    for texts, hashes in _chunks(text for text in ours if text is not None):
        checked += len(texts)
        for position in np.flatnonzero(np.isin(hashes, known)).tolist():
            if hashes[position] not in found and len(examples) < EXAMPLES:
                examples.append(texts[position])
            found.add(int(hashes[position]))
    return len(found), examples, checked


def _chunks(texts: Iterable[str]) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """Texts with the uint64 hashes of their normal forms."""
    from pandas.util import hash_array

    rest = iter(texts)
    while chunk := list(islice(rest, CHUNK)):
        normal = [" ".join(text.replace("_", " ").split()).casefold() for text in chunk]
        yield chunk, hash_array(np.array(normal, dtype=object), categorize=False)
