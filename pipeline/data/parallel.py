"""Any local parallel set, by one schema: files of question-passage pairs, joined across languages by their ids.

    data.path is a folder   {language}.parquet or {language}.jsonl, a row a question
    data.path is a file     one .parquet or .jsonl for all languages, with a language column
    columns                 id, question, passage; optional: language, title, passage_id (text), negatives (list of text)

The yaml names the columns. An id is unique in its language and the same in all; a row with an empty question or passage
does not exist in that language. Texts are copied once into memory-mapped Arrow files; what a run holds is, for each
row, 4 bytes a language (where the row stands) and 1 (whether it does), and 8 for its group; while loading, 20 more.
Rows are matched by 64-bit hashes of their ids, passages by those of their texts.

Axes: N rows, L languages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.arrow import batches, identity, stored
from pipeline.data.groups import connected
from pipeline.data.hub import parse_json
from pipeline.values import ParallelText, UserError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

PARQUET_ROWS = 1024  # decoded at a time


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(text, str) for text in value))


TEXT = ("text or null", _is_text)
NAME = ("text, not empty", _is_name)
KINDS = {"id": NAME, "language": NAME, "passage_id": NAME, "negatives": ("a list of texts or null", _is_texts)}


@dataclass(frozen=True)
class Cells(Sequence[Any]):
    """One column of one language in the order of the joined rows: read when asked for; None where the row lacks it."""

    column: "pyarrow.ChunkedArray"
    position_N: np.ndarray  # int32, -1 for none

    def __len__(self) -> int:
        return len(self.position_N)

    def __getitem__(self, row: Any) -> Any:
        position = int(self.position_N[row])
        return None if position < 0 else self.column[position].as_py()


@dataclass(frozen=True)
class FirstOf(Sequence[str]):
    """What is the same in all languages of a row, from the first that has it."""

    cells: Sequence[Cells]

    def __len__(self) -> int:
        return len(self.cells[0])

    def __getitem__(self, row: Any) -> Any:
        return next((value for cells in self.cells if (value := cells[row]) is not None), None)


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
            "data.path is null: it must name the folder or the file of the parallel texts; the header of the data set's "
            "yaml in conf/data says how to get them."
        )
    columns = {"id": id_column, "language": language_column, "question": question_column, "passage": passage_column}
    columns |= {"title": title_column, "passage_id": passage_id_column, "negatives": negatives_column}
    named = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    tables = {language: _stored(_file(path, language, language_column), language, named) for language in languages}
    position = _joined(tables, path, id_column)

    def cells(column: str) -> dict[str, Cells]:
        return {language: Cells(table.data.column(column), position[language]) for language, table in tables.items()}

    return ParallelText(
        name=name,
        languages=tuple(languages),
        ids=FirstOf(list(cells("id").values())),
        questions=cells("question"),
        passages=cells("passage"),
        available_NL=np.stack([position_N >= 0 for position_N in position.values()], axis=1),
        passage_group=_groups(tables, position),
        titles=FirstOf(list(cells("title").values())) if title_column else None,
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
            raise UserError(f"data.path names one file, {path}: data.language_column must name its column of languages.")
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
    from datasets import Features, List, Value

    kinds = {name: Value("string") for name in columns if name != "language"}
    features = Features({**kinds, **({"negatives": List(Value("string"))} if "negatives" in columns else {})})

    def rows() -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        kept = 0
        for row in _checked(file, columns):
            its_language = row.pop("language", language)
            seen.add(its_language)
            if its_language == language and row["question"] and row["passage"]:
                kept += 1
                yield row
        if not kept:
            there = ", ".join(sorted(seen)) or "none"
            raise UserError(f"{file} has no question with a passage in {language} (languages there: {there}).")

    return stored(rows, features, identity([file], language, columns))


def _checked(file: Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Rows by our names, each value of its column's kind."""
    read = _parquet_rows if file.suffix == ".parquet" else _jsonl_rows
    for number, row in enumerate(read(file, list(columns.values())), 1):
        for ours, theirs in columns.items():
            kind, holds = KINDS.get(ours, TEXT)
            if not holds(row[theirs]):
                raise UserError(f"{file}, row {number}: column {theirs} must hold {kind}, got {row[theirs]!r:.80}.")
        yield {ours: row[theirs] for ours, theirs in columns.items()}


def _parquet_rows(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            if missing := [column for column in columns if column not in parquet.schema_arrow.names]:
                has = ", ".join(parquet.schema_arrow.names)
                raise UserError(f"{file} lacks the column {missing[0]}; it has {has}.")
            for batch in parquet.iter_batches(PARQUET_ROWS, columns=columns):
                yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is not a parquet file, or a damaged one: {str(error).splitlines()[0]}.") from error


def _jsonl_rows(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                row = parse_json(line, file, number)
                if not isinstance(row, dict):
                    raise UserError(f"{file}, line {number} is no JSON object: {line.strip():.80}.")
                if missing := [column for column in columns if column not in row]:
                    raise UserError(f"{file}, line {number} lacks the column {missing[0]}; it has {', '.join(row)}.")
                yield row
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: {error}.") from error


def _joined(tables: Mapping[str, "Dataset"], path: str, id_column: str) -> dict[str, np.ndarray]:
    """By language, int32 [N]: where the joined rows stand in its table, -1 for those that it lacks."""
    hashes = {language: _hashes(table, "id") for language, table in tables.items()}
    for language, ids in hashes.items():
        _, first = np.unique(ids, return_index=True)
        if len(first) < len(ids):
            again = int(np.setdiff1d(np.arange(len(ids)), first)[0])
            value = tables[language]["id"][again]
            raise UserError(f"data.path: {path} holds {value!r} twice in column {id_column} of {language}.")
    together = np.concatenate(list(hashes.values()))
    row_ids = together[np.sort(np.unique(together, return_index=True)[1])]  # by first appearance
    order = np.argsort(row_ids)
    position = {}
    for language, ids in hashes.items():
        rows = order[np.searchsorted(row_ids, ids, sorter=order)]
        position[language] = np.full(len(row_ids), -1, dtype=np.int32)
        position[language][rows] = np.arange(len(ids))
    return position


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

    texts = (batch.column(column).to_numpy(zero_copy_only=False) for batch in batches(table))
    return np.concatenate([hash_array(its, categorize=False) for its in texts])
