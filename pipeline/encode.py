"""The section `encode` of a config: which processes encode a corpus of several shards, and where its vectors are kept.

A corpus of one shard (`encoder.encoding.SHARD` passages) or less is encoded in the run's own process and memory.
"""

from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec

from omegaconf import MISSING

from pipeline.bounds import bounded
from pipeline.values import UserError

StoredPrecision = Enum("StoredPrecision", ["float32", "float16"])


@dataclass
class EncodeConfig:
    """conf/config.yaml, which explains every key."""

    workers: int = bounded(1, 10_000)
    ray: str | None = None
    folder: str | None = None
    precision: StoredPrecision = MISSING

    @property
    def elsewhere(self) -> bool:
        """Whether other processes than the run's own encode."""
        return self.workers > 1 or bool(self.ray)

    def check(self) -> None:
        """Raise UserError for keys that contradict each other, or need a package that is not installed."""
        if self.elsewhere and self.folder and self.folder.startswith("memory:"):
            raise UserError(f"encode.folder={self.folder}: other processes do not see this one's memory.")
        if self.ray and find_spec("ray") is None:
            raise UserError(f"encode.ray={self.ray}: ray is missing: pip install -c constraints.txt -e '.[ray]'.")
