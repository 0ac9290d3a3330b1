"""What a multirun does before its first run and after its last: check and plan all runs, then report on them.

Hydra calls these hooks in the parent process, whatever the launcher.
"""

import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hydra.conf import RuntimeConf
from hydra.core.global_hydra import GlobalHydra
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipeline.config import check
from pipeline.launch.commands import refusing
from pipeline.launch.composing import of_task, refuse_swept, runs_of
from pipeline.launch.peers import node_rank
from pipeline.launch.request import Request, make_request
from pipeline.launch.runs import record_finished
from pipeline.store import progress
from pipeline.store.results import ResultStore
from pipeline.values import UserError

GROUPS = ("model", "sampler", "data", "eval", "trainer", "profile")
ALIVE = ExitStack()  # holds a lock as long as this process lives, for `status`; the callback itself gets pickled


class SweepCallback(Callback):
    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse the whole sweep if any run is impossible, rather than after hours of other runs."""
        if follows(config):
            return
        with refusing():  # exits: Hydra turns exceptions of a callback into warnings
            store = ResultStore(config.results_dir)
            store.sweep_dir(config.sweep)  # UserError for a name that cannot be a folder
            if config.costs_from:
                store.manifest(config.costs_from)  # UserError if there is no such sweep
            basic = config.hydra.sweeper._target_.endswith("BasicSweeper")  # another one draws its runs as it goes
            requests = plan(config) if basic else []
            store.check_writable(several=several_machines(config))  # from here on files are written
            if not basic:
                ALIVE.enter_context(store.lock(f"sweep-{config.sweep}", shared=True))
                return
            with store.lock(f"plan-{config.sweep}"):
                begin(store, config, requests)
            print(f"{config.sweep}: {progress.counted(len(requests), 'run')}", file=sys.stderr, flush=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        if not follows(config):
            end(config.results_dir, config.sweep)


def follows(config: DictConfig) -> bool:
    """Whether another machine leads, which plans and reports."""
    with refusing():
        return node_rank(config.trainer) > 0


def several_machines(config: DictConfig) -> bool:
    """Whether the launcher, or the training itself, puts several machines to work in the results folder."""
    launcher = config.hydra.launcher
    cluster = launcher._target_.endswith("SlurmLauncher") or bool(OmegaConf.select(launcher, "ray.init.address"))
    return cluster or config.trainer.num_nodes > 1


def begin(store: ResultStore, config: DictConfig, requests: Sequence[Request]) -> None:
    """Write down what the sweep is to make, and hold its lock until this process ends.

    Raises:
        UserError: another process is making other runs under this name.
    """
    runs, lock = {request.name: request.choices for request in requests}, f"sweep-{config.sweep}"
    if store.locked(lock) and not store.is_planned(config.sweep, runs, config.costs_from):
        raise UserError(f"sweep={config.sweep} is at work with other runs: wait for its end, or name another sweep.")
    store.clear(config.sweep, keep=[name for request in requests for name in request.run_names])
    store.plan(config.sweep, runs, config.costs_from)
    record_finished(store, config.sweep, requests)
    ALIVE.enter_context(store.lock(lock, shared=True))


def end(results_dir: str, sweep: str) -> None:
    """Say which runs failed and how many ended how, then report on the sweep; exit with 1 if a run failed."""
    from pipeline.reporting.publish import report  # matplotlib and wandb: not before they are needed

    store, reported = ResultStore(results_dir), False
    states = progress.states(store, sweep)
    print(f"\n{progress.table(states, settled=False)}", file=sys.stderr, flush=True)
    try:
        report(results_dir, sweep)
        reported = True
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception:  # whatever it is: Hydra would turn it into a warning, and the sweep would end with 0
        traceback.print_exc()
    if not reported or any(state.status not in ("done", "cached") for state in states):
        sys.exit(1)


def plan(config: DictConfig) -> list[Request]:
    """The requests of all runs of a multirun; UserError for the first impossible one."""
    requests = []
    for overrides, whole in runs_of(config, GlobalHydra.instance().config_loader()):
        refuse_swept(whole, config)
        requests.append(request_of(whole, overrides))
    return requests


def request_of(whole: DictConfig, overrides: Sequence[str]) -> Request:
    """The request of one run, from the composed config that includes Hydra's own part."""
    try:
        return make_request(check(of_task(whole)), choices(whole.hydra.runtime))
    except UserError as error:
        raise UserError(f"in run {' '.join(overrides)}: {error}") from error


def choices(runtime: RuntimeConf) -> dict[str, str]:
    """The options of the groups that a record keeps; "several" for a list of them, of which Hydra keeps no note."""
    return {group: str(runtime.choices[group]) if group in runtime.choices else "several" for group in GROUPS}
