"""What all Matplotlib figures share: their style, grids of panels, and files in three formats."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display is needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

MARKER_PT = 5.5
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
        "text.parse_math": False,  # a name with dollar signs is no mathematics
        "svg.hashsalt": "pareto",  # the same figure is the same file
    }
)


def grid(rows: int, columns: int, size_in: tuple[float, float], **shared: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure and its panels [rows, columns]; `shared` are sharex and sharey of matplotlib's subplots."""
    return plt.subplots(rows, columns, figsize=size_in, squeeze=False, layout="constrained", **shared)


def save(figure: Figure, stem: Path) -> Path:
    """Write <stem>.png, .svg and .pdf; return the path of the png."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is made once, not once per format
    for suffix, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {})):
        figure.savefig(stem.with_name(f"{stem.name}.{suffix}"), dpi=200, metadata=metadata)
    plt.close(figure)
    return stem.with_name(f"{stem.name}.png")
