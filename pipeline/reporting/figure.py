"""Matplotlib figures (png, svg, pdf): the Pareto fronts, and accuracy over pool size. And the table for the terminal.

Reads tables only.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display is needed

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox, ScaledTranslation

from pipeline.analysis.costs import COSTS, Cost
from pipeline.analysis.tables import BIAS, main_metric
from pipeline.retrieval.metrics import metric

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LABEL_OFFSETS_PT = [(-9, 7), (9, -7), (9, 7), (-9, -7), (0, 11), (0, -11), (-18, 0), (18, 0), (0, 20), (0, -20)]
LABEL_STYLE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": "0.25", "zorder": 4}
DODGE_PT = 3.5  # between strategies, which often share a cost
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


def title(sweep: str, points: pd.DataFrame) -> str:
    """Return the title of `draw`: benchmark, machines and seeds, then how to read the figure."""
    (benchmark,) = points["benchmark"].unique()
    machines, families = ", ".join(points["machine"].unique()), points["family"].unique()
    seeds = "-".join(map(str, sorted({points["seeds"].min(), points["seeds"].max()})))
    resampled = "queries" if seeds == "1" else "queries and seeds"
    labels = f"Numbers: layers of {families[0]}. " if len(families) == 1 else ""
    if points["variant"].nunique() > 1:
        labels = "Labels: inference variants on the Pareto front. "
    return (
        f"{sweep}: accuracy on {benchmark} against cost on {machines}; seeds per point: {seeds}\n"
        f"{labels}Bars: 95 % intervals over {resampled}. Strategies of equal cost are drawn side by side. "
        "Left is cheaper."
    )


def draw(points: pd.DataFrame, title: str, accuracy: str) -> plt.Figure:
    """Draw the fronts of one benchmark: one row of panels per setting, one panel per cost.

    Left is cheaper and up is better in all panels. `accuracy` is the label of the benchmark's main metric.
    """
    settings = [setting for setting in SETTINGS if setting in set(points["setting"])]
    costs = [cost for cost in COSTS if cost.drawn and cost.field in set(points["cost"])]
    looks = looks_of(points["strategy"].unique())
    size_in = (1.2 + 2.9 * len(costs), 1.5 + 2.5 * len(settings))
    figure, axes = plt.subplots(
        len(settings), len(costs), figsize=size_in, sharex="col", sharey="row", squeeze=False, layout="constrained"
    )
    for row, setting in zip(axes, settings, strict=True):
        rows = points[points["setting"] == setting]
        low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
        margin = 0.08 * (high - low) or 0.01
        row[0].set(ylabel=f"{SETTINGS[setting]} {accuracy}", ylim=(low - margin, high + margin))
        for panel, cost in zip(row, costs, strict=True):
            draw_panel(panel, rows[rows["cost"] == cost.field], looks)
    for panel, cost in zip(axes[-1], costs, strict=True):
        draw_cost_axis(panel, points[points["cost"] == cost.field], cost)
    figure.suptitle(title, fontsize=10)
    figure.legend(handles=legend(points, looks), loc="outside lower center", ncols=6, frameon=False)
    figure.draw_without_rendering()  # settles the layout; labels are then placed where there is room
    for row, setting in zip(axes, settings, strict=True):
        for panel, cost in zip(row, costs, strict=True):
            label(panel, points[(points["setting"] == setting) & (points["cost"] == cost.field)])
    return figure


def looks_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Assign a colour and a marker to each name; 49 combinations before one recurs."""
    return {name: (COLOURS[i % 7], MARKERS[(i + i // 7) % 7]) for i, name in enumerate(names)}


def draw_front(axes: Axes, cost: pd.Series, accuracy: pd.Series) -> None:
    """Draw the Pareto front as a step line, from the cheapest point on."""
    steps: dict[str, Any] = {"where": "post", "color": "0.85", "linewidth": 5, "solid_joinstyle": "miter", "zorder": 1}
    axes.step([*cost, 1e99], [*accuracy, accuracy.iloc[-1]], **steps, scalex=False)


def draw_panel(axes: Axes, points: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    """Draw the Pareto front of all systems, then each strategy's own front, points and intervals, slightly shifted."""
    front = points[points["on_front"]].sort_values("value")
    draw_front(axes, front["value"], front["accuracy"])
    for position, (strategy, (colour, marker)) in enumerate(looks.items()):
        shift_pt = DODGE_PT * (position - (len(looks) - 1) / 2)
        shifted = axes.transData + ScaledTranslation(shift_pt / 72, 0, axes.figure.dpi_scale_trans)
        style: dict[str, Any] = {"color": colour, "transform": shifted}
        group = points[points["strategy"] == strategy].sort_values("value")
        own = group[group["on_own_front"]]
        axes.plot(own["value"], own["accuracy"], linewidth=1, zorder=2, **style)
        axes.vlines(group["value"], group["accuracy_low"], group["accuracy_high"], linewidth=1, alpha=0.7, **style)
        for passed, same in group.groupby("quality_passed"):
            fill = colour if passed else "white"
            axes.plot(same["value"], same["accuracy"], marker, ms=6, mfc=fill, zorder=3, **style)


def draw_cost_axis(axes: Axes, points: pd.DataFrame, cost: Cost) -> None:
    """Scale and label a cost axis: logarithmic if costs differ by more than a factor of 2, measured or modelled."""
    low, high = points["value"].min(), points["value"].max()
    if high > 2 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.15, high * (high / low) ** 0.15)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 5, 7)))
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
    spread_pt = DODGE_PT * (points["strategy"].nunique() - 1) / 2
    boxes: list[Bbox] = []
    best = points.sort_values("accuracy", ascending=False).drop_duplicates(["model", "layers", "variant"])
    for _, point in (best if one_variant else best[best["on_front"]]).iterrows():
        text = f"{point['layers']}" if one_family else f"{point['model']}"
        text = text if one_variant else point["variant"]
        for x_pt, y_pt in LABEL_OFFSETS_PT:
            offset = (x_pt + spread_pt * ((x_pt > 0) - (x_pt < 0)), y_pt)
            position = (point["value"], point["accuracy"])
            note = axes.annotate(text, position, offset, textcoords="offset points", **LABEL_STYLE)
            box = note.get_window_extent(renderer).padded(3)
            if not any(box.contains(*xy) for xy in points_px) and not any(box.overlaps(other) for other in boxes):
                break
            note.remove()
        else:
            axes.add_artist(note)
        boxes.append(box)


def legend(points: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> list[Line2D]:
    """Return the handles of the strategies, of the Pareto front and, where there are any, of failed profiles."""
    handles = [Line2D([], [], color=c, marker=m, linewidth=1, label=name) for name, (c, m) in looks.items()]
    handles.append(Line2D([], [], color="0.8", linewidth=5, label="Pareto front"))
    if not points["quality_passed"].all():
        handles.append(
            Line2D([], [], linestyle="", marker="o", color="0.3", mfc="white", label="quality checks failed")
        )
    return handles


def draw_pool_curve(curves: pd.DataFrame, title: str) -> plt.Figure:
    """Draw one benchmark whose pools are samples: one panel per language, one curve per system.

    The hollow marker is the estimate for the full pool.
    """
    languages, looks = curves["language"].unique(), looks_of(curves["system"].unique())
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
            handles[", ".join(curve[["model", "strategy"]].iloc[0])] = line
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
    columns |= {"profile.peak_rss_mib": "MiB", "profile.energy_j_per_1k_queries": "J/1k queries"}
    if systems["variant"].nunique() == 1:
        columns.pop("variant")
    else:
        columns |= {"profile.end_to_end_latency_p95_ms": "with search", "profile.index_bytes_per_passage": "B/passage"}
    table = systems[[name for name in columns if name in systems]].rename(columns=columns)
    digits = dict.fromkeys(SETTINGS, 4) | {"MiB": 0}
    formats = {name: f"{{:.{digits.get(name, 1)}f}}".format for name in table.select_dtypes("float")}
    return table.to_string(index=False, formatters=formats, na_rep="-")
