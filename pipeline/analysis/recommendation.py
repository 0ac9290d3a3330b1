"""What should I deploy? The most accurate system within limits on cost, and how sure that is, in sentences.

Axes: B bootstrap draws, S systems. Tables are those of `tables.systems`, indexed by system.
"""

from collections.abc import Mapping

import pandas as pd

from pipeline.analysis import bootstrap, money, tables
from pipeline.analysis.costs import COSTS, Cost
from pipeline.retrieval.metrics import metric
from pipeline.store.records import AS_TRAINED
from pipeline.store.results import ResultStore
from pipeline.values import UserError

Limits = Mapping[Cost, float]  # the most that a system may cost


def recommend(
    store: ResultStore,
    sweep: str,
    accuracy: str,
    limits: Limits,
    prices: money.Prices,
    scenario: money.Scenario,
) -> list[str]:
    """Return the recommendation for a sweep.

    Args:
        store: holds the sweep.
        sweep: its name.
        accuracy: what to optimise, [BENCHMARK.]SETTING.METRIC, by default of the first benchmark; a metric that is
            better when lower is minimised.
        limits: the most that the system may cost.
        prices: for the costs in dollars.
        scenario: for the costs in dollars.

    Raises:
        UserError: no such sweep, accuracy or cost, or a metric that cannot order runs.

    >>> from types import SimpleNamespace
    >>> prices = money.Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0.1, g_co2_per_kwh=400)
    >>> scenario = money.Scenario(1000, queries_per_day=1000, reencodes_per_year=2, utilisation=0.5)
    >>> store = SimpleNamespace(root="results", runs=lambda sweep: [])
    >>> recommend(store, "articles", "multi.map", {}, prices, scenario)
    Traceback (most recent call last):
    pipeline.values.UserError: sweep articles in results has no finished run.
    """
    runs = money.priced(tables.runs(store, sweep), prices, scenario)
    scale = tables.scale(runs, accuracy, "--accuracy")
    higher_is_better = metric(scale.metric).direction == "maximize"
    systems = tables.systems(runs).set_index("system")
    for cost in limits:
        if cost.column not in systems:
            raise UserError(f"{cost.option}: no run of sweep {sweep} has that figure.")
    scores_QC = tables.scores(store, runs.dropna(subset=[scale.column]), scale.metric)[scale[:2]]
    draws_BS = bootstrap.draws(scores_QC, higher_is_better=higher_is_better)
    systems = systems.assign(accuracy=systems[scale.column])
    return sentences(systems, draws_BS, limits, " ".join(scale), higher_is_better=higher_is_better)


def sentences(
    systems: pd.DataFrame, draws_BS: pd.DataFrame, limits: Limits, name: str, *, higher_is_better: bool = True
) -> list[str]:
    """Return the sentences of a recommendation.

    Args:
        systems: with the column `accuracy`.
        draws_BS: of the accuracy.
        limits: on costs that the table has.
        name: what to call the accuracy.
        higher_is_better: whether accuracy is to be high.

    >>> systems = pd.DataFrame({"model": ["small", "large"], "strategy": "hybrid", "variant": "as trained", "seeds": 3,
    ...                         "accuracy": [0.5, 0.6], "profile.query_latency_p95_ms": [5.0, 9.0]}, index=["x", "y"])
    >>> draws = pd.DataFrame({"x": [0.5, 0.5], "y": [0.6, 0.6]})
    >>> print("\\n".join(sentences(systems, draws, {COSTS[1]: 6.0}, "multi mAP")))
    Deploy small with hybrid batches: multi mAP 0.500 [0.500, 0.500] at 5 ms per query (p95).
    No other system is within the limits.
    With 9 ms per query (p95): large with hybrid batches, +0.100 [+0.100, +0.100].
    """
    systems = systems.dropna(subset=["accuracy"]).sort_values("accuracy", ascending=not higher_is_better)
    within = pd.DataFrame({cost: systems[cost.column] <= most for cost, most in limits.items()}, index=systems.index)
    eligible = systems[within.all(axis=1)]
    if eligible.empty:
        return [_none_within(systems, within)]
    best = eligible.iloc[0]
    low, high = bootstrap.interval(draws_BS[best.name])
    figure = f"{name} {best['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
    text = [f"Deploy {_system(best)}: {figure} at {_costs(best, limits)}."]
    if len(eligible) > 1:
        second = eligible.iloc[1]
        text.append(f"Runner-up: {_system(second)}, {_versus(second, best, draws_BS)}, at {_costs(second, limits)}.")
        drawn_BS = draws_BS[eligible.index].to_numpy() * (1 if higher_is_better else -1)
        wins = (drawn_BS.argmax(axis=1) == 0).mean()
        text.append(
            f"It is the best of the {len(eligible)} systems within the limits in {wins:.0%} of bootstrap draws."
        )
    else:
        text.append("No other system is within the limits.")
    for cost in limits:
        others = within.drop(columns=cost).all(axis=1)
        better = systems["accuracy"] > best["accuracy"] if higher_is_better else systems["accuracy"] < best["accuracy"]
        beyond = systems[others & better].dropna(subset=[cost.column])
        if not beyond.empty:  # the smallest step beyond this limit, the others standing
            next_best = beyond.loc[beyond[cost.column].idxmin()]
            price = cost.phrase.format(next_best[cost.column])
            text.append(f"With {price}: {_system(next_best)}, {_versus(next_best, best, draws_BS)}.")
    return text + _doubts(best, limits)


def _none_within(systems: pd.DataFrame, within: pd.DataFrame) -> str:
    """Say which limit binds: the one without which a system is eligible, or the one that excludes the most."""
    others = {cost: within.drop(columns=cost).all(axis=1) for cost in within}
    binding = [cost for cost, eligible in others.items() if eligible.any()]
    if not binding:
        cost = min(within, key=lambda cost: within[cost].sum())
        excludes = f"{cost.option} excludes the most: {_cheapest(systems, cost)}"
        return f"No system is within the limits, whichever limit is dropped; {excludes}."
    binds = "; ".join(f"{cost.option} binds: {_cheapest(systems[others[cost]], cost)}" for cost in binding)
    return f"No system is within the limits. {binds}."


def _cheapest(systems: pd.DataFrame, cost: Cost) -> str:
    if systems[cost.column].isna().all():
        return "no system has that figure"
    row = systems.loc[systems[cost.column].idxmin()]
    return f"the lowest is {cost.phrase.format(row[cost.column])}, of {_system(row)}"


def _versus(row: pd.Series, best: pd.Series, draws_BS: pd.DataFrame) -> str:
    """Say the paired difference to the best with its interval, and whether it holds 0."""
    difference_B = (draws_BS[row.name] - draws_BS[best.name]).to_numpy()
    low, high = bootstrap.interval(difference_B)
    doubt = ", which these queries cannot tell from 0" if low <= 0 <= high else ""
    return f"{difference_B.mean():+.3f} [{low:+.3f}, {high:+.3f}]{doubt}"


def _system(row: pd.Series) -> str:
    variant = "" if row["variant"] == AS_TRAINED else f", inference variant {row['variant']}"
    return f"{row['model']} with {row['strategy']} batches{variant}"


def _costs(row: pd.Series, limits: Limits) -> str:
    """Say the costs that have a limit; without any limit, all that are known."""
    known = [cost for cost in COSTS if cost.option and pd.notna(row.get(cost.column))]
    return ", ".join(cost.phrase.format(row[cost.column]) for cost in limits or known) or "a cost that was not measured"


def _doubts(best: pd.Series, limits: Limits) -> list[str]:
    text = []
    if best["seeds"] == 1:
        text.append("One seed: the intervals are over queries only.")
    if not best.get(tables.QUALITY, True):
        text.append("The profile failed its quality checks: measure it again on a quiet machine before relying on it.")
    modelled = [cost.field for cost in limits if str(best.get(cost.source)).startswith("modelled")]
    if modelled:
        text.append(f"Modelled, not measured: {', '.join(modelled)}.")
    return text
