"""All that a report consists of: csv tables, figures, report.html, the table on the terminal and the sweep's W&B run.

`pipeline.report` calls `publish`, the end of a sweep calls `report`. Everything is written to <results_dir>/<sweep>/.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.analysis.analyse import analyse
from pipeline.analysis.tables import BIAS, cluster_name, main_metric, scales
from pipeline.reporting import figure, terminal, wandb
from pipeline.reporting.config import ReportConfig, options
from pipeline.reporting.files import readme, written
from pipeline.reporting.html import write as html
from pipeline.retrieval.metrics import metric
from pipeline.store.files import write_atomically
from pipeline.store.results import ResultStore


def report(results_dir: str | Path, sweep: str) -> None:
    """Publish the report of a sweep with the default prices and scenario."""
    publish(options(results_dir, sweep))


def publish(config: ReportConfig) -> None:
    """Write the tables, figures and report.html of a sweep, log all to W&B, and print the systems and the verdict.

    Raises:
        UserError: if there is no such sweep, or it has no finished run.
    """
    store, sweep = ResultStore(config.results_dir), config.sweep
    folder = store.sweep_dir(sweep)
    tables = analyse(store, sweep, config.prices, config.scenario)
    csv_tables = written(tables)
    for stem, table in csv_tables.items():
        write_atomically(folder / f"{stem}.csv", partial(table.to_csv, index=False))
    fronts = draw_fronts(tables, sweep, folder)
    curves = draw_pool_curves(tables, sweep, folder)
    runs = store.runs(sweep)

    benchmarks = dict.fromkeys(benchmark for benchmark, _ in scales(tables["runs"]))
    for benchmark in benchmarks or [None]:
        print(f"\n{sweep}, {benchmark or 'cost only'}\n{figure.terminal(tables['systems'], benchmark)}")
    for run in runs:
        if run.status == "failed":
            print(f"failed: {run.name}: {run.reason}")
    html.write(store, sweep, tables, folder / "report.html")
    write_atomically(folder / "README.md", lambda path: path.write_text(readme(folder), encoding="utf-8"))
    files = [*(folder / f"{stem}.csv" for stem in csv_tables), *fronts.values(), *curves, folder / "report.html"]
    records = [run.record for run in runs if run.record]
    wandb.log_report(wandb.Tracking.of(records[0]), sweep, tables, fronts, files)
    notes = list(dict.fromkeys(note for record in records for note in record.notes))
    print(f"\n{terminal.summary(tables.get('cards', pd.DataFrame()), sweep, store.root, notes)}", flush=True)


def draw_fronts(tables: Mapping[str, pd.DataFrame], sweep: str, folder: Path) -> dict[str, Path]:
    """Draw the Pareto fronts of each benchmark: pareto.png of the first, which is the main one, pareto-<name>.png of
    the others."""
    paths: dict[str, Path] = {}
    costs = tables["pareto"][tables["pareto"]["cost"] != BIAS]
    for benchmark, points in costs.groupby("benchmark", sort=False):
        accuracy = metric(main_metric(tables["systems"], benchmark)).label
        stem = f"pareto-{benchmark}" if paths else "pareto"
        title = figure.title(sweep, points, cluster_name(tables["runs"], benchmark))
        paths[benchmark] = figure.save(figure.draw(points, title, accuracy), folder / stem)
    return paths


def draw_pool_curves(tables: Mapping[str, pd.DataFrame], sweep: str, folder: Path) -> list[Path]:
    """Draw the accuracy over the pool size for each benchmark whose pools are samples."""
    paths: list[Path] = []
    if "pool_curve" in tables:
        for benchmark, curves in tables["pool_curve"].groupby("benchmark", sort=False):
            stem = f"pool_curve-{benchmark}" if paths else "pool_curve"
            paths.append(figure.save(figure.draw_pool_curve(curves, f"{sweep}: {benchmark}"), folder / stem))
    return paths
