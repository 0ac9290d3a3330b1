"""The fronts of a sweep: every cost against every accuracy, each strategy alone and all together, and how sure it is.

Axes: N points, B bootstrap draws.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.analysis.bootstrap import interval
from pipeline.analysis.pareto import hypervolume, hypervolume_3, knee, non_dominated
from pipeline.analysis.tables import BIAS

Draws = Mapping[tuple[str, str], pd.DataFrame]  # (benchmark, setting) -> draws [B, variants]
BiasDraws = Mapping[str, pd.DataFrame]  # benchmark -> draws [B, variants] of the same questions
PANEL = ["benchmark", "setting", "cost"]


def mark(points: pd.DataFrame, draws: Draws, bias: BiasDraws) -> pd.DataFrame:
    """The points with their intervals and whether, and in which share of the draws, each stands on the front.

    `on_front` is the front of all strategies together, `on_own_front` that of the point's strategy alone, `knee` the
    joint front's knee over the logarithm of the cost. `on_front_with_bias` counts language bias as a third objective,
    where it is known and not the cost itself. Other costs do not vary between draws.
    """
    panels = []
    for (benchmark, setting, cost), panel in points.groupby(PANEL, sort=False):
        value_N, accuracy_N = panel["value"].to_numpy(), panel["accuracy"].to_numpy()
        accuracy_BN = draws[benchmark, setting][panel["variant"]].to_numpy()
        bias_BN = bias[benchmark][panel["variant"]].to_numpy() if benchmark in bias else None
        value_BN = value_N if bias_BN is None or cost != BIAS else bias_BN
        third = [] if bias_BN is None or cost == BIAS else [(panel[BIAS].to_numpy(), bias_BN)]
        bend = knee(np.log(value_N), accuracy_N)
        marked = panel.assign(
            **bounds("accuracy", accuracy_BN),
            on_front=non_dominated(value_N, accuracy_N),
            front_probability=non_dominated(value_BN, accuracy_BN).mean(axis=0),
            on_front_with_bias=non_dominated(value_N, accuracy_N, *(bias_N for bias_N, _ in third)),
            front_with_bias_probability=non_dominated(value_BN, accuracy_BN, *(b_BN for _, b_BN in third)).mean(axis=0),
            knee=np.arange(len(panel)) == bend if bend is not None else False,
        )
        if bias_BN is not None:
            marked = marked.assign(**bounds(BIAS, bias_BN))
        own = marked.groupby("strategy", group_keys=False)[["value", "accuracy"]]
        masks = [pd.Series(non_dominated(f["value"], f["accuracy"]), index=f.index) for _, f in own]
        panels.append(marked.assign(on_own_front=pd.concat(masks)))
    return pd.concat(panels, ignore_index=True)


def bounds(name: str, draws_BN: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip((f"{name}_low", f"{name}_high"), interval(draws_BN), strict=True))


def volumes(points: pd.DataFrame, draws: Draws, bias: BiasDraws, size: int = 500) -> pd.DataFrame:
    """Hypervolume of each strategy's front, and of all together, in accuracy times decades of cost, with its interval.

    Reference: the panel's dearest point and accuracy 0. The dearest point itself then adds nothing: the area speaks of
    what is reached below its cost. `hypervolume_with_bias` has a third side, the share of the panel's worst bias that
    is avoided; its interval rests on the first `size` draws.
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        dearest, worst = np.log10(panel["value"].max()), panel[BIAS].max()
        groups = [("all", panel), *panel.groupby("strategy", sort=False)]
        for strategy, group in groups:
            cost_N, accuracy_N = np.log10(group["value"].to_numpy()), group["accuracy"].to_numpy()
            accuracy_BN = draws[keys[:2]][group["variant"]].to_numpy()
            low, high = interval(hypervolume(cost_N, accuracy_BN, dearest, 0.0))
            area = hypervolume(cost_N, accuracy_N, dearest, 0.0)
            row = {"strategy": strategy, "hypervolume": float(area), "low": low, "high": high}
            if keys[0] in bias:
                bias_BN = bias[keys[0]][group["variant"]].to_numpy()[:size] / worst
                drawn = hypervolume_3(cost_N, accuracy_BN[:size], bias_BN, dearest, 0.0, 1.0)
                volume = hypervolume_3(cost_N, accuracy_N, group[BIAS].to_numpy() / worst, dearest, 0.0, 1.0)
                row |= {"hypervolume_with_bias": float(volume), **bounds("with_bias", drawn)}
            rows.append(dict(zip(PANEL, keys, strict=True)) | row)
    return pd.DataFrame(rows)
