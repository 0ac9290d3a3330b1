"""Read published text files: lines, plain or gzipped, and JSON. Every error names the file and the line.

A byte order mark, CRLF line ends and blank lines are no content. Text must be UTF-8.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.values import UserError


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Stream the numbered lines of a text, without line ends and blank lines; `.gz` files are unpacked.

    Raises:
        UserError: while iterating, for text that is not UTF-8, or a gzip file that is truncated or broken.
    """
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                line = decode(raw, file, number).rstrip("\r\n")
                if line.strip():
                    yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = f"{file} is truncated or not gzipped text ({error}): delete it and download it again."
        raise UserError(message) from error


def decode(raw: bytes, file: Path, number: int) -> str:
    """Return a line of a UTF-8 file as text, the first one without a byte order mark."""
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}, line {number} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def parse_json(text: str, file: Path, line: int = 1) -> Any:
    """Parse JSON that begins on a line of a file.

    Raises:
        UserError: for broken JSON, or half of a surrogate pair, which no encoding can write.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is broken JSON at line {line + error.lineno - 1}: {error.msg.lower()}.") from error
    except RecursionError as error:
        raise UserError(f"{file}, line {line}: the JSON is nested too deeply.") from error
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
    """Read a JSON file; errors as in `parse_json`, or for text that is not UTF-8."""
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {number} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    return parse_json(text, file)
