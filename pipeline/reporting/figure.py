"""Matplotlib figures (png, svg, pdf) of the Pareto fronts: all panels of a benchmark, or one for a paper.

Reads tables only.
"""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from pipeline.analysis.costs import COSTS, REPEATS_LATENCY, Cost
from pipeline.analysis.errors import QUERIES
from pipeline.analysis.fronts import PANEL
from pipeline.analysis.tables import FAILED, NOT_MEASURED, PASSED
from pipeline.reporting.drawing import MARKER_PT, grid
from pipeline.reporting.labels import label_points, label_strategies, named_by
from pipeline.reporting.looks import Look, looks_of
from pipeline.values import UserError, unknown

CAP_PT = (4.5, 1.5)  # half the width of an interval's caps: of the least accurate strategy, and of the best
FINE_TICKS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
DOTTED = Path.make_compound_path(Path.unit_circle(), Path.circle(radius=0.1))  # as draw_marks draws it
HOLLOW: dict[str, tuple[str | Path, str]] = {
    FAILED: ("o", "quality checks failed"),
    NOT_MEASURED: (DOTTED, "quality not measured"),
}
SETTINGS = {"mono": "monolingual", "cross": "cross-lingual", "multi": "multilingual"}


def over(covers: str, cluster: str) -> str:
    """Say what intervals are over.

    Args:
        covers: queries, or queries and seeds: a column of the tables.
        cluster: of the benchmark's queries (tables.cluster_name).

    >>> over("queries and seeds", "article"), over("queries", "territory"), over("queries", "query")
    ('articles and seeds', 'territories', 'queries')
    """
    return covers.replace(QUERIES, f"{cluster[:-1]}ies" if cluster.endswith("y") else f"{cluster}s")


def title(sweep: str, points: pd.DataFrame) -> str:
    """Return the title of a figure: sweep, benchmark, machines and seeds."""
    (benchmark,) = points["benchmark"].unique()
    seeds = "-".join(map(str, sorted({points["seeds"].min(), points["seeds"].max()})))
    return f"{sweep}: {benchmark}, {'; '.join(points['machine'].unique())}, seeds per point: {seeds}"


def reading(points: pd.DataFrame, cluster: str) -> str:
    """Return how to read a figure: its labels and bars.

    Args:
        points: what it shows.
        cluster: of the benchmark's queries (tables.cluster_name).
    """
    column = named_by(points)
    models = f"layers of {points['family'].iloc[0]}" if column == "layers" else "models"
    labels = f"Numbers: {models}. " if column == "layers" else ""
    if points["variant"].nunique() > 1:
        models = f"{models} and " if points[column].nunique() > 1 else ""
        labels = f"Labels: {models}inference variants on the Pareto front. "
    resampled = over(max(points["covers"], key=len), cluster)
    of_costs = "; at the foot: of the costs" if points["cost_drawn"].any() else ""
    return f"{labels}Bars: 95 % intervals over {resampled}{of_costs}. Left is cheaper."


def draw(points: pd.DataFrame, title: str, reading: str, accuracy: str) -> Figure:
    """Draw the fronts of one benchmark: one row of panels per setting, one panel per cost.

    A cost that is modelled as a constant power times time repeats latency and gets no panel.

    Args:
        points: table of `fronts.mark`, without language bias as a cost.
        title: above the figure.
        reading: below the title.
        accuracy: label of the benchmark's main metric.
    """
    settings = [setting for setting in SETTINGS if setting in set(points["setting"])]
    costs, looks = panels(points), looks_of(points["strategy"].unique())
    size_in = (2.4 + 2.9 * len(costs), 1.5 + 2.9 * len(settings))
    figure, axes = grid(len(settings), len(costs), size_in, sharex="col", sharey="row")
    rows = {setting: points[points["setting"] == setting] for setting in settings}
    for row, setting in zip(axes, settings, strict=True):
        scale_accuracy(row[0], rows[setting], f"{SETTINGS[setting]} {accuracy}")
        for panel, cost in zip(row, costs, strict=True):
            draw_panel(panel, rows[setting][rows[setting]["cost"] == cost.field], looks)
    for panel, cost in zip(axes[-1], costs, strict=True):
        draw_cost_axis(panel, points[points["cost"] == cost.field], cost)
    figure.suptitle(f"{title}\n{reading}", fontsize=10)
    figure.legend(handles=marks(points), loc="outside lower center", ncols=3, frameon=False)
    figure.draw_without_rendering()  # settles the layout; labels are then placed where there is room
    for row, setting in zip(axes, settings, strict=True):
        shown = rows[setting]["cost"] == costs[-1].field
        label_strategies(row[-1], rows[setting].assign(value=rows[setting]["value"].where(shown)), looks)
    figure.draw_without_rendering()
    for row, setting in zip(axes, settings, strict=True):
        for panel, cost in zip(row, costs, strict=True):
            label_points(panel, rows[setting][rows[setting]["cost"] == cost.field])
    return figure


def draw_one(points: pd.DataFrame, title: str, reading: str, accuracy: str) -> Figure:
    """Draw one panel, as wide as a page of a paper: points of one benchmark, setting and cost.

    Arguments as of `draw`.
    """
    (setting,), (field,) = points["setting"].unique(), points["cost"].unique()
    (entry,) = [cost for cost in COSTS if cost.field == field]
    looks = looks_of(points["strategy"].unique())
    figure, [[axes]] = grid(1, 1, (6.8, 4.4))
    scale_accuracy(axes, points, f"{SETTINGS[setting]} {accuracy}")
    draw_panel(axes, points, looks)
    draw_cost_axis(axes, points, entry)
    figure.legend(handles=marks(points), loc="outside lower center", ncols=3, frameon=False)
    axes.set_title(f"{title}\n{fill(reading, 100)}", fontsize=8, loc="left", color="0.35")
    figure.draw_without_rendering()
    label_strategies(axes, points, looks)
    figure.draw_without_rendering()
    label_points(axes, points)
    return figure


def select(points: pd.DataFrame, panel: str) -> pd.DataFrame:
    """Return the points of one panel.

    Args:
        points: table of `fronts.mark`.
        panel: [BENCHMARK.]SETTING.COST, of the first benchmark that has it; COST is a field of costs.COSTS, or the
            key of `pipeline.recommend` that limits it.

    Raises:
        UserError: there is no such panel.

    >>> points = pd.DataFrame({"benchmark": "b", "setting": ["mono", "multi"], "cost": "query_latency_p95_ms"})
    >>> select(points, "multi.p95_ms")["setting"].tolist()
    ['multi']
    """
    benchmark, setting, field = PANEL
    names = points[benchmark] + "." + points[setting] + "." + points[field]
    scale, _, last = panel.rpartition(".")
    options = {cost.field: cost.option for cost in COSTS if cost.option}
    fields = {option: field for field, option in options.items()}
    full = f"{scale}.{fields.get(last, last)}"
    matches = [name for name in names.unique() if name == full or name.endswith(f".{full}")]
    if not matches:
        short = points[setting] + "." + points[field].replace(options)
        raise UserError(unknown("panel", panel, short.unique()))
    return points[names == matches[0]]


def scale_accuracy(axes: Axes, points: pd.DataFrame, name: str) -> None:
    """Scale and label the axis of accuracies, with room for all intervals."""
    low, high = points["accuracy_low"].min(), points["accuracy_high"].max()
    margin = 0.08 * (high - low) or 0.01
    axes.set(ylabel=name, ylim=(low - margin, high + margin))


def panels(points: pd.DataFrame) -> list[Cost]:
    """Return the costs that are drawn: those of the registry, without the ones that repeat latency."""
    return [cost for cost in COSTS if cost.drawn and cost.field in set(points["cost"]) - repeating(points)]


def repeating(points: pd.DataFrame) -> set[str]:
    """Return the fields of the costs that are a constant times the time for all points."""
    repeats = points["source"].astype(str).str.startswith(REPEATS_LATENCY)
    return set(points["cost"]) - set(points.loc[~repeats, "cost"])


def ranked(points: pd.DataFrame) -> list[str]:
    """Return the strategies by the accuracy that each reaches at its highest cost, the most accurate first.

    Args:
        points: of one benchmark, setting and cost.

    >>> points = pd.DataFrame({"strategy": list("aabb"), "value": [1, 9, 1, 9], "accuracy": [0.5, 0.6, 0.3, 0.7]})
    >>> ranked(points)
    ['b', 'a']
    """
    largest = points.sort_values(["value", "accuracy"]).groupby("strategy", sort=False)["accuracy"].last()
    return largest.sort_values(ascending=False, kind="stable").index.tolist()


def draw_front(axes: Axes, cost: pd.Series, accuracy: pd.Series) -> None:
    """Draw the Pareto front as a step line, from the cheapest point on."""
    steps: dict[str, Any] = {"where": "post", "color": "0.85", "linewidth": 5, "solid_joinstyle": "miter", "zorder": 1}
    axes.step([*cost, 1e99], [*accuracy, accuracy.iloc[-1]], **steps, scalex=False)


def draw_panel(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    """Draw the Pareto front of all systems, then each strategy's own front, intervals and points, the best on top.

    Every point lies at its cost. Where strategies share a cost, a white edge sets markers off from those below, and
    intervals have caps of different widths.
    """
    front = points[points["on_front"]].sort_values("value")
    draw_front(axes, front["value"], front["accuracy"])
    foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": "0.55", "linewidth": 1.5, "zorder": 2}
    drawn = points[points["cost_drawn"]].drop_duplicates("value")
    if not drawn.empty:  # all costs in two artists: a thousand would take minutes to draw
        ends = drawn.assign(gap=np.nan)[["value_low", "value_high", "gap"]].to_numpy(float).ravel()
        axes.plot(ends, np.full(len(ends), 0.02), **foot)
        axes.plot(drawn["value"], np.full(len(drawn), 0.02), "|", ms=6, **foot)
    strategies = ranked(points)[::-1]
    widths_pt = np.linspace(*CAP_PT, len(strategies))
    for position, (strategy, cap_pt) in enumerate(zip(strategies, widths_pt, strict=True)):
        colour, marker = looks[strategy]
        group = points[points["strategy"] == strategy].sort_values("value")
        own = group[group["on_own_front"]]
        axes.plot(own["value"], own["accuracy"], linewidth=0.8, alpha=0.6, color=colour, zorder=2)
        lengths = [group["accuracy"] - group["accuracy_low"], group["accuracy_high"] - group["accuracy"]]
        lengths = [length.clip(lower=0) for length in lengths]  # rounding, where all queries score alike
        bars: dict[str, Any] = {"elinewidth": 0.6, "capsize": cap_pt, "capthick": 0.8, "alpha": 0.7, "zorder": 2.5}
        axes.errorbar(group["value"], group["accuracy"], lengths, fmt="none", ecolor=colour, **bars)
        for quality, same in group.groupby("quality"):
            draw_marks(axes, same["value"], same["accuracy"], colour, marker, quality=str(quality), over=position)


def draw_marks(
    axes: Axes, cost: pd.Series, accuracy: pd.Series, colour: str, marker: str, *, quality: str, over: int = 0
) -> None:
    """Draw points: filled if the profile passed its quality checks, hollow if not, with a dot if there were none."""
    zorder = 3 + over / 100
    face, edge = (colour, "white") if quality == PASSED else ("white", colour)
    axes.plot(cost, accuracy, marker, ms=MARKER_PT, color=colour, mfc=face, mec=edge, mew=0.7, zorder=zorder)
    if quality == NOT_MEASURED:
        axes.plot(cost, accuracy, ".", ms=2.5, color=colour, zorder=zorder)


def draw_cost_axis(axes: Axes, points: pd.DataFrame, cost: Cost) -> None:
    """Scale and label a cost axis: logarithmic if costs differ by more than a factor of 2, measured or modelled."""
    low, high = points["value"].min(), points["value"].max()
    if high > 2 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.15, high * (high / low) ** 0.15)
        ratio = high / low
        subs = (1.0,) if ratio > 1000 else (1.0, 3.0) if ratio > 50 else (1.0, 2.0, 5.0) if ratio > 10 else FINE_TICKS
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.15 * (high - low) or 0.1 * high
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    sources = " and ".join(sorted({source.split(":")[0] for source in points["source"]}))
    axes.set_xlabel(f"{cost.label}\n{sources}")


def marks(points: pd.DataFrame) -> list[Line2D]:
    """Return the handles of the Pareto front and, where there are any, of hollow markers."""
    handles = [Line2D([], [], color="0.8", linewidth=5, label="Pareto front")]
    for quality, (marker, text) in HOLLOW.items():
        if (points["quality"] == quality).any():
            handles.append(Line2D([], [], linestyle="", marker=marker, color="0.3", mfc="white", label=text))
    return handles
