"""`python -m pipeline.published SWEEP scores=FOLDER`: which public encoder to deploy, by published accuracy and cost.

SWEEP (sweeps/published.yaml) profiled architectures with random weights. Writes csv tables, a figure and published.html
to the sweep's folder.

    python -m pipeline.published published scores=mteb-results prices=gpu_example

Keys:
    sweep               a sweep of random weights; the first word may leave the key out
    scores              a clone of mteb's results repository, or a folder of tables of it (docs/published.md); by
                        default PUBLISHED_DIR of the environment
    prices, scenario    a file of conf/prices or conf/scenario; by default those of conf/report.yaml
    results_dir         results
"""

import os
from pathlib import Path

from pipeline.launch.commands import arguments, command
from pipeline.reporting.config import options
from pipeline.reporting.published import publish
from pipeline.values import UserError


def main() -> None:
    with command():
        sweep, values = arguments(__doc__, "scores", "results_dir", "prices", "scenario")
        folder = values.get("scores") or os.environ.get("PUBLISHED_DIR")
        if not folder:
            raise UserError("scores is missing: name a folder of published scores with scores=, or set PUBLISHED_DIR.")
        groups = [f"{group}={values[group]}" for group in ("prices", "scenario") if group in values]
        publish(options(values.get("results_dir", "results"), sweep, *groups), Path(folder))


if __name__ == "__main__":
    main()
