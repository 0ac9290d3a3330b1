"""The fronts of a sweep: every cost against accuracy, for each strategy alone and all together, with uncertainty.

A panel is one plot: a benchmark, a setting and a cost. Costs are drawn like accuracies (draws.costs), except where all
points share a measurement. Axes: N points, B draws.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.analysis.draws import cost_bounds, costs
from pipeline.analysis.errors import Estimates, interval
from pipeline.analysis.pareto import beyond, hypervolume, hypervolume_3, knee, non_dominated
from pipeline.analysis.tables import BIAS

Accuracies = Mapping[tuple[str, str], Estimates]  # (benchmark, setting) -> the main metric of all systems
Draws = Mapping[tuple[str, str], pd.DataFrame]  # the same -> draws of it [B, systems]
BiasDraws = Mapping[str, pd.DataFrame]  # benchmark -> draws of BIAS [B, systems] over the same queries and seeds
PANEL = ["benchmark", "setting", "cost"]
WITH_BIAS, LEAST_WITH_BIAS = 500, 100  # draws, where bias is a third objective: their time grows with points squared
MANY = 100  # points: from here on fewer draws with bias, and volumes of the points of each draw's front only


def mark(points: pd.DataFrame, accuracies: Accuracies, draws: Draws, bias: BiasDraws) -> pd.DataFrame:
    """Add intervals, and whether and how often each point stands on the front.

    Args:
        points: table of `tables.points`.
        accuracies: of the systems.
        draws: of the accuracy.
        bias: of the language bias, for benchmarks with a multilingual pool.

    Returns:
        The points, panel by panel, with further columns:
        `accuracy_low`, `accuracy_high`, `value_low`, `value_high` and the same of BIAS: 95 % intervals;
        `covers`: what the interval of the accuracy speaks of; `cost_drawn`: whether the cost has an error, else it is
        the same in all draws;
        `on_front`: on the front of all strategies together; `front_probability`: in which share of the draws of costs
        and accuracies;
        `on_own_front`: on the front of the point's own strategy;
        `on_front_with_bias`, `front_with_bias_probability`: with language bias as a third objective, where it is known
        and not the cost itself;
        `knee`: whether the point is the knee of the front of all, over the logarithm of the cost.

    The second system is more accurate than the first in one of two draws only:

    >>> from pipeline.analysis.errors import estimate
    >>> points = pd.DataFrame({"benchmark": "b", "setting": "multi", "cost": "ms", "strategy": "hybrid", BIAS: np.nan,
    ...                        "system": ["x", "y"], "value": [1.0, 2.0], "accuracy": [0.5, 0.55]})
    >>> accuracies = estimate(pd.DataFrame({("x", 0): [0.4, 0.6], ("y", 0): [0.4, 0.7]}))
    >>> draws = pd.DataFrame({"x": [0.5, 0.5], "y": [0.4, 0.7]})
    >>> marked = mark(points, {("b", "multi"): accuracies}, {("b", "multi"): draws}, {})
    >>> marked["on_front"].tolist(), marked["front_probability"].tolist()
    ([True, True], [1.0, 0.5])
    """
    panels = []
    for (benchmark, setting, cost), panel in points.groupby(PANEL, sort=False):
        value_N, accuracy_N = panel["value"].to_numpy(), panel["accuracy"].to_numpy()
        accuracy_BN = draws[benchmark, setting][panel["system"]].to_numpy()
        bias_BN = bias[benchmark][panel["system"]].to_numpy() if benchmark in bias else None
        value_BN, third_N, third_BN, some = costs(panel, len(accuracy_BN)), [], [], slice(None)
        if bias_BN is not None and cost == BIAS:
            value_BN = bias_BN
        elif bias_BN is not None:
            some = slice(draws_with_bias(len(panel)))
            third_N, third_BN = [panel[BIAS].to_numpy()], [bias_BN[some]]
        with_bias_BN = non_dominated(value_BN[some], accuracy_BN[some], *third_BN)
        bend = knee(np.log(value_N), accuracy_N)
        intervals = [accuracies[benchmark, setting].intervals[system] for system in panel["system"]]
        marked = panel.assign(
            accuracy_low=[of.low for of in intervals],
            accuracy_high=[of.high for of in intervals],
            covers=[accuracies[benchmark, setting].covers(system) for system in panel["system"]],
            **(bounds("value", value_BN) if cost == BIAS else exact_bounds(panel)),
            cost_drawn=np.ptp(value_BN, axis=0) > 0,
            on_front=non_dominated(value_N, accuracy_N),
            front_probability=non_dominated(value_BN, accuracy_BN).mean(axis=0),
            on_front_with_bias=non_dominated(value_N, accuracy_N, *third_N),
            front_with_bias_probability=with_bias_BN.mean(axis=0),
            knee=np.arange(len(panel)) == bend if bend is not None else False,
        )
        if bias_BN is not None:
            marked = marked.assign(**bounds(BIAS, bias_BN))
        panels.append(marked)
    return with_own_fronts(pd.concat(panels, ignore_index=True), "strategy")


def with_own_fronts(points: pd.DataFrame, group: str) -> pd.DataFrame:
    """Add `on_own_front`: whether each point is on the front of its own strategy, or of another group, in its panel.

    >>> points = pd.DataFrame({"benchmark": "b", "setting": "multi", "cost": "ms", "strategy": list("xyy"),
    ...                        "value": [1.0, 2.0, 3.0], "accuracy": [0.5, 0.4, 0.3]})
    >>> with_own_fronts(points, "strategy")["on_own_front"].tolist()
    [True, True, False]
    """
    groups = points.groupby([*PANEL, group])[["value", "accuracy"]]
    masks = [pd.Series(non_dominated(own["value"], own["accuracy"]), index=own.index) for _, own in groups]
    return points.assign(on_own_front=pd.concat(masks))


def bounds(name: str, draws_BN: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns `<name>_low` and `<name>_high` [N]: the 95 % interval of each point.

    >>> {column: bound_N.round(3).tolist() for column, bound_N in bounds("accuracy", np.array([[0.4], [0.6]])).items()}
    {'accuracy_low': [0.405], 'accuracy_high': [0.595]}
    """
    return dict(zip((f"{name}_low", f"{name}_high"), interval(draws_BN), strict=True))


def exact_bounds(points: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns `value_low` and `value_high` [N]: the 95 % intervals of the costs, without the noise of draws.

    >>> points = pd.DataFrame({"value": [10.0], "relative_error": [0.1], "rounds": [3]})
    >>> {column: bound_N.round(2).tolist() for column, bound_N in exact_bounds(points).items()}
    {'value_low': [6.5], 'value_high': [15.38]}
    """
    columns = points.reindex(columns=["value", "relative_error", "rounds"]).astype(float)
    return dict(zip(("value_low", "value_high"), cost_bounds(*columns.to_numpy().T), strict=True))


def volumes(points: pd.DataFrame, draws: Draws, bias: BiasDraws) -> pd.DataFrame:
    """Return the hypervolume of each strategy's front, and of the front of all, with 95 % intervals over draws.

    The reference point is the same for all strategies of a panel: accuracy 0, and a cost beyond the highest of the
    panel
    (pareto.beyond, with as many points as the panel has costs), so that the most expensive system adds to the area too.

    Args:
        points: table of `tables.points`, without language bias as a cost.
        draws: of the accuracy.
        bias: of the language bias, for benchmarks with a multilingual pool.

    Returns:
        One row per panel and strategy, `all` first: `hypervolume`, `low`, `high` in accuracy times decades of cost, and
        `reference`, the cost of the reference point. `hypervolume_with_bias`, `with_bias_low`, `with_bias_high` have a
        third side: the share of the panel's worst bias that is avoided, counted from a reference beyond the worst.

    Costs of 1 and 10 are two points, so the reference is a range beyond 10: an accuracy of .5 from 1 to 10, .7 to 100.

    >>> points = pd.DataFrame({"benchmark": "b", "setting": "multi", "cost": "ms", "strategy": "hybrid", BIAS: np.nan,
    ...                        "system": ["x", "y"], "value": [1.0, 10.0], "accuracy": [0.5, 0.7]})
    >>> table = volumes(points, {("b", "multi"): pd.DataFrame({"x": [0.4, 0.6], "y": [0.7, 0.7]})}, {})
    >>> table[["strategy", "hypervolume", "low", "high", "reference"]].round(3).to_dict("records")[0]
    {'strategy': 'all', 'hypervolume': 1.2, 'low': 1.105, 'high': 1.295, 'reference': 100.0}
    """
    rows = []
    for keys, panel in points.groupby(PANEL, sort=False):
        steps = panel["value"].nunique()
        log_N = np.log10(panel["value"].to_numpy(float))
        limit = beyond(log_N.max(), log_N.min(), steps) if steps > 1 else log_N.max() + np.log10(2)
        worst = panel[BIAS].max()
        limit_bias = beyond(1.0, panel[BIAS].min() / worst, steps)
        log_BN = pd.DataFrame(np.log10(costs(panel, len(draws[keys[:2]]))), columns=panel.index)
        groups = [("all", panel), *panel.groupby("strategy", sort=False)]
        for strategy, group in groups:
            cost_N, accuracy_N = np.log10(group["value"].to_numpy(float)), group["accuracy"].to_numpy()
            cost_BN, accuracy_BN = log_BN[group.index].to_numpy(), draws[keys[:2]][group["system"]].to_numpy()
            low, high = interval(hypervolume(cost_BN, accuracy_BN, limit, 0.0))
            area = float(hypervolume(cost_N, accuracy_N, limit, 0.0))
            row = {"strategy": strategy, "hypervolume": area, "low": low, "high": high, "reference": 10**limit}
            if keys[0] in bias:
                bias_BN = bias[keys[0]][group["system"]].to_numpy() / worst
                some = slice(draws_with_bias(len(group)))
                cost_BN, accuracy_BN, bias_BN = useful(cost_BN[some], accuracy_BN[some], bias_BN[some])
                volume_B = hypervolume_3(cost_BN, accuracy_BN, bias_BN, limit, 0.0, limit_bias)
                bias_N = group[BIAS].to_numpy() / worst
                volume = float(hypervolume_3(cost_N, accuracy_N, bias_N, limit, 0.0, limit_bias))
                row |= {"hypervolume_with_bias": volume, **bounds("with_bias", volume_B)}
            rows.append(dict(zip(PANEL, keys, strict=True)) | row)
    return pd.DataFrame(rows)


def draws_with_bias(points: int) -> int:
    """Return in how many draws bias is a third objective: WITH_BIAS, fewer for more than MANY points.

    >>> draws_with_bias(42), draws_with_bias(200), draws_with_bias(1000)
    (500, 250, 100)
    """
    return max(WITH_BIAS * MANY // max(points, MANY), LEAST_WITH_BIAS)


def useful(cost_BN: np.ndarray, accuracy_BN: np.ndarray, bias_BN: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the three sides without points that add nothing to the volume: those that are on no draw's front.

    Of more than MANY points the F of each draw's own front remain, [B, F]; where a front has fewer points, dominated
    ones fill its row.
    """
    sides, front_BN = (cost_BN, accuracy_BN, bias_BN), non_dominated(cost_BN, accuracy_BN, bias_BN)
    if front_BN.shape[1] <= MANY:
        return tuple(side_BN[:, front_BN.any(axis=0)] for side_BN in sides)
    first_BF = np.argsort(~front_BN, axis=1, kind="stable")[:, : front_BN.sum(axis=1).max()]
    return tuple(np.take_along_axis(side_BN, first_BF, axis=1) for side_BN in sides)
