"""Disk cache of the sources: what training and evaluation read, converted once from a source's published files.

The cache is that of `datasets` (HF_DATASETS_CACHE). The name of a cached folder changes with the published files, so a
changed source is converted again. Memory use does not grow with the corpus: files are read in batches, and texts are
read from disk on access.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pipeline.bars import BAR_DELAY_S, Bar

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

BATCH_ROWS = 1024
LAYOUT = 2  # version of the cached files: increase it when the code writes other files for the same choices
Value = TypeVar("Value")


@dataclass(frozen=True)
class Lazy(Sequence[Value]):
    """A column whose values are read from disk on access."""

    read: Callable[[int], Value]
    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, row: int) -> Value: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[Value]: ...

    def __getitem__(self, row: int | slice) -> Value | Sequence[Value]:
        return [self.read(n) for n in range(*row.indices(self.length))] if isinstance(row, slice) else self.read(row)


def folder_name(files: Iterable[Path], *choices: Any) -> str:
    """Return the name of a cached folder: a hash of the source files (path, size, time) and of JSON values.

    Args:
        files: the published files that the cached folder is made from.
        choices: everything else that determines its content, such as the columns to keep.
    """
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256(json.dumps([LAYOUT, stats, *choices]).encode()).hexdigest()[:32]


def cached_folder(name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder of the cache; if it is missing, `fill` writes its files. It appears complete or not at all."""
    from datasets import config

    folder = Path(config.HF_DATASETS_CACHE, name)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as temporary:
            unfinished = Path(temporary, name)
            unfinished.mkdir()
            fill(unfinished)
            if not folder.is_dir():  # another process may have been faster
                unfinished.rename(folder)
    return folder


def cached_dataset(
    name: str, schema: "pyarrow.Schema", batches: Iterator["pyarrow.RecordBatch"], *, progress: str
) -> "Dataset":
    """Return the batches as one memory-mapped Arrow file of the cache; they are read only if the file is missing.

    Args:
        name: of the cached folder, from `folder_name`.
        schema: of every batch.
        batches: the rows.
        progress: title of the progress bar.
    """
    import pyarrow
    from datasets import Dataset

    def write(folder: Path) -> None:
        with (
            pyarrow.OSFile(str(folder / "rows.arrow"), "wb") as file,
            pyarrow.ipc.new_stream(file, schema) as stream,
            Bar(desc=progress, unit=" rows", delay=BAR_DELAY_S) as bar,
        ):
            for batch in batches:
                stream.write_batch(batch)
                bar.update(batch.num_rows)

    return Dataset.from_file(str(cached_folder(name, write) / "rows.arrow"))


def record_batches(rows: Iterator[Mapping[str, Any]], schema: "pyarrow.Schema") -> Iterator["pyarrow.RecordBatch"]:
    """Yield rows as Arrow batches of at most BATCH_ROWS rows."""
    import pyarrow

    while chunk := list(islice(rows, BATCH_ROWS)):
        yield pyarrow.RecordBatch.from_pylist(chunk, schema)


def stream(dataset: "Dataset") -> Iterator["pyarrow.RecordBatch"]:
    """Yield the batches of a cached dataset by reading its file: mapped pages would stay in the process's memory."""
    import pyarrow

    for cache in dataset.cache_files:
        with pyarrow.OSFile(cache["filename"]) as file, pyarrow.ipc.open_stream(file) as batches:
            yield from batches
