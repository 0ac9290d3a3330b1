"""The fronts of a sweep: every cost against every accuracy, each strategy alone and all together, and how sure it is.

Axes: N points, B bootstrap draws.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.analysis.bootstrap import interval
from pipeline.analysis.pareto import hypervolume, knee, non_dominated

Draws = Mapping[tuple[str, str], pd.DataFrame]  # (benchmark, setting) -> draws [B, variants]
PANEL = ["benchmark", "setting", "cost"]


def mark(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """The points with their intervals and whether, and in which share of the draws, each stands on the front.

    `on_front` is the front of all strategies together, `on_own_front` that of the point's strategy alone, `knee` the
    joint front's knee over the logarithm of the cost. Costs do not vary between draws.
    """
    panels = []
    for (benchmark, setting, _), panel in points.groupby(PANEL, sort=False):
        value_N, accuracy_N = panel["value"].to_numpy(), panel["accuracy"].to_numpy()
        accuracy_BN = draws[benchmark, setting][panel["variant"]].to_numpy()
        low, high = interval(accuracy_BN)
        bend = knee(np.log(value_N), accuracy_N)
        marked = panel.assign(
            accuracy_low=low,
            accuracy_high=high,
            on_front=non_dominated(value_N, accuracy_N),
            front_probability=non_dominated(value_N, accuracy_BN).mean(axis=0),
            knee=np.arange(len(panel)) == bend if bend is not None else False,
        )
        own = marked.groupby("strategy", group_keys=False)[["value", "accuracy"]]
        masks = [pd.Series(non_dominated(f["value"], f["accuracy"]), index=f.index) for _, f in own]
        panels.append(marked.assign(on_own_front=pd.concat(masks)))
    return pd.concat(panels, ignore_index=True)


def volumes(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Hypervolume of each strategy's front, and of all together, in accuracy times decades of cost, with its interval.

    Reference: the panel's dearest point and accuracy 0. The dearest point itself then adds nothing: the area speaks of
    what is reached below its cost.
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        dearest = np.log10(panel["value"].max())
        groups = [("all", panel), *panel.groupby("strategy", sort=False)]
        for strategy, group in groups:
            cost_N = np.log10(group["value"].to_numpy())
            accuracy_BN = draws[keys[:2]][group["variant"]].to_numpy()
            low, high = interval(hypervolume(cost_N, accuracy_BN, dearest, 0.0))
            area = hypervolume(cost_N, group["accuracy"].to_numpy(), dearest, 0.0)
            row = {"strategy": strategy, "hypervolume": float(area), "low": low, "high": high}
            rows.append(dict(zip(PANEL, keys, strict=True)) | row)
    return pd.DataFrame(rows)
