"""Between the published files of a source and what training and evaluation read: memory-mapped files, made once.

They lie in the cache of `datasets` (HF_DATASETS_CACHE) under a key that changes with the published files. Whatever the
corpus, memory stays flat: files are read in batches, texts are read from disk when they are asked for.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

BATCH_ROWS = 1024
LAYOUT = 1  # of what lies in the cache: another number when the code makes other files of the same choices
BAR_DELAY_S = 1  # a bar for less work would only flicker


@dataclass(frozen=True)
class Lazy(Sequence[Any]):
    """A column whose cells are read when they are asked for."""

    cell: Callable[[Any], Any]
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: Any) -> Any:
        return self.cell(row)


def key(files: Iterable[Path], *choices: Any) -> str:
    """Equal for the same files, unchanged, and the same JSON-able choices of what to keep of them."""
    seen = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256(json.dumps([LAYOUT, seen, *choices]).encode()).hexdigest()[:32]


def made_once(key: str, make: Callable[[Path], None]) -> Path:
    """The folder of the cache that `make` fills; whole or not at all."""
    from datasets import config

    folder = Path(config.HF_DATASETS_CACHE, key)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as unfinished:
            made = Path(unfinished, key)
            made.mkdir()
            make(made)
            if not folder.is_dir():  # another process may have been faster
                made.rename(folder)
    return folder


def stored(key: str, schema: "pyarrow.Schema", batches: Iterator["pyarrow.RecordBatch"], progress: str) -> "Dataset":
    """The batches, in one Arrow file; they are not drawn where the cache has it. `progress` names the bar."""
    import pyarrow
    from datasets import Dataset
    from tqdm import tqdm

    def write(folder: Path) -> None:
        with (
            pyarrow.OSFile(str(folder / "rows.arrow"), "wb") as file,
            pyarrow.ipc.new_stream(file, schema) as stream,
            tqdm(desc=progress, unit=" rows", delay=BAR_DELAY_S) as bar,
        ):
            for batch in batches:
                stream.write_batch(batch)
                bar.update(batch.num_rows)

    return Dataset.from_file(str(made_once(key, write) / "rows.arrow"))


def in_batches(rows: Iterator[Mapping[str, Any]], schema: "pyarrow.Schema") -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow

    while chunk := list(islice(rows, BATCH_ROWS)):
        yield pyarrow.RecordBatch.from_pylist(chunk, schema)


def again(dataset: "Dataset") -> Iterator["pyarrow.RecordBatch"]:
    """A stored dataset from its beginning to its end, read and let go: mapped pages would stay with the process."""
    import pyarrow

    for cache in dataset.cache_files:
        with pyarrow.OSFile(cache["filename"]) as file, pyarrow.ipc.open_stream(file) as stream:
            yield from stream
