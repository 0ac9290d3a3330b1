"""Size times strategy: does one strategy's gain grow or shrink as the model gets dearer?

Axes: N points of one strategy, B bootstrap draws.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.analysis.bootstrap import interval
from pipeline.analysis.fronts import PANEL, Draws


def slope_weights(cost_N: np.ndarray) -> np.ndarray:
    """Weights whose product with the accuracies is the least-squares slope over log2(cost): accuracy a doubling."""
    centred_N = np.log2(cost_N) - np.log2(cost_N).mean()
    return centred_N / (centred_N**2).sum()


def slopes(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Each strategy's gain in accuracy a doubling of the cost, and the differences between strategies (`a - b`).

    A strategy with a single cost has no slope and is left out. `residual` is the largest distance of a point from its
    strategy's line: where it rivals the gain a doubling brings, the line is a poor summary.
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        lines = {}
        for strategy, group in panel.groupby("strategy", sort=False):
            if group["value"].nunique() < 2:
                continue
            weights_N, accuracy_N = slope_weights(group["value"].to_numpy()), group["accuracy"].to_numpy()
            log_N = np.log2(group["value"].to_numpy())
            slope = accuracy_N @ weights_N
            residual = np.abs(accuracy_N - accuracy_N.mean() - slope * (log_N - log_N.mean())).max()
            lines[strategy] = slope, draws[keys[:2]][group["variant"]].to_numpy() @ weights_N, residual
        for a, b in combinations(list(lines), 2):
            lines[f"{a} - {b}"] = lines[a][0] - lines[b][0], lines[a][1] - lines[b][1], np.nan
        for name, (slope, slope_B, residual) in lines.items():
            low, high = interval(slope_B)
            row = {"strategy": name, "slope": slope, "low": low, "high": high, "residual": residual}
            rows.append(dict(zip(PANEL, keys, strict=True)) | row)
    return pd.DataFrame(rows)
