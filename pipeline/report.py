"""`python -m pipeline.report SWEEP prices=…`: write the report of a sweep again, from its records.

Nothing is trained, scored or profiled. conf/report.yaml lists the options; a sweep ends with the same report.
"""

import hydra
from omegaconf import DictConfig

from pipeline.launch.commands import command, refusing, sweep_first
from pipeline.launch.composing import start
from pipeline.reporting.config import typed
from pipeline.values import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="report")
def job(cfg: DictConfig) -> None:
    """Publish the report that the composed config describes."""
    with refusing():  # here, since Hydra would name the overrides before the sentence
        config = typed(cfg)
        from pipeline.reporting.publish import publish  # with matplotlib: a refusal does not wait for it

        publish(config)


def main() -> None:
    with command():
        sweep_first()
        start(job, "report")


if __name__ == "__main__":
    main()
