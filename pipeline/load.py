"""`python -m pipeline.load RUN`: measure how many queries per second a run or a server carries within a p99 latency.

Puts MLPerf's LoadGen on a run in this process, on the systems of a sweep, or on a server (docs/load.md).
conf/load.yaml lists the keys.
"""

from typing import cast

import hydra
from omegaconf import DictConfig, OmegaConf

from pipeline.bounds import check_numbers
from pipeline.capacity.config import LoadConfig
from pipeline.launch.commands import command, library, refusing, run_first
from pipeline.launch.composing import start
from pipeline.launch.signals import end_at_once, ended_by
from pipeline.values import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="load")
def job(cfg: DictConfig) -> None:
    """Measure what the composed config names."""
    with refusing():  # here, since Hydra would name the overrides before the sentence
        config = cast(LoadConfig, OmegaConf.to_object(cfg))
        check_numbers(config)
        library("mlperf_loadgen", "load")
        from pipeline.capacity.subjects import measure

        try:
            measure(config)
        except BaseException as error:
            if number := ended_by(error):
                end_at_once(number)  # LoadGen's threads cannot be stopped
            raise


def main() -> None:
    with command():
        run_first()
        start(job, "load")


if __name__ == "__main__":
    main()
