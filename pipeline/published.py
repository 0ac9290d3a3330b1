"""`python -m pipeline.published SWEEP scores=FOLDER`: which public encoder to deploy, by published accuracy and cost.

SWEEP (sweeps/published.yaml) profiled architectures with random weights. FOLDER is a clone of mteb's results repository
or a folder of tables of it (analysis.published.scores); PUBLISHED_DIR names it as well. Writes csv tables, a figure and
published.html to the sweep's folder.
"""

import os
from pathlib import Path

from pipeline.launch.commands import arguments, refusing
from pipeline.reporting.config import options
from pipeline.reporting.published import publish
from pipeline.values import UserError

USAGE = (
    "usage: python -m pipeline.published SWEEP scores=FOLDER [results_dir=results] [prices=NAME] [scenario=NAME]; "
    "SWEEP has random weights, FOLDER is a clone of mteb's results repository or tables of it (or set PUBLISHED_DIR)."
)


def main() -> None:
    with refusing():
        sweep, values = arguments(USAGE, "scores", "results_dir", "prices", "scenario")
        folder = values.get("scores") or os.environ.get("PUBLISHED_DIR")
        if not folder:
            raise UserError(USAGE)
        groups = [f"{group}={values[group]}" for group in ("prices", "scenario") if group in values]
        publish(options(values.get("results_dir", "results"), sweep, *groups), Path(folder))


if __name__ == "__main__":
    main()
