"""`python -m pipeline.profile_model model=xlmr-base,xlmr-large`: measure what architectures cost by themselves.

Profiles them on made-up texts with the lengths of real texts (`profiling.architectures`).
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.launch.commands import command
from pipeline.launch.composing import start
from pipeline.profiling.architectures import Comparison, check
from pipeline.values import CONF


def main() -> None:
    """Profile every architecture of the command line, one after another."""
    comparison = Comparison()

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="profile_model")
    def job(cfg: DictConfig) -> None:
        comparison.add(HydraConfig.get().runtime.choices["model"], check(cfg))

    with command():
        start(job, "profile_model", check)
    sys.exit(comparison.show())


if __name__ == "__main__":
    main()
