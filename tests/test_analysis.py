"""Fronts, intervals and tests against brute force, scipy, hand-worked cases and simulations with a known truth."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import records
from optuna._hypervolume import compute_hypervolume
from scipy import stats

from pipeline.analysis import errors, exchange, fronts, money, noise, paired, scaling, tables
from pipeline.analysis.analyse import analyse
from pipeline.analysis.costs import AXES, COSTS, Cost
from pipeline.analysis.pareto import front, hypervolume, hypervolume_3, knee, non_dominated
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


def test_knee():
    assert knee(np.array([0.0, 1, 2, 4]), np.array([0.0, 0.6, 0.9, 1.0])) == 2
    assert knee(np.array([0.0, 1]), np.array([0.0, 1])) is None
    assert knee(np.array([0.0, 1, 2]), np.array([0.0, 1, 2])) is None  # a straight front has none


def test_query_scores_keep_the_macro_average():
    """Whether a query is missing in a language or none is, the mean of the values is the mean of the pairs' means."""
    table = records.per_query(3, "hybrid", 0, queries=7)
    for frame in (table, table.drop(index=[0, 1, 8])):
        for setting in ("mono", "cross", "multi"):
            rows = frame[frame["setting"] == setting]
            macro = rows.groupby(["query_language", "passage_language"])["map"].mean().mean()
            assert bootstrap.query_scores(frame, setting, "map").mean() == pytest.approx(macro)
    frame = table[(table["setting"] != "multi") | (table["query_id"] != "q3")]
    multi = bootstrap.query_scores(frame, "multi", "map")
    assert multi["q3"] == pytest.approx(multi.mean())  # left out of this setting: an average query
    assert multi.index.equals(bootstrap.query_scores(frame, "cross", "map").index)
    whole = bootstrap.query_scores(table, "cross", "map")
    assert whole["q3"] == pytest.approx(table[(table.setting == "cross") & (table.query_id == "q3")]["map"].mean())


def test_draws_are_paired_and_as_wide_as_scipy_says():
    rng = np.random.default_rng(0)
    a = rng.beta(2, 1, 150)
    scores = pd.DataFrame({("a", 0): a, ("b", 0): a - 0.1})
    draws = bootstrap.draws(scores, size=4000)
    assert np.allclose(draws["a"] - draws["b"], 0.1)
    reference = stats.bootstrap([a], np.mean, n_resamples=4000, method="percentile", rng=rng).confidence_interval
    assert np.allclose(bootstrap.interval(draws["a"]), reference, atol=0.004)


def test_draws_of_one_encoder_with_seeds_are_students_t():
    """Queries that all score alike leave only the seeds to vary."""
    seed_effects = np.array([0.0, 0.3, 0.9])
    scores = pd.DataFrame({("a", seed): np.full(10, effect) for seed, effect in enumerate(seed_effects)})
    bounds = bootstrap.interval(bootstrap.draws(scores, size=100_000)["a"])
    assert np.array(bounds) == pytest.approx(stats.ttest_1samp(seed_effects, 0).confidence_interval(0.95), rel=0.05)


def test_seed_error_is_pooled_over_encoders_without_the_noise_of_queries():
    rng = np.random.default_rng(0)
    queries = 20_000  # so many that their noise, which is 4 times that of the seeds, hardly matters
    effects = {"a": [0.0, 0.2], "b": [0.5, 0.9], "b SQ8": [0.5, 0.9], "alone": [0.3]}
    scores = {(v, k): e + rng.normal(0, 0.5, queries) for v, es in effects.items() for k, e in enumerate(es)}
    same = rng.normal(0, 0.5, queries)
    scores |= {("untrained", 0): same, ("untrained", 1): same}
    error, degrees = bootstrap.seed_error(pd.DataFrame(scores))
    pooled = np.sqrt((0.2**2 / 2 + 0.4**2 / 2) / 2 / 2)  # variances .02 and .08, of a mean of two
    assert error == pytest.approx([pooled, pooled, pooled, 0, 0], rel=0.05)
    assert degrees == 2  # two encoders: an inference variant of one says nothing new about seeds


def test_seed_error_is_that_of_a_two_way_analysis_of_variance():
    score_QK = np.random.default_rng(1).normal([0, 1, 2, 4], 1, (30, 4))
    error, degrees = bootstrap.seed_error(pd.DataFrame({("a", seed): score_QK[:, seed] for seed in range(4)}))
    left_QK = score_QK - score_QK.mean(axis=0) - score_QK.mean(axis=1, keepdims=True) + score_QK.mean()
    square_of_seeds, square_left = 30 * score_QK.mean(axis=0).var(ddof=1), (left_QK**2).sum() / (29 * 3)
    assert error.item() ** 2 == pytest.approx((square_of_seeds - square_left) / 30 / 4)
    assert degrees == 3


def test_an_inference_variant_shares_the_seeds_of_its_encoder():
    scores = pd.DataFrame({(v, k): np.full(10, k + 0.1 * (v == "a")) for v in ("a", "a SQ8", "b") for k in range(2)})
    draws = bootstrap.draws(scores)
    assert np.allclose(draws["a"] - draws["a SQ8"], 0.1)
    assert (draws["a"] - draws["b"]).std() > 0.5


def coverage(draws_BV, truth):
    low, high = bootstrap.interval(draws_BV)
    return ((low <= truth) & (truth <= high)).mean()


@pytest.mark.parametrize("queries", [20, 300])
@pytest.mark.parametrize("law", ["normal", "mostly right"])
def test_intervals_of_means_and_paired_differences_hold_the_truth(queries, law):
    """1,000 benchmarks, each with two strategies that find the same queries hard."""
    rng, shape = np.random.default_rng(0), (queries, 1000)
    difficulty = rng.normal(0.6, 0.25, shape) if law == "normal" else rng.beta(0.6, 0.2, shape)  # mean .75, mostly 1
    first, second = (difficulty + rng.normal(0, 0.1, shape) for _ in range(2))
    names = pd.MultiIndex.from_product([["a", "b"], range(1000)]).map(lambda name: (f"{name[0]}{name[1]}", 0))
    draws = bootstrap.draws(pd.DataFrame(np.hstack([first, second]), columns=names), size=1000).to_numpy()
    assert 0.93 <= coverage(draws[:, :1000], 0.6 if law == "normal" else 0.75) <= 0.97
    assert 0.93 <= coverage(draws[:, :1000] - draws[:, 1000:], 0) <= 0.97


@pytest.mark.parametrize(
    ("seeds", "seed_sd"), [(2, 0.03), (3, 0)]
)  # .03: a difference varies more by seeds than by queries
def test_intervals_over_seeds_hold_the_truth(seeds, seed_sd):
    """1,000 sweeps of 6 encoders; the truth is the mean over all queries and all seeds."""
    rng = np.random.default_rng(0)
    queries, encoders, coverages = 60, 6, []
    names = pd.MultiIndex.from_product([list("abcdef"), range(seeds)])
    for sweep in range(1000):
        score = rng.normal(0, 0.25, (queries, 1, 1)) + rng.normal(0, 0.05, (queries, encoders, 1))
        score = score + rng.normal(0, seed_sd, (encoders, seeds)) + rng.normal(0, 0.1, (queries, encoders, seeds))
        draws = bootstrap.draws(pd.DataFrame(score.reshape(queries, -1), columns=names), sweep, size=400)
        coverages.append([coverage(draws, 0), coverage(draws["a"] - draws["b"], 0)])
    of_means, of_differences = np.mean(coverages, axis=0)
    assert 0.93 <= of_means <= 0.97
    assert 0.93 <= of_differences <= 0.97


def test_intervals_hold_the_truth_where_rows_are_missing():
    """300 draws of a benchmark: 3 languages that share 100 queries, a sixth of the rows missing."""
    rng = np.random.default_rng(0)
    truth, scores = np.array([0.3, 0.5, 0.9]), {}
    for repeat in range(300):
        score_QL = truth + rng.normal(0, 0.2, (100, 1)) + rng.normal(0, 0.2, (100, 3))
        rows = pd.DataFrame(score_QL, columns=list("abc")).rename_axis("query_id").reset_index()
        rows = rows.melt("query_id", var_name="query_language", value_name="map")
        rows["map"] = rows["map"].where(rng.random(len(rows)) < 5 / 6)
        rows = rows.assign(setting="mono", passage_language=rows["query_language"])
        scores[f"v{repeat}", 0] = bootstrap.query_scores(rows, "mono", "map")
    assert 0.92 <= coverage(bootstrap.draws(pd.DataFrame(scores)), truth.mean()) <= 0.98  # 95 % and its sampling error


def test_holm_by_hand():
    assert paired.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])
    assert paired.holm(np.array([])).tolist() == []


def test_strategies_are_compared_at_equal_model():
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.1, 60)
    scores = pd.DataFrame({("x", 0): base + 0.02 + rng.normal(0, 0.02, 60), ("y", 0): base, ("z", 0): base + 1})
    models = pd.Series({"x": "small", "y": "small", "z": "large", "cost only": "large"})
    (row,) = paired.compare(scores, bootstrap.draws(scores), models).to_dict("records")
    test = stats.permutation_test(
        [scores["x", 0] - scores["y", 0]], np.mean, permutation_type="samples", n_resamples=2000, rng=rng
    )
    assert (row["model"], row["a"], row["b"]) == ("small", "x", "y")
    assert row["difference"] == pytest.approx((scores["x", 0] - scores["y", 0]).mean())
    assert row["low"] < row["difference"] < row["high"]
    assert row["p"] == row["p_holm"] < 0.001 > test.pvalue - 0.001


def test_cost_to_reach_by_hand():
    cost, accuracy = np.array([1.0, 10.0, 100.0, 50.0]), np.array([0.4, 0.6, 0.8, 0.5])  # the last is dominated
    reached = exchange.cost_to_reach(cost, accuracy, np.array([0.2, 0.4, 0.5, 0.7, 0.8, 0.81]))
    assert reached == pytest.approx([1, 1, 10**0.5, 10**1.5, 100, np.inf])


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
    halfway = exchange.savings(*fronts_of({"a": [0.25, 0.25, 0.25], "b": [0.2, 0.3, 0.4]}))
    assert halfway["needed"].iloc[0] == pytest.approx(3 * 2**0.5)  # in the middle of the logarithm


def test_fits_are_least_squares_lines():
    points, draws = fronts_of({"a": [0.1, 0.2, 0.6], "b": [0.2, 0.3, 0.4]})
    lines = scaling.fits(points, draws).groupby("strategy")
    slopes = scaling.slopes(points, draws).set_index("strategy")
    for strategy, line in lines:
        expected = stats.linregress(np.log2(line["value"]), line["accuracy"])
        assert slopes.loc[strategy, "slope"] == pytest.approx(expected.slope)
        assert line["fitted"].to_numpy() == pytest.approx(expected.intercept + expected.slope * np.log2(line["value"]))
        assert line["residual"].to_numpy() == pytest.approx(line["accuracy"] - line["fitted"])
        assert (line["high"] - line["low"]).to_numpy() == pytest.approx(0.95 * 0.01)  # a shift of all moves the line
    assert slopes.loc["a - b", "slope"] == pytest.approx(0.25 - 0.1)


def test_trades_of_an_inference_variant_by_hand():
    points, draws = fronts_of({"a": [0.5, 0.6], "a SQ8": [0.48, 0.6]}, cost=(2.0, 4.0))
    deployed = points["strategy"] == "a SQ8"
    points["system"] = "a" + points["model"] + np.where(deployed, " SQ8", "")
    points["variant"] = np.where(deployed, "SQ8", "as trained")
    points["value"] = points["value"].where(~deployed, 0.5)
    draws = {key: frame.set_axis(points["system"], axis="columns") for key, frame in draws.items()}
    table = trades(points, draws)
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
    marked = fronts.mark(both, draws, bias).set_index(["cost", "strategy"])
    assert marked.loc["ms", "on_front"].tolist() == [True, True, False]
    assert marked.loc["ms", "on_front_with_bias"].tolist() == [True, True, True]
    assert marked.loc["ms", "front_with_bias_probability"].tolist() == [1, 1, 0.5]
    assert marked.loc[tables.BIAS, "front_probability"].tolist() == [0, 1, 0.5]
    (everything, *_) = fronts.volumes(points, draws, bias).to_dict("records")
    shares = points["rank_distance"].to_numpy() / 100
    assert everything["hypervolume_with_bias"] == pytest.approx(
        hypervolume_3(np.log10([1.0, 2, 3]), np.array([0.5, 0.6, 0.4]), shares, np.log10(3), 0, 1)
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
    assert bool(row["profile.quality_passed"])


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
        tables.scores(store, tables.runs(store, "s"))


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
    common = {"family": "e5", "variant": "as trained", "machine": "m", "profile.peak_rss_mib": np.nan}
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
    panel = made["pareto"].query("setting == 'multi' and cost == 'peak_rss_mib'").set_index("strategy")
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
    assert values["peak_rss_mib"] == profile.peak_rss_mib
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
