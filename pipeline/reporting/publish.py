"""All that a report consists of: csv tables, figures, report.html, the table on the terminal and the sweep's W&B run.

`pipeline.report` calls `publish`, the end of a sweep calls `report`. Everything is written to <results_dir>/<sweep>/.
"""

import ctypes
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.analysis import verdict
from pipeline.analysis.analyse import analyse
from pipeline.analysis.fronts import PANEL, with_own_fronts
from pipeline.analysis.tables import BIAS, cluster_name, main_metric, scales
from pipeline.reporting import figure, latex, load_figure, pool_figure, terminal
from pipeline.reporting.config import ReportConfig, options
from pipeline.reporting.drawing import save
from pipeline.reporting.files import readme, written
from pipeline.reporting.html import write as html
from pipeline.reporting.wandb.client import Tracking
from pipeline.reporting.wandb.sweep import log_report
from pipeline.retrieval.metrics import metric
from pipeline.store.files import write_atomically, write_csv
from pipeline.store.results import ReadOnce

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def report(results_dir: str | Path, sweep: str) -> None:
    """Publish the report of a sweep with the default prices and scenario."""
    publish(options(results_dir, sweep))


def publish(config: ReportConfig) -> None:
    """Write the tables, figures and report.html of a sweep, log all to W&B, and print the systems and the verdict.

    Raises:
        UserError: if there is no such sweep or panel, or the sweep has no finished run.
    """
    keep_freed_memory()
    store, sweep = ReadOnce(config.results_dir), config.sweep
    folder = store.sweep_dir(sweep)
    tables = analyse(store, sweep, config.prices, config.scenario)
    front, runs = one_panel(tables, config.panel), store.runs(sweep)
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in scales(tables["runs"])))

    csv_files = write_tables(tables, folder)
    latex_files = write_latex(tables, benchmarks, sweep, folder)
    fronts = draw_fronts(tables, sweep, folder)
    pictures = [*draw_front(tables, front, sweep, folder), *draw_kinds(tables, sweep, folder)]
    pictures += [*draw_pool_curves(tables, sweep, folder), *draw_load(tables, sweep, folder)]
    named: list[str | None] = [*benchmarks] or [None]
    for benchmark in named:
        print(f"\n{sweep}, {benchmark or 'cost only'}\n{terminal.systems_table(tables['systems'], benchmark)}")
    for run in runs:
        if run.status == "failed":
            print(f"failed: {run.name}: {run.reason}")
    html.write(store, sweep, tables, folder / "report.html")
    write_atomically(folder / "README.md", lambda path: path.write_text(readme(folder), encoding="utf-8"))

    files = [*csv_files, *latex_files, *fronts.values(), *pictures, folder / "report.html"]
    records = [run.record for run in runs if run.record]
    log_report(Tracking.of(records[0], store.root), store, sweep, tables, files)
    notes = list(dict.fromkeys(note for record in records for note in record.notes))
    exportable = {record.name for record in records if store.exportable(record)}
    summary = terminal.summary(tables.get("cards", pd.DataFrame()), sweep, store.root, notes, exportable)
    print(f"\n{summary}", flush=True)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed arrays for the next ones, instead of giving it back to the system.

    Draws are arrays of 16 MB for 1,000 systems; new pages for each of them took more time than sorting them.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # macOS and musl have none
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write the tables as csv files."""
    paths = []
    for stem, table in written(tables).items():
        paths.append(folder / f"{stem}.csv")
        write_csv(paths[-1], table)
    return paths


def draw_fronts(tables: Mapping[str, pd.DataFrame], sweep: str, folder: Path) -> dict[str, Path]:
    """Draw the Pareto fronts of each benchmark: pareto.png of the first, which is the main one, pareto-<name>.png of
    the others."""
    paths: dict[str, Path] = {}
    costs = tables["pareto"][tables["pareto"]["cost"] != BIAS]
    for benchmark, points in costs.groupby("benchmark", sort=False):
        stem = f"pareto-{benchmark}" if paths else "pareto"
        paths[benchmark] = save(figure.draw(points, *titles(tables, points, sweep)), folder / stem)
    return paths


def draw_kinds(tables: Mapping[str, pd.DataFrame], sweep: str, folder: Path) -> list[Path]:
    """Draw the fronts of the first benchmark with a colour per kind of system, not per strategy, as kinds.png.

    Nothing is drawn of a sweep that has only whole and truncated encoders.
    """
    points = tables["pareto"][tables["pareto"]["cost"] != BIAS]
    points = points[points["benchmark"].isin(points["benchmark"].head(1))]
    if not set(points["kind"]) - {"full", "truncated", ""}:
        return []
    by_kind = with_own_fronts(points.assign(strategy=points["kind"]), "kind")
    return [save(figure.draw(by_kind, *titles(tables, points, sweep)), folder / "kinds")]


def titles(tables: Mapping[str, pd.DataFrame], points: pd.DataFrame, sweep: str) -> tuple[str, str, str]:
    """Return title, reading and label of the accuracy of a figure that shows `points`, all of one benchmark."""
    (benchmark,) = points["benchmark"].unique()
    reading = figure.reading(points, cluster_name(tables["runs"], benchmark))
    return figure.title(sweep, points), reading, metric(main_metric(tables["systems"], benchmark)).label


def one_panel(tables: Mapping[str, pd.DataFrame], panel: str | None) -> pd.DataFrame:
    """Return the points of the panel that front.png shows: `panel` (figure.select), or the one that the verdict reads.

    Empty for a sweep without accuracy or without costs.
    """
    points = tables["pareto"][tables["pareto"]["cost"] != BIAS]
    scale, costs = verdict.main_scale(tables["systems"]), verdict.headline_costs(tables["systems"])
    if panel:
        return figure.select(points, panel)
    if not scale or not costs:
        return points.head(0)
    main = [scale.benchmark, scale.setting, costs[0].field]
    return points[(points[PANEL] == main).all(axis=1)]


def draw_front(tables: Mapping[str, pd.DataFrame], points: pd.DataFrame, sweep: str, folder: Path) -> list[Path]:
    """Draw one panel as front.png, for papers and slides."""
    if points.empty:
        return []
    return [save(figure.draw_one(points, *titles(tables, points, sweep)), folder / "front")]


def write_latex(tables: Mapping[str, pd.DataFrame], benchmarks: list[str], sweep: str, folder: Path) -> list[Path]:
    """Write systems.tex for the first benchmark, which is the main one, and systems-<name>.tex for the others."""
    paths: list[Path] = []
    for benchmark in benchmarks:
        path = folder / (f"systems-{benchmark}.tex" if paths else "systems.tex")
        text = latex.table(tables["systems"], tables["pareto"], benchmark, sweep)
        write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))
        paths.append(path)
    return paths


def draw_pool_curves(tables: Mapping[str, pd.DataFrame], sweep: str, folder: Path) -> list[Path]:
    """Draw the accuracy over the pool size for each benchmark whose pools are samples."""
    paths: list[Path] = []
    if "pool_curve" in tables:
        for benchmark, curves in tables["pool_curve"].groupby("benchmark", sort=False):
            stem = f"pool_curve-{benchmark}" if paths else "pool_curve"
            paths.append(save(pool_figure.draw(curves, f"{sweep}: {benchmark}"), folder / stem))
    return paths


def draw_load(tables: Mapping[str, pd.DataFrame], sweep: str, folder: Path) -> list[Path]:
    """Draw latency against rate as load.png, if a run of the sweep was put under load."""
    if "load" not in tables:
        return []
    return [save(load_figure.draw(tables["load"], sweep), folder / "load")]
