"""Hard negatives of a training pair: the data's own, or passages that the encoder ranks high before it is trained.

`fit` builds a source of hard negatives once per training; `module.Contrastive` calls it for every pair.

Legend: N rows of the training data, L languages, K hard negatives per row, P passages of the pool, Q queries.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.encoder.encoding import encode
from pipeline.encoder.model import Encoder
from pipeline.store.files import read_again, write_atomically, write_json
from pipeline.training.losses import NO_GROUP, PADDING
from pipeline.values import Draw, ParallelText


class Passage(NamedTuple):
    """A passage of a batch, and its group: passages of one group are no negatives of each other's queries."""

    text: str
    group: int


HardNegatives = Callable[[Draw], list[Passage]]  # the same number for every pair, in the passage's language

FILLER = Passage("", PADDING)  # where a pair has too few hard negatives


def source(encoder: Encoder, data: ParallelText, train_NL: np.ndarray, count: int, folder: Path) -> HardNegatives:
    """Return a function that gives `count` hard negatives for a pair.

    They are the first of the data's own hard negatives; data without them are mined with `encoder`. Mined rows are
    stored in `folder`, so a training that resumes does not mine again.

    Args:
        train_NL: bool [N, L], the training rows, from which negatives are mined.
    """
    if count == 0:
        return lambda draw: []
    if data.negatives is not None:
        return partial(from_column, data.negatives, count)
    path, checksum = folder / "rows.npy", folder / "rows.json"
    if read_again(checksum) is None:
        row_NLK = mine(encoder, data, train_NL, count)
        write_atomically(path, lambda temporary: np.save(temporary, row_NLK))
        write_json(checksum, {}, [path])
    return partial(from_rows, data, np.load(path, mmap_mode="r"))


def from_column(negatives: Mapping[str, Sequence[Sequence[str]]], count: int, draw: Draw) -> list[Passage]:
    """Return the first `count` hard negatives that the data list for a pair, filled up where there are fewer."""
    texts = list(negatives[draw.passage_language][draw.row] or ())[:count]
    return [Passage(text, NO_GROUP) for text in texts] + [FILLER] * (count - len(texts))


def from_rows(data: ParallelText, row_NLK: np.ndarray, draw: Draw) -> list[Passage]:
    """Return the passages of the rows that were mined for a pair."""
    language = draw.passage_language
    rows = row_NLK[draw.row, data.languages.index(language)].tolist()
    return [
        Passage(data.text(row, language, "passage"), int(data.passage_group[row])) if row >= 0 else FILLER
        for row in rows
    ]


def mine(encoder: Encoder, data: ParallelText, train_NL: np.ndarray, count: int) -> np.ndarray:
    """Find the rows whose passages `encoder` ranks highest for the query of each row, in each language on its own.

    The pool of a language holds each group once, by its first training row. A row's own group is left out. A pair whose
    query is in another language takes the rows of its passage language, so the query's translation decides.

    Args:
        train_NL: bool [N, L], the rows that may be in the pool.

    Returns:
        int32 `row_NLK`, best first; -1 where the pool is too small, or the row does not exist in the language.
    """
    import faiss

    row_NLK = np.full((*data.available_NL.shape, count), -1, dtype=np.int32)
    for column, language in enumerate(data.languages):
        train_rows = np.flatnonzero(train_NL[:, column])
        group_P, first_P = np.unique(data.passage_group[train_rows], return_index=True)
        row_P, row_Q = train_rows[first_P], np.flatnonzero(data.available_NL[:, column])
        passages = [data.text(row, language, "passage") for row in row_P.tolist()]
        queries = [data.text(row, language, "query") for row in row_Q.tolist()]
        index = faiss.IndexFlatIP(encoder.width)
        index.add(encode(encoder, passages, "passage", progress=f"mining hard negatives · {language} passages"))
        emb_QD = encode(encoder, queries, "query", progress=f"mining hard negatives · {language} queries")
        _, top_QK = index.search(emb_QD, count + 1)  # at most one is of the query's own group
        for row, top_K in zip(row_Q, top_QK, strict=True):
            others = [place for place in top_K if place >= 0 and group_P[place] != data.passage_group[row]][:count]
            row_NLK[row, column, : len(others)] = row_P[others]
    return row_NLK
