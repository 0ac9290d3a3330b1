"""What people look at: the figure of the fronts (png, svg, pdf) and the table for the terminal. Reads tables only."""

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

from pipeline.analysis.tables import ACCURACY, COSTS, Cost

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LABEL_OFFSETS_PT = [(-9, 7), (9, -7), (9, 7), (-9, -7), (0, 11), (0, -11), (-18, 0), (18, 0), (0, 20), (0, -20)]
DODGE_PT = 3.5  # between strategies, which often share a cost
SETTINGS = {"mono": "monolingual mAP", "cross": "cross-lingual mAP", "multi": "multilingual mAP"}
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
    """What every reader asks first: which benchmark, which machine, how many seeds; then how to read the figure."""
    (benchmark,) = points["benchmark"].unique()
    machines, families = ", ".join(points["machine"].unique()), points["family"].unique()
    seeds = "-".join(map(str, sorted({points["seeds"].min(), points["seeds"].max()})))
    drawn = "questions" if seeds == "1" else "questions and seeds"
    numbers = f"Numbers: layers of {families[0]}. " if len(families) == 1 else ""
    if points["served"].nunique() > 1:
        numbers = "Names: how an encoder on the front is served. "
    return (
        f"{sweep}: accuracy on {benchmark} against cost on {machines}; seeds a point: {seeds}\n"
        f"{numbers}Bars: 95 % intervals over {drawn}. Strategies of equal cost stand side by side. Left is cheaper."
    )


def draw(points: pd.DataFrame, title: str) -> plt.Figure:
    """One benchmark's fronts: a row of panels a setting, a panel a cost; left is cheaper and up is better in all."""
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
        row[0].set(ylabel=SETTINGS[setting], ylim=(low - margin, high + margin))
        for panel, cost in zip(row, costs, strict=True):
            draw_panel(panel, rows[rows["cost"] == cost.field], looks)
    for panel, cost in zip(axes[-1], costs, strict=True):
        draw_cost_axis(panel, points[points["cost"] == cost.field], cost)
    figure.suptitle(title, fontsize=10)
    figure.legend(handles=legend(points, looks), loc="outside lower center", ncols=6, frameon=False)
    figure.draw_without_rendering()  # the layout settles; labels are then put where there is room
    for row, setting in zip(axes, settings, strict=True):
        for panel, cost in zip(row, costs, strict=True):
            label(panel, points[(points["setting"] == setting) & (points["cost"] == cost.field)])
    return figure


def looks_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker each; 49 before one recurs."""
    return {name: (COLOURS[i % 7], MARKERS[(i + i // 7) % 7]) for i, name in enumerate(names)}


def draw_front(axes: Axes, cost: pd.Series, accuracy: pd.Series) -> None:
    """The front of all as a step line, from the cheapest on."""
    steps: dict[str, Any] = {"where": "post", "color": "0.85", "linewidth": 5, "solid_joinstyle": "miter", "zorder": 1}
    axes.step([*cost, 1e99], [*accuracy, accuracy.iloc[-1]], **steps, scalex=False)


def draw_panel(axes: Axes, points: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    """The joint front as a step line, then each strategy's own front, points and intervals, a little apart."""
    front = points[points["on_front"]].sort_values("value")
    draw_front(axes, front["value"], front["accuracy"])
    for place, (strategy, (colour, marker)) in enumerate(looks.items()):
        shift_pt = DODGE_PT * (place - (len(looks) - 1) / 2)
        shifted = axes.transData + ScaledTranslation(shift_pt / 72, 0, axes.figure.dpi_scale_trans)
        style: dict[str, Any] = {"color": colour, "transform": shifted}
        group = points[points["strategy"] == strategy].sort_values("value")
        own = group[group["on_own_front"]]
        axes.plot(own["value"], own["accuracy"], linewidth=1, zorder=2, **style)
        axes.vlines(group["value"], group["accuracy_low"], group["accuracy_high"], linewidth=1, alpha=0.7, **style)
        for passed, graded in group.groupby("grade_passed"):
            fill = colour if passed else "white"
            axes.plot(graded["value"], graded["accuracy"], marker, ms=6, mfc=fill, zorder=3, **style)


def draw_cost_axis(axes: Axes, points: pd.DataFrame, cost: Cost) -> None:
    """Logarithmic where costs differ by more than a factor of 2; the label says how the numbers came to be."""
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
    how = " and ".join(sorted({source.split(":")[0] for source in points["source"]}))
    axes.set_xlabel(f"{cost.label}\n{how}")


def label(axes: Axes, points: pd.DataFrame) -> None:
    """Write each model's size once, by the best of its points, where it covers neither a point nor another label."""
    one_family, one_serving = points["family"].nunique() == 1, points["served"].nunique() == 1
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # Agg's has one
    taken = [axes.transData.transform(xy) for xy in points[["value", "accuracy"]].to_numpy()]
    spread_pt = DODGE_PT * (points["strategy"].nunique() - 1) / 2
    boxes: list[Bbox] = []
    best = points.sort_values("accuracy", ascending=False).drop_duplicates(["model", "layers", "served"])
    for _, point in (best if one_serving else best[best["on_front"]]).iterrows():
        text = f"{point['layers']}" if one_family else f"{point['model']}"
        text = text if one_serving else point["served"]
        for x_pt, y_pt in LABEL_OFFSETS_PT:
            offset = (x_pt + spread_pt * ((x_pt > 0) - (x_pt < 0)), y_pt)
            note = axes.annotate(
                text, (point["value"], point["accuracy"]), offset, textcoords="offset points", ha="center", va="center",
                fontsize=8, color="0.25", zorder=4,
            )  # fmt: skip
            box = note.get_window_extent(renderer).padded(3)
            if not any(box.contains(*xy) for xy in taken) and not any(box.overlaps(other) for other in boxes):
                break
            note.remove()
        else:
            axes.add_artist(note)
        boxes.append(box)


def legend(points: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> list[Line2D]:
    handles = [Line2D([], [], color=c, marker=m, linewidth=1, label=name) for name, (c, m) in looks.items()]
    handles.append(Line2D([], [], color="0.8", linewidth=5, label="front of all"))
    if not points["grade_passed"].all():
        handles.append(Line2D([], [], linestyle="", marker="o", color="0.3", mfc="white", label="profile in doubt"))
    return handles


def draw_pool_curve(curves: pd.DataFrame, title: str) -> plt.Figure:
    """One benchmark whose pools are samples: a panel a language, a curve a variant, the full pool's estimate hollow."""
    languages, looks = curves["language"].unique(), looks_of(curves["variant"].unique())
    columns = min(len(languages), 4)
    rows = -(-len(languages) // columns)
    size_in = (max(5.5, 1.2 + 2.5 * columns), 1.8 + 2.3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size_in, sharey=True, squeeze=False, layout="constrained")
    handles = {}
    for panel, language in zip(axes.flat, languages, strict=False):
        for variant, curve in curves[curves["language"] == language].groupby("variant", sort=False):
            colour, marker = looks[variant]
            measured, further = curve[curve["kind"] == "measured"], curve[curve["kind"] == "extrapolated"]
            panel.fill_between(curve["pool_size"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
            (line,) = panel.plot(measured["pool_size"], measured["ndcg_10"], marker=marker, ms=4, color=colour)
            dashed, full = pd.concat([measured.tail(1), further]), further.tail(1)  # no row where the sample is all
            panel.plot(dashed["pool_size"], dashed["ndcg_10"], "--", color=colour, linewidth=1)
            panel.vlines(full["pool_size"], full["low"], full["high"], color=colour, linewidth=1)
            panel.plot(full["pool_size"], full["ndcg_10"], marker, ms=6, mfc="white", color=colour)
            handles[", ".join(curve[["model", "strategy"]].iloc[0])] = line
        panel.set(xscale="log", title=language)
    for panel in axes.flat[len(languages) :]:
        panel.set_axis_off()
    for number, panel in enumerate(axes.flat[: len(languages)]):
        lowest, leftmost = number + columns >= len(languages), number % columns == 0
        panel.set(xlabel="passages in the pool" if lowest else "", ylabel="nDCG@10" if leftmost else "")
    how = "solid: measured; dashed and hollow: extrapolated\nbands: 95 % intervals over topics"
    figure.suptitle(f"{title}\n{how}", fontsize=10)
    handles["full pool, extrapolated"] = Line2D([], [], linestyle="--", marker="o", mfc="white", color="0.3")
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(columns, 3), frameon=False)
    return figure


def save(figure: plt.Figure, stem: Path) -> Path:
    """Write <stem>.png, .svg and .pdf; returns the path of the png."""
    for suffix, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {})):
        figure.savefig(stem.with_name(f"{stem.name}.{suffix}"), dpi=200, metadata=metadata)
    plt.close(figure)
    return stem.with_name(f"{stem.name}.png")


def terminal(variants: pd.DataFrame, benchmark: str | None) -> str:
    """Model x strategy as text: accuracies on one benchmark (none: a cost-only sweep), then costs."""
    columns = {"model": "model", "strategy": "strategy", "served": "served", "seeds": "seeds"}
    columns |= {f"metrics.{benchmark}.{setting}.{ACCURACY}": setting for setting in ("mono", "cross", "multi")}
    columns |= {f"metrics.{benchmark}.multi.rank_distance": "rank distance"}
    columns |= {"profile.query_latency_p95_ms": "p95 ms", "profile.passages_per_s": "passages/s"}
    columns |= {"profile.peak_rss_mib": "MiB", "profile.energy_j_per_1k_queries": "J/1k queries"}
    if variants["served"].nunique() == 1:
        columns.pop("served")
    else:
        columns |= {"profile.end_to_end_latency_p95_ms": "with search", "profile.index_bytes_per_passage": "B/passage"}
    table = variants[[name for name in columns if name in variants]].rename(columns=columns)
    digits = {"mono": 4, "cross": 4, "multi": 4, "MiB": 0}
    formats = {name: f"{{:.{digits.get(name, 1)}f}}".format for name in table.select_dtypes("float")}
    return table.to_string(index=False, formatters=formats, na_rep="-")
