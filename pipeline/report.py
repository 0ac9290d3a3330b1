"""`python -m pipeline.report sweep=… prices=…`: write the report of a sweep again, from its records.

Nothing is trained, scored or profiled. conf/report.yaml lists the options; a sweep ends with the same report.
"""

import hydra
from omegaconf import DictConfig

from pipeline.launch.commands import refusing
from pipeline.reporting.config import typed
from pipeline.reporting.publish import publish


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def job(cfg: DictConfig) -> None:
    """Publish the report that the composed config describes."""
    publish(typed(cfg))


def main() -> None:
    with refusing():
        job()


if __name__ == "__main__":
    main()
