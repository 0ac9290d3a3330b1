"""`python -m pipeline.search sweep=… trials=…`: NSGA-II instead of all combinations. --help shows the keys."""

from typing import cast

import hydra
from omegaconf import DictConfig, OmegaConf

from pipeline.launch.commands import refusing, resumable
from pipeline.launch.search import Search, search


@hydra.main(version_base="1.3", config_path="../conf", config_name="search")
def job(cfg: DictConfig) -> None:
    search(cast(Search, OmegaConf.to_object(cfg)))


def main() -> None:
    with resumable(), refusing():
        job()


if __name__ == "__main__":
    main()
