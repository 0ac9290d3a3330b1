"""Any local parallel set, by one schema: files of question-passage pairs, joined across languages by their ids.

    data.path is a folder    {language}.parquet or {language}.jsonl, a row a question
    data.path is a file      one .parquet or .jsonl of all languages, with a column that says which
    columns, by any name     id, question, passage; optional: language, title, passage_id, negatives (a list of texts)

An id is unique in its language and the same in all; without a question or a passage, or with an empty one, a row does
not exist in that language. Texts are copied once into memory-mapped Arrow files. A run holds, for each row, 5 bytes a
language (where it stands, whether it exists) and 8 for its group; while loading, about 40 more a language. Rows are
matched by 64-bit hashes of their ids, passages by those of their texts.

Axes: N rows, L languages.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.arrow import Lazy, again, key, stored
from pipeline.data.groups import connected
from pipeline.data.tables import read
from pipeline.values import ParallelText, UserError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


def train(
    name: str,
    path: str | None,
    languages: list[str],
    id_column: str,
    question_column: str,
    passage_column: str,
    language_column: str | None,
    title_column: str | None,
    passage_id_column: str | None,
    negatives_column: str | None,
    note: str | None,
) -> ParallelText:
    """All rows that exist in at least one of the languages, in the order of the first files that hold them.

    Rows with the same passage share a group: by passage id, else by text, equal in any language. `note` follows the
    data into every record.
    """
    if not languages or len(set(languages)) < len(languages):
        raise ValueError(f"languages must be distinct and at least one, got {', '.join(languages) or 'none'}")
    if path is None:
        raise UserError(
            "data.path is null: it must name the folder or the file of the parallel texts; the header of the yaml in "
            "conf/data says how to get them."
        )
    columns = {"id": id_column, "language": language_column, "question": question_column, "passage": passage_column}
    columns |= {"title": title_column, "passage_id": passage_id_column, "negatives": negatives_column}
    named = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    tables = {language: _stored(_file(path, language, language_column), language, named) for language in languages}
    position = _joined(tables, path, id_column)

    def cells(column: str) -> dict[str, Lazy]:
        return {language: _cells(table, column, position[language]) for language, table in tables.items()}

    return ParallelText(
        name=name,
        languages=tuple(languages),
        ids=_first(cells("id")),
        questions=cells("question"),
        passages=cells("passage"),
        available_NL=np.stack([position_N >= 0 for position_N in position.values()], axis=1),
        passage_group=_groups(tables, position),
        titles=_first(cells("title")) if title_column else None,
        negatives=cells("negatives") if negatives_column else None,
        provenance={
            "source": "local parallel files",
            "columns": named,
            "rows_by_language": {language: len(table) for language, table in tables.items()},
            "note": note,
        },
    )


def _file(path: str, language: str, language_column: str | None) -> Path:
    if Path(path).is_file():
        if language_column is None:
            raise UserError(f"data.path: {path} is one file: data.language_column must name its languages' column.")
        return Path(path)
    if not Path(path).is_dir():
        raise UserError(f"data.path: there is no file or folder {path}.")
    files = {file.stem: file for suffix in ("jsonl", "parquet") for file in sorted(Path(path).glob(f"*.{suffix}"))}
    if language not in files:
        raise UserError(
            f"data.path: {path} has no {language}.parquet or {language}.jsonl (languages there: "
            f"{', '.join(sorted(files)) or 'none'})."
        )
    return files[language]


def _stored(file: Path, language: str, columns: Mapping[str, str]) -> "Dataset":
    """One language of one file as Arrow: the columns by our names, and only the rows that exist."""
    import pyarrow

    text = pyarrow.string()
    schema = pyarrow.schema([(name, pyarrow.list_(text) if name == "negatives" else text) for name in columns])
    rows = _existing(file, language, columns, schema)
    return stored(key([file], language, columns), schema, rows, progress=f"{file.name}, {language}")


def _existing(
    file: Path, language: str, columns: Mapping[str, str], schema: "pyarrow.Schema"
) -> Iterator["pyarrow.RecordBatch"]:
    """The rows of one language that have a question and a passage."""
    from pyarrow import compute

    names = [name for name in ("id", "language", "passage_id") if name in columns]
    languages: set[str] = set()
    number = kept = 0
    for batch in read(file, columns, schema):
        filled = {
            name: compute.fill_null(compute.not_equal(batch[name], ""), False)
            for name in [*names, "question", "passage"]
        }
        for name in names:
            if (empty := filled[name].index(False).as_py()) >= 0:
                raise UserError(f"{file}, row {number + empty + 1}: column {columns[name]} must not be empty.")
        number += len(batch)
        exists = compute.and_(filled["question"], filled["passage"])
        if "language" in columns:
            languages |= set(batch["language"].unique().to_pylist())
            exists = compute.and_(exists, compute.equal(batch["language"], language))
        batch = batch.filter(exists)
        kept += len(batch)
        yield batch
    if not kept:
        there = f" (languages there: {', '.join(sorted(languages))})" if languages else ""
        raise UserError(f"{file} has no row with question and passage in {language}{there}.")


def _joined(tables: Mapping[str, "Dataset"], path: str, id_column: str) -> dict[str, np.ndarray]:
    """By language, int32 [N]: where the joined rows stand in its table, -1 for those that it lacks."""
    hashes = {language: _hashes(table, "id") for language, table in tables.items()}
    for language, ids in hashes.items():
        _, first = np.unique(ids, return_index=True)
        if len(first) < len(ids):
            value = tables[language]["id"][int(np.setdiff1d(np.arange(len(ids)), first)[0])]
            raise UserError(f"data.path: {path} holds {value!r} twice in column {id_column} of {language}.")
    together = np.concatenate(list(hashes.values()))
    row_ids = together[np.sort(np.unique(together, return_index=True)[1])]  # by first appearance
    order = np.argsort(row_ids)
    position = {}
    for language, ids in hashes.items():
        row_of = order[np.searchsorted(row_ids, ids, sorter=order)]
        position[language] = np.full(len(row_ids), -1, dtype=np.int32)
        position[language][row_of] = np.arange(len(ids))
    return position


def _cells(table: "Dataset", column: str, position_N: np.ndarray) -> Lazy:
    """A column in the order of the joined rows, None for those that the table lacks."""
    stored_cells = table.data.column(column)

    def cell(row: int) -> Any:
        position = int(position_N[row])
        return None if position < 0 else stored_cells[position].as_py()

    return Lazy(cell, len(position_N))


def _first(cells: Mapping[str, Lazy]) -> Lazy:
    """What a row has in its first language."""
    columns = list(cells.values())

    def cell(row: int) -> Any:
        values = (column[row] for column in columns)
        return next((value for value in values if value is not None), None)

    return Lazy(cell, len(columns[0]))


def _groups(tables: Mapping[str, "Dataset"], position: Mapping[str, np.ndarray]) -> np.ndarray:
    """[N] groups of rows with the same passage id, the same in all languages, else with the same text in any."""
    if "passage_id" not in next(iter(tables.values())).column_names:
        texts = [_hashes(table, "passage") for table in tables.values()]
        labels = zip(texts, position.values(), strict=True)
        return connected([_by_row(text, position_N, _alone(position_N)) for text, position_N in labels])
    label_N = _alone(next(iter(position.values())))
    for language, table in tables.items():
        label_N = _by_row(_hashes(table, "passage_id"), position[language], label_N)
    return connected([label_N])


def _alone(position_N: np.ndarray) -> np.ndarray:
    """Labels of rows that are like no other row; so small, they are no text's hash."""
    return np.arange(len(position_N), dtype=np.uint64)


def _by_row(hashes: np.ndarray, position_N: np.ndarray, otherwise_N: np.ndarray) -> np.ndarray:
    return np.where(position_N >= 0, hashes[position_N], otherwise_N)


def _hashes(table: "Dataset", column: str) -> np.ndarray:
    """uint64, one a row of the table."""
    from pandas.util import hash_array

    texts = (batch.column(column).to_numpy(zero_copy_only=False) for batch in again(table))
    return np.concatenate([hash_array(its, categorize=False) for its in texts])
