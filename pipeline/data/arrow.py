"""Rows of a source -> a memory-mapped Arrow file, made once in the cache of `datasets` (HF_DATASETS_CACHE) and reused.

Between the published files and the texts that training and evaluation read: whatever the corpus, memory stays flat.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.values import UserError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, Features


def stored(rows: Callable[[], Iterator[dict[str, Any]]], features: "Features", identity: str) -> "Dataset":
    """What `rows` yields, as it was stored under this identity or is now; a UserError of it leaves nothing behind."""
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        return Dataset.from_generator(rows, features=features, fingerprint=identity[:16])
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def identity(files: Iterable[Path], *choices: Any) -> str:
    """Equal for the same files, unchanged, and the same JSON-able choices of what to keep of them."""
    seen = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256(json.dumps([seen, *choices]).encode()).hexdigest()


def batches(dataset: "Dataset") -> Iterator["pyarrow.RecordBatch"]:
    """A stored dataset from its beginning to its end, read and let go: mapped pages would stay with the process."""
    import pyarrow

    for cache in dataset.cache_files:
        with pyarrow.OSFile(cache["filename"]) as file, pyarrow.ipc.open_stream(file) as stream:
            yield from stream
