"""What a multirun does before its first cell and after its last: check every cell, then draw the fronts.

Hydra calls these hooks in the parent process, whatever the launcher.
"""

import sys
import traceback
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pipeline import config as configs
from pipeline.results import ResultStore
from pipeline.values import UserError


class SweepCallback(Callback):
    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse the whole sweep if any cell is impossible: not after hours of other cells."""
        if not config.hydra.sweeper._target_.endswith("BasicSweeper"):
            return  # a search draws its cells as it goes
        loader = GlobalHydra.instance().config_loader()
        parameters = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        overrides = OverridesParser.create(loader).parse_overrides(parameters + list(config.hydra.overrides.task))
        (cells,) = BasicSweeper.split_arguments(overrides, None)
        try:
            for cell in cells:
                configs.check(loader.load_sweep_config(config, list(cell)))
        except UserError as error:  # Hydra swallows what a callback raises, but not an exit
            print(f"error: in cell {' '.join(cell)}: {error}", file=sys.stderr)
            sys.exit(2)
        print(f"{config.sweep}: {len(cells)} cells", file=sys.stderr, flush=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Draw what there is; exit 1 if a cell failed."""
        from pipeline import aggregate  # matplotlib and wandb: not before they are needed

        try:
            aggregate.aggregate(config.results_dir, config.sweep)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
        except Exception:  # Hydra would turn it into a warning
            traceback.print_exc()
            sys.exit(1)
        failed = [cell for cell in ResultStore(config.results_dir).cells(config.sweep) if cell.status == "failed"]
        for cell in failed:
            print(f"failed: {cell.name}: {cell.reason}", file=sys.stderr)
        if failed:
            sys.exit(1)
