"""Direct labels for figures: strategies beside a panel instead of a legend, names beside points, where there is room.

Labels are placed in pixels, so the layout must be settled before (`Figure.draw_without_rendering`).
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, DrawingArea, HPacker, TextArea
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

from pipeline.reporting.drawing import MARKER_PT
from pipeline.reporting.looks import Look, strategy_name
from pipeline.store.records import AS_TRAINED

LINE_PT = 12  # from one label to the next
DISTANCES_PT = (6, 11, 17, 24)  # from a point to its label
AROUND = ((-1, 1), (1, -1), (1, 1), (-1, -1), (0, 1), (0, -1), (-1, 0), (1, 0))  # x and y of the label; the best first
MOST_LABELS = 40  # models of which each is labelled: more have no room, and looking for it takes minutes
STYLE: dict[str, Any] = {"fontsize": 8, "color": "0.25", "zorder": 4}
HORIZONTAL = {-1: "right", 0: "center", 1: "left"}  # alignment of a label by where it is put
VERTICAL = {-1: "top", 0: "center", 1: "bottom"}


def label_strategies(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    """Name the strategies at the right of a panel, each at the height of its system of the highest cost.

    Names that would overlap move apart, and a line leads to the point; if they do not fit, a legend takes their place.

    Args:
        axes: the panel.
        points: `strategy`, `value` and `accuracy`; no `value` for a strategy that has no point in this panel.
        looks: of the strategies.
    """
    ends = (
        points.sort_values(["value", "accuracy"], na_position="first").groupby("strategy")[["value", "accuracy"]].last()
    )
    ends = ends.sort_values("accuracy")
    low, high = axes.get_ylim()
    spacing = LINE_PT / height_pt(axes)
    if (columns := math.ceil(len(ends) * spacing)) > 1:
        handles = [line(looks[strategy], label=strategy_name(strategy)) for strategy in ends.index[::-1]]
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), ncols=columns, frameon=False)
        return
    heights = spread((ends["accuracy"].to_numpy() - low) / (high - low), spacing)
    for (strategy, value, accuracy), height in zip(ends.itertuples(name=None), heights, strict=True):
        glyph = DrawingArea(MARKER_PT + 2, MARKER_PT + 2)
        glyph.add_artist(line(looks[strategy], at=MARKER_PT / 2 + 1))
        text = TextArea(strategy_name(strategy), textprops={"fontsize": 8.5})
        leader: dict[str, Any] = {"arrowstyle": "-", "color": looks[strategy].colour, "lw": 0.6, "alpha": 0.6}
        leader |= {"relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 0}
        axes.add_artist(
            AnnotationBbox(
                HPacker(children=[glyph, text], align="center", pad=0, sep=3),
                (value, accuracy) if pd.notna(value) else (1, height),
                xybox=(1.05, height),
                xycoords="data" if pd.notna(value) else "axes fraction",
                boxcoords="axes fraction",
                box_alignment=(0, 0.5),
                frameon=False,
                pad=0,
                arrowprops=leader if pd.notna(value) else None,
            )
        )


def height_pt(axes: Axes) -> float:
    """Return the height of a panel."""
    return axes.get_window_extent().height * 72 / axes.figure.dpi


def line(look: Look, at: float | None = None, label: str = "") -> Line2D:
    """Return a line with its marker as it stands beside the name of a strategy; the marker alone at the place `at`."""
    place = [] if at is None else [at]
    style: dict[str, Any] = {
        "color": look.colour,
        "marker": look.marker,
        "ms": MARKER_PT + 1,
        "mec": "white",
        "mew": 0.7,
    }
    return Line2D(place, place, linewidth=1, label=label, **style)


def spread(heights: np.ndarray, spacing: float) -> np.ndarray:
    """Move heights apart, as little as possible, until each is `spacing` above the one before.

    Args:
        heights: ascending, as shares of the panel, which all of them fit into.

    >>> spread(np.array([0.5, 0.5, 0.9]), 0.1).round(2).tolist()
    [0.45, 0.55, 0.9]
    """
    steps = spacing * np.arange(len(heights))
    return np.clip(isotonic_regression(heights - steps).x, 0, 1 - steps[-1]) + steps


def label_points(axes: Axes, points: pd.DataFrame) -> None:
    """Label each model and inference variant once (`names`), beside its most accurate point.

    Of several inference variants, or more than MOST_LABELS models, only those on the Pareto front are labelled. A label
    lies inside the panel and covers no point and no other label; one that finds no such place is left out.
    """
    points, one_variant = points.assign(label=names(points)), points["variant"].nunique() == 1
    best = points.sort_values("accuracy", ascending=False).drop_duplicates(["model", "layers", "variant"])
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # Agg's has one
    points_px = axes.transData.transform(points[["value", "accuracy"]].to_numpy(float))
    panel, boxes = axes.get_window_extent(), list[Bbox]()
    labelled = best if one_variant and len(best) <= MOST_LABELS else best[best["on_front"]]
    for _, point in labelled.iterrows():
        for distance_pt, (x, y) in product(DISTANCES_PT, AROUND):
            offset_pt = np.array([x, y]) * distance_pt / np.hypot(x, y)
            note = axes.annotate(
                point["label"],
                (point["value"], point["accuracy"]),
                offset_pt,
                textcoords="offset points",
                ha=HORIZONTAL[x],
                va=VERTICAL[y],
                **STYLE,
            )
            box = note.get_window_extent(renderer).padded(MARKER_PT / 2)
            inside = panel.contains(box.x0, box.y0) and panel.contains(box.x1, box.y1)
            if inside and not box.count_contains(points_px) and not box.count_overlaps(boxes):
                boxes.append(box)
                break
            note.remove()


def named_by(points: pd.DataFrame) -> str:
    """Return the column that names models: their layers, where these tell the models of one family apart."""
    apart = points.groupby("layers")["model"].nunique().max() == 1
    return "layers" if apart and points["family"].nunique() == 1 else "model"


def names(points: pd.DataFrame) -> pd.Series:
    """Name points by what they differ in: the model (`named_by`), the inference variant, or both.

    Beside the name of a model nothing stands for "as trained".

    >>> points = pd.DataFrame({"family": "e5", "model": ["e5-small", "e5-small"], "layers": 12})
    >>> names(points.assign(variant=["as trained", "SQ8"])).tolist()
    ['as trained', 'SQ8']
    >>> names(points.assign(variant="as trained", layers=[6, 12])).tolist()
    ['6', '12']
    >>> names(points.assign(variant=["as trained", "SQ8"], family=["bm25", "e5"], model=["bm25", "e5-small"])).tolist()
    ['bm25', 'e5-small SQ8']
    """
    model = points[named_by(points)].astype(str)
    if points["variant"].nunique() == 1:
        return model
    if model.nunique() == 1:
        return points["variant"]
    return model.where(points["variant"] == AS_TRAINED, model + " " + points["variant"])
