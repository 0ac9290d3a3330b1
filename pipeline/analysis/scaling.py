"""Size times strategy: does one strategy's gain grow or shrink as the model gets more expensive?

A line over the logarithm of the cost is a summary, and models lie off it for reasons of their own. The intervals hold
this lack of fit as well: another set of models would have other deviations. Axes: N points of one strategy, B draws.
"""

from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.analysis.draws import costs
from pipeline.analysis.errors import interval, student_t_factor
from pipeline.analysis.fronts import PANEL, Draws


class Line(NamedTuple):
    """A least-squares line of accuracy over log2(cost)."""

    slope: float
    slope_B: np.ndarray
    level_B: np.ndarray  # at cost 1
    fitted_N: np.ndarray
    lack_of_fit: float  # standard deviation of what the points deviate beyond their own errors; NaN for two points


def slope_weights(log_xN: np.ndarray) -> np.ndarray:
    """Return weights [x, N] whose product with accuracies is their least-squares slope over log2(cost).

    >>> float((slope_weights(np.array([0, 1, 2])) @ [0.5, 0.6, 0.7]).round(3))
    0.1
    """
    centred_xN = log_xN - log_xN.mean(axis=-1, keepdims=True)
    return centred_xN / np.einsum("...n,...n->...", centred_xN, centred_xN)[..., None]


def line(cost_N: np.ndarray, accuracy_N: np.ndarray, cost_BN: np.ndarray, accuracy_BN: np.ndarray) -> Line:
    """Fit a line, and draw it with the errors of the points and their lack of fit.

    The squared residuals hold the errors of the points and the lack of fit. The variance of the latter is what remains
    when the former are subtracted, over N - 2 degrees of freedom; each draw adds such deviations, with Student's t of N
    - 2.

    >>> cost_N, accuracy_N = np.array([1.0, 2, 4]), np.array([0.5, 0.5, 0.8])
    >>> fitted = line(cost_N, accuracy_N, np.tile(cost_N, (2000, 1)), np.tile(accuracy_N, (2000, 1)))
    >>> round(fitted.slope, 3), fitted.fitted_N.round(3).tolist(), round(fitted.lack_of_fit, 3)
    (0.15, [0.45, 0.6, 0.75], 0.122)
    """
    log_N, log_BN = np.log2(cost_N), np.log2(cost_BN)
    weight_N, centred_N = slope_weights(log_N), log_N - log_N.mean()
    slope = float(weight_N @ accuracy_N)
    fitted_N = accuracy_N.mean() + slope * centred_N
    degrees, lack = len(cost_N) - 2, np.nan
    if degrees > 0:
        error_BN = accuracy_BN - accuracy_BN.mean(axis=0)
        error_BN -= error_BN.mean(axis=1, keepdims=True)
        of_points_B = np.einsum("bn,bn->b", error_BN, error_BN) - (error_BN @ weight_N) * (error_BN @ centred_N)
        lack = np.sqrt(max(((accuracy_N - fitted_N) ** 2).sum() - np.median(of_points_B), 0.0) / degrees)
        accuracy_BN = accuracy_BN + lack * deviations(len(cost_BN), len(cost_N))
    slope_B = np.einsum("bn,bn->b", slope_weights(log_BN), accuracy_BN)
    level_B = accuracy_BN.mean(axis=1) - slope_B * log_BN.mean(axis=1)
    return Line(slope, slope_B, level_B, fitted_N, float(lack))


@lru_cache(32)
def deviations(draws: int, points: int) -> np.ndarray:
    """Return deviations [B, N] from a line with a lack of fit of 1: Student's t with N - 2 degrees of freedom."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((draws, points)) * student_t_factor(points - 2, draws, rng)


def slopes(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Return each strategy's gain in accuracy per doubling of the cost, and the differences between strategies.

    Args:
        points: table of `tables.points`.
        draws: of the accuracy; costs are drawn too (draws.costs).

    Returns:
        One row per panel and strategy, then one per pair `a - b` (does the gain of a over b grow with size?): `slope`
        and its 95 % interval `low`, `high`; `points`, their number, and `lack_of_fit`, the standard deviation of the
        points around the line beyond their own errors. With two points it is NaN, and the interval is silent about it.
        A pair of strategies is compared over the models that both have, whose deviations from the lines they share in
        part: the line is that of the differences. A strategy with a single cost has no slope and is left out.

    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "ms", "value": [1, 2, 1, 2],
    ...                        "model": list("mnmn"), "variant": "as trained",
    ...                        "strategy": list("aabb"), "system": list("wxyz"), "accuracy": [0.5, 0.7, 0.5, 0.6]})
    >>> draws = {("x", "multi"): pd.DataFrame([points["accuracy"]]).set_axis(list("wxyz"), axis="columns")}
    >>> slopes(points, draws).set_index("strategy")["slope"].round(3).to_dict()
    {'a': 0.2, 'b': 0.1, 'a - b': 0.1}
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        accuracy_BS = draws[keys[:2]]
        cost_BS = pd.DataFrame(costs(panel, len(accuracy_BS)), columns=panel["system"])
        groups = dict(strategies_of_several_costs(panel))
        lines = {name: of_group(group, cost_BS, accuracy_BS) for name, group in groups.items()}
        for a, b in combinations(groups, 2):
            both = groups[a].merge(groups[b], on=["model", "variant"], suffixes=("", "_b"))
            if both["value"].nunique() > 1:
                cost_BN, accuracy_N = cost_BS[both["system"]].to_numpy(), both["accuracy"] - both["accuracy_b"]
                accuracy_BN = accuracy_BS[both["system"]].to_numpy() - accuracy_BS[both["system_b"]].to_numpy()
                lines[f"{a} - {b}"] = line(both["value"].to_numpy(), accuracy_N.to_numpy(), cost_BN, accuracy_BN)
        for name, fitted in lines.items():
            low, high = interval(fitted.slope_B)
            row = {"strategy": name, "slope": fitted.slope, "low": low, "high": high}
            row |= {"points": len(fitted.fitted_N), "lack_of_fit": fitted.lack_of_fit}
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
        accuracy_BS = draws[keys[:2]]
        cost_BS = pd.DataFrame(costs(panel, len(accuracy_BS)), columns=panel["system"])
        for _, group in strategies_of_several_costs(panel):
            fitted = of_group(group, cost_BS, accuracy_BS)
            log_N = np.log2(group["value"].to_numpy(float))
            low, high = interval(fitted.level_B[:, None] + np.outer(fitted.slope_B, log_N))
            columns = group[[*PANEL, "model", "strategy", "system", "value", "accuracy"]]
            bounds = {"fitted": fitted.fitted_N, "low": low, "high": high}
            frames.append(columns.assign(**bounds, residual=group["accuracy"] - fitted.fitted_N))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def of_group(group: pd.DataFrame, cost_BS: pd.DataFrame, accuracy_BS: pd.DataFrame) -> Line:
    """Fit the line of one strategy's points.

    >>> group = pd.DataFrame({"system": ["x", "y"], "value": [1.0, 2.0], "accuracy": [0.5, 0.6]})
    >>> row = pd.DataFrame([[0.5, 0.6]], columns=["x", "y"])
    >>> round(of_group(group, row + 1, row).slope, 3)
    0.1
    """
    drawn = cost_BS[group["system"]].to_numpy(), accuracy_BS[group["system"]].to_numpy()
    return line(group["value"].to_numpy(float), group["accuracy"].to_numpy(), *drawn)


def strategies_of_several_costs(panel: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the strategies of a panel that have points at two costs or more, with their points.

    >>> panel = pd.DataFrame({"strategy": ["a", "a", "b", "b"], "value": [1, 2, 3, 3]})
    >>> [name for name, _ in strategies_of_several_costs(panel)]
    ['a']
    """
    return [(name, group) for name, group in panel.groupby("strategy", sort=False) if group["value"].nunique() > 1]
