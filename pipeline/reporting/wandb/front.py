"""The Pareto fronts of a benchmark as one interactive plotly figure, with a menu of all settings and costs.

W&B draws it as it is, offline copies included; its own scatter plots have neither a log axis nor a line.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from pipeline.analysis.costs import Cost
from pipeline.analysis.tables import FAILED, NOT_MEASURED
from pipeline.reporting.figure import FINE_TICKS, SETTINGS, panels
from pipeline.reporting.looks import Look, looks_of, strategy_name

SUFFIX = {FAILED: "-open", NOT_MEASURED: "-open-dot"}  # of a plotly symbol: hollow without passed quality checks
TICKS = [digit * 10.0**power for power in range(-6, 10) for digit in FINE_TICKS]  # plotly's own read 2, 3, …, 9, 100
LAYOUT = {
    "template": "plotly_white",
    "hovermode": "closest",
    "xaxis": {"type": "log", "tickvals": TICKS, "tickformat": "~g"},
}
MENU = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
FRONT = {"shape": "hv", "color": "#d0d0d0", "width": 6}


def draw(points: pd.DataFrame, accuracy: str) -> go.Figure:
    """Draw all panels of a benchmark, of which the menu shows one: at first multilingual accuracy and the first cost.

    Args:
        points: rows of `analysis.fronts.mark` for one benchmark.
        accuracy: label of its main metric.
    """
    looks = looks_of(points["strategy"].unique())
    settings = [setting for setting in reversed(SETTINGS) if setting in set(points["setting"])]
    by_panel: dict[tuple[str, Cost], list[go.Scatter]] = {}
    for setting in settings:
        for cost in panels(points):
            panel = points[(points["setting"] == setting) & (points["cost"] == cost.field)]
            by_panel[setting, cost] = panel_traces(panel.sort_values("value"), looks, cost)
    buttons: list[dict[str, Any]] = []
    for shown in by_panel:
        setting, cost = shown
        visible = {"visible": [panel == shown for panel, traces in by_panel.items() for _ in traces]}
        axes = {"xaxis.title.text": cost.label, "yaxis.title.text": f"{SETTINGS[setting]} {accuracy}"}
        label = f"{axes['yaxis.title.text']}, {cost.name}"
        buttons.append({"label": label, "method": "update", "args": (visible, axes)})
    figure = go.Figure([trace for traces in by_panel.values() for trace in traces], LAYOUT)
    first, axes = buttons[0]["args"]
    for trace, visible in zip(figure.data, first["visible"], strict=True):
        trace.visible = visible
    return figure.update_layout({**axes, "updatemenus": [{"buttons": buttons, **MENU}]})


def panel_traces(panel: pd.DataFrame, looks: Mapping[str, Look], cost: Cost) -> list[go.Scatter]:
    """Return the Pareto front of a panel, then the points of each strategy; plain lists, since W&B draws no arrays."""
    front = panel[panel["on_front"]]
    coordinates: dict[str, Any] = {"x": front["value"].tolist(), "y": front["accuracy"].tolist()}
    traces = [go.Scatter(name="Pareto front", mode="lines", line=FRONT, hoverinfo="skip", **coordinates)]
    for strategy, look in looks.items():
        own = panel[panel["strategy"] == strategy]
        symbols = [f"{look.symbol}{SUFFIX.get(quality, '')}" for quality in own["quality"]]
        bars = [own["accuracy_high"] - own["accuracy"], own["accuracy"] - own["accuracy_low"]]
        above, below = (bar.tolist() for bar in bars)
        traces.append(
            go.Scatter(
                name=strategy_name(strategy),
                mode="markers",
                x=own["value"].tolist(),
                y=own["accuracy"].tolist(),
                marker={"color": look.colour, "symbol": symbols, "size": 10},
                error_y={"array": above, "arrayminus": below, "thickness": 1, "width": 3},
                hovertext=[hover(row, cost) for row in own.to_dict("records")],
                hoverinfo="text",
            )
        )
    return traces


def hover(point: Mapping[str, Any], cost: Cost) -> str:
    """Say what a point is."""
    interval = f"{point['accuracy']:.3f} [{point['accuracy_low']:.3f}, {point['accuracy_high']:.3f}]"
    value = f"{point['value']:.4g} {cost.unit}, {str(point['source']).partition(':')[0]}"
    return "<br>".join([f"{point['model']}, {strategy_name(point['strategy'])}", point["variant"], interval, value])
