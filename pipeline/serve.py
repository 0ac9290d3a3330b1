"""`python -m pipeline.serve RUN`: serve a run's encoder as an embeddings server that speaks OpenAI's protocol.

Batches the texts of concurrent requests, bounds what waits, and answers what it has accepted before it stops
(docs/serving.md). conf/serve.yaml lists the keys.
"""

from typing import cast

import hydra
from omegaconf import DictConfig, OmegaConf

from pipeline.bounds import check_numbers
from pipeline.launch.commands import command, library, refusing, run_first
from pipeline.launch.composing import start
from pipeline.serving.config import ServeConfig
from pipeline.values import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="serve")
def job(cfg: DictConfig) -> None:
    """Serve what the composed config names."""
    with refusing():  # here, since Hydra would name the overrides before the sentence
        config = cast(ServeConfig, OmegaConf.to_object(cfg))
        check_numbers(config)
        for module in ("starlette", "uvicorn", "prometheus_client"):
            library(module, "serve")
        from pipeline.serving.server import serve

        serve(config)


def main() -> None:
    with command():
        run_first()
        start(job, "serve")


if __name__ == "__main__":
    main()
