"""Fronts, intervals and tests against brute force, scipy, hand-worked cases and simulations with a known truth."""

import itertools
import tracemalloc
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import records
from optuna._hypervolume import compute_hypervolume
from scipy import stats

from pipeline.analysis import exchange, fronts, money, noise, scaling, scores, tables
from pipeline.analysis.analyse import analyse
from pipeline.analysis.costs import AXES, COSTS, Cost
from pipeline.analysis.errors import estimate
from pipeline.analysis.money import CAPACITY
from pipeline.analysis.pareto import beyond, front, hypervolume, hypervolume_3, knee, non_dominated
from pipeline.analysis.trades import trades
from pipeline.retrieval.metrics import macro
from pipeline.store.records import Profile
from pipeline.store.results import ResultStore, RunState
from pipeline.values import UserError

MONEY = money.Prices("a rack", "imagined", "2026-01-01", 0.4, 0, 0.1, 400), money.Scenario(1000, 1000, 1, 1)


def brute_force(points):
    """The definition, one pair at a time, over losses."""
    return [
        not any(all(o <= p for o, p in zip(other, point, strict=True)) and other != point for other in points)
        for point in points
    ]


@pytest.mark.parametrize("objectives", [2, 3])
def test_front_is_the_definition(objectives):
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 20, 21):
        loss = rng.integers(0, 5, (size, objectives))  # few values: many ties and duplicates
        mask = non_dominated(loss[:, 0], -loss[:, 1], *loss.T[2:])
        assert mask.tolist() == brute_force([tuple(row) for row in loss.tolist()])


def test_front_keeps_duplicates_leaves_nan_and_takes_leading_axes():
    cost, accuracy = np.array([1.0, 1, 1, 2, 3, np.nan]), np.array([0.5, 0.5, 0.4, 0.5, 0.6, 0.9])
    assert non_dominated(cost, accuracy).tolist() == [True, True, False, False, True, False]
    assert front(cost, accuracy).tolist() == [0, 4]
    both = non_dominated(cost, np.stack([accuracy, -accuracy]))
    assert both.tolist() == [non_dominated(cost, accuracy).tolist(), non_dominated(cost, -accuracy).tolist()]


def test_hypervolume_by_hand_and_by_counting():
    # (1, .5) dominates 3 x .5 up to cost 4; (2, .8) adds 2 x .3; (3, .7) is dominated; (5, .9) lies beyond.
    cost, accuracy = np.array([3, 1, 5, 2]), np.array([0.7, 0.5, 0.9, 0.8])
    assert hypervolume(cost, accuracy, 4, 0) == pytest.approx(2.1)
    assert hypervolume(cost, accuracy, 4, 0.6) == pytest.approx(0.4)
    rng = np.random.default_rng(1)
    cost, accuracy = rng.integers(0, 30, 12), rng.integers(0, 30, 12)
    squares = sum(bool(((cost <= x) & (accuracy > y)).any()) for x, y in itertools.product(range(30), range(30)))
    assert hypervolume(cost, accuracy, 30, 0) == squares
    stacked = hypervolume(cost, np.stack([accuracy, accuracy[::-1]]), 30, 0)
    assert stacked.tolist() == [squares, hypervolume(cost, accuracy[::-1], 30, 0)]


@pytest.mark.parametrize("points", [1, 2, 12])
def test_hypervolumes_are_optunas(points):
    """Three stacked draws of accuracy and bias; a point beyond a reference counts nothing."""
    rng = np.random.default_rng(points)
    cost, accuracy, bias = rng.random(points), rng.random((3, points)), rng.random((3, points))
    losses = np.stack([np.broadcast_to(cost, accuracy.shape), -accuracy, bias], axis=-1)
    for worst in ((1.0, 0.0, 1.0), (0.6, 0.3, 0.7)):
        clipped, reference = (
            np.minimum(losses, (worst[0], -worst[1], worst[2])),
            np.array([worst[0], -worst[1], worst[2]]),
        )
        areas = [compute_hypervolume(of_draw[:, :2], reference[:2]) for of_draw in clipped]
        assert hypervolume(cost, accuracy, *worst[:2]) == pytest.approx(areas)
        assert hypervolume_3(cost, accuracy, bias, *worst) == pytest.approx(
            [compute_hypervolume(of_draw, reference) for of_draw in clipped]
        )


def test_a_front_of_many_draws_needs_no_square_of_memory():
    """200 points in 2,000 draws: pairwise comparisons would take 2,000 x 200 x 200 x 2 bytes and more."""
    rng = np.random.default_rng(0)
    cost, accuracy = rng.random((2000, 200)), rng.random((2000, 200))
    tracemalloc.start()
    mask = non_dominated(cost, accuracy)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * cost.nbytes
    assert mask[7].tolist() == brute_force(list(zip(cost[7].tolist(), (-accuracy[7]).tolist(), strict=True)))


def test_draws_of_cost_in_three_objectives():
    rng = np.random.default_rng(0)
    loss = rng.integers(0, 4, (3, 15, 12)).astype(float)  # objectives, draws, points; ties and duplicates
    mask = non_dominated(loss[0], -loss[1], loss[2])
    for draw in range(15):
        assert mask[draw].tolist() == brute_force([tuple(point) for point in loss[:, draw].T.tolist()])


def test_the_reference_lies_beyond_the_nadir():
    assert beyond(10.0, 0.0, 6) == 12  # 1 + 1 / 5
    assert beyond(1.0, 0.4, 2) == 1.6
    cost, accuracy = np.array([0.0, 1.0]), np.array([0.2, 0.5])
    best_alone = hypervolume(cost[1:], accuracy[1:], beyond(1.0, 0.0, 2), 0)
    assert best_alone == pytest.approx(0.5)  # the most expensive point adds its own area


def test_knee():
    assert knee(np.array([0.0, 1, 2, 4]), np.array([0.0, 0.6, 0.9, 1.0])) == 2
    assert knee(np.array([0.0, 1]), np.array([0.0, 1])) is None
    assert knee(np.array([0.0, 1, 2]), np.array([0.0, 1, 2])) is None  # a straight front has none


def test_cost_to_reach_by_hand():
    cost, accuracy = np.array([1.0, 10.0, 100.0, 50.0]), np.array([0.4, 0.6, 0.8, 0.5])  # the last is dominated
    reached = exchange.cost_to_reach(cost, accuracy, np.array([0.2, 0.4, 0.5, 0.7, 0.8, 0.81]))
    assert reached == pytest.approx([1, 1, 10**0.5, 10**1.5, 100, np.inf])
    rng = np.random.default_rng(0)
    cost, accuracy, target = rng.random((50, 9)), rng.integers(0, 5, (50, 9)) / 5, rng.random((50, 4))  # with ties
    by_draw = [exchange.cost_to_reach(*draw) for draw in zip(cost, accuracy, target, strict=True)]
    assert np.array_equal(exchange.cost_to_reach(cost, accuracy, target), by_draw)
    for draw in range(50):
        order = np.argsort(cost[draw])
        best = np.maximum.accumulate(accuracy[draw][order])
        rises = np.diff(best, prepend=-np.inf) > 0
        log = np.interp(target[draw], best[rises], np.log(cost[draw][order][rises]), right=np.inf)
        assert by_draw[draw] == pytest.approx(np.exp(log))


def fronts_of(accuracy, cost=(2.0, 4.0, 8.0), **columns):
    """Points of strategies by name on one panel, and two draws: their accuracies, and .01 more."""
    rows = [
        {
            "benchmark": "b",
            "setting": "multi",
            "cost": "ms",
            "model": f"m{place}",
            "strategy": strategy,
            "value": cost[place],
            "variant": "as trained",
            "system": f"{strategy}{place}",
            "accuracy": value,
            "layers": 3 * 2**place,
        }
        for strategy, values in accuracy.items()
        for place, value in enumerate(values)
    ]
    points = pd.DataFrame(rows).assign(**columns)
    accuracy_S = points.set_index("system")["accuracy"]
    return points, {("b", "multi"): pd.DataFrame([accuracy_S, accuracy_S + 0.01])}


def test_size_saved_by_hand():
    """b is as accurate with 6 layers as a is with 12; a never reaches what b does with 12; b's smallest beats a's."""
    points, draws = fronts_of({"a": [0.1, 0.2, 0.3], "b": [0.2, 0.3, 0.4]})
    saved = exchange.savings(points, draws).set_index("system")
    assert saved["unit"].unique() == ["layers"]
    assert saved.loc["a2", ["size", "needed", "low", "high", "reached"]].tolist() == pytest.approx([12, 6, 6, 6, 1])
    assert saved.loc["a0", "needed"] == pytest.approx(3)  # no smaller one was tried
    assert saved.loc["b2", ["needed", "reached"]].tolist() == [np.inf, 0]
    assert saved["clamped"].to_dict() == {"a0": True, "a1": False, "a2": False, "b0": False, "b1": False, "b2": False}
    halfway = exchange.savings(*fronts_of({"a": [0.25, 0.25, 0.25], "b": [0.2, 0.3, 0.4]}))
    assert halfway["needed"].iloc[0] == pytest.approx(3 * 2**0.5)  # in the middle of the logarithm
    lexical = points.iloc[[0]].assign(system="bm25", strategy="none", layers=0)  # no layers are no size to compare
    both = pd.concat([points, lexical], ignore_index=True)
    with_lexical = {scale: drawn.assign(bm25=0.5) for scale, drawn in draws.items()}
    pd.testing.assert_frame_equal(exchange.savings(both, with_lexical).set_index("system"), saved)


def test_fits_are_least_squares_lines():
    points, draws = fronts_of({"a": [0.1, 0.2, 0.6], "b": [0.2, 0.3, 0.4]})
    lines = scaling.fits(points, draws).groupby("strategy")
    slopes = scaling.slopes(points, draws).set_index("strategy")
    for strategy, line in lines:
        expected = stats.linregress(np.log2(line["value"]), line["accuracy"])
        assert slopes.loc[strategy, "slope"] == pytest.approx(expected.slope)
        assert line["fitted"].to_numpy() == pytest.approx(expected.intercept + expected.slope * np.log2(line["value"]))
        assert line["residual"].to_numpy() == pytest.approx(line["accuracy"] - line["fitted"])
        if strategy == "b":  # which fits exactly: a shift of all moves the line, and nothing else
            assert (line["high"] - line["low"]).to_numpy() == pytest.approx(0.95 * 0.01)
    assert slopes.loc["a - b", "slope"] == pytest.approx(0.25 - 0.1)
    assert slopes["points"].tolist() == [3, 3, 3]
    assert slopes.loc["a", "lack_of_fit"] == pytest.approx(np.sqrt(0.015))  # residuals .05, -.1, .05: 1 degree
    assert slopes.loc["b", "lack_of_fit"] == pytest.approx(0, abs=1e-9)
    width = slopes["high"] - slopes["low"]  # of a line that fits badly it is wide: its residuals count
    assert width["a"] > 10 * width["b"]


def test_trades_of_an_inference_variant_by_hand():
    points, draws = fronts_of({"a": [0.5, 0.6], "a SQ8": [0.48, 0.6]}, cost=(2.0, 4.0))
    deployed = points["strategy"] == "a SQ8"
    points["system"] = "a" + points["model"] + np.where(deployed, " SQ8", "")
    points["variant"] = np.where(deployed, "SQ8", "as trained")
    points["value"] = points["value"].where(~deployed, 0.5)
    queries = np.random.default_rng(0).normal(0, 0.1, (30, 1))
    columns = pd.MultiIndex.from_product([points["system"], [0]])
    of = estimate(pd.DataFrame(points["accuracy"].to_numpy() + queries, columns=columns))
    table = trades(points, dict.fromkeys(draws, of))
    assert table["variant"].tolist() == ["SQ8", "SQ8"]
    assert table["system"].tolist() == ["am0 SQ8", "am1 SQ8"]
    assert table["trained"].tolist() == ["am0", "am1"]
    assert table["times_cheaper"].tolist() == [4, 8]
    assert table["difference"].tolist() == pytest.approx([-0.02, 0])
    assert table["low"].tolist() == pytest.approx(table["high"].tolist())  # the same in all draws: paired


def test_bias_is_a_third_objective():
    """By hand: c is beaten in accuracy and cost, but has the least bias in one of two draws."""
    accuracy = {"a": [0.5], "b": [0.6], "c": [0.4]}
    points, draws = fronts_of(accuracy, rank_distance=[100.0, 90.0, 80.0])
    points["value"] = [1.0, 2.0, 3.0]
    bias = {"b": pd.DataFrame([[100.0, 90.0, 80.0], [100.0, 70.0, 80.0]], columns=["a0", "b0", "c0"])}
    both = pd.concat([points, points.assign(cost=tables.BIAS, value=points["rank_distance"])])
    of = estimate(pd.DataFrame({(system, 0): [0.4, 0.6] for system in points["system"]}))
    marked = fronts.mark(both, dict.fromkeys(draws, of), draws, bias).set_index(["cost", "strategy"])
    assert marked.loc["ms", "on_front"].tolist() == [True, True, False]
    assert marked.loc["ms", "on_front_with_bias"].tolist() == [True, True, True]
    assert marked.loc["ms", "front_with_bias_probability"].tolist() == [1, 1, 0.5]
    assert marked.loc[tables.BIAS, "front_probability"].tolist() == [0, 1, 0.5]
    (everything, *_) = fronts.volumes(points, draws, bias).to_dict("records")
    shares = points["rank_distance"].to_numpy() / 100
    limit = 1.5 * np.log10(3)  # three costs: half the range beyond
    assert everything["reference"] == pytest.approx(10**limit)
    assert everything["hypervolume_with_bias"] == pytest.approx(
        hypervolume_3(np.log10([1.0, 2, 3]), np.array([0.5, 0.6, 0.4]), shares, limit, 0, 1 + 0.2 / 2)
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    store = ResultStore(tmp_path_factory.mktemp("results"))
    records.add_sweep(store)
    records.add_run(store, "toy", 24, "none", cost_only=True)
    return store, analyse(store, "toy", *MONEY)


def test_systems_are_means_over_seeds(sweep):
    store, made = sweep
    assert len(made["runs"]) == 19
    assert len(made["systems"]) == 10
    row = made["systems"].query("model == 'e5-small-l6' and strategy == 'hybrid'").iloc[0]
    both = [store.load(f"e5-small-l6-hybrid-toy-s{seed}-abcd") for seed in (0, 1)]
    assert row["seeds"] == 2
    assert row["metrics.facts.multi.map"] == pytest.approx(np.mean([r.metrics["facts.multi.map"] for r in both]))
    assert row["profile.ms_per_passage"] == pytest.approx(15)
    assert row["profile.quality"] == "passed"


def test_fronts_of_a_sweep(sweep):
    _, made = sweep
    points = made["pareto"]
    assert len(points) == 9 * 3 * 8  # systems, settings, costs and bias; the cost-only run has no accuracy
    panel = points.query("setting == 'multi' and cost == 'query_latency_p95_ms'")
    assert panel[panel["on_front"]]["strategy"].unique().tolist() == ["hybrid"]  # best of its cost everywhere
    assert panel["on_own_front"].all()
    assert (panel["accuracy_low"] < panel["accuracy"]).all()
    assert (panel["accuracy"] < panel["accuracy_high"]).all()
    assert panel[panel["on_front"]]["front_probability"].min() > 0.95
    assert panel[panel["strategy"] == "none"]["front_probability"].max() == 0
    assert panel["source"].unique().tolist() == ["measured: wall clock"]


def test_summaries_of_a_sweep(sweep):
    _, made = sweep
    chosen = "setting == 'multi' and cost == 'query_latency_p95_ms'"
    volumes = made["hypervolume"].query(chosen).set_index("strategy")
    assert volumes.loc["all", "hypervolume"] == pytest.approx(volumes.loc["hybrid", "hypervolume"])
    assert volumes["hypervolume"].between(volumes["low"], volumes["high"]).all()
    rates = made["exchange"].query(chosen).set_index(["strategy", "other", "model"])
    assert rates.loc[("hybrid", "none", "e5-small-l3"), "rate"] == np.inf  # .28 at its best, against .42
    assert rates.loc[("hybrid", "none", "e5-small-l3"), "reached"] == 0
    assert rates.loc[("none", "hybrid", "e5-small-l12"), "rate"] == pytest.approx(5.0 / 14.9)  # its cheapest does
    assert set(made["exchange"]["cost"]) == set(made["pareto"]["cost"]) - {tables.BIAS}
    assert set(made["savings"]["unit"]) == {"layers", "parameters"}
    assert len(made["tests"].query("setting == 'multi'")) == 9  # 3 pairs of strategies, 3 models
    assert (made["tests"]["p_holm"] >= made["tests"]["p"]).all()


def test_settings_of_a_sampler_tell_its_strategies_apart(tmp_path):
    store = ResultStore(tmp_path)
    for alpha in (0.3, 0.5):
        records.add_run(store, "s", 3, "hybrid", settings={"alpha": alpha})
    records.add_run(store, "s", 3, "monolingual")
    runs = tables.runs(store, "s")
    assert runs["strategy"].tolist() == ["hybrid alpha=0.3", "hybrid alpha=0.5", "monolingual"]
    assert runs["system"].nunique() == 3


def test_of_runs_that_differ_in_code_only_the_newest_is_used(tmp_path):
    store = ResultStore(tmp_path)
    old = records.add_run(store, "s", 3, "hybrid")
    new = replace(old, name="again", provenance=old.provenance | {"time": "2026-01-02T00:00:00Z"})
    store.save(new)
    store.add_to_manifest("s", RunState("again", "done", new.choices, 1.0))
    assert tables.runs(store, "s")["name"].tolist() == ["again"]


def test_what_cannot_be_compared_is_refused(tmp_path):
    store = ResultStore(tmp_path)
    store.add_to_manifest("s", RunState("dead", "failed", {}, 1.0, "killed by SIGKILL"))
    with pytest.raises(UserError, match=r"sweep s in .* has no finished run"):
        tables.runs(store, "s")
    run = records.add_run(store, "s", 3, "hybrid")
    records.add_run(store, "s", 3, "none")
    store.save_frame(store.run_dir(run.name), "per_query-facts", records.per_query(3, "hybrid", 0, queries=39))
    store.save(run)
    with pytest.raises(UserError, match="different queries of facts, so they cannot be compared"):
        scores.scores(store, tables.runs(store, "s"), None)


def test_a_sweep_without_profiles_has_tests_and_a_front_of_bias_alone(tmp_path):
    store = ResultStore(tmp_path)
    for sampler in ("none", "hybrid"):
        records.add_run(store, "s", 3, sampler, profiled=False)
    made = analyse(store, "s", *MONEY)
    assert made["pareto"]["cost"].unique() == [tables.BIAS]  # which is no figure of a profile
    assert len(made["tests"]) == 3


def test_joint_draws_leave_no_point_behind(sweep):
    """Some system stands on the front in every draw."""
    _, made = sweep
    total = made["pareto"].groupby(fronts.PANEL)["front_probability"].sum()
    assert (total >= 1).all()


def test_noise_is_the_spread_of_repeated_measurements():
    common = {"family": "e5", "variant": "as trained", "machine": "m", "profile.serving_mib": np.nan}
    latency = "profile.query_latency_p95_ms"
    runs = pd.DataFrame(
        [common | {"layers": 3, latency: value} for value in (10.0, 10.0, 9.0, 12.0)]  # the second shares a profile
        + [common | {"layers": 6, latency: value} for value in (20.0, 20.0)]
    )
    (row,) = noise.spread(runs).to_dict("records")
    assert (row["layers"], row["cost"], row["profiles"], row["median"]) == (3, "query_latency_p95_ms", 3, 10.0)
    assert (row["lowest"], row["highest"]) == pytest.approx((-0.1, 0.2))


def test_a_benchmark_is_compared_by_its_main_metric(tmp_path):
    """Half the accuracy as nDCG@10, and reversed strategies: every table must speak of the metric that is named."""
    store = ResultStore(tmp_path)
    expected = {}
    for sampler in ("none", "hybrid"):
        run = records.add_run(store, "s", 3, sampler)
        table = records.per_query(3, sampler, 0)
        table["ndcg_10"] = 0.9 - table["map"]
        store.save_frame(store.run_dir(run.name), "per_query-facts", table)
        metrics = {f"facts.{name}": value for name, value in macro(table).items()}
        expected[sampler] = metrics["facts.multi.ndcg_10"]
        store.save(replace(run, metrics=metrics, provenance=run.provenance | {"main_metrics": {"facts": "ndcg_10"}}))
    made = analyse(store, "s", *MONEY)
    assert tables.main_metric(made["systems"], "facts") == "ndcg_10"
    assert tables.scales(made["runs"]) == [("facts", setting) for setting in ("mono", "multi", "cross")]
    panel = made["pareto"].query("setting == 'multi' and cost == 'serving_mib'").set_index("strategy")
    assert panel["accuracy"].to_dict() == pytest.approx(expected)
    assert panel["on_front"].to_dict() == {"none": True, "hybrid": False}
    (test,) = made["tests"].query("setting == 'multi'").to_dict("records")
    first, second = ("none", "hybrid") if "-none-" in test["a"] else ("hybrid", "none")
    assert test["difference"] == pytest.approx(expected[first] - expected[second])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["map", "ndcg_10"], r"the runs name different main metrics of facts \(map, ndcg_10\)"),
        (["rank_distance"], "main_metric=rank_distance of facts: it must be a metric that is better when higher"),
        (["mapp"], "metric mapp is unknown: did you mean map"),
    ],
)
def test_main_metrics_that_cannot_be_compared_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        tables.main_metric(pd.DataFrame({"main_metric.facts": names}), "facts")


def test_every_cost_is_in_the_tables_of_a_sweep_and_can_be_worded(sweep):
    _, made = sweep
    figures = {field.name for field in fields(Profile)}
    assert len({cost.field for cost in COSTS}) == len(COSTS)
    for cost in COSTS:
        if cost.inverse_of != CAPACITY:  # which is there where a load was measured: test_load
            assert cost.column in made["runs"]
            assert cost.source in made["systems"]
            assert not cost.inverse_of or cost.inverse_of in figures
        assert bool(cost.option) == bool(cost.phrase)
        assert cost.phrase.count("{") <= 1
    assert set(made["pareto"]["cost"]) - {tables.BIAS} <= {cost.field for cost in AXES}


def test_a_cost_is_read_off_a_profile():
    profile = records.profile(layers=4)
    values = {cost.field: cost.of(profile) for cost in COSTS}
    assert values["ms_per_passage"] == 10  # 100 passages per second
    assert values["serving_mib"] == profile.serving_mib
    assert values["gpu_peak_allocated_mib"] is None  # without a GPU
    assert values["usd_per_month"] is None  # not of a profile


def test_a_cost_of_the_registry_becomes_an_axis(monkeypatch, tmp_path):
    """Adding a cost takes one entry."""
    extra = Cost("weights_mib", "weights", "MiB")
    for module in (tables, noise):
        monkeypatch.setattr(module, "AXES", (*AXES, extra))
    store = ResultStore(tmp_path)
    records.add_run(store, "s", 3, "hybrid")
    panel = analyse(store, "s", *MONEY)["pareto"].query("cost == 'weights_mib'")
    assert panel["value"].unique().tolist() == [1.0]
