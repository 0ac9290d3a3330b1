"""The figure and the table of `pipeline.published`: published accuracy against the cost measured here."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from pipeline.analysis.published import MARK, SCORES, points, profiled_runs, read
from pipeline.reporting import figure
from pipeline.store.files import write_atomically
from pipeline.store.results import ResultStore


def publish(store: ResultStore, sweep: str, table: Path) -> None:
    """Write published.csv and published.png, .svg and .pdf to the sweep's folder, and print them.

    Args:
        store: holds the sweep.
        sweep: of random weights, with profiles.
        table: csv file of published scores (analysis.published.read).

    Raises:
        UserError: the table or the sweep cannot be used, or they have no architecture in common.
    """
    joined = points(read(table), profiled_runs(store, sweep))
    folder = store.sweep_dir(sweep)
    write_atomically(folder / "published.csv", lambda csv: joined.to_csv(csv, index=False))
    path = figure.save(draw(joined, sweep), folder / "published")
    costs = joined.pivot(index=["model", SCORES[0]], columns="cost", values="value").reset_index()
    print(f"{MARK}\n{costs.sort_values(SCORES[0]).to_string(index=False, float_format='{:.4g}'.format)}")
    print(folder / "published.csv", path, sep="\n", flush=True)


def draw(points: pd.DataFrame, sweep: str) -> plt.Figure:
    """Draw a panel per cost, with the front as a step line and a marker per model: names would cover each other."""
    costs = figure.panels(points)
    models = points.drop_duplicates("model").sort_values(SCORES[0], ascending=False)["model"]
    looks = figure.looks_of(models)
    size_in = (1.2 + 2.9 * len(costs), 4.6)
    picture, axes = plt.subplots(1, len(costs), figsize=size_in, sharey=True, squeeze=False, layout="constrained")
    for panel, cost in zip(axes[0], costs, strict=True):
        of_cost = points[points["cost"] == cost.field]
        front = of_cost[of_cost["on_front"]].sort_values("value")
        figure.draw_front(panel, front["value"], front[SCORES[0]])
        for point in of_cost.to_dict("records"):
            colour, marker = looks[point["model"]]
            figure.draw_marks(panel, point["value"], point[SCORES[0]], colour, marker, quality=point["quality"])
        figure.draw_cost_axis(panel, of_cost, cost)
    axes[0][0].set_ylabel(f"published nDCG@10, mean of {points['languages'].iloc[0]} languages")
    machines = ", ".join(points["machine"].unique())
    title = f"{sweep}: {MARK} on {machines}; random weights of the same architectures"
    picture.suptitle(title, fontsize=10)
    handles = [plt.Line2D([], [], linestyle="", color=c, marker=m, label=name) for name, (c, m) in looks.items()]
    handles += figure.marks(points)
    picture.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return picture
