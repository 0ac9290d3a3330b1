"""Matplotlib figure (png, svg, pdf): latency under load against the rate of queries, with the capacity marked.

Reads the table of `analysis.load.curves` only.
"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pipeline.reporting.drawing import grid
from pipeline.reporting.looks import looks_of_systems, strategy_name

COLUMNS = 3


def draw(curves: pd.DataFrame, title: str) -> Figure:
    """Draw one panel per system: p50 and p99 against the rate, the limit, and the capacity at the knee.

    A hollow marker is a rate at which the system refused queries, so that its latencies are of those that it accepted
    and refused together.
    """
    systems, looks = list(curves["system"].unique()), looks_of_systems(curves)
    columns = min(len(systems), COLUMNS)
    rows = -(-len(systems) // columns)
    figure, axes = grid(rows, columns, (max(5.5, 1.0 + 3.0 * columns), 2.0 + 2.6 * rows), sharey=True)
    for panel, (_, curve) in zip(axes.flat, curves.groupby("system", sort=False), strict=False):
        colour, marker = looks[curve["system"].iloc[0]]
        refusing = curve["refused"] > 0
        for column, line in (("p50_ms", ":"), ("p99_ms", "-")):
            middle = curve.groupby(curve["rate_per_s"].round(3))[column].median()  # of repeated tests at a rate
            panel.plot(middle.index, middle, line, color=colour, linewidth=1)
            for part, face in ((curve[~refusing], colour), (curve[refusing], "white")):
                panel.plot(part["rate_per_s"], part[column], marker, ms=4, color=colour, mfc=face)
        panel.axhline(curve["limit_ms"].iloc[0], color="0.6", linewidth=0.8, linestyle="--")
        capacity = curve["queries_per_s_at_p99"].iloc[0]
        if pd.notna(capacity):
            panel.axvline(capacity, color="0.6", linewidth=0.8)
            at: dict[str, Any] = {"xycoords": panel.get_xaxis_transform(), "textcoords": "offset points"}
            panel.annotate(f"{capacity:.3g}/s", (capacity, 1), (3, -10), **at)
        panel.set(xscale="log", yscale="log", title=name(curve.iloc[0]))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
    for panel in axes.flat[len(systems) :]:
        panel.set_axis_off()
    for number, panel in enumerate(axes.flat[: len(systems)]):
        lowest, leftmost = number + columns >= len(systems), number % columns == 0
        panel.set(xlabel="queries/s" if lowest else "", ylabel="latency (ms)" if leftmost else "")
    figure.suptitle(f"{title}: latency under load, LoadGen's Server scenario", fontsize=10)
    handles = [
        Line2D([], [], color="0.3", label="p99"),
        Line2D([], [], color="0.3", linestyle=":", label="p50"),
        Line2D([], [], color="0.6", linestyle="--", label="limit on p99"),
        Line2D([], [], color="0.6", label="capacity"),
        Line2D([], [], color="0.3", linestyle="", marker="o", mfc="white", label="queries refused"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def name(row: pd.Series) -> str:
    """Return the title of a system's panel.

    >>> name(pd.Series({"model": "small", "strategy": "hybrid", "variant": "as trained", "failed_checks": ""}))
    'small, hybrid, as trained'
    """
    failed = f"\nfailed: {row['failed_checks']}" if row["failed_checks"] else ""
    return f"{row['model']}, {strategy_name(row['strategy'])}, {row['variant']}{failed}"
