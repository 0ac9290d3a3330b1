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
    """Each strategy's gain in accuracy a doubling of the cost, and the differences between strategies (`a - b`): does
    the gain of a over b grow with size? A strategy with a single cost has no slope and is left out.
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        lines = {}
        for strategy, group in strategies_of_several_costs(panel):
            weights_N = slope_weights(group["value"].to_numpy())
            lines[strategy] = (
                group["accuracy"].to_numpy() @ weights_N,
                draws[keys[:2]][group["variant"]].to_numpy() @ weights_N,
            )
        for a, b in combinations(list(lines), 2):
            lines[f"{a} - {b}"] = lines[a][0] - lines[b][0], lines[a][1] - lines[b][1]
        for name, (slope, slope_B) in lines.items():
            low, high = interval(slope_B)
            row = {"strategy": name, "slope": slope, "low": low, "high": high}
            rows.append(dict(zip(PANEL, keys, strict=True)) | row)
    return pd.DataFrame(rows)


def fits(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Each strategy's least-squares line of accuracy over log2(cost) at its points, with its interval, and `residual`:
    the point's distance from it. Where residuals rival what a doubling brings, the line is a poor summary.
    """
    found = []
    for keys, panel in points.groupby(PANEL, sort=False):
        for _, group in strategies_of_several_costs(panel):
            accuracy_N, accuracy_BN = group["accuracy"].to_numpy(), draws[keys[:2]][group["variant"]].to_numpy()
            centred_N = np.log2(group["value"].to_numpy()) - np.log2(group["value"]).mean()
            line_NN = 1 / len(group) + np.outer(slope_weights(group["value"].to_numpy()), centred_N)
            low, high = interval(accuracy_BN @ line_NN)
            fitted = {"fitted": accuracy_N @ line_NN, "low": low, "high": high}
            columns = group[[*PANEL, "model", "strategy", "variant", "value", "accuracy"]]
            found.append(columns.assign(**fitted, residual=accuracy_N - accuracy_N @ line_NN))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def strategies_of_several_costs(panel: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(name, group) for name, group in panel.groupby("strategy", sort=False) if group["value"].nunique() > 1]
