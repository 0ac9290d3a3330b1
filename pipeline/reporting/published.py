"""What `pipeline.published` writes to the sweep's folder: csv tables, a figure, and published.html."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.analysis.published import costs, scores
from pipeline.analysis.published.models import CLASSES
from pipeline.analysis.published.study import COUNTED, PANELS, study
from pipeline.analysis.tables import FAILED, PASSED
from pipeline.reporting import figure
from pipeline.reporting.config import SweepConfig
from pipeline.reporting.drawing import grid, save
from pipeline.reporting.html import published as page
from pipeline.reporting.looks import looks_of
from pipeline.store.files import write_atomically, write_csv
from pipeline.store.results import ResultStore

DRAWN = costs.AXES[:3]  # in the figure; the page has all axes
LOOKS = looks_of(CLASSES)
MEASURED, DOUBTED, MODELLED = "measured or counted", "measured, quality checks failed", "modelled"
KNOWN = {PASSED: MEASURED, COUNTED: MEASURED, FAILED: DOUBTED}
FACES: dict[str, dict[str, Any]] = {
    MEASURED: {"ms": 4.5},
    DOUBTED: {"ms": 4.5, "mfc": "white", "mew": 0.7},
    MODELLED: {"ms": 2.5, "alpha": 0.45, "mew": 0},
}


def publish(config: SweepConfig, folder: Path) -> None:
    """Write published-<table>.csv, published.png, .svg and .pdf, and published.html; print the choices.

    Args:
        config: names the sweep of random weights; prices and scenario of dollars.
        folder: of published scores (analysis.published.scores.read).

    Raises:
        UserError: the folder or the sweep cannot be used.
    """
    store, sweep = ResultStore(config.results_dir), config.sweep
    tables = study(scores.read(folder), costs.measured(store, sweep), config.prices, config.scenario)
    target = store.sweep_dir(sweep)
    for stem, table in tables.items():
        write_csv(target / f"published-{stem}.csv", table)
    picture = save(draw(tables["points"]), target / "published")
    text = page.render(sweep, tables)
    write_atomically(target / "published.html", lambda path: path.write_text(text, encoding="utf-8"))
    columns = ["benchmark", "setting", "pool", "budget", "model", "accuracy", "value", "cheapest", "cheapest_value"]
    print(tables["choices"].reindex(columns=columns).to_string(index=False, float_format="{:.4g}".format))
    files = [*(target / f"published-{stem}.csv" for stem in tables), picture, target / "published.html"]
    print(*files, sep="\n", flush=True)


def draw(points: pd.DataFrame) -> Figure:
    """Draw the fronts of PANELS against DRAWN: a marker per model and class, whose face says how its cost is known."""
    panels = [panel for panel in PANELS if panel in set(zip(points["benchmark"], points["setting"], strict=True))]
    axes_of = [cost for cost in DRAWN if cost.field in set(points["cost"])]
    size_in = (1.2 + 3.2 * len(axes_of), 1.3 + 3.0 * len(panels))
    picture, axes = grid(len(panels), len(axes_of), size_in, sharex="col", sharey="row")
    labels = {benchmark.name: benchmark.label for benchmark in scores.BENCHMARKS}
    for row, (benchmark, setting) in zip(axes, panels, strict=True):
        row[0].set_ylabel(f"{labels[benchmark]}\n{figure.SETTINGS[setting]} nDCG@10")
        of_row = points[(points["benchmark"] == benchmark) & (points["setting"] == setting)]
        for panel, cost in zip(row, axes_of, strict=True):
            draw_panel(panel, of_row[of_row["cost"] == cost.field])
    for panel, cost in zip(axes[-1], axes_of, strict=True):
        figure.draw_cost_axis(panel, points[points["cost"] == cost.field], cost)
    machines = ", ".join(sorted(points["machine"].dropna().unique()))
    picture.suptitle(f"Published accuracy, cost of the same architectures on {machines}", fontsize=10)
    handles = [Line2D([], [], linestyle="", color=c, marker=m, label=name) for name, (c, m) in LOOKS.items()]
    handles += [Line2D([], [], color="0.8", linewidth=5, label="Pareto front")]
    handles += [
        Line2D([], [], linestyle="", color="0.3", marker="o", **style, label=known) for known, style in FACES.items()
    ]
    picture.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return picture


def draw_panel(panel: Axes, points: pd.DataFrame) -> None:
    """Draw the front and the models of one panel."""
    front = points[points["on_front"]].sort_values("value")
    figure.draw_front(panel, front["value"], front["accuracy"])
    for name, (colour, marker) in LOOKS.items():
        of_class = points[points["zero_shot"] == name]
        for known, group in of_class.groupby(of_class["quality"].map(KNOWN).fillna(MODELLED)):
            panel.plot(group["value"], group["accuracy"], marker, color=colour, zorder=3, **FACES[known])
