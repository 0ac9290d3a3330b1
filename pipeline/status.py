"""`python -m pipeline.status SWEEP [results_dir=results]`: how far a sweep is; whether it runs, is finished or dead."""

from pipeline.launch.commands import arguments, refusing
from pipeline.store.progress import describe
from pipeline.store.results import ResultStore

USAGE = "usage: python -m pipeline.status SWEEP [results_dir=results]; SWEEP is a folder of the results."


def main() -> None:
    with refusing():
        sweep, options = arguments(USAGE, "results_dir")
        print(describe(ResultStore(options.get("results_dir", "results")), sweep))


if __name__ == "__main__":
    main()
