"""What a multirun does before its first cell and after its last: check and list every cell, then draw the fronts.

Hydra calls these hooks in the parent process, whatever the launcher.
"""

import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipeline import config as configs
from pipeline import run, status
from pipeline.launch.commands import refusing
from pipeline.store.results import ResultStore
from pipeline.values import UserError

ALIVE = ExitStack()  # holds a lock as long as this process lives, at which `status` looks; the callback gets pickled


class SweepCallback(Callback):
    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse the whole sweep if any cell is impossible: not after hours of other cells."""
        store = ResultStore(config.results_dir)
        with refusing():  # by an exit: of what a callback raises Hydra would make a warning
            store.check_writable()
            if config.costs_from:
                store.notes(config.costs_from)  # refused where there is no such sweep
            if config.hydra.sweeper._target_.endswith("BasicSweeper"):  # a search draws its cells as it goes
                asked = requests(config)
                store.clear(config.sweep, keep=[name for request in asked for name in run.names(request)])
                runs = {request["name"]: request["choices"] for request in asked}
                store.plan(config.sweep, runs, config.costs_from)
                print(f"{config.sweep}: {len(asked)} cells", file=sys.stderr, flush=True)
            ALIVE.enter_context(store.lock(f"sweep-{config.sweep}", shared=True))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        end(config.results_dir, config.sweep)


def end(results_dir: str, sweep: str) -> None:
    """Draw what there is, and say how each cell ended; exit 1 if one failed."""
    from pipeline import aggregate  # matplotlib and wandb: not before they are needed

    store, drawn = ResultStore(results_dir), False
    try:
        aggregate.aggregate(results_dir, sweep)
        drawn = True
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception:  # Hydra would turn it into a warning
        traceback.print_exc()
    cells = status.cells(store, sweep)
    print(f"\n{status.table(cells)}", file=sys.stderr)
    if not drawn or any(cell.status not in ("done", "cached") for cell in cells):
        sys.exit(1)


def requests(config: DictConfig) -> list[dict[str, Any]]:
    """What each cell of a multirun asks for; UserError for the first impossible one."""
    loader = GlobalHydra.instance().config_loader()
    parameters = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create(loader).parse_overrides(parameters + list(config.hydra.overrides.task))
    (cells,) = BasicSweeper.split_arguments(overrides, None)
    return [checked(loader.load_sweep_config(config, list(cell)), cell)[1] for cell in cells]


def checked(whole: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """A cell's config, and what it asks for, out of the config with Hydra's own part that `overrides` made."""
    cfg = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    try:
        configs.check(cfg)
    except UserError as error:
        raise UserError(f"in cell {' '.join(overrides)}: {error}") from error
    return cfg, run.request(cfg, run.chosen(whole.hydra.runtime))
