"""Atomic files with checksums: each is complete or absent, and detected when it is damaged.

A file is written under a temporary name, synced and renamed. A JSON file of ours holds its own SHA-256, and that of
every file it vouches for. `results` writes and reads by these functions.
"""

import gzip
import hashlib
import json
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.values import UserError, unreadable

if TYPE_CHECKING:
    import pandas as pd

TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")  # the names that write_atomically lets tempfile choose
NO_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)


class Damaged(UserError):
    """A file whose content is not what was written."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then sync and rename it. On OSError nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        with full_disk_named(path):
            write(Path(name))
        sync(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
        sync(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn what safetensors and torch say of a full disk into an OSError that names the file."""
    try:
        yield
    except Exception as error:
        if "(os error " in str(error) or "inline_container.cc" in str(error):
            raise OSError(f"{path} cannot be written: is the disk full?") from error
        raise


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Mapping[str, Any], vouched: Iterable[Path] = ()) -> None:
    """Write JSON, with gzip if `path` ends so, with its own checksum and those of `vouched`, files below its folder."""
    digests = {}
    for file in vouched:
        sync(file)
        digests[str(file.relative_to(path.parent))] = file_digest(file)
    content = json.loads(json.dumps({**value, "files": digests}, allow_nan=False))
    # No newline at the end, so that a file which lacks its last byte is damaged as well.
    text = json.dumps({"sha256": digest(content), **content}, indent=1, ensure_ascii=False).encode()
    packed = gzip.compress(text, mtime=0) if path.suffix == ".gz" else text  # no time: equal values are equal files
    write_atomically(path, lambda temporary: temporary.write_bytes(packed))


FORMULA = re.compile(r"[=+@\t\r]|-(?=\D)").match  # what a spreadsheet takes for one


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table whose texts no spreadsheet takes for a formula: an apostrophe stands before the sign.

    It stands there for whoever reads the file by other means, too: rare texts are changed, and numbers never.
    """
    safe = {}
    for name in table.select_dtypes(["object", "string"]).columns:
        texts = filter(FORMULA, map(str, table[name].dropna().unique()))  # few, of many rows
        safe[name] = table[name].replace({text: f"'{text}" for text in texts})
    write_atomically(path, partial(table.assign(**safe).to_csv, index=False))


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        UserError: if the file is missing or cannot be read.
        Damaged: if this file, or a file whose checksum it holds, is not what was written.
    """
    return read_vouched(path)[0]


def read_vouched(path: Path) -> tuple[Any, dict[str, str]]:
    """Return what `read_json` returns, and the checksums of the files that it vouches for, by name."""
    try:
        stored = path.read_bytes()
        content = json.loads((gzip.decompress(stored) if path.suffix == ".gz" else stored).decode())
        if content.pop("sha256") != digest(content):
            raise ValueError("checksum")
        vouched = dict(content.pop("files"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, *NO_GZIP):  # no JSON, or none of ours
        raise Damaged(f"{path} is damaged: it has to be made again.") from None
    except OSError as error:
        raise UserError(unreadable(path, error)) from None
    check_vouched(path, vouched)
    return content, vouched


def check_vouched(path: Path, vouched: Mapping[str, str]) -> None:
    """Raise Damaged if a file that `path` vouches for is missing or has another checksum."""
    for name, wanted in vouched.items():
        file = path.parent / name
        if not file.is_file() or file_digest(file) != wanted:  # a device or a pipe might never end
            raise Damaged(f"{file} is damaged or missing: it has to be made again.")


def read_again(path: Path) -> Any:
    """Read what `write_json` wrote; None if it is missing or, with a warning, damaged: it is then made again."""
    if not path.exists():
        return None
    try:
        return read_json(path)
    except Damaged as error:
        print(f"  {error}", file=sys.stderr, flush=True)
        return None


READ: dict[str, tuple[tuple[int, ...], Any]] = {}  # what read_unchanged returned by path, with the file's state then


def read_unchanged(file: Path | os.DirEntry[str], make: Callable[[Any, str], Any]) -> Any:
    """Return `make` of what `read_again` reads and of its path, None where that has nothing.

    It comes from memory while the file has the inode, size and time of the last reading: the runs of a sweep are listed
    after each of them, when one file of thousands is new. Callers must not change what they get.
    """
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    path, state = os.fspath(file), (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    known = READ.get(path)
    if known is None or known[0] != state:
        raw = read_again(Path(path))
        READ[path] = known = state, None if raw is None else make(raw, path)
    return known[1]


def others(path: Path) -> list[Path]:
    """All files beside and below `path`. Removes temporary files that a killed writer left."""
    for leftover in path.parent.rglob(".?*"):
        if leftover.is_file() and TEMPORARY.fullmatch(leftover.name):
            leftover.unlink()
    return sorted(file for file in path.parent.rglob("*") if file.is_file() and file != path)
