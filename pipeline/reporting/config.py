"""The typed roots of conf/reading.yaml and conf/report.yaml: a sweep, prices and a scenario, and what figures show."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pipeline.analysis.money import Prices, Scenario
from pipeline.values import CONF


@dataclass
class SweepConfig:
    """What reading a sweep depends on beside its records. Prices and scenario check their own values."""

    sweep: str
    results_dir: str
    prices: Prices
    scenario: Scenario


@dataclass
class ReportConfig(SweepConfig):
    """What a report depends on: `panel` is the one of front.png (figure.select), by default that of the verdict."""

    panel: str | None = None


ConfigStore.instance().store(name="reading_schema", node=SweepConfig)
ConfigStore.instance().store(name="report_schema", node=ReportConfig)


def typed(cfg: DictConfig) -> ReportConfig:
    """Return the composed config as a dataclass."""
    return cast(ReportConfig, OmegaConf.to_object(cfg))


def options(results_dir: str | Path, sweep: str, *overrides: str) -> ReportConfig:
    """Compose conf/report.yaml for a sweep, with command-line overrides such as `prices=gpu_example`."""
    initialized = GlobalHydra.instance().is_initialized()  # by a command that reads the same folder
    with nullcontext() if initialized else hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("report", list(overrides))
    cfg.sweep, cfg.results_dir = sweep, str(results_dir)
    return typed(cfg)
