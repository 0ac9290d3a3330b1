"""Local parallel sets of any origin: files of question-passage pairs, joined across languages by their ids.

    data.path is a folder    {language}.parquet or {language}.jsonl, one row per question
    data.path is a file      one .parquet or .jsonl of all languages, with a language column
    columns, by any name     id, question, passage; optional: language, title, passage_id, negatives (a list of texts)

An id is unique within its language and the same in all languages. A row without a question or a passage, or with a
blank one, does not exist in that language. Texts are copied once into memory-mapped Arrow files. Memory use per row: 5
bytes per language (position, availability) plus 8 for the group; while loading, about 40 more per language. Rows are
matched by 64-bit hashes of their ids, passages by hashes of their texts (data.text).

Axes: N rows, L languages.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.arrow import Lazy, cached_dataset, folder_name, record_batches, stream
from pipeline.data.groups import connected_groups
from pipeline.data.tables import LISTS, Row, read_table
from pipeline.data.text import check_languages, hash64, is_blank, normal, repeats
from pipeline.values import ParallelText, UserError

if TYPE_CHECKING:
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
    held_out: float,
    note: str | None,
) -> ParallelText:
    """Load all rows that exist in at least one of the languages, in order of first appearance in the files.

    Rows with the same passage share a group: the same passage id or, without that column, equal text in any language.

    Args:
        name: of the data set in records and messages.
        path: folder or file, see above.
        languages: of the rows; others are ignored.
        id_column, question_column, …: names of the columns in the files; null for an optional column that is not used.
        held_out: share of the groups that no training sees, because `held_out.benchmark` ranks them.
        note: sentence to print wherever results on this data appear.
    """
    check_languages(languages)
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out must lie in [0, 1), got {held_out}")
    if path is None:
        raise UserError(
            "data.path is null. Set it to the folder or the file of the parallel texts; the header of the yaml in "
            "conf/data says how to get them."
        )
    columns = {"id": id_column, "language": language_column, "question": question_column, "passage": passage_column}
    columns |= {"title": title_column, "passage_id": passage_id_column, "negatives": negatives_column}
    used = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    tables = {language: _cached_table(_file(path, language, language_column), language, used) for language in languages}
    position, repeated = _rows_by_id(tables, path)

    def by_language(column: str) -> dict[str, Lazy[Any]]:
        return {language: _column(table, column, position[language]) for language, table in tables.items()}

    available_NL = np.stack([position_N >= 0 for position_N in position.values()], axis=1)
    group_N = _passage_groups(tables, position)
    return ParallelText(
        name=name,
        languages=tuple(languages),
        ids=_in_first_language(by_language("id")),
        questions=by_language("question"),
        passages=by_language("passage"),
        available_NL=available_NL & ~held_out_rows(group_N, held_out)[:, None],
        passage_group=group_N,
        titles=_in_first_language(by_language("title")) if title_column else None,
        negatives=_negatives(by_language("negatives"), by_language("passage"), group_N) if negatives_column else None,
        provenance={
            "source": "local parallel files",
            "columns": used,
            "rows_by_language": {language: len(table) for language, table in tables.items()},
            "note": " ".join(filter(None, [note, repeats({"row": repeated})])) or None,
        },
    )


def held_out_rows(group_N: np.ndarray, share: float) -> np.ndarray:
    """Return bool [N]: the rows of a random share of the groups, the same in every call.

    >>> held_out_rows(np.array([0, 0, 2, 3]), 0.3).tolist()
    [False, False, True, False]
    """
    groups, inverse_N = np.unique(group_N, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(groups))
    return order[inverse_N] < round(share * len(groups))


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
    """Return one language of a file as Arrow: the columns by our names, and only the rows that exist.

    Three columns are ours: `row` is the row's number in the file, `key` the hash of its id, `passage_key` that of its
    passage id, else of its passage.
    """
    import pyarrow

    text = pyarrow.string()
    fields = [(name, pyarrow.list_(text) if name in LISTS else text) for name in columns]
    fields += [("row", pyarrow.int64()), ("key", pyarrow.uint64()), ("passage_key", pyarrow.uint64())]
    schema = pyarrow.schema(fields)
    batches = record_batches(_existing_rows(file, language, columns), schema)
    return cached_dataset(folder_name([file], language, columns), schema, batches, progress=f"{file.name}, {language}")


def _existing_rows(file: Path, language: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of one language that have a question and a passage."""
    required = [name for name in ("id", "language", "passage_id") if name in columns]
    languages: set[str] = set()
    nothing = True
    for number, row in read_table(file, columns):
        for name in required:
            if is_blank(row[name]):
                raise UserError(f"{file}, row {number}: column {columns[name]} must not be empty.")
        if "language" in columns:
            languages.add(row["language"])
        if row.get("language", language) != language or is_blank(row["question"]) or is_blank(row["passage"]):
            continue
        nothing = False
        passage = row["passage_id"] if "passage_id" in columns else row["passage"]
        yield row | {"row": number, "key": hash64(row["id"]), "passage_key": hash64(passage)}
    if nothing:
        present = f" (languages there: {', '.join(sorted(languages))})" if languages else ""
        raise UserError(f"{file} has no row with question and passage in {language}{present}.")


def _rows_by_id(tables: Mapping[str, "Dataset"], path: str) -> tuple[dict[str, np.ndarray], int]:
    """Join the tables by id.

    Returns:
        by language, int32 [N]: each row's position in the table, -1 if it is missing; and how many rows repeat
        another one word for word, which count once.
    """
    keys = {language: _numbers(table, "key") for language, table in tables.items()}
    repeated = 0
    for language, key in keys.items():
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        for position in np.setdiff1d(np.arange(len(key)), first).tolist():
            _check_equal(tables[language], int(first[inverse[position]]), position, f"{path}, {language}")
            repeated += 1
    all_keys = np.concatenate(list(keys.values()))
    row_keys = all_keys[np.sort(np.unique(all_keys, return_index=True)[1])]  # in order of first appearance
    order = np.argsort(row_keys)
    position = {}
    for language, key in keys.items():
        row_of = order[np.searchsorted(row_keys, key, sorter=order)]
        position[language] = np.full(len(row_keys), -1, dtype=np.int32)
        position[language][row_of[::-1]] = np.arange(len(key))[::-1]  # of rows that repeat, the first
    return position, repeated


def _check_equal(table: "Dataset", first: int, again: int, where: str) -> None:
    """Raise UserError if two rows with one id differ in anything."""
    one, other = table[first], table[again]
    for column in one.keys() - {"row"}:
        if one[column] != other[column]:
            rows = f"rows {one['row']} and {other['row']}"
            raise UserError(f"data.path: {where}: {rows} have the id {one['id']!r} and differ in {column}.")


def _column(table: "Dataset", column: str, position_N: np.ndarray) -> Lazy[Any]:
    """Return a column in the order of the joined rows, with None for rows that the table lacks."""
    values = table.data.column(column)

    def read(row: int) -> Any:
        position = int(position_N[row])
        return None if position < 0 else values[position].as_py()

    return Lazy(read, len(position_N))


def _negatives(
    listed: Mapping[str, Lazy[Any]], passages: Mapping[str, Lazy[Any]], group_N: np.ndarray
) -> dict[str, Lazy[Any]]:
    """Return the hard negatives without blank texts and passages of the row's own group.

    As its own negative, a positive would keep the loss above ln 2.
    """
    row_G = np.argsort(group_N, kind="stable")

    def read(language: str, row: int) -> list[str] | None:
        first, last = np.searchsorted(group_N, group_N[row] + np.array([0, 1]), sorter=row_G)
        own = {normal(text) for other in row_G[first:last].tolist() if (text := passages[language][other])}
        texts = listed[language][row]
        return texts and [text for text in texts if not is_blank(text) and normal(text) not in own]

    return {language: Lazy(partial(read, language), len(group_N)) for language in listed}


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
        keys = [_numbers(table, "passage_key") for table in tables.values()]
        pairs = zip(keys, position.values(), strict=True)
        return connected_groups([_by_row(key, position_N, _distinct_labels(position_N)) for key, position_N in pairs])
    label_N = _distinct_labels(next(iter(position.values())))
    for language, table in tables.items():
        label_N = _by_row(_numbers(table, "passage_key"), position[language], label_N)
    return connected_groups([label_N])


def _distinct_labels(position_N: np.ndarray) -> np.ndarray:
    """Return labels that no two rows share; they are too small to be the hash of a text."""
    return np.arange(len(position_N), dtype=np.uint64)


def _by_row(key: np.ndarray, position_N: np.ndarray, otherwise_N: np.ndarray) -> np.ndarray:
    """Return [N] the key of each row, or `otherwise_N` if the table lacks the row."""
    return np.where(position_N >= 0, key[position_N], otherwise_N)


def _numbers(table: "Dataset", column: str) -> np.ndarray:
    """Return a column of numbers, copied: a view would keep its batch, texts and all, in memory."""
    return np.concatenate([batch.column(column).to_numpy().copy() for batch in stream(table)])
