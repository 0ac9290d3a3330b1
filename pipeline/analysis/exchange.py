"""Exchange rates: how many times the cost, or which size, does strategy B need to reach what strategy A reaches?

Axes: N points of one strategy, A points of the other, B bootstrap draws.
"""

import numpy as np
import pandas as pd

from pipeline.analysis.fronts import PANEL, Draws


def cost_to_reach(cost_N: np.ndarray, accuracy_N: np.ndarray, target_A: np.ndarray) -> np.ndarray:
    """Return the cost [A] at which a strategy's front reaches each target accuracy; infinite if it never does.

    Between two points of the front the accuracy is taken as linear in the logarithm of the cost. A target below the
    cheapest point costs what that point costs: nothing cheaper was tried.

    >>> cost_to_reach(np.array([1, 100]), np.array([0.4, 0.6]), np.array([0.3, 0.5, 0.7])).round(3).tolist()
    [1.0, 10.0, inf]
    """
    order = np.argsort(cost_N)
    best_N = np.maximum.accumulate(accuracy_N[order])
    on_front = np.diff(best_N, prepend=-np.inf) > 0
    return np.exp(np.interp(target_A, best_N[on_front], np.log(cost_N[order][on_front]), right=np.inf))


def rates(points: pd.DataFrame, draws: Draws, size: int = 200) -> pd.DataFrame:
    """Return, per system and other strategy, how many times the system's cost the other needs for equal accuracy.

    Args:
        points: table of `tables.points`.
        draws: of the accuracy; the first `size` are used.

    Returns:
        One row per panel, system and `other` strategy: the system's cost `value`, `rate` as a multiple of it with the
        95 % interval `low`, `high`, and `reached`: the share of draws in which the other strategy gets there. An
        infinite rate means that it does not. Empty if there is one strategy only.

    Strategy b reaches .5, which a reaches at cost 1, halfway (on a logarithmic axis) between its points:

    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "ms", "model": "m", "value": [1., 1., 4.],
    ...                        "strategy": list("abb"), "system": ["a1", "b1", "b4"], "accuracy": [0.5, 0.4, 0.6]})
    >>> table = rates(points, {("x", "multi"): pd.DataFrame([[0.5, 0.4, 0.6]], columns=["a1", "b1", "b4"])})
    >>> table[["system", "other", "rate", "reached"]].round(3).to_dict("records")[0]
    {'system': 'a1', 'other': 'b', 'rate': 2.0, 'reached': 1.0}
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        accuracy_BS = draws[keys[:2]].iloc[:size]
        for strategy, own in panel.groupby("strategy", sort=False):
            for other, others in panel[panel["strategy"] != strategy].groupby("strategy", sort=False):
                own_cost, other_cost = own["value"].to_numpy(), others["value"].to_numpy()
                own_BA = accuracy_BS[own["system"]].to_numpy()
                other_BN = accuracy_BS[others["system"]].to_numpy()
                rate_BA = [cost_to_reach(other_cost, other_BN[b], own_BA[b]) / own_cost for b in range(len(own_BA))]
                rate = cost_to_reach(other_cost, others["accuracy"].to_numpy(), own["accuracy"]) / own_cost
                low, high = np.quantile(rate_BA, [0.025, 0.975], axis=0, method="nearest")  # no mean of infinities
                frame = own[[*PANEL, "model", "strategy", "system", "value"]].assign(other=other, rate=rate)
                rows.append(frame.assign(low=low, high=high, reached=np.isfinite(rate_BA).mean(axis=0)))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def savings(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Return how much smaller an encoder can be with another strategy at equal accuracy.

    Args:
        points: table of `tables.points`, of encoders as trained.
        draws: of the accuracy.

    Returns:
        One row per panel, system and `other` strategy, as `rates`: of `unit` (layers or parameters) the encoder has
        `size`, and with the other strategy it would need `needed`, with the 95 % interval `low`, `high`.

    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "ms", "model": "m", "layers": [6, 3],
    ...                        "strategy": list("ab"), "system": list("ab"), "value": 1.0, "accuracy": [0.5, 0.6]})
    >>> table = savings(points, {("x", "multi"): pd.DataFrame([[0.5, 0.6]], columns=list("ab"))})
    >>> table[["system", "other", "unit", "size", "needed"]].round(3).to_dict("records")[0]
    {'system': 'a', 'other': 'b', 'unit': 'layers', 'size': 6.0, 'needed': 3.0}
    """
    encoders = points.drop_duplicates([*PANEL[:2], "system"])
    layers = encoders.assign(cost="layers", value=encoders["layers"].astype(float))
    table = rates(pd.concat([layers, points[points["cost"] == "parameters"]], ignore_index=True), draws)
    if table.empty:
        return table
    needed = {column: table["value"] * table[column] for column in ("low", "high")}
    table = table.assign(needed=table["value"] * table["rate"], **needed).drop(columns="rate")
    return table.rename(columns={"cost": "unit", "value": "size"})
