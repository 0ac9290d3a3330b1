"""Hard negatives of a training pair: the data's own, or those that the encoder ranks high before it is trained.

`training` gets a source of them once a run, `contrastive` asks it for those of each pair.

Axes: N rows of the training data, L languages, K hard negatives of a row, P passages of the pool, Q questions.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.encoder.encoding import encode
from pipeline.encoder.model import Encoder
from pipeline.store.files import read_again, write_atomically, write_json
from pipeline.training.losses import ABSENT, NOBODYS
from pipeline.values import Draw, ParallelText

Negatives = Callable[[Draw], list[tuple[str, int]]]  # equally many a draw: texts in the passage's language, groups

GAP = ("", ABSENT)  # where a pair has too few


def source(encoder: Encoder, data: ParallelText, trained_NL: np.ndarray, count: int, folder: Path) -> Negatives:
    """`count` hard negatives for every pair: the first of the data's column of them; without one, mined.

    What is mined stays in `folder`, since a training that goes on must not wait for it again.
    """
    if count == 0:
        return lambda draw: []
    if data.negatives is not None:
        return partial(of_column, data.negatives, count)
    path, vouching = folder / "rows.npy", folder / "rows.json"
    if read_again(vouching) is None:
        row_NLK = mine(encoder, data, trained_NL, count)
        write_atomically(path, lambda temporary: np.save(temporary, row_NLK))
        write_json(vouching, {}, [path])
    return partial(of_rows, data, np.load(path, mmap_mode="r"))


def of_column(column: Mapping[str, Sequence[Sequence[str]]], count: int, draw: Draw) -> list[tuple[str, int]]:
    texts = list(column[draw.passage_language][draw.row] or ())[:count]
    return [(text, NOBODYS) for text in texts] + [GAP] * (count - len(texts))


def of_rows(data: ParallelText, row_NLK: np.ndarray, draw: Draw) -> list[tuple[str, int]]:
    language = draw.passage_language
    rows = row_NLK[draw.row, data.languages.index(language)].tolist()
    return [(data.text(row, language, "passage"), int(data.passage_group[row])) if row >= 0 else GAP for row in rows]


def mine(encoder: Encoder, data: ParallelText, trained_NL: np.ndarray, count: int) -> np.ndarray:
    """`row_NLK`: the rows whose passages the encoder ranks highest for a row's question, both in language l, but for
    those of its own group; -1 where there are too few. A group is in the pool once, by its first row that trains.

    A question in another language takes the same rows: its translation decides.
    """
    import faiss

    row_NLK = np.full((*data.available_NL.shape, count), -1, dtype=np.int32)
    for number, language in enumerate(data.languages):
        trained = np.flatnonzero(trained_NL[:, number])
        group_P, first = np.unique(data.passage_group[trained], return_index=True)
        row_P, row_Q = trained[first], np.flatnonzero(data.available_NL[:, number])
        passages = [data.text(row, language, "passage") for row in row_P.tolist()]
        questions = [data.text(row, language, "query") for row in row_Q.tolist()]
        index = faiss.IndexFlatIP(encoder.width)
        index.add(encode(encoder, passages, "passage", progress=f"mining negatives, {language} passages"))
        emb_QD = encode(encoder, questions, "query", progress=f"mining negatives, {language} questions")
        _, found_QK = index.search(emb_QD, count + 1)  # at most one is of the question's own group
        for row, found in zip(row_Q, found_QK, strict=True):
            others = [place for place in found if place >= 0 and group_P[place] != data.passage_group[row]][:count]
            row_NLK[row, number, : len(others)] = row_P[others]
    return row_NLK
