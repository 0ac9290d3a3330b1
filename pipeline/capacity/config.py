"""The typed root of conf/load.yaml, which explains every key."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from pipeline.bounds import COUNT, bounded
from pipeline.serving.config import EngineConfig


@dataclass
class LoadConfig(EngineConfig):
    """What to put under load, with which texts, and how long."""

    run: str | None = None
    sweep: str | None = None
    target: str | None = None
    model_name: str | None = None
    input_type: bool = True
    eval: Any = field(default_factory=dict)
    p99_ms: float = bounded(0, 10**6, above=True)
    min_seconds: float = bounded(0, 86_400, above=True)
    min_queries: int = bounded(1, COUNT)
    tolerance: float = bounded(0, 1, above=True)
    rounds: int = bounded(1, 100)
    index_rows: int = bounded(0, COUNT)
    index: str | None = None
    seed: int = bounded(0, 2**32 - 1)
    results_dir: str = MISSING
    allow_targets: list[str] = field(default_factory=list)


ConfigStore.instance().store(name="load_schema", node=LoadConfig)
