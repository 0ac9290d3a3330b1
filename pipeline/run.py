"""`python -m pipeline.run model=… sampler=…`: train, evaluate and profile one multilingual retriever, or with -m many.

Hydra composes the config; `launch.runs` looks for the run in the store or makes it in a child process. Bad input is one
sentence and exit code 2; a run that fails is recorded with its reason, and exits with 1.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pipeline.analysis.verdict import of_run
from pipeline.config import check
from pipeline.launch.commands import command, refusing
from pipeline.launch.composing import start
from pipeline.launch.peers import node_rank
from pipeline.launch.request import make_request
from pipeline.launch.runs import log_finished, perform
from pipeline.launch.sweep import choices
from pipeline.store import progress
from pipeline.store.results import ResultStore
from pipeline.values import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    store = ResultStore(cfg.results_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        state = perform(make_request(check(cfg), choices(hydra_config.runtime)), alone=False)
        log_finished(state, progress.outlook(progress.states(store, cfg.sweep)))
        return
    with refusing():  # here, since Hydra would name the overrides before the sentence
        config = check(cfg)
        state = perform(make_request(config, choices(hydra_config.runtime)), alone=True)
    log_finished(state)
    if state.status == "failed":
        sys.exit(1)
    if node_rank(config.trainer) == 0:
        record = store.run_dir(state.name).absolute() / "record.json"
        print(*of_run(store.load(state.name)), f"record: {record}", sep="\n")


def main() -> None:
    with command():
        start(job, "config")


if __name__ == "__main__":
    main()
