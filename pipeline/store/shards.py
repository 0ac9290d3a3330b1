"""Vectors in shards: each a file with its checksum, in a folder of this machine or of an object store (fsspec).

A shard is complete once its checksum is there, which is written last. Readers take rows as they need them, so neither
memory nor a second copy on disk ever holds all of them.

Axes: N vectors of all shards, S vectors of a shard, D width.
"""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np

from pipeline.values import UserError

PROTOCOLS = ("file", "memory", "s3", "gs", "abfs")  # others, which any installed package may add, might run code
HEADER = 128  # bytes before the vectors of an .npy file
BLOCK = 1 << 24  # bytes that are hashed at once


def file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a path or URL, and the path in it.

    Raises:
        UserError: for another protocol than PROTOCOLS, or one whose package is not installed.

    >>> file_system("memory://vectors")[1]
    '/vectors'
    >>> file_system("ftp://host/vectors")
    Traceback (most recent call last):
    pipeline.values.UserError: encode.folder=ftp://host/vectors: it must be a path, or begin with file://, memory://, \
s3://, gs:// or abfs://.
    """
    protocol, separator, _ = url.partition("://")
    if not separator:
        return fsspec.filesystem("file"), os.path.abspath(url)
    if protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS[:-1])
        raise UserError(f"encode.folder={url}: it must be a path, or begin with {known} or {PROTOCOLS[-1]}://.")
    try:
        system = fsspec.filesystem(protocol)
    except ImportError as error:
        raise UserError(f"encode.folder={url}: a package is missing: {error}.") from None
    return system, str(system._strip_protocol(url))


def check_folder(url: str) -> None:
    """Raise UserError, before any work, for a folder that cannot be written."""
    system, root = file_system(url)
    probe = f"{root}/.writable-{os.getpid()}"
    try:
        system.makedirs(root, exist_ok=True)
        system.pipe_file(probe, b"")
        system.rm_file(probe)
    except Exception as error:  # each file system has errors of its own
        raise UserError(f"encode.folder={url} cannot be written: {error or type(error).__name__}.") from None


class Shards:
    """The shards of one array, each named by the position of its first vector.

    Args:
        url: the folder of these shards alone; it is made when the first one is saved.
        size: vectors per shard; the last may have fewer.
        precision: of the files, float32 or float16.

    >>> shards = Shards("memory://example", 2)
    >>> shards.save(0, np.eye(2, dtype=np.float32))
    >>> shards.save(2, np.ones((1, 2), np.float32))
    >>> shards.kept(0, (2, 2)), shards.kept(4, (2, 2))
    (True, False)
    >>> rows = shards.rows(3, 2)
    >>> rows.shape, rows[np.array([2, 0])]
    ((3, 2), array([[1., 1.],
           [1., 0.]], dtype=float32))
    >>> np.asarray(rows[1:])
    array([[0., 1.],
           [1., 1.]], dtype=float32)
    """

    def __init__(self, url: str, size: int, precision: str = "float32"):
        self.url = url if "://" in url else os.path.abspath(url)  # other processes, elsewhere, write there too
        self.size, self.precision = size, precision
        self.dtype = np.dtype(precision).newbyteorder("<")
        self.system, self.root = file_system(self.url)

    def file(self, first: int) -> str:
        """Return the path of a shard's vectors."""
        return f"{self.root}/{first}.npy"

    def facts(self, first: int) -> str:
        """Return the path of a shard's checksum."""
        return f"{self.root}/{first}.json"

    def save(self, first: int, emb_SD: np.ndarray) -> None:
        """Write the vectors of a shard, rounded to the precision of the files; on an error nothing stays behind."""
        stored_SD = np.ascontiguousarray(emb_SD, self.dtype)
        self.system.makedirs(self.root, exist_ok=True)
        try:
            with self.system.open(self.file(first), "wb") as file:
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(stored_SD))
                assert file.tell() == HEADER
                file.write(stored_SD.data.cast("B"))
            text = json.dumps({"shape": stored_SD.shape, "sha256": hashlib.sha256(stored_SD.data).hexdigest()})
            self.system.pipe_file(self.facts(first), text.encode())
        except BaseException:
            with suppress(Exception):
                self.system.rm_file(self.file(first))
            raise

    def kept(self, first: int, shape: tuple[int, int]) -> bool:
        """Return whether a shard of this shape is complete; a damaged one is named on stderr."""
        try:
            facts = self.system.cat_file(self.facts(first))
        except FileNotFoundError:
            return False
        try:
            whole = json.loads(facts) == {"shape": list(shape), "sha256": self._digest(first)}
        except (ValueError, FileNotFoundError):
            whole = False
        if not whole:
            print(f"  {self.url}/{first}.npy is damaged or missing: it has to be made again.", file=sys.stderr)
        return whole

    def _digest(self, first: int) -> str:
        digest = hashlib.sha256()
        with self.system.open(self.file(first), "rb") as file:
            file.seek(HEADER)
            while block := file.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def rows(self, count: int, width: int) -> "Rows":
        """Return all vectors, to be read when they are used."""
        return Rows(self, width, 0, count)


@dataclass(frozen=True)
class Rows:
    """Vectors [N, D] in shards that act as a float32 array: numpy reads them when it takes it for an array.

    A slice is such an array again; an array of positions returns the vectors.
    """

    shards: Shards
    width: int
    start: int
    stop: int
    dtype = np.dtype(np.float32)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self), self.width

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise ValueError(f"a slice of shards must have step 1, got {step}")
            return Rows(self.shards, self.width, self.start + start, self.start + max(start, stop))
        return self._read([(self.start + row, self.start + row + 1) for row in np.asarray(rows).tolist()])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        size = self.shards.size
        firsts = range(self.start // size * size, self.stop, size)
        emb_ND = self._read([(max(first, self.start), min(first + size, self.stop)) for first in firsts])
        return emb_ND if dtype is None else emb_ND.astype(dtype)

    def _read(self, parts: list[tuple[int, int]]) -> np.ndarray:
        """Return the vectors of these ranges, each of one shard."""
        size, bytes_ = self.shards.size, self.width * self.shards.dtype.itemsize
        paths = [self.shards.file(start // size * size) for start, _ in parts]
        begins = [HEADER + start % size * bytes_ for start, _ in parts]
        ends = [begin + (stop - start) * bytes_ for begin, (start, stop) in zip(begins, parts, strict=True)]
        ranges = self.shards.system.cat_ranges(paths, begins, ends, on_error="raise")
        stored = np.frombuffer(ranges[0] if len(ranges) == 1 else b"".join(ranges), self.shards.dtype)
        return stored.reshape(-1, self.width).astype(np.float32)
