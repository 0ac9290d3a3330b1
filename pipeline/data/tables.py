"""Tables of texts in the formats that people keep them in, .parquet and .jsonl, as Arrow batches of one schema.

Every failure is one sentence that names the file, the column, and the line where there are lines.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.arrow import BATCH_ROWS, in_batches
from pipeline.data.hub import parse_json
from pipeline.values import UserError

if TYPE_CHECKING:
    import pyarrow


def read(file: Path, columns: Mapping[str, str], schema: "pyarrow.Schema") -> Iterator["pyarrow.RecordBatch"]:
    """The file's `columns` under our names for them; each holds text or, as `schema` says, lists of texts, or null."""
    if file.suffix == ".parquet":
        return _parquet(file, columns, schema)
    return in_batches(_jsonl(file, columns, schema), schema)


def _parquet(file: Path, columns: Mapping[str, str], schema: "pyarrow.Schema") -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            present = parquet.schema_arrow
            for ours, theirs in columns.items():
                if theirs not in present.names:
                    raise UserError(f"{file} lacks the column {theirs}; it has {', '.join(present.names)}.")
                got, wanted = present.field(theirs).type, schema.field(ours).type
                if not _type_fits(got, wanted):
                    raise UserError(f"{file}: column {theirs} must hold {_words(wanted)}, got {got}.")
            for batch in parquet.iter_batches(BATCH_ROWS, columns=sorted(set(columns.values()))):
                arrays = [batch.column(theirs).cast(schema.field(ours).type) for ours, theirs in columns.items()]
                yield pyarrow.RecordBatch.from_arrays(arrays, schema=schema)
    except (pyarrow.ArrowInvalid, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(f"{file} is no parquet file, or a damaged one: {first_line}.") from error


def _jsonl(file: Path, columns: Mapping[str, str], schema: "pyarrow.Schema") -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                where, row = f"{file}, line {number}", parse_json(line.removesuffix("\n"), file, number)
                if not isinstance(row, dict):
                    raise UserError(f"{where} is no JSON object: {line.strip():.80}.")
                for ours, theirs in columns.items():
                    if theirs not in row:
                        raise UserError(f"{where} lacks the column {theirs}; it has {', '.join(row)}.")
                    wanted = schema.field(ours).type
                    if not _value_fits(row[theirs], wanted):
                        raise UserError(
                            f"{where}: column {theirs} must hold {_words(wanted)}, got {row[theirs]!r:.80}."
                        )
                yield {ours: row[theirs] for ours, theirs in columns.items()}
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: {error}.") from error


def _type_fits(got: "pyarrow.DataType", wanted: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_null(got):
        return True
    if types.is_list(wanted):
        return (types.is_list(got) or types.is_large_list(got)) and _type_fits(got.value_type, wanted.value_type)
    return types.is_string(got) or types.is_large_string(got)


def _value_fits(value: Any, wanted: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_list(wanted) and isinstance(value, list):
        return all(isinstance(text, str) for text in value)
    return value is None or (isinstance(value, str) and not types.is_list(wanted))


def _words(wanted: "pyarrow.DataType") -> str:
    from pyarrow import types

    return "a list of texts" if types.is_list(wanted) else "text"
