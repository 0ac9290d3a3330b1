"""All tables of a sweep, from its records: what `pipeline.report` writes as csv files and draws."""

from collections.abc import Mapping

import pandas as pd

from pipeline.analysis import exchange, fronts, noise, paired, pool, scaling, scores, tables, trades, verdict, winners
from pipeline.analysis.errors import Estimates
from pipeline.analysis.load import curves as load_curves
from pipeline.analysis.money import Prices, Scenario, priced
from pipeline.store.records import AS_TRAINED
from pipeline.store.results import ResultStore


def analyse(store: ResultStore, sweep: str, prices: Prices, scenario: Scenario) -> dict[str, pd.DataFrame]:
    """Return the sweep's tables by name, each of which becomes a csv file.

    Returns:
        `runs` and `systems` (analysis.tables), `pareto` (fronts.mark), and, where there is something to say:
        `load` (load.curves), `noise` (noise.spread), `accuracies` (intervals), `tests` (paired.compare), `winners`
        (winners.winners), `pool_curve` (pool.curves), `hypervolume` (fronts.volumes), `exchange` and `savings`
        (analysis.exchange), `slopes` and `fits` (analysis.scaling), `trades`, `cards` (analysis.verdict). A sweep
        without accuracy has none of the tables after `noise`.

    Raises:
        UserError: the sweep does not exist, has no finished run, or its runs cannot be compared.

    >>> from types import SimpleNamespace
    >>> prices = Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0.1, g_co2_per_kwh=400)
    >>> analyse(SimpleNamespace(root="results", runs=lambda sweep: []), "none", prices, Scenario(1000, 1000, 1, 0.5))
    Traceback (most recent call last):
    pipeline.values.UserError: sweep none in results has no finished run.
    """
    runs = priced(tables.runs(store, sweep), prices, scenario)
    systems = tables.systems(runs)
    points = tables.points(systems)
    results = {"runs": runs, "systems": systems, "pareto": points}
    under_load = load_curves(store, runs)
    if not under_load.empty:
        results["load"] = under_load
    spread = noise.spread(runs)
    if not spread.empty:
        results["noise"] = spread
    if not tables.scales(runs):
        return results
    by_query, bias_by_query = scores.scores(store, runs, None, tables.BIAS)
    accuracies = scores.estimates(by_query, systems)
    results["accuracies"] = intervals(accuracies)
    draws = {scale: of.draws() for scale, of in accuracies.items()}
    biases = scores.estimates(bias_by_query, systems)
    bias = {name: of.draws() for (name, _), of in biases.items()}
    variant = systems["variant"].where(systems["variant"] != AS_TRAINED, "")
    models = (systems["model"] + " " + variant).str.strip().set_axis(systems["system"])
    tests = {scale: paired.compare(of, models) for scale, of in accuracies.items()}
    results["tests"] = pd.concat(tests, names=["benchmark", "setting"]).reset_index(level=[0, 1])
    results["winners"] = winners.winners(accuracies, draws)
    for table in (results["tests"], results["winners"]):
        table["clusters"] = [
            accuracies[scale].clusters for scale in zip(table["benchmark"], table["setting"], strict=True)
        ]
        names = {benchmark: tables.cluster_name(runs, benchmark) for benchmark in table["benchmark"].unique()}
        table["cluster"] = table["benchmark"].map(names)
    curves = pool.curves(scores.pool_ranks(store, runs))
    if not curves.empty:
        results["pool_curve"] = curves
    if not points.empty:
        results["pareto"] = points = fronts.mark(points, accuracies, draws, bias)
        costs = points[points["cost"] != tables.BIAS]
        trained = costs[costs["variant"] == AS_TRAINED]
        results["hypervolume"] = fronts.volumes(costs, draws, bias)
        results["exchange"] = exchange.rates(costs, draws)
        results["savings"] = exchange.savings(trained, draws)
        results["slopes"] = scaling.slopes(trained, draws)
        results["fits"] = scaling.fits(trained, draws)
        results["trades"] = trades.trades(costs, accuracies)
    main = verdict.main_scale(systems)
    assert main, "there are scales"
    results["cards"] = verdict.cards(runs, systems, points, accuracies[main[:2]], draws[main[:2]])
    return results


def intervals(accuracies: Mapping[tuple[str, str], Estimates]) -> pd.DataFrame:
    """Return one row per benchmark, setting and system: `accuracy`, the ends of its 95 % interval, what that covers."""
    rows = [
        (*scale, system, of.value, of.low, of.high, estimates.covers(system))
        for scale, estimates in accuracies.items()
        for system, of in estimates.intervals.items()
    ]
    return pd.DataFrame(rows, columns=["benchmark", "setting", "system", "accuracy", "low", "high", "covers"])
