"""`python -m pipeline.search sweep=… trials=…`: search for accurate and cheap runs with NSGA-II.

Use it where a sweep of all combinations would be too large. conf/search.yaml lists the keys.
"""

from typing import cast

import hydra
from omegaconf import DictConfig, OmegaConf

from pipeline.launch.commands import command, sweep_first
from pipeline.launch.composing import start
from pipeline.launch.search import Search, search
from pipeline.values import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="search")
def job(cfg: DictConfig) -> None:
    """Run the search that the composed config describes."""
    search(cast(Search, OmegaConf.to_object(cfg)))


def main() -> None:
    with command():
        sweep_first()
        start(job, "search")


if __name__ == "__main__":
    main()
