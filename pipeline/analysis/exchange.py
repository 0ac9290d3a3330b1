"""Exchange rates: how many times the cost, or which size, does strategy B need to reach what strategy A reaches?

Axes: N points of one strategy, A points of the other, B draws, x any leading axes.
"""

import numpy as np
import pandas as pd

from pipeline.analysis.draws import ERROR, costs
from pipeline.analysis.fronts import PANEL, Draws

SIZE = 1000  # draws


def cost_to_reach(cost_xN: np.ndarray, accuracy_xN: np.ndarray, target_xA: np.ndarray) -> np.ndarray:
    """Return the cost [x, A] at which a strategy's front reaches each target accuracy; infinite if it never does.

    Between two points of the front the accuracy is taken as linear in the logarithm of the cost. A target below the
    cheapest point costs what that point costs: nothing cheaper was tried.

    >>> cost_to_reach(np.array([1, 100]), np.array([0.4, 0.6]), np.array([0.3, 0.5, 0.7])).round(3).tolist()
    [1.0, 10.0, inf]
    """
    order_xN = np.argsort(cost_xN, axis=-1, kind="stable")
    best_xN = np.maximum.accumulate(np.take_along_axis(accuracy_xN, order_xN, axis=-1), axis=-1)
    log_xN = np.log(np.take_along_axis(cost_xN, order_xN, axis=-1))
    rises_xN = np.diff(best_xN, prepend=-np.inf, axis=-1) > 0
    # Only the front counts: its points come first, in their order, and all that follow reach no further than its last.
    front_xF = np.argsort(~rises_xN, axis=-1, kind="stable")[..., : rises_xN.sum(axis=-1).max()]
    last_x1 = rises_xN.sum(axis=-1, keepdims=True) - 1
    on_xF = np.arange(front_xF.shape[-1]) <= last_x1
    best_xF = np.where(on_xF, np.take_along_axis(best_xN, front_xF, axis=-1), np.inf)
    log_xF = np.take_along_axis(log_xN, front_xF, axis=-1)
    place_xA = np.zeros(target_xA.shape, dtype=np.int32)  # of the first point that reaches the target
    for best_x in np.moveaxis(best_xF, -1, 0):  # a front is short
        place_xA += best_x[..., None] < target_xA
    after_xA, before_xA = np.minimum(place_xA, last_x1), np.clip(place_xA - 1, 0, last_x1)
    low_xA, high_xA = (np.take_along_axis(best_xF, at_xA, axis=-1) for at_xA in (before_xA, after_xA))
    from_xA, to_xA = (np.take_along_axis(log_xF, at_xA, axis=-1) for at_xA in (before_xA, after_xA))
    rise_xA = high_xA - low_xA
    share_xA = np.divide(target_xA - low_xA, rise_xA, where=rise_xA > 0, out=np.ones_like(rise_xA))
    return np.where(place_xA > last_x1, np.inf, np.exp(from_xA + share_xA * (to_xA - from_xA)))


def rates(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Return, per system and other strategy, how many times the system's cost the other needs for equal accuracy.

    Args:
        points: table of `tables.points`.
        draws: of the accuracy; the first SIZE are used. Costs are drawn too (draws.costs).

    Returns:
        One row per panel, system and `other` strategy: the system's cost `value`, `rate` as a multiple of it with the
        95 % interval `low`, `high`, and `reached`: the share of draws in which the other strategy gets there. An
        infinite rate means that it does not. `clamped`: already the cheapest point of the other strategy is more
        accurate, so the rate is "at most" this; `low_clamped` says so of the lower end. Empty if there is one strategy
        only.

    Strategy b reaches .5, which a reaches at cost 1, halfway (on a logarithmic axis) between its points:

    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "ms", "model": "m", "value": [1., 1., 4.],
    ...                        "strategy": list("abb"), "system": ["a1", "b1", "b4"], "accuracy": [0.5, 0.4, 0.6]})
    >>> table = rates(points, {("x", "multi"): pd.DataFrame([[0.5, 0.4, 0.6]], columns=["a1", "b1", "b4"])})
    >>> table[["system", "other", "rate", "reached", "clamped"]].to_numpy().tolist()[:2]
    [['a1', 'b', 2.0, 1.0, False], ['b1', 'a', 1.0, 1.0, True]]
    """
    frames = []
    for keys, panel in points.groupby(PANEL, sort=False):
        accuracy_N, cost_N = panel["accuracy"].to_numpy(), panel["value"].to_numpy(float)
        accuracy_BN = draws[keys[:2]][panel["system"]].iloc[:SIZE].to_numpy()
        cost_BN = costs(panel, len(accuracy_BN))
        strategy_N, strategies = panel["strategy"].to_numpy(), panel["strategy"].unique()
        per_other = []
        for other in strategies:
            own, others = np.flatnonzero(strategy_N != other), np.flatnonzero(strategy_N == other)
            other_cost_BN = cost_BN[:, others]
            rate_BA = cost_to_reach(other_cost_BN, accuracy_BN[:, others], accuracy_BN[:, own]) / cost_BN[:, own]
            low, high = np.quantile(rate_BA, [0.025, 0.975], axis=0, method="nearest")  # no mean of infinities
            least_BA = other_cost_BN.min(axis=1, keepdims=True) / cost_BN[:, own]
            frame = panel.iloc[own][[*PANEL, "model", "strategy", "system", "value"]].assign(
                other=other,
                rate=cost_to_reach(cost_N[others], accuracy_N[others], accuracy_N[own]) / cost_N[own],
                low=low,
                high=high,
                reached=np.isfinite(rate_BA).mean(axis=0),
                clamped=accuracy_N[own] < accuracy_N[others][cost_N[others] == cost_N[others].min()].max(),
                low_clamped=low <= np.quantile(least_BA, 0.975, axis=0, method="nearest"),
            )
            per_other.append(frame)
        table = pd.concat(per_other)
        by_strategy = np.argsort(pd.Index(strategies).get_indexer(table["strategy"]), kind="stable")
        frames.append(table.iloc[by_strategy])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


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
    encoders = points[points["layers"] > 0].drop_duplicates([*PANEL[:2], "system"])  # BM25 and static tables have none
    layers = encoders.assign(cost="layers", value=encoders["layers"].astype(float))
    sizes = pd.concat([layers, points[points["cost"] == "parameters"]], ignore_index=True)
    table = rates(sizes.drop(columns=ERROR, errors="ignore"), draws)  # a size is counted: it has no error
    if table.empty:
        return table
    needed = {column: table["value"] * table[column] for column in ("low", "high")}
    table = table.assign(needed=table["value"] * table["rate"], **needed).drop(columns="rate")
    return table.rename(columns={"cost": "unit", "value": "size"})
