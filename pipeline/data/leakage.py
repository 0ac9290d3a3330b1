"""What a training set shares with a benchmark: ids, titles of articles, questions and passages, word for word.

`cell` puts the result into the record. Texts count as the same up to case, white space and underscores (Wikipedia's
titles carry them), in whatever language; paraphrases and translations are not found. Memory holds 8 bytes (a hash) for
each text of the benchmark and a chunk of the training set, which is streamed.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from pipeline.values import Collection, ParallelText

KINDS = ("ids", "titles", "questions", "passages")
CHUNK = 1 << 14  # texts hashed at a time
EXAMPLES = 3  # of each kind


def check(data: ParallelText, collection: Collection) -> dict[str, Any]:
    """How many distinct items of each kind are shared: None where one side has no titles to compare.

    `examples` stand as the training set writes them; `checked` counts its items, one that occurs twice twice.
    """
    queries, passages = collection.queries.values(), collection.passages.values()
    shared = {
        "ids": _shared(data.ids, chain(*(texts.ids for texts in queries))),
        "titles": _shared(data.titles or (), collection.titles),
        "questions": _shared(chain(*data.questions.values()), chain(*(texts.texts for texts in queries))),
        "passages": _shared(chain(*data.passages.values()), chain(*(texts.texts for texts in passages))),
    }
    result: dict[str, Any] = {kind: count for kind, (count, _, _) in shared.items()}
    if data.titles is None or not collection.titles:
        result["titles"] = None
    result["examples"] = {kind: examples for kind, (_, examples, _) in shared.items()}
    result["checked"] = {kind: checked for kind, (_, _, checked) in shared.items()}
    return result


def sentence(data: str, benchmark: str, result: dict[str, Any]) -> str | None:
    """The note that must stand wherever the figures do; None where nothing is shared."""
    shared = [f"{kind} ({result[kind]})" for kind in KINDS if result[kind]]
    return f"The training data {data} shares {', '.join(shared)} with {benchmark}." if shared else None


def _shared(ours: Iterable[str | None], theirs: Iterable[str]) -> tuple[int, list[str], int]:
    """How many distinct texts both hold, the first of them as they stand in `ours`, and how many `ours` holds."""
    known = np.unique(np.concatenate([np.empty(0, np.uint64), *(hashes for _, hashes in _chunks(theirs))]))
    found: dict[int, str] = {}
    checked = 0
    for texts, hashes in _chunks(text for text in ours if text is not None):
        checked += len(texts)
        for position in np.flatnonzero(np.isin(hashes, known)).tolist():
            found.setdefault(int(hashes[position]), texts[position])
    return len(found), list(found.values())[:EXAMPLES], checked


def _chunks(texts: Iterable[str]) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """Texts with the uint64 hashes of their normal forms."""
    from pandas.util import hash_array

    rest = iter(texts)
    while chunk := list(islice(rest, CHUNK)):
        normal = [" ".join(text.replace("_", " ").split()).casefold() for text in chunk]
        yield chunk, hash_array(np.array(normal, dtype=object), categorize=False)
