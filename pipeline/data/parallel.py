"""Local parallel sets of any origin: files of question-passage pairs, joined across languages by their ids.

    data.path is a folder    {language}.parquet or {language}.jsonl, one row per question
    data.path is a file      one .parquet or .jsonl of all languages, with a language column
    columns, by any name     id, question, passage; optional: language, title, passage_id, negatives (a list of texts)

An id is unique within its language and the same in all languages. A row without a question or a passage, or with an
empty one, does not exist in that language. Texts are copied once into memory-mapped Arrow files. Memory use per row: 5
bytes per language (position, availability) plus 8 for the group; while loading, about 40 more per language. Rows are
matched by 64-bit hashes of their ids, passages by hashes of their texts.

Axes: N rows, L languages.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.arrow import Lazy, cached_dataset, folder_name, stream
from pipeline.data.groups import connected_groups
from pipeline.data.tables import read_table
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
    """Load all rows that exist in at least one of the languages, in order of first appearance in the files.

    Rows with the same passage share a group: the same passage id or, without that column, equal text in any language.

    Args:
        name: of the data set in records and messages.
        path: folder or file, see above.
        languages: of the rows; others are ignored.
        id_column, question_column, …: names of the columns in the files; null for an optional column that is not used.
        note: sentence to print wherever results on this data appear.
    """
    if not languages or len(set(languages)) < len(languages):
        raise ValueError(f"languages must be distinct and at least one, got {', '.join(languages) or 'none'}")
    if path is None:
        raise UserError(
            "data.path is null. Set it to the folder or the file of the parallel texts; the header of the yaml in "
            "conf/data says how to get them."
        )
    columns = {"id": id_column, "language": language_column, "question": question_column, "passage": passage_column}
    columns |= {"title": title_column, "passage_id": passage_id_column, "negatives": negatives_column}
    used = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    tables = {language: _cached_table(_file(path, language, language_column), language, used) for language in languages}
    position = _join(tables, path, id_column)

    def by_language(column: str) -> dict[str, Lazy[Any]]:
        return {language: _column(table, column, position[language]) for language, table in tables.items()}

    return ParallelText(
        name=name,
        languages=tuple(languages),
        ids=_in_first_language(by_language("id")),
        questions=by_language("question"),
        passages=by_language("passage"),
        available_NL=np.stack([position_N >= 0 for position_N in position.values()], axis=1),
        passage_group=_passage_groups(tables, position),
        titles=_in_first_language(by_language("title")) if title_column else None,
        negatives=by_language("negatives") if negatives_column else None,
        provenance={
            "source": "local parallel files",
            "columns": used,
            "rows_by_language": {language: len(table) for language, table in tables.items()},
            "note": note,
        },
    )


def _file(path: str, language: str, language_column: str | None) -> Path:
    """Return the file that holds a language."""
    if Path(path).is_file():
        if language_column is None:
            raise UserError(f"data.path: {path} is one file: data.language_column must name its language column.")
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


def _cached_table(file: Path, language: str, columns: Mapping[str, str]) -> "Dataset":
    """Return one language of a file as Arrow: the columns by our names, and only the rows that exist."""
    import pyarrow

    text = pyarrow.string()
    schema = pyarrow.schema([(name, pyarrow.list_(text) if name == "negatives" else text) for name in columns])
    rows = _existing_rows(file, language, columns, schema)
    return cached_dataset(folder_name([file], language, columns), schema, rows, progress=f"{file.name}, {language}")


def _existing_rows(
    file: Path, language: str, columns: Mapping[str, str], schema: "pyarrow.Schema"
) -> Iterator["pyarrow.RecordBatch"]:
    """Yield the rows of one language that have a question and a passage."""
    from pyarrow import compute

    required = [name for name in ("id", "language", "passage_id") if name in columns]
    languages: set[str] = set()
    rows_read = rows_yielded = 0
    for batch in read_table(file, columns, schema):
        filled = {
            name: compute.fill_null(compute.not_equal(batch[name], ""), False)
            for name in [*required, "question", "passage"]
        }
        for name in required:
            if (empty := filled[name].index(False).as_py()) >= 0:
                raise UserError(f"{file}, row {rows_read + empty + 1}: column {columns[name]} must not be empty.")
        rows_read += len(batch)
        exists = compute.and_(filled["question"], filled["passage"])
        if "language" in columns:
            languages |= set(batch["language"].unique().to_pylist())
            exists = compute.and_(exists, compute.equal(batch["language"], language))
        batch = batch.filter(exists)
        rows_yielded += len(batch)
        yield batch
    if not rows_yielded:
        present = f" (languages there: {', '.join(sorted(languages))})" if languages else ""
        raise UserError(f"{file} has no row with question and passage in {language}{present}.")


def _join(tables: Mapping[str, "Dataset"], path: str, id_column: str) -> dict[str, np.ndarray]:
    """Join the tables by id. Return, by language, int32 [N]: each row's position in the table, -1 if it is missing."""
    hashes = {language: _hashes(table, "id") for language, table in tables.items()}
    for language, ids in hashes.items():
        _, first = np.unique(ids, return_index=True)
        if len(first) < len(ids):
            value = tables[language]["id"][int(np.setdiff1d(np.arange(len(ids)), first)[0])]
            raise UserError(f"data.path: {path} repeats the id {value!r} in column {id_column} of {language}.")
    all_ids = np.concatenate(list(hashes.values()))
    row_ids = all_ids[np.sort(np.unique(all_ids, return_index=True)[1])]  # in order of first appearance
    order = np.argsort(row_ids)
    position = {}
    for language, ids in hashes.items():
        row_of = order[np.searchsorted(row_ids, ids, sorter=order)]
        position[language] = np.full(len(row_ids), -1, dtype=np.int32)
        position[language][row_of] = np.arange(len(ids))
    return position


def _column(table: "Dataset", column: str, position_N: np.ndarray) -> Lazy[Any]:
    """Return a column in the order of the joined rows, with None for rows that the table lacks."""
    values = table.data.column(column)

    def read(row: int) -> Any:
        position = int(position_N[row])
        return None if position < 0 else values[position].as_py()

    return Lazy(read, len(position_N))


def _in_first_language(columns_by_language: Mapping[str, Lazy[Any]]) -> Lazy[Any]:
    """Return the column with each row's value in the first language that has the row."""
    columns = list(columns_by_language.values())

    def read(row: int) -> Any:
        values = (column[row] for column in columns)
        return next((value for value in values if value is not None), None)

    return Lazy(read, len(columns[0]))


def _passage_groups(tables: Mapping[str, "Dataset"], position: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return [N] groups of rows with equal passage ids (across languages), else with equal text in any language."""
    if "passage_id" not in next(iter(tables.values())).column_names:
        texts = [_hashes(table, "passage") for table in tables.values()]
        pairs = zip(texts, position.values(), strict=True)
        return connected_groups([_by_row(text, position_N, _distinct_labels(position_N)) for text, position_N in pairs])
    label_N = _distinct_labels(next(iter(position.values())))
    for language, table in tables.items():
        label_N = _by_row(_hashes(table, "passage_id"), position[language], label_N)
    return connected_groups([label_N])


def _distinct_labels(position_N: np.ndarray) -> np.ndarray:
    """Return labels that no two rows share; they are too small to be the hash of a text."""
    return np.arange(len(position_N), dtype=np.uint64)


def _by_row(hashes: np.ndarray, position_N: np.ndarray, otherwise_N: np.ndarray) -> np.ndarray:
    """Return [N] the hash of each row, or `otherwise_N` if the table lacks the row."""
    return np.where(position_N >= 0, hashes[position_N], otherwise_N)


def _hashes(table: "Dataset", column: str) -> np.ndarray:
    """Return uint64, one hash per row of the table."""
    from pandas.util import hash_array

    batches = (batch.column(column).to_numpy(zero_copy_only=False) for batch in stream(table))
    return np.concatenate([hash_array(texts, categorize=False) for texts in batches])
