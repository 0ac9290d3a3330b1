"""`python -m pipeline.aggregate SWEEP [results_dir=results]`: from a sweep's records to its fronts, tables and figures.

Also the last act of a sweep. Reads records only; writes <results_dir>/<sweep>/, then W&B.
"""

import sys
from pathlib import Path

import pandas as pd

from pipeline import report, tracking
from pipeline.analysis import bootstrap, exchange, fronts, paired, pool, scaling, tables
from pipeline.results import ResultStore, write_atomically
from pipeline.values import UserError


def aggregate(results_dir: str | Path, sweep: str) -> None:
    """Write the sweep's tables and figures, print its table and where things lie, and send the same to W&B."""
    store = ResultStore(results_dir)
    found = analyse(store, sweep)
    folder = store.sweep_dir(sweep)
    for stem, table in found.items():
        write_atomically(folder / f"{stem}.csv", lambda path, table=table: table.to_csv(path, index=False))

    figures: dict[str, Path] = {}
    for benchmark, points in found["pareto"].groupby("benchmark", sort=False):
        stem = f"pareto-{benchmark}" if figures else "pareto"  # the first benchmark is the main one
        figures[benchmark] = report.save(report.draw(points, report.title(sweep, points)), folder / stem)

    grown: list[Path] = []
    for benchmark, curves in found["pool_curve"].groupby("benchmark", sort=False) if "pool_curve" in found else ():
        stem = f"pool_curve-{benchmark}" if grown else "pool_curve"
        grown.append(report.save(report.draw_pool_curve(curves, f"{sweep}: {benchmark}"), folder / stem))

    for benchmark in dict.fromkeys(benchmark for benchmark, _ in tables.scales(found["runs"])) or [None]:
        print(f"\n{sweep}, {benchmark or 'cost only'}\n{report.terminal(found['variants'], benchmark)}")
    cells = store.cells(sweep)
    for cell in cells:
        if cell.status == "failed":
            print(f"failed: {cell.name}: {cell.reason}")
    for path in [folder / f"{stem}.csv" for stem in found] + list(figures.values()) + grown:
        print(path)
    sys.stdout.flush()
    wishes = next(cell.record for cell in cells if cell.record).config["tracking"]
    tracking.log_aggregate(wishes, sweep, found["variants"], found["pareto"], figures)


def analyse(store: ResultStore, sweep: str) -> dict[str, pd.DataFrame]:
    """The sweep's tables by name: each becomes a csv. Those on accuracy are missing where there is none."""
    runs = tables.runs(store, sweep)
    variants = tables.variants(runs)
    points = tables.points(variants)
    found = {"runs": runs, "variants": variants, "pareto": points}
    if not tables.scales(runs):
        return found
    scores = tables.scores(store, runs)
    draws = {scale: bootstrap.draws(table) for scale, table in scores.items()}
    models = variants.set_index("variant")["model"]
    tests = {scale: paired.compare(scores[scale], draws[scale], models) for scale in scores}
    found["tests"] = pd.concat(tests, names=["benchmark", "setting"]).reset_index(level=[0, 1])
    curves = pool.curves(store, runs)
    if not curves.empty:
        found["pool_curve"] = curves
    if not points.empty:
        found["pareto"] = points = fronts.mark(points, draws)
        found["hypervolume"] = fronts.volumes(points, draws)
        found["exchange"] = exchange.rates(points, draws)
        found["slopes"] = scaling.slopes(points, draws)
    return found


def parse(arguments: list[str]) -> tuple[str, str]:
    match arguments:
        case [sweep]:
            return "results", sweep
        case [sweep, option] if option.startswith("results_dir="):
            return option.removeprefix("results_dir="), sweep
    raise UserError("usage: python -m pipeline.aggregate SWEEP [results_dir=results].")


def main() -> None:
    try:
        aggregate(*parse(sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
