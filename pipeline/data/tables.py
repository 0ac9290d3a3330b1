"""Read tables of texts, .parquet and .jsonl, as Arrow batches of one schema.

Every error is one sentence that names the file, the column and, in JSON Lines, the line.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.arrow import BATCH_ROWS, record_batches
from pipeline.data.hub import parse_json
from pipeline.values import UserError

if TYPE_CHECKING:
    import pyarrow


def read_table(file: Path, columns: Mapping[str, str], schema: "pyarrow.Schema") -> Iterator["pyarrow.RecordBatch"]:
    """Yield the columns of a file in batches of at most BATCH_ROWS rows.

    Args:
        file: .parquet, else JSON Lines.
        columns: by our name of a column, its name in the file. Other columns are ignored.
        schema: of the batches, by our names: text, or lists of texts. Null is allowed.

    Raises:
        UserError: while iterating, for a damaged file, a missing column or a value of the wrong type.
    """
    if file.suffix == ".parquet":
        return _parquet(file, columns, schema)
    return record_batches(_jsonl(file, columns, schema), schema)


def _parquet(file: Path, columns: Mapping[str, str], schema: "pyarrow.Schema") -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            file_schema = parquet.schema_arrow
            for ours, theirs in columns.items():
                if theirs not in file_schema.names:
                    raise UserError(f"{file} lacks the column {theirs}; it has {', '.join(file_schema.names)}.")
                actual, expected = file_schema.field(theirs).type, schema.field(ours).type
                if not _type_fits(actual, expected):
                    raise UserError(f"{file}: column {theirs} must hold {_type_name(expected)}, got {actual}.")
            for batch in parquet.iter_batches(BATCH_ROWS, columns=sorted(set(columns.values()))):
                arrays = [batch.column(theirs).cast(schema.field(ours).type) for ours, theirs in columns.items()]
                yield pyarrow.RecordBatch.from_arrays(arrays, schema=schema)
    except (pyarrow.ArrowInvalid, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(f"{file} is not a parquet file, or it is damaged: {first_line}.") from error


def _jsonl(file: Path, columns: Mapping[str, str], schema: "pyarrow.Schema") -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                where, row = f"{file}, line {number}", parse_json(line.removesuffix("\n"), file, number)
                if not isinstance(row, dict):
                    raise UserError(f"{where} is not a JSON object: {line.strip():.80}.")
                for ours, theirs in columns.items():
                    if theirs not in row:
                        raise UserError(f"{where} lacks the column {theirs}; it has {', '.join(row)}.")
                    value, expected = row[theirs], schema.field(ours).type
                    if not _value_fits(value, expected):
                        raise UserError(
                            f"{where}: column {theirs} must hold {_type_name(expected)}, got {value!r:.80}."
                        )
                yield {ours: row[theirs] for ours, theirs in columns.items()}
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: {error}.") from error


def _type_fits(actual: "pyarrow.DataType", expected: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_null(actual):
        return True
    if types.is_list(expected):
        return (types.is_list(actual) or types.is_large_list(actual)) and _type_fits(
            actual.value_type, expected.value_type
        )
    return types.is_string(actual) or types.is_large_string(actual)


def _value_fits(value: Any, expected: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_list(expected) and isinstance(value, list):
        return all(isinstance(text, str) for text in value)
    return value is None or (isinstance(value, str) and not types.is_list(expected))


def _type_name(expected: "pyarrow.DataType") -> str:
    from pyarrow import types

    return "a list of texts" if types.is_list(expected) else "text"
