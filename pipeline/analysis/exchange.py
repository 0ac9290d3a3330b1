"""Exchange rates: how many times the cost, or which size, does strategy B need to reach what strategy A reaches?

Axes: N points of one strategy, A of the other, B bootstrap draws.
"""

import numpy as np
import pandas as pd

from pipeline.analysis.fronts import PANEL, Draws


def cost_to_reach(cost_N: np.ndarray, accuracy_N: np.ndarray, target_A: np.ndarray) -> np.ndarray:
    """The cost at which a strategy's front reaches each accuracy; infinite where it never does.

    Between two points of the front the accuracy is taken as linear in the logarithm of the cost. A target below the
    cheapest point costs what that point costs: nothing cheaper was tried.
    """
    order = np.argsort(cost_N)
    best_N = np.maximum.accumulate(accuracy_N[order])
    on_front = np.diff(best_N, prepend=-np.inf) > 0
    return np.exp(np.interp(target_A, best_N[on_front], np.log(cost_N[order][on_front]), right=np.inf))


def rates(points: pd.DataFrame, draws: Draws, size: int = 200) -> pd.DataFrame:
    """For each variant and each other strategy: times the variant's cost (`value`) that the other needs for equal
    accuracy. Infinite means not reached, `reached` in which share of the draws it is.
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        accuracy_BV = draws[keys[:2]].iloc[:size]
        for strategy, own in panel.groupby("strategy", sort=False):
            for other, others in panel[panel["strategy"] != strategy].groupby("strategy", sort=False):
                own_cost, other_cost = own["value"].to_numpy(), others["value"].to_numpy()
                own_BN = accuracy_BV[own["variant"]].to_numpy()
                other_BN = accuracy_BV[others["variant"]].to_numpy()
                drawn = [cost_to_reach(other_cost, other_BN[b], own_BN[b]) / own_cost for b in range(len(own_BN))]
                rate = cost_to_reach(other_cost, others["accuracy"].to_numpy(), own["accuracy"]) / own_cost
                low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="nearest")  # infinities do not average
                frame = own[[*PANEL, "model", "strategy", "variant", "value"]].assign(other=other, rate=rate)
                rows.append(frame.assign(low=low, high=high, reached=np.isfinite(drawn).mean(axis=0)))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def savings(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """How much smaller an encoder can be with another strategy at equal accuracy: of `unit` (layers, parameters) it has
    `size`, and with the other strategy it would need `needed`. `points` are of encoders as trained.
    """
    encoders = points.drop_duplicates([*PANEL[:2], "variant"])
    layers = encoders.assign(cost="layers", value=encoders["layers"].astype(float))
    found = rates(pd.concat([layers, points[points["cost"] == "parameters"]], ignore_index=True), draws)
    if found.empty:
        return found
    needed = {name: found["value"] * found[name] for name in ("low", "high")}
    found = found.assign(needed=found["value"] * found["rate"], **needed).drop(columns="rate")
    return found.rename(columns={"cost": "unit", "value": "size"})
