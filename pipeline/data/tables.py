"""Read tables of texts, .parquet and .jsonl (also .jsonl.gz), row by row.

Every error is one sentence that names the file, the column and the row; a row of JSON Lines is its line.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.arrow import BATCH_ROWS
from pipeline.data.reading import lines, parse_json
from pipeline.values import UserError

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
LISTS = {"negatives"}  # columns that hold a list of texts
NUMBERS = {"score"}  # columns that hold numbers; all others hold a text


def read_table(file: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    """Yield the columns of each row by our names, with the number of the row, from 1. Values may be None.

    Args:
        file: .parquet, else JSON Lines.
        columns: by our name of a column, its name in the file. Other columns are ignored.

    Raises:
        UserError: while iterating, for a damaged file, a missing column or a value of the wrong type.
    """
    return _parquet(file, columns) if file.suffix == ".parquet" else _jsonl(file, columns)


def column_names(file: Path) -> list[str]:
    """Return the names of the columns of a parquet file; errors as of `read_table`."""
    import pyarrow.parquet

    with _user_errors(file), pyarrow.parquet.ParquetFile(file) as parquet:
        return list(parquet.schema_arrow.names)


def _parquet(file: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    import pyarrow.parquet

    number = 0
    with _user_errors(file), pyarrow.parquet.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        for ours, theirs in columns.items():
            if theirs not in schema.names:
                raise UserError(f"{file} lacks the column {theirs}; it has {', '.join(schema.names)}.")
            if schema.names.count(theirs) > 1:
                raise UserError(f"{file} has several columns {theirs}.")
            if not _holds(schema.field(theirs).type, ours):
                got = schema.field(theirs).type
                raise UserError(f"{file}: column {theirs} must hold {_wanted(ours)}, got {got}.")
        for batch in parquet.iter_batches(BATCH_ROWS, columns=sorted(set(columns.values()))):
            texts = {ours: batch.column(theirs).to_pylist() for ours, theirs in columns.items()}
            for values in zip(*texts.values(), strict=True):
                number += 1
                yield number, dict(zip(texts, values, strict=True))


@contextmanager
def _user_errors(file: Path) -> Iterator[None]:
    """Turn what pyarrow raises about a parquet file into a UserError."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(f"{file} is not a parquet file, or it is damaged: {first_line}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} holds text that is not UTF-8: {error.reason}.") from error


def _jsonl(file: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    for number, line in lines(file):
        where, row = f"{file}, line {number}", parse_json(line, file, number)
        if not isinstance(row, dict):
            raise UserError(f"{where} is not a JSON object: {line.strip():.80}.")
        for ours, theirs in columns.items():
            if theirs not in row:
                raise UserError(f"{where} lacks the column {theirs}; it has {', '.join(row)}.")
            if not _fits(row[theirs], ours):
                raise UserError(f"{where}: column {theirs} must hold {_wanted(ours)}, got {row[theirs]!r:.80}.")
        yield number, {ours: row[theirs] for ours, theirs in columns.items()}


def _holds(actual: "pyarrow.DataType", ours: str) -> bool:
    """Return whether a column of parquet holds what our column does."""
    from pyarrow import types

    if types.is_null(actual):
        return True
    if ours in LISTS:
        is_list = types.is_list(actual) or types.is_large_list(actual)
        return is_list and _holds(actual.value_type, "text")
    if ours in NUMBERS:
        return types.is_integer(actual) or types.is_floating(actual)
    if types.is_dictionary(actual):  # pandas' category
        actual = actual.value_type
    return types.is_string(actual) or types.is_large_string(actual) or types.is_string_view(actual)


def _fits(value: Any, ours: str) -> bool:
    if value is None:
        return True
    if ours in LISTS:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    return isinstance(value, int | float if ours in NUMBERS else str)


def _wanted(ours: str) -> str:
    return "a list of texts" if ours in LISTS else "numbers" if ours in NUMBERS else "text"
