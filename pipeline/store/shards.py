"""Arrays that a long stage has finished, kept in its folder until the stage is done: a killed run resumes from them."""

from pathlib import Path

import numpy as np

from pipeline.store.files import read_again, write_atomically, write_json


class Shards:
    """The finished shards of one long array, each a file of float32 vectors with its checksum.

    Args:
        folder: of these shards alone; it is made when the first one is saved.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shards = Shards(Path(folder))
    ...     shards.save(0, np.ones((2, 3), np.float32))
    ...     shards.load(0).shape, shards.load(2)
    ((2, 3), None)
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, first: int) -> np.ndarray | None:
        """Return the rows from `first` on, memory-mapped; None if they are missing or, with a warning, damaged."""
        path = self.folder / f"{first}.npy"
        return None if read_again(path.with_suffix(".json")) is None else np.load(path, mmap_mode="r")

    def save(self, first: int, rows_ND: np.ndarray) -> None:
        """Write the rows from `first` on: complete with its checksum, or not at all."""
        path = self.folder / f"{first}.npy"
        write_atomically(path, lambda temporary: np.save(temporary, rows_ND))
        write_json(path.with_suffix(".json"), {}, [path])
