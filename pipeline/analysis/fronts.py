"""The fronts of a sweep: every cost against accuracy, for each strategy alone and all together, with uncertainty.

A panel is one plot: a benchmark, a setting and a cost. Axes: N points, B bootstrap draws.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.analysis.bootstrap import interval
from pipeline.analysis.pareto import hypervolume, hypervolume_3, knee, non_dominated
from pipeline.analysis.tables import BIAS

Draws = Mapping[tuple[str, str], pd.DataFrame]  # (benchmark, setting) -> draws of the main metric [B, systems]
BiasDraws = Mapping[str, pd.DataFrame]  # benchmark -> draws of BIAS [B, systems] over the same queries
PANEL = ["benchmark", "setting", "cost"]


def mark(points: pd.DataFrame, draws: Draws, bias: BiasDraws) -> pd.DataFrame:
    """Add intervals, and whether and how often each point stands on the front.

    Costs other than language bias do not vary between draws.

    Args:
        points: table of `tables.points`.
        draws: of the accuracy.
        bias: of the language bias, for benchmarks with a multilingual pool.

    Returns:
        The points, panel by panel, with further columns:
        `accuracy_low`, `accuracy_high` and the same of BIAS: 95 % intervals;
        `on_front`: on the front of all strategies together; `front_probability`: in which share of the draws;
        `on_own_front`: on the front of the point's own strategy;
        `on_front_with_bias`, `front_with_bias_probability`: with language bias as a third objective, where it is known
        and not the cost itself;
        `knee`: whether the point is the knee of the front of all, over the logarithm of the cost.

    The second system is more accurate than the first in one of two draws only:

    >>> points = pd.DataFrame({"benchmark": "b", "setting": "multi", "cost": "ms", "strategy": "hybrid", BIAS: np.nan,
    ...                        "system": ["x", "y"], "value": [1.0, 2.0], "accuracy": [0.5, 0.55]})
    >>> marked = mark(points, {("b", "multi"): pd.DataFrame({"x": [0.5, 0.5], "y": [0.4, 0.7]})}, {})
    >>> marked["on_front"].tolist(), marked["front_probability"].tolist()
    ([True, True], [1.0, 0.5])
    """
    panels = []
    for (benchmark, setting, cost), panel in points.groupby(PANEL, sort=False):
        value_N, accuracy_N = panel["value"].to_numpy(), panel["accuracy"].to_numpy()
        accuracy_BN = draws[benchmark, setting][panel["system"]].to_numpy()
        bias_BN = bias[benchmark][panel["system"]].to_numpy() if benchmark in bias else None
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
        groups = marked.groupby("strategy", group_keys=False)[["value", "accuracy"]]
        masks = [pd.Series(non_dominated(own["value"], own["accuracy"]), index=own.index) for _, own in groups]
        panels.append(marked.assign(on_own_front=pd.concat(masks)))
    return pd.concat(panels, ignore_index=True)


def bounds(name: str, draws_BN: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns `<name>_low` and `<name>_high` [N]: the 95 % interval of each point.

    >>> {column: bound_N.round(3).tolist() for column, bound_N in bounds("accuracy", np.array([[0.4], [0.6]])).items()}
    {'accuracy_low': [0.405], 'accuracy_high': [0.595]}
    """
    return dict(zip((f"{name}_low", f"{name}_high"), interval(draws_BN), strict=True))


def volumes(points: pd.DataFrame, draws: Draws, bias: BiasDraws, size: int = 500) -> pd.DataFrame:
    """Return the hypervolume of each strategy's front, and of the front of all, with 95 % intervals.

    The reference point is the panel's highest cost and accuracy 0. So the most expensive point itself adds nothing: the
    area says what is reached below its cost.

    Args:
        points: table of `tables.points`, without language bias as a cost.
        draws: of the accuracy.
        bias: of the language bias, for benchmarks with a multilingual pool.
        size: number of draws for the interval of `hypervolume_with_bias`, which is slow.

    Returns:
        One row per panel and strategy, `all` first: `hypervolume`, `low`, `high` in accuracy times decades of cost.
        `hypervolume_with_bias`, `with_bias_low`, `with_bias_high` have a third side, the share of the panel's worst
        bias that is avoided.

    An accuracy of .5 at a tenth of the highest cost:

    >>> points = pd.DataFrame({"benchmark": "b", "setting": "multi", "cost": "ms", "strategy": "hybrid", BIAS: np.nan,
    ...                        "system": ["x", "y"], "value": [1.0, 10.0], "accuracy": [0.5, 0.7]})
    >>> table = volumes(points, {("b", "multi"): pd.DataFrame({"x": [0.4, 0.6], "y": [0.7, 0.7]})}, {})
    >>> table[["strategy", "hypervolume", "low", "high"]].round(3).to_dict("records")[0]
    {'strategy': 'all', 'hypervolume': 0.5, 'low': 0.405, 'high': 0.595}
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        highest, worst = np.log10(panel["value"].max()), panel[BIAS].max()
        groups = [("all", panel), *panel.groupby("strategy", sort=False)]
        for strategy, group in groups:
            cost_N, accuracy_N = np.log10(group["value"].to_numpy()), group["accuracy"].to_numpy()
            accuracy_BN = draws[keys[:2]][group["system"]].to_numpy()
            low, high = interval(hypervolume(cost_N, accuracy_BN, highest, 0.0))
            area = hypervolume(cost_N, accuracy_N, highest, 0.0)
            row = {"strategy": strategy, "hypervolume": float(area), "low": low, "high": high}
            if keys[0] in bias:
                bias_BN = bias[keys[0]][group["system"]].to_numpy()[:size] / worst
                volume_B = hypervolume_3(cost_N, accuracy_BN[:size], bias_BN, highest, 0.0, 1.0)
                volume = hypervolume_3(cost_N, accuracy_N, group[BIAS].to_numpy() / worst, highest, 0.0, 1.0)
                row |= {"hypervolume_with_bias": float(volume), **bounds("with_bias", volume_B)}
            rows.append(dict(zip(PANEL, keys, strict=True)) | row)
    return pd.DataFrame(rows)
