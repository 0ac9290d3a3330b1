"""`python -m pipeline.report sweep=… prices=…`: from a sweep's records to its fronts, tables and figures.

Also the last act of a sweep. Reads records only; writes <results_dir>/<sweep>/, then W&B. conf/report.yaml is its root.
"""

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import hydra
import pandas as pd
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pipeline.analysis import bootstrap, exchange, fronts, money, noise, paired, pool, scaling, tables, trades
from pipeline.launch.commands import refusing
from pipeline.reporting import figure as report
from pipeline.reporting import wandb as tracking
from pipeline.reporting.html import write as page
from pipeline.store.results import ResultStore, write_atomically


@dataclass
class Report:
    """The typed root of conf/report.yaml: unknown keys, wrong types and impossible values fail before any work."""

    sweep: str
    results_dir: str
    prices: money.Prices
    scenario: money.Scenario


ConfigStore.instance().store(name="report_schema", node=Report)


def wishes(results_dir: str | Path, sweep: str, *overrides: str) -> Report:
    """conf/report.yaml for a sweep, with what a command line would override: prices=…, scenario=…"""
    conf = Path(__file__).parent.parent / "conf"
    running = GlobalHydra.instance().is_initialized()  # by pipeline.run, which reads the same folder
    with nullcontext() if running else hydra.initialize_config_dir(str(conf), version_base="1.3"):
        cfg = hydra.compose("report", list(overrides))
    cfg.sweep, cfg.results_dir = sweep, str(results_dir)
    return cast(Report, OmegaConf.to_object(cfg))


def aggregate(results_dir: str | Path, sweep: str) -> None:
    """Report on a sweep at its end, with the default prices and scenario."""
    publish(wishes(results_dir, sweep))


def publish(wanted: Report) -> None:
    """Write the sweep's tables, figures and page, print its table and where things lie; send the same to W&B."""
    store, sweep = ResultStore(wanted.results_dir), wanted.sweep
    found = analyse(store, sweep, wanted.prices, wanted.scenario)
    folder = store.sweep_dir(sweep)
    for stem, table in found.items():
        write_atomically(folder / f"{stem}.csv", partial(table.to_csv, index=False))

    figures: dict[str, Path] = {}
    costs = found["pareto"][found["pareto"]["cost"] != tables.BIAS]
    for benchmark, points in costs.groupby("benchmark", sort=False):
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
    page.write(store, sweep, found, folder / "report.html")
    files = [*(folder / f"{stem}.csv" for stem in found), *figures.values(), *grown, folder / "report.html"]
    print(*files, sep="\n")
    sys.stdout.flush()
    settings = next(cell.record for cell in cells if cell.record).config["tracking"]
    tracking.log_aggregate(settings, sweep, found, figures, files)


def analyse(store: ResultStore, sweep: str, prices: money.Prices, scenario: money.Scenario) -> dict[str, pd.DataFrame]:
    """The sweep's tables by name: each becomes a csv. Those on accuracy are missing where there is none."""
    runs = money.priced(tables.runs(store, sweep), prices, scenario)
    variants = tables.variants(runs)
    points = tables.points(variants)
    found = {"runs": runs, "variants": variants, "pareto": points}
    spread = noise.spread(runs)
    if not spread.empty:
        found["noise"] = spread
    if not tables.scales(runs):
        return found
    scores = tables.scores(store, runs)
    draws = {scale: bootstrap.draws(table) for scale, table in scores.items()}
    bias_scores = tables.scores(store, runs, tables.BIAS)
    bias = {name: -bootstrap.draws(-table) for (name, _), table in bias_scores.items()}  # a seed good for both
    way = variants["served"].where(variants["served"] != tables.AS_TRAINED, "")
    models = (variants["model"] + " " + way).str.strip().set_axis(variants["variant"])
    tests = {scale: paired.compare(scores[scale], draws[scale], models) for scale in scores}
    found["tests"] = pd.concat(tests, names=["benchmark", "setting"]).reset_index(level=[0, 1])
    curves = pool.curves(store, runs)
    if not curves.empty:
        found["pool_curve"] = curves
    if not points.empty:
        found["pareto"] = points = fronts.mark(points, draws, bias)
        costs = points[points["cost"] != tables.BIAS]
        trained = costs[costs["served"] == tables.AS_TRAINED]
        found["hypervolume"] = fronts.volumes(costs, draws, bias)
        found["exchange"] = exchange.rates(costs, draws)
        found["savings"] = exchange.savings(trained, draws)
        found["slopes"] = scaling.slopes(trained, draws)
        found["fits"] = scaling.fits(trained, draws)
        found["served"] = trades.trades(costs, draws)
    return found


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def job(cfg: DictConfig) -> None:
    publish(cast(Report, OmegaConf.to_object(cfg)))


def main() -> None:
    with refusing():
        job()


if __name__ == "__main__":
    main()
