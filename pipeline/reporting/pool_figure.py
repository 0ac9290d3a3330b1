"""Matplotlib figure (png, svg, pdf): accuracy over pool size, for benchmarks whose pools are samples.

Reads the table of `analysis.pool.curves` only.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from pipeline.reporting.drawing import grid
from pipeline.reporting.looks import looks_of_systems, strategy_name
from pipeline.retrieval.metrics import metric


def draw(curves: pd.DataFrame, title: str) -> Figure:
    """Draw one benchmark whose pools are samples: one panel per language, one curve per system.

    The hollow marker is the estimate for the full pool.
    """
    languages, looks = curves["language"].unique(), looks_of_systems(curves)
    accuracy = metric("ndcg_10").label
    columns = min(len(languages), 4)
    rows = -(-len(languages) // columns)
    size_in = (max(5.5, 1.2 + 2.5 * columns), 1.8 + 2.3 * rows)
    figure, axes = grid(rows, columns, size_in, sharey=True)
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
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
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
