"""`python -m pipeline.status SWEEP`: show how far a sweep is, and whether it is running, finished or dead.

Lists every run with its state and time, then the time that is left.

    python -m pipeline.status articles

Keys:
    sweep               a folder of the results; the first word may leave the key out
    results_dir         results
"""

from pipeline.launch.commands import arguments, command
from pipeline.store.progress import describe
from pipeline.store.results import ResultStore


def main() -> None:
    """Read the command line and print the state of the sweep."""
    with command():
        sweep, options = arguments(__doc__, "results_dir")
        print(describe(ResultStore(options.get("results_dir", "results")), sweep))


if __name__ == "__main__":
    main()
