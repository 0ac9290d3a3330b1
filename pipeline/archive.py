"""`python -m pipeline.archive SWEEP to=FOLDER`: keep the finished runs of a sweep in few bytes, to be committed.

The folder is a results folder, so `pipeline.report SWEEP results_dir=FOLDER` makes every table, figure and page of the
report from it, without training. Of a sweep that grows, or is made in several results folders, call it again: it adds
the runs that are new. Weights stay behind. docs/redo.md shows a whole study.

    python -m pipeline.archive train to=results/reference/edition2

Keys:
    sweep               a folder of the results; the first word may leave the key out
    to                  the archive, which is made if it does not exist
    results_dir         results
"""

from pathlib import Path

from pipeline.launch.commands import arguments, command
from pipeline.reporting.archive import archive
from pipeline.store.progress import counted
from pipeline.store.results import ResultStore
from pipeline.values import UserError


def main() -> None:
    """Read the command line and archive."""
    with command():
        sweep, options = arguments(__doc__, "to", "results_dir")
        if not options.get("to"):
            raise UserError("to= must name the folder of the archive, as in to=results/reference/edition2.")
        target = ResultStore(options["to"])
        new = archive(ResultStore(options.get("results_dir", "results")), target, sweep)
        size = sum(path.stat().st_size for name in new for path in Path(target.run_dir(name)).iterdir())
        print(f"{counted(len(new), 'new run')}, {size / 1000:,.0f} kB: {target.root}")


if __name__ == "__main__":
    main()
