"""Size times strategy: does one strategy's gain grow or shrink as the model gets more expensive?

Axes: N points of one strategy, B bootstrap draws.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.analysis.bootstrap import interval
from pipeline.analysis.fronts import PANEL, Draws


def slope_weights(cost_N: np.ndarray) -> np.ndarray:
    """Return weights [N] whose product with accuracies is their least-squares slope per doubling of the cost.

    >>> float((slope_weights(np.array([1, 2, 4])) @ [0.5, 0.6, 0.7]).round(3))
    0.1
    """
    centred_N = np.log2(cost_N) - np.log2(cost_N).mean()
    return centred_N / (centred_N**2).sum()


def slopes(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Return each strategy's gain in accuracy per doubling of the cost, and the differences between strategies.

    Args:
        points: table of `tables.points`.
        draws: of the accuracy.

    Returns:
        One row per panel and strategy, then one per pair `a - b` (does the gain of a over b grow with size?): `slope`
        and its 95 % interval `low`, `high`. A strategy with a single cost has no slope and is left out.

    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "ms", "value": [1, 2, 1, 2],
    ...                        "strategy": list("aabb"), "system": list("wxyz"), "accuracy": [0.5, 0.7, 0.5, 0.6]})
    >>> draws = {("x", "multi"): pd.DataFrame([points["accuracy"]]).set_axis(list("wxyz"), axis="columns")}
    >>> slopes(points, draws).set_index("strategy")["slope"].round(3).to_dict()
    {'a': 0.2, 'b': 0.1, 'a - b': 0.1}
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        lines = {}
        for strategy, group in strategies_of_several_costs(panel):
            weights_N = slope_weights(group["value"].to_numpy())
            lines[strategy] = (
                group["accuracy"].to_numpy() @ weights_N,
                draws[keys[:2]][group["system"]].to_numpy() @ weights_N,
            )
        for a, b in combinations(list(lines), 2):
            lines[f"{a} - {b}"] = lines[a][0] - lines[b][0], lines[a][1] - lines[b][1]
        for name, (slope, slope_B) in lines.items():
            low, high = interval(slope_B)
            row = {"strategy": name, "slope": slope, "low": low, "high": high}
            rows.append(dict(zip(PANEL, keys, strict=True)) | row)
    return pd.DataFrame(rows)


def fits(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Return each strategy's least-squares line of accuracy over log2(cost), evaluated at its points.

    Args:
        points: table of `tables.points`.
        draws: of the accuracy.

    Returns:
        One row per point: `fitted`, the line's value there with the 95 % interval `low`, `high`, and `residual`, the
        point's distance from the line. Where residuals rival what a doubling brings, the line is a poor summary.

    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "ms", "model": "m", "value": [1, 2, 4],
    ...                        "strategy": "a", "system": list("xyz"), "accuracy": [0.5, 0.5, 0.8]})
    >>> draws = {("x", "multi"): pd.DataFrame([points["accuracy"]]).set_axis(list("xyz"), axis="columns")}
    >>> fits(points, draws)[["fitted", "residual"]].round(2).to_dict("list")
    {'fitted': [0.45, 0.6, 0.75], 'residual': [0.05, -0.1, 0.05]}
    """
    frames = []
    for keys, panel in points.groupby(PANEL, sort=False):
        for _, group in strategies_of_several_costs(panel):
            accuracy_N, accuracy_BN = group["accuracy"].to_numpy(), draws[keys[:2]][group["system"]].to_numpy()
            centred_N = np.log2(group["value"].to_numpy()) - np.log2(group["value"]).mean()
            line_NN = 1 / len(group) + np.outer(slope_weights(group["value"].to_numpy()), centred_N)
            low, high = interval(accuracy_BN @ line_NN)
            fitted = {"fitted": accuracy_N @ line_NN, "low": low, "high": high}
            columns = group[[*PANEL, "model", "strategy", "system", "value", "accuracy"]]
            frames.append(columns.assign(**fitted, residual=accuracy_N - accuracy_N @ line_NN))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def strategies_of_several_costs(panel: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the strategies of a panel that have points at two costs or more, with their points.

    >>> panel = pd.DataFrame({"strategy": ["a", "a", "b", "b"], "value": [1, 2, 3, 3]})
    >>> [name for name, _ in strategies_of_several_costs(panel)]
    ['a']
    """
    return [(name, group) for name, group in panel.groupby("strategy", sort=False) if group["value"].nunique() > 1]
