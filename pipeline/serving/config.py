"""The typed root of conf/serve.yaml, which explains every key."""

from dataclasses import dataclass
from enum import Enum

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from pipeline.bounds import COUNT, bounded

ServingDevice = Enum("ServingDevice", ["cpu", "cuda"])


@dataclass
class EngineConfig:
    """Where the engine runs, and how texts are batched for it: keys of conf/serve.yaml and conf/load.yaml."""

    device: ServingDevice = ServingDevice.cpu
    threads: int = bounded(1, 1024)
    max_batch: int = bounded(1, 10**5)
    token_budget: int | None = bounded(1, COUNT, default=None)
    max_wait_ms: float = bounded(0, 10_000)
    queue: int = bounded(1, 10**6)


@dataclass
class ServeConfig(EngineConfig):
    """What to serve, where, and within which limits."""

    run: str | None = None
    model_name: str | None = None
    host: str = MISSING
    port: int = bounded(0, 65_535)
    max_inputs: int = bounded(1, 10**5)
    max_body_kib: int = bounded(1, 10**6)
    results_dir: str = MISSING


ConfigStore.instance().store(name="serve_schema", node=ServeConfig)
