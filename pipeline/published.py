"""`python -m pipeline.published SWEEP table=miracl_dev.csv`: published accuracy against the cost measured here.

SWEEP profiled architectures with random weights; the table says what public encoders of these architectures scored
(analysis.published). Writes published.csv and published.png, .svg and .pdf to the sweep's folder.
"""

from pathlib import Path

from pipeline.launch.commands import arguments, refusing
from pipeline.reporting.published_figure import publish
from pipeline.store.results import ResultStore
from pipeline.values import UserError

USAGE = "usage: python -m pipeline.published SWEEP table=FILE.csv [results_dir=results]; SWEEP has random weights."


def main() -> None:
    with refusing():
        sweep, options = arguments(USAGE, "table", "results_dir")
        if "table" not in options:
            raise UserError(USAGE)
        publish(ResultStore(options.get("results_dir", "results")), sweep, Path(options["table"]))


if __name__ == "__main__":
    main()
