"""`python -m pipeline.recommend --sweep NAME --accuracy multi.map --p95-ms 20`: what should I deploy?

Reads a sweep's records and answers in sentences: the most accurate system within the limits, the runner-up, what a
looser limit would bring, and how sure that is (analysis.recommendation).
"""

import argparse
import sys

from pipeline.analysis.costs import COSTS
from pipeline.analysis.recommendation import recommend
from pipeline.launch.commands import refusing
from pipeline.reporting.config import options
from pipeline.store.results import ResultStore

LIMITS = [cost for cost in COSTS if cost.option]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; a limit is stored under the field of its cost."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.recommend", description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", default="default", help="in the results folder (default: default)")
    parser.add_argument("--results-dir", default="results")
    parser.add_argument(
        "--accuracy",
        default="multi.map",
        metavar="[BENCHMARK.]SETTING.METRIC",
        help="what to optimise: multi.map, cross.ndcg_10, xquad_r.multi.rank_distance, … (default: multi.map)",
    )
    for group in ("prices", "scenario"):
        help_text = f"a file of conf/{group} (default: that of conf/report.yaml)"
        parser.add_argument(f"--{group}", metavar="NAME", help=help_text)
    for cost in LIMITS:
        parser.add_argument(cost.option, dest=cost.field, type=float, metavar="MOST", help=f"limit on {cost.label}")
    return parser.parse_args(arguments)


def answer(request: argparse.Namespace) -> list[str]:
    """Return the sentences that answer a command line."""
    groups = [f"{group}={value}" for group in ("prices", "scenario") if (value := getattr(request, group))]
    report = options(request.results_dir, request.sweep, *groups)
    limits = {cost: most for cost in LIMITS if (most := getattr(request, cost.field)) is not None}
    store = ResultStore(request.results_dir)
    return recommend(store, request.sweep, request.accuracy, limits, report.prices, report.scenario)


def main() -> None:
    with refusing():
        print("\n".join(answer(parse(sys.argv[1:]))))


if __name__ == "__main__":
    main()
