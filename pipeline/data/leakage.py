"""Leakage: the ids, article titles, queries and passages that a training set shares with a benchmark, word for word.

`experiment` stores the result in the record. Texts are compared across languages in their normal form (data.text), and
without regard to case and underscores (Wikipedia's titles contain them); paraphrases and translations are not detected.
Memory use is 8 bytes (a hash) per text of the benchmark plus one chunk of the training set, which is streamed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from pipeline.data.text import normal
from pipeline.values import Collection, ParallelText

KINDS = ("ids", "titles", "queries", "passages")
CHUNK = 1 << 14  # texts hashed at a time
EXAMPLES = 3  # of each kind


def check(data: ParallelText, collection: Collection) -> dict[str, Any]:
    """Count the distinct items of each kind that a training set shares with a benchmark.

    Returns:
        JSON values: for each of KINDS the number of shared items (`titles` is None if the training set or the benchmark
        has no titles); `examples`, by kind, at most EXAMPLES shared items as the training set writes them; `checked`,
        by kind, the number of items of the training set, counting repeated ones each time.
    """
    queries, passages = collection.queries.values(), collection.passages.values()
    shared = {
        "ids": _shared(data.ids, chain(*(texts.ids for texts in queries))),
        "titles": _shared(data.titles or (), collection.titles),
        "queries": _shared(chain(*data.questions.values()), chain(*(texts.texts for texts in queries))),
        "passages": _shared(chain(*data.passages.values()), chain(*(texts.texts for texts in passages))),
    }
    result: dict[str, Any] = {kind: count for kind, (count, _, _) in shared.items()}
    if data.titles is None or not collection.titles:
        result["titles"] = None
    result["examples"] = {kind: examples for kind, (_, examples, _) in shared.items()}
    result["checked"] = {kind: checked for kind, (_, _, checked) in shared.items()}
    return result


def sentence(data: str, benchmark: str, result: Mapping[str, Any]) -> str | None:
    """Return the note to print wherever scores on the benchmark appear, or None if nothing is shared.

    >>> sentence("squad", "xquad_r", {"ids": 0, "titles": 48, "queries": 1, "passages": 0})
    'The training data squad shares titles (48), queries (1) with xquad_r.'
    """
    shared = [f"{kind} ({result[kind]})" for kind in KINDS if result[kind]]
    return f"The training data {data} shares {', '.join(shared)} with {benchmark}." if shared else None


def _shared(training_texts: Iterable[str | None], benchmark_texts: Iterable[str]) -> tuple[int, list[str], int]:
    """Return the number of distinct shared texts, the first few as the training set writes them, and its text count."""
    known = np.unique(np.concatenate([np.empty(0, np.uint64), *(hashes for _, hashes in _chunks(benchmark_texts))]))
    shared: dict[int, str] = {}  # hash -> first text that has it
    checked = 0
    for texts, hashes in _chunks(text for text in training_texts if text is not None):
        checked += len(texts)
        for position in np.flatnonzero(np.isin(hashes, known)).tolist():
            shared.setdefault(int(hashes[position]), texts[position])
    return len(shared), list(shared.values())[:EXAMPLES], checked


def _chunks(texts: Iterable[str]) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """Yield CHUNK texts at a time with the uint64 hashes of their normalised forms."""
    from pandas.util import hash_array

    rest = iter(texts)
    while chunk := list(islice(rest, CHUNK)):
        forms = [normal(text.replace("_", " ").casefold()) for text in chunk]
        yield chunk, hash_array(np.array(forms, dtype=object), categorize=False)
