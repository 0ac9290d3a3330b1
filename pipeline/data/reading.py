"""Read published text files: lines, plain or gzipped, and JSON. Every error names the file and the line.

A byte order mark, CRLF line ends and blank lines are no content. Text must be UTF-8.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from pipeline.values import UserError, conforming, unreadable

LONGEST_LINE = 1 << 24  # bytes
Kind = TypeVar("Kind")


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Stream the numbered lines of a text, without line ends and blank lines; `.gz` files are unpacked.

    Raises:
        UserError: while iterating, for a file that cannot be read, text that is not UTF-8, a line of more than
            LONGEST_LINE bytes, or a gzip file that is truncated or broken.
    """
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for number, raw in raw_lines(stream, file):
                line = decode(raw, file, number).rstrip("\r\n")
                if line.strip():
                    yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = f"{file} is truncated or not gzipped text ({error}): delete it and download it again."
        raise UserError(message) from error
    except OSError as error:
        raise UserError(unreadable(file, error)) from error


def raw_lines(stream: IO[bytes] | gzip.GzipFile, file: Path) -> Iterator[tuple[int, bytes]]:
    """Stream the numbered lines of an open file with their ends; UserError for one of more than LONGEST_LINE bytes."""
    for number, raw in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), b""), 1):
        if len(raw) > LONGEST_LINE:
            raise UserError(f"{file}, line {number} has more than {LONGEST_LINE:,} bytes.")
        yield number, raw


def decode(raw: bytes, file: Path, number: int) -> str:
    """Return a line of a UTF-8 file as text, the first one without a byte order mark."""
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}, line {number} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def parse_json(text: str, file: Path, line: int = 1) -> Any:
    """Parse JSON that begins on a line of a file.

    Raises:
        UserError: for broken JSON, a number too long to read, or half of a surrogate pair, which no encoding can
            write.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is broken JSON at line {line + error.lineno - 1}: {error.msg.lower()}.") from error
    except RecursionError as error:
        raise UserError(f"{file}, line {line}: the JSON is nested too deeply.") from error
    except ValueError as error:
        raise UserError(f"{file}, line {line}: the JSON holds a number of thousands of digits.") from error
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            escape = f"\\u{ord(error.object[error.start]):04x}"
            here = line + text[: text.lower().find(escape)].count("\n")
            message = f"{file}, line {here} holds {escape}, half of a surrogate pair, which is no text."
            raise UserError(message) from error
    return value


def read_json(file: Path) -> Any:
    """Read a JSON file; errors as in `parse_json`, or for a file that cannot be read or is not UTF-8."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UserError(unreadable(file, error)) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {number} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    return parse_json(text, file)


def read_as(kind: type[Kind], file: Path) -> Kind:
    """Read a JSON file as `kind` (values.conforming); errors as in `read_json`, or for a field that does not fit."""
    return conforming(kind, read_json(file), str(file))
