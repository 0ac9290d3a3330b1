"""All tables of published accuracy against cost: fronts, their neighbours, choices within budgets, size, recipes."""

from collections.abc import Mapping
from itertools import pairwise

import pandas as pd

from pipeline.analysis import pareto
from pipeline.analysis.money import Prices, Scenario
from pipeline.analysis.published import costs, size
from pipeline.analysis.published.languages import CROSS, MONO, Sample, accuracies, difference, samples
from pipeline.analysis.published.models import NOT_TRAINED, with_architectures
from pipeline.analysis.published.scores import BENCHMARKS, Published

PANELS = (("miracl_hard_negatives", MONO), ("mlqa", CROSS), ("belebele", CROSS))  # what the first sentences rest on
BUDGET = costs.AXES[0]
BUDGETS = (10.0, 30.0, 100.0, 300.0, 1000.0)  # of BUDGET
COUNTED = "counted"  # in place of the quality checks of a profile
CHOSEN = ["model", "accuracy", "accuracy_low", "accuracy_high", "value", "source", "quality"]
EVERYONE = "all models"
POOLS = (EVERYONE, NOT_TRAINED)  # models among which a front is drawn and a choice is made


def study(published: Published, runs: pd.DataFrame, prices: Prices, scenario: Scenario) -> dict[str, pd.DataFrame]:
    """Return all tables by name.

    Args:
        published: of scores.read.
        runs: of costs.measured.
        prices: for dollars (conf/prices).
        scenario: the load that is priced (conf/scenario).

    Returns:
        `models` and `architectures` with their costs, `held_out` (errors of modelled costs), `points` of all fronts,
        `neighbours` on them, `choices` within budgets, `gaps` between monolingual and cross-lingual accuracy, `trends`
        over active parameters, `ladders` of recipes with their mean (`within_recipes`), and `refused` results.
    """
    known, held_out = costs.of_architectures(runs)
    models = costs.of_models(with_architectures(published.models), known, prices, scenario)
    drawn = of_benchmarks(published.scores)
    points = pd.concat([points_of(drawn[key], models).assign(**named(key)) for key in drawn], ignore_index=True)
    ladders = size.ladders(drawn, models)
    return {
        "models": models,
        "architectures": known,
        "held_out": held_out,
        "points": points,
        "neighbours": neighbours(points, drawn),
        "choices": choices(points, drawn),
        "gaps": size.gaps(drawn),
        "trends": size.trends(drawn, models, size.multilingual(published.scores)),
        "ladders": ladders,
        "within_recipes": size.within_recipes(ladders),
        "refused": published.refused,
    }


def named(key: tuple[str, str]) -> dict[str, str]:
    """Return a benchmark and a setting as columns."""
    return dict(zip(("benchmark", "setting"), key, strict=True))


def of_benchmarks(scores: pd.DataFrame) -> dict[tuple[str, str], Sample]:
    """Return the sample of each benchmark and setting, in the order of BENCHMARKS."""
    tables = dict(iter(scores.groupby("benchmark")))
    names = [benchmark.name for benchmark in BENCHMARKS if benchmark.name in tables]
    return {(name, setting): sample for name in names for setting, sample in samples(tables[name]).items()}


def points_of(sample: Sample, models: pd.DataFrame) -> pd.DataFrame:
    """Return the points of all fronts of one benchmark and setting.

    Returns:
        One row per cost of costs.AXES and model that has it: accuracy with its interval over languages, `value`,
        `source` (measured, modelled or counted, and how), `quality`, `zero_shot`, `recipe`, and whether it is
        `on_front` of all models and, among those that say they did not train on MIRACL, `on_zero_shot_front`.
    """
    table = accuracies(sample).merge(models, on="model")
    frames = []
    for cost in costs.AXES:
        if cost.column not in table or table[cost.column].isna().all():
            continue
        of_cost = table[table[cost.column] > 0]  # a static table has no active parameters: no place on a log axis
        columns = ["model", "architecture", "recipe", "zero_shot", "accuracy", "accuracy_low", "accuracy_high"]
        frame = of_cost[columns].assign(
            cost=cost.field,
            value=of_cost[cost.column].astype(float),
            source=of_cost[cost.source],
            quality=COUNTED if cost.exact else of_cost["profile.quality"],
            machine=of_cost["machine"],
        )
        frame["on_front"] = front(frame)
        zero_shot = frame["zero_shot"] == NOT_TRAINED
        frame["on_zero_shot_front"] = False
        frame.loc[zero_shot, "on_zero_shot_front"] = front(frame[zero_shot])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def front(points: pd.DataFrame) -> pd.Series:
    """Return which points no other beats on value and accuracy at once."""
    return pd.Series(pareto.non_dominated(points["value"].to_numpy(), points["accuracy"].to_numpy()), points.index)


def pool(points: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the points of one of POOLS."""
    return points if name == EVERYONE else points[points["zero_shot"] == name]


def neighbours(points: pd.DataFrame, drawn: Mapping[tuple[str, str], Sample]) -> pd.DataFrame:
    """Return each step up a front: the dearer model, its neighbour below, and what is gained.

    Returns:
        One row per front and step: `times` the cost, `gain` with its paired 95 % interval low, high over languages, and
        whether the two can be `told_apart` (the interval excludes 0).
    """
    rows = []
    for pool_name, on_front in zip(POOLS, ("on_front", "on_zero_shot_front"), strict=True):
        fronts = points[points[on_front]].sort_values("value").groupby(["benchmark", "setting", "cost"], sort=False)
        for (benchmark, setting, cost), group in fronts:
            steps = group.drop_duplicates("value").to_dict("records")
            for below, above in pairwise(steps):
                gain, low, high = difference(drawn[benchmark, setting], above["model"], below["model"])
                row = {"benchmark": benchmark, "setting": setting, "cost": cost, "pool": pool_name}
                row |= {"model": above["model"], "below": below["model"], "times": above["value"] / below["value"]}
                rows.append(row | {"gain": gain, "low": low, "high": high, "told_apart": bool(low > 0)})
    columns = ["benchmark", "setting", "cost", "pool", "model", "below", "times", "gain", "low", "high", "told_apart"]
    return pd.DataFrame(rows, columns=columns)


def choices(points: pd.DataFrame, drawn: Mapping[tuple[str, str], Sample]) -> pd.DataFrame:
    """Return the most accurate model within each of BUDGETS, and the cheapest that cannot be told apart from it.

    Returns:
        One row per panel of PANELS, pool of POOLS and budget that some model keeps and that changes the choice:
        `model`, its `accuracy` and `value`, `source`, `quality`, and the same of the `cheapest` within the interval.
    """
    rows: list[dict[str, object]] = []
    for benchmark, setting in PANELS:
        panel = points[(points["benchmark"] == benchmark) & (points["setting"] == setting)]
        panel = panel[panel["cost"] == BUDGET.field].sort_values("value")
        for pool_name in POOLS:
            before = None
            for budget in BUDGETS:
                within = pool(panel, pool_name).query("value <= @budget")
                if within.empty or (best := within.loc[within["accuracy"].idxmax()])["model"] == before:
                    continue
                before, sample = best["model"], drawn[benchmark, setting]
                same = [m for m in within["model"] if difference(sample, best["model"], m)[1] <= 0]
                cheapest = within[within["model"] == same[0]].iloc[0]
                row = {"benchmark": benchmark, "setting": setting, "pool": pool_name, "budget": budget}
                row |= best[CHOSEN].to_dict()
                row |= {"cheapest": cheapest["model"], "cheapest_accuracy": cheapest["accuracy"]}
                rows.append(row | {"cheapest_value": cheapest["value"]})
    columns = ["benchmark", "setting", "pool", "budget", *CHOSEN, "cheapest", "cheapest_accuracy", "cheapest_value"]
    return pd.DataFrame(rows, columns=columns)
