"""Matplotlib figures (png, svg, pdf): the Pareto fronts, and accuracy over pool size. And the table for the terminal.

Reads tables only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display is needed

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from pipeline.analysis.costs import COSTS, REPEATS_LATENCY, Cost
from pipeline.analysis.errors import QUERIES
from pipeline.analysis.tables import BIAS, FAILED, NOT_MEASURED, PASSED, main_metric
from pipeline.reporting.looks import Look, looks_of, looks_of_systems, strategy_name
from pipeline.retrieval.metrics import metric

LABEL_OFFSETS_PT = [(-9, 7), (9, -7), (9, 7), (-9, -7), (0, 11), (0, -11), (-18, 0), (18, 0), (0, 20), (0, -20)]
LABEL_STYLE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": "0.25", "zorder": 4}
MARKER_PT = 5.5
CAP_PT = (4.5, 1.5)  # half the width of an interval's caps: of the last strategy in the legend, and of the first
HOLLOW = {FAILED: ("o", "quality checks failed"), NOT_MEASURED: (r"$\odot$", "quality not measured")}
Looks = Mapping[str, Look]  # by strategy, in the order of the legend
SETTINGS = {"mono": "monolingual", "cross": "cross-lingual", "multi": "multilingual"}
plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "0.92",
        "axes.axisbelow": True,
        "svg.fonttype": "none",
        "pdf.fonttype": 42,  # text stays text
        "svg.hashsalt": "pareto",  # the same figure is the same file
    }
)


def over(covers: str, cluster: str) -> str:
    """Say what intervals are over.

    Args:
        covers: queries, or queries and seeds: a column of the tables.
        cluster: of the benchmark's queries (tables.cluster_name).

    >>> over("queries and seeds", "article"), over("queries", "territory"), over("queries", "query")
    ('articles and seeds', 'territories', 'queries')
    """
    return covers.replace(QUERIES, f"{cluster[:-1]}ies" if cluster.endswith("y") else f"{cluster}s")


def title(sweep: str, points: pd.DataFrame, cluster: str) -> str:
    """Return the title of `draw`: benchmark, machines and seeds, then how to read the figure."""
    (benchmark,) = points["benchmark"].unique()
    machines, families = ", ".join(points["machine"].unique()), points["family"].unique()
    seeds = "-".join(map(str, sorted({points["seeds"].min(), points["seeds"].max()})))
    resampled = over(max(points["covers"], key=len), cluster)
    of_costs = "; at the foot: of the costs" if points["cost_drawn"].any() else ""
    labels = f"Numbers: layers of {families[0]}. " if len(families) == 1 else ""
    if points["variant"].nunique() > 1:
        labels = "Labels: inference variants on the Pareto front. "
    return (
        f"{sweep}: accuracy on {benchmark} against cost on {machines}; seeds per point: {seeds}\n"
        f"{labels}Bars: 95 % intervals over {resampled}{of_costs}. Left is cheaper.\n"
        "Every point is drawn at its cost. Legends are sorted by the accuracy of each strategy's largest model."
    )


def draw(points: pd.DataFrame, title: str, accuracy: str) -> plt.Figure:
    """Draw the fronts of one benchmark: one row of panels per setting, one panel per cost.

    Left is cheaper and up is better in all panels. `accuracy` is the label of the benchmark's main metric. A cost that
    is modelled as a constant power times time repeats latency and gets no panel.
    """
    settings = [setting for setting in SETTINGS if setting in set(points["setting"])]
    costs, looks = panels(points), looks_of(points["strategy"].unique())
    size_in = (2.4 + 2.9 * len(costs), 1.5 + 2.9 * len(settings))
    figure, axes = plt.subplots(
        len(settings), len(costs), figsize=size_in, sharex="col", sharey="row", squeeze=False, layout="constrained"
    )
    for row, setting in zip(axes, settings, strict=True):
        rows = points[points["setting"] == setting]
        low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
        margin = 0.08 * (high - low) or 0.01
        row[0].set(ylabel=f"{SETTINGS[setting]} {accuracy}", ylim=(low - margin, high + margin))
        order = [*ranked(rows[rows["cost"] == costs[0].field]), *looks]  # the latter: without a point in that panel
        sorted_looks = {strategy: looks[strategy] for strategy in order}
        for panel, cost in zip(row, costs, strict=True):
            draw_panel(panel, rows[rows["cost"] == cost.field], sorted_looks)
        row[-1].legend(handles=legend(sorted_looks), loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    for panel, cost in zip(axes[-1], costs, strict=True):
        draw_cost_axis(panel, points[points["cost"] == cost.field], cost)
    figure.suptitle(title, fontsize=10)
    figure.legend(handles=marks(points), loc="outside lower center", ncols=3, frameon=False)
    figure.draw_without_rendering()  # settles the layout; labels are then placed where there is room
    for row, setting in zip(axes, settings, strict=True):
        for panel, cost in zip(row, costs, strict=True):
            label(panel, points[(points["setting"] == setting) & (points["cost"] == cost.field)])
    return figure


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


def draw_panel(axes: Axes, points: pd.DataFrame, looks: Looks) -> None:
    """Draw the Pareto front of all systems, then each strategy's own front, intervals and points, the best on top.

    Every point lies at its cost. Where strategies share a cost, a white edge sets markers off from those below, and
    intervals have caps of different widths.
    """
    front = points[points["on_front"]].sort_values("value")
    draw_front(axes, front["value"], front["accuracy"])
    foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": "0.55", "linewidth": 1.5, "zorder": 2}
    for cost in points[points["cost_drawn"]].drop_duplicates("value").to_dict("records"):
        axes.plot([cost["value_low"], cost["value_high"]], [0.02, 0.02], **foot)
        axes.plot(cost["value"], 0.02, "|", ms=6, **foot)
    for position, strategy in enumerate(reversed(list(looks))):
        colour, marker = looks[strategy]
        group = points[points["strategy"] == strategy].sort_values("value")
        own = group[group["on_own_front"]]
        axes.plot(own["value"], own["accuracy"], linewidth=0.8, alpha=0.6, color=colour, zorder=2)
        lengths = [group["accuracy"] - group["accuracy_low"], group["accuracy_high"] - group["accuracy"]]
        cap_pt = CAP_PT[0] + (CAP_PT[1] - CAP_PT[0]) * position / max(len(looks) - 1, 1)
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
        subs = (1.0,) if high > 1000 * low else (1.0, 2.0, 5.0) if high > 10 * low else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.15 * (high - low) or 0.1 * high
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    sources = " and ".join(sorted({source.split(":")[0] for source in points["source"]}))
    axes.set_xlabel(f"{cost.label}\n{sources}")


def label(axes: Axes, points: pd.DataFrame) -> None:
    """Label each model once, beside its most accurate point, where the text covers no point and no other label."""
    one_family, one_variant = points["family"].nunique() == 1, points["variant"].nunique() == 1
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # Agg's has one
    points_px = [axes.transData.transform(xy) for xy in points[["value", "accuracy"]].to_numpy()]
    boxes: list[Bbox] = []
    best = points.sort_values("accuracy", ascending=False).drop_duplicates(["model", "layers", "variant"])
    for _, point in (best if one_variant else best[best["on_front"]]).iterrows():
        text = f"{point['layers']}" if one_family else f"{point['model']}"
        text = text if one_variant else point["variant"]
        for offset in LABEL_OFFSETS_PT:
            position = (point["value"], point["accuracy"])
            note = axes.annotate(text, position, offset, textcoords="offset points", **LABEL_STYLE)
            box = note.get_window_extent(renderer).padded(3)
            if not any(box.contains(*xy) for xy in points_px) and not any(box.overlaps(other) for other in boxes):
                break
            note.remove()
        else:
            axes.add_artist(note)
        boxes.append(box)


def legend(looks: Looks) -> list[Line2D]:
    """Return the handles of the strategies."""
    edge: dict[str, Any] = {"ms": MARKER_PT + 1, "mec": "white", "mew": 0.7, "linewidth": 1}
    return [
        Line2D([], [], color=look.colour, marker=look.marker, label=strategy_name(strategy), **edge)
        for strategy, look in looks.items()
    ]


def marks(points: pd.DataFrame) -> list[Line2D]:
    """Return the handles of the Pareto front and, where there are any, of hollow markers."""
    handles = [Line2D([], [], color="0.8", linewidth=5, label="Pareto front")]
    for quality, (marker, text) in HOLLOW.items():
        if (points["quality"] == quality).any():
            handles.append(Line2D([], [], linestyle="", marker=marker, color="0.3", mfc="white", label=text))
    return handles


def draw_pool_curve(curves: pd.DataFrame, title: str) -> plt.Figure:
    """Draw one benchmark whose pools are samples: one panel per language, one curve per system.

    The hollow marker is the estimate for the full pool.
    """
    languages, looks = curves["language"].unique(), looks_of_systems(curves)
    accuracy = metric("ndcg_10").label
    columns = min(len(languages), 4)
    rows = -(-len(languages) // columns)
    size_in = (max(5.5, 1.2 + 2.5 * columns), 1.8 + 2.3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size_in, sharey=True, squeeze=False, layout="constrained")
    handles = {}
    for panel, language in zip(axes.flat, languages, strict=False):
        for system, curve in curves[curves["language"] == language].groupby("system", sort=False):
            colour, marker = looks[system]
            measured, further = curve[curve["kind"] == "measured"], curve[curve["kind"] == "extrapolated"]
            panel.fill_between(curve["pool_size"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
            (line,) = panel.plot(measured["pool_size"], measured["ndcg_10"], marker=marker, ms=4, color=colour)
            dashed, full = pd.concat([measured.tail(1), further]), further.tail(1)  # empty if the sample is the pool
            panel.plot(dashed["pool_size"], dashed["ndcg_10"], "--", color=colour, linewidth=1)
            panel.vlines(full["pool_size"], full["low"], full["high"], color=colour, linewidth=1)
            panel.plot(full["pool_size"], full["ndcg_10"], marker, ms=6, mfc="white", color=colour)
            handles[f"{curve['model'].iloc[0]}, {strategy_name(curve['strategy'].iloc[0])}"] = line
        panel.set(xscale="log", title=language)
    for panel in axes.flat[len(languages) :]:
        panel.set_axis_off()
    for number, panel in enumerate(axes.flat[: len(languages)]):
        lowest, leftmost = number + columns >= len(languages), number % columns == 0
        panel.set(xlabel="passages in the pool" if lowest else "", ylabel=accuracy if leftmost else "")
    legend_text = "solid: measured; dashed and hollow: extrapolated\nbands: 95 % intervals over queries"
    figure.suptitle(f"{title}\n{legend_text}", fontsize=10)
    handles["full pool, extrapolated"] = Line2D([], [], linestyle="--", marker="o", mfc="white", color="0.3")
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(columns, 3), frameon=False)
    return figure


def save(figure: plt.Figure, stem: Path) -> Path:
    """Write <stem>.png, .svg and .pdf; return the path of the png."""
    for suffix, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {})):
        figure.savefig(stem.with_name(f"{stem.name}.{suffix}"), dpi=200, metadata=metadata)
    plt.close(figure)
    return stem.with_name(f"{stem.name}.png")


def terminal(systems: pd.DataFrame, benchmark: str | None) -> str:
    """Format the systems as text: accuracies on one benchmark (None: a cost-only sweep), then costs."""
    columns = {"model": "model", "strategy": "strategy", "variant": "variant", "seeds": "seeds"}
    if benchmark:
        main = main_metric(systems, benchmark)
        columns |= {f"metrics.{benchmark}.{setting}.{main}": setting for setting in SETTINGS}
        columns |= {f"metrics.{benchmark}.multi.{BIAS}": metric(BIAS).label}
    columns |= {"profile.query_latency_p95_ms": "p95 ms", "profile.passages_per_s": "passages/s"}
    columns |= {"profile.serving_mib": "MiB", "profile.energy_j_per_1k_queries": "J/1k queries"}
    if systems["variant"].nunique() == 1:
        columns.pop("variant")
    else:
        columns |= {"profile.end_to_end_latency_p95_ms": "with search", "profile.index_bytes_per_passage": "B/passage"}
    named = systems.assign(strategy=systems["strategy"].map(strategy_name))
    table = named[[name for name in columns if name in systems]].rename(columns=columns)
    digits = dict.fromkeys(SETTINGS, 4) | {"MiB": 0}
    formats = {name: f"{{:.{digits.get(name, 1)}f}}".format for name in table.select_dtypes("float")}
    return table.to_string(index=False, formatters=formats, na_rep="-")
