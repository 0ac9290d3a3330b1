"""What should I deploy? The most accurate system within limits on cost, and how sure that is, in sentences.

Costs and accuracies are drawn: a system counts in a draw only if its costs in that draw are within the limits.
Axes: B draws, S systems. Tables are those of `tables.systems`, indexed by system.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.analysis import draws, fleet, money, scores, tables, verdict
from pipeline.analysis.costs import COSTS, Cost
from pipeline.analysis.errors import QUERIES, Estimates
from pipeline.analysis.load import P99_MS
from pipeline.analysis.winners import chosen_interval
from pipeline.retrieval.metrics import metric
from pipeline.store.progress import counted
from pipeline.store.results import ResultStore
from pipeline.values import UserError

Limits = Mapping[Cost, float]  # the most that a system may cost


@dataclass(frozen=True)
class Recommendation:
    """The sentences that answer, and the run to export; None if no system is within the limits."""

    sentences: list[str]
    run: str | None


def recommend(
    store: ResultStore,
    sweep: str,
    accuracy: str | None,
    limits: Limits,
    prices: money.Prices,
    scenario: money.Scenario,
    load: fleet.Load | None = None,
) -> Recommendation:
    """Return the recommendation for a sweep.

    Args:
        store: holds the sweep.
        sweep: its name.
        accuracy: what to optimise, [BENCHMARK.]SETTING.METRIC, by default of the first benchmark; a metric that is
            better when lower is minimised. None: what the verdict compares, so that without limits the answer is the
            verdict's most accurate system.
        limits: the most that the system may cost.
        prices: for the costs in dollars.
        scenario: for the costs in dollars.
        load: that the system must carry; only systems whose capacity was measured can be recommended for one.

    Raises:
        UserError: no such sweep, accuracy or cost, or a metric that cannot order runs; no capacity for the load.

    >>> from types import SimpleNamespace
    >>> prices = money.Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0.1, g_co2_per_kwh=400)
    >>> scenario = money.Scenario(1000, queries_per_day=1000, reencodes_per_year=2, utilisation=0.5)
    >>> store = SimpleNamespace(root="results", runs=lambda sweep: [])
    >>> recommend(store, "articles", "multi.map", {}, prices, scenario)
    Traceback (most recent call last):
    pipeline.values.UserError: sweep articles in results has no finished run.
    """
    runs = money.priced(tables.runs(store, sweep), prices, scenario)
    scale = tables.scale(runs, accuracy, "accuracy") if accuracy else verdict.main_scale(runs)
    if scale is None:
        raise UserError(f"sweep {sweep} has no accuracy: it says what systems cost, not which one to deploy.")
    higher_is_better = metric(scale.metric).direction == "maximize"
    table = tables.systems(runs)
    systems = table.set_index("system", drop=False).rename_axis(index=None)
    for cost in limits:
        if cost.column not in systems:
            raise UserError(f"{cost.option}: no run of sweep {sweep} has that figure.")
    (by_query,) = scores.scores(store, runs.dropna(subset=[scale.column]), scale.metric, only=scale[:2])
    of = scores.estimates({scale[:2]: by_query[scale[:2]]}, table)[scale[:2]]
    systems = systems.assign(accuracy=systems[scale.column])
    if load:
        systems = fleet.with_fleet(systems, prices, scenario, load)
    text = sentences(systems, of, limits, " ".join(scale), higher_is_better=higher_is_better)
    systems = verdict.ranked(systems, "accuracy", higher_is_better=higher_is_better)
    eligible = systems[_eligible(systems, limits).all(axis=1)]
    if load:
        text += fleet_sentences(eligible if len(eligible) else systems, load, prices, scenario)
    if eligible.empty:
        return Recommendation(text, None)
    notes = runs.loc[runs["system"] == eligible.index[0], "notes"]  # which must stand wherever the figures do
    return Recommendation([*text, *filter(None, notes.unique())], verdict.run_of(runs, str(eligible.index[0])))


def sentences(
    systems: pd.DataFrame, of: Estimates, limits: Limits, name: str, *, higher_is_better: bool = True
) -> list[str]:
    """Return the sentences of a recommendation.

    Args:
        systems: with the column `accuracy`.
        of: the accuracies with their errors.
        limits: on costs that the table has.
        name: what to call the accuracy.
        higher_is_better: whether accuracy is to be high.

    >>> from pipeline.analysis.errors import estimate
    >>> systems = pd.DataFrame({"system": ["x", "y"], "model": ["small", "large"], "strategy": "hybrid", "seeds": 3,
    ...                         "variant": "as trained", "accuracy": [0.5, 0.6],
    ...                         "profile.query_latency_p95_ms": [5.0, 9.0],
    ...                         "profile.sources.query_latency_p95_ms": "measured: wall clock"}, index=["x", "y"])
    >>> of = estimate(pd.DataFrame({("x", 0): [0.5, 0.5], ("y", 0): [0.6, 0.6]}))
    >>> print("\\n".join(sentences(systems, of, {COSTS[1]: 6.0}, "multi mAP")[:3]))
    Deploy small with hybrid batches: multi mAP 0.500 [0.500, 0.500] at 5 ms per query (p95).
    No other system is within the limits.
    With 9 ms per query (p95): large with hybrid batches, +0.100 [+0.100, +0.100].
    """
    systems = verdict.ranked(systems, "accuracy", higher_is_better=higher_is_better)
    within = _eligible(systems, limits)
    eligible = systems[within.all(axis=1)]
    if eligible.empty:
        return [_none_within(systems, within)]
    best = eligible.iloc[0]
    accuracy_BS = of.draws()[systems.index]
    low, high = chosen_interval(of, accuracy_BS[eligible.index], best.name)
    figure = f"{name} {best['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
    text = [f"Deploy {verdict.name(best)}: {figure} at {_costs(best, limits)}."]
    fits_BS, place = _within(systems, limits, len(accuracy_BS)), systems.index.get_loc(best.name)
    if len(eligible) > 1:
        second = eligible.iloc[1]
        text.append(f"Runner-up: {verdict.name(second)}, {_versus(second, best, of)}, at {_costs(second, limits)}.")
        drawn_BS = np.where(fits_BS, accuracy_BS * (1 if higher_is_better else -1), -np.inf)
        wins = fits_BS[:, place] & (drawn_BS.argmax(axis=1) == place)
        text.append(
            f"It is the best of the systems within the limits in {wins.mean():.0%} of draws of costs and accuracies."
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
            text.append(f"With {price}: {verdict.name(next_best)}, {_versus(next_best, best, of)}.")
    exceeds = 1 - fits_BS[:, place].mean()
    if exceeds > 0.005:
        text.append(f"Its cost is above a limit in {exceeds:.0%} of draws: measure more rounds, or leave more room.")
    return text + _doubts(best, of, limits)


def fleet_sentences(
    systems: pd.DataFrame, load: fleet.Load, prices: money.Prices, scenario: money.Scenario
) -> list[str]:
    """Return what each system needs to carry a load, the cheapest first.

    Args:
        systems: with the columns `accuracy` and of `fleet.with_fleet`.

    >>> systems = pd.DataFrame({"model": ["small"], "strategy": "hybrid", "variant": "as trained", "accuracy": [0.5],
    ...                         "instances": [3.0], "fleet_usd_per_month": [810.3], "load.p99_ms": [50.0]})
    >>> prices = money.Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0, g_co2_per_kwh=400)
    >>> scenario = money.Scenario(1000, queries_per_day=1000, reencodes_per_year=2, utilisation=0.5)
    >>> print("\\n".join(fleet_sentences(systems, fleet.Load(250), prices, scenario)))
    For 250 queries/s at a p99 of 50 ms, on instances like a rack (2026-01-01) at utilisation 0.5:
      small with hybrid batches: 3 instances, 810.30 USD per month, accuracy 0.500
    """
    machine = f"instances like {prices.name} ({prices.date}) at utilisation {scenario.utilisation:g}"
    text = [f"For {load.qps:g} queries/s at a p99 of {systems[P99_MS].iloc[0]:g} ms, on {machine}:"]
    for _, row in systems.sort_values("fleet_usd_per_month", kind="stable").iterrows():
        count = counted(int(row["instances"]), "instance")
        figures = f"{count}, {row['fleet_usd_per_month']:.2f} USD per month, accuracy {row['accuracy']:.3f}"
        text.append(f"  {verdict.name(row)}: {figures}")
    return text


def _eligible(systems: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Return whether each system keeps each limit: booleans, one column per limited cost."""
    return pd.DataFrame({cost: systems[cost.column] <= most for cost, most in limits.items()}, index=systems.index)


def _within(systems: pd.DataFrame, limits: Limits, size: int) -> np.ndarray:
    """Return whether each system's drawn costs are within all limits: booleans [B, S]."""
    within_BS = np.ones((size, len(systems)), dtype=bool)
    for cost, most in limits.items():
        within_BS &= draws.costs(tables.with_cost_errors(systems, cost), size) <= most
    return within_BS


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
    return f"the lowest is {cost.phrase.format(row[cost.column])}, of {verdict.name(row)}"


def _versus(row: pd.Series, best: pd.Series, of: Estimates) -> str:
    """Say the paired difference to the best with its interval, and whether it holds 0."""
    difference = of.difference(row.name, best.name)
    doubt = ", which these queries cannot tell from 0" if difference.low <= 0 <= difference.high else ""
    return f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]{doubt}"


def _costs(row: pd.Series, limits: Limits) -> str:
    """Say the costs that have a limit; without any limit, all that are known."""
    known = [cost for cost in COSTS if cost.option and pd.notna(row.get(cost.column))]
    return ", ".join(cost.phrase.format(row[cost.column]) for cost in limits or known) or "a cost that was not measured"


def _doubts(best: pd.Series, of: Estimates, limits: Limits) -> list[str]:
    text = []
    if best["seeds"] == 1 and of.covers(best.name) == QUERIES:
        text.append("One seed: the intervals are over queries only.")
    quality = best.get(tables.QUALITY, tables.PASSED)
    if quality == tables.FAILED:
        text.append(verdict.DOUBT)
    elif quality != tables.PASSED:
        text.append("Its costs were not measured: there is no profile.")
    modelled = [cost.field for cost in limits if str(best.get(cost.source)).startswith("modelled")]
    if modelled:
        text.append(f"Modelled, not measured: {', '.join(modelled)}.")
    fixed = [cost.field for cost in limits if not cost.exact and pd.isna(best.get(cost.error))]
    if fixed:
        text.append(f"Without an error in the profile, and so taken as exact: {', '.join(fixed)}.")
    return text
