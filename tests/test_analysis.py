"""Fronts, intervals and tests against brute force, scipy, hand-worked cases and simulations with a known truth."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import records
from scipy import stats

from pipeline import aggregate
from pipeline.analysis import bootstrap, exchange, fronts, money, paired, scaling, tables
from pipeline.analysis.pareto import front, hypervolume, knee, non_dominated
from pipeline.results import Cell, ResultStore
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
    cells = sum(bool(((cost <= x) & (accuracy > y)).any()) for x, y in itertools.product(range(30), range(30)))
    assert hypervolume(cost, accuracy, 30, 0) == cells
    stacked = hypervolume(cost, np.stack([accuracy, accuracy[::-1]]), 30, 0)
    assert stacked.tolist() == [cells, hypervolume(cost, accuracy[::-1], 30, 0)]


def test_knee():
    assert knee(np.array([0.0, 1, 2, 4]), np.array([0.0, 0.6, 0.9, 1.0])) == 2
    assert knee(np.array([0.0, 1]), np.array([0.0, 1])) is None
    assert knee(np.array([0.0, 1, 2]), np.array([0.0, 1, 2])) is None  # a straight front has none


def test_query_scores_keep_the_macro_average():
    """Where a question is missing in a language, and where none is, the values' mean is the mean of pairs' means."""
    table = records.per_query(3, "hybrid", 0, questions=7)
    for frame in (table, table.drop(index=[0, 1, 8])):
        for setting in ("mono", "cross", "multi"):
            rows = frame[frame["setting"] == setting]
            macro = rows.groupby(["query_language", "passage_language"])["map"].mean().mean()
            assert bootstrap.query_scores(frame, setting, "map").mean() == pytest.approx(macro)
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


def test_draws_over_seeds_have_the_variance_of_the_mean():
    seed_effects = np.array([0.0, 0.3, 0.9])
    scores = pd.DataFrame({("a", seed): np.full(10, effect) for seed, effect in enumerate(seed_effects)})
    draws = bootstrap.draws(scores, size=20000)
    assert draws["a"].mean() == pytest.approx(seed_effects.mean(), abs=0.01)
    assert draws["a"].var() == pytest.approx(seed_effects.var(ddof=1) / 3, rel=0.05)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """300 draws of a benchmark: 3 languages that share 100 questions, a sixth of the rows missing."""
    rng = np.random.default_rng(0)
    held, truth = 0, np.array([0.3, 0.5, 0.9])
    for repeat in range(300):
        difficulty_Q1 = rng.normal(0, 0.2, (100, 1))
        score_QL = truth + difficulty_Q1 + rng.normal(0, 0.2, (100, 3))
        rows = pd.DataFrame(score_QL, columns=list("abc")).rename_axis("query_id").reset_index()
        rows = rows.melt("query_id", var_name="query_language", value_name="map")
        rows = rows.sample(frac=5 / 6, random_state=repeat)
        rows = rows.assign(setting="mono", passage_language=rows["query_language"])
        scores = bootstrap.query_scores(rows, "mono", "map").to_frame(("v", 0))
        scores.columns = pd.MultiIndex.from_tuples(scores.columns)
        low, high = bootstrap.interval(bootstrap.draws(scores, seed=repeat, size=500)["v"])
        held += low <= truth.mean() <= high
    assert 0.92 <= held / 300 <= 0.98  # 95 % and its sampling error


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


def test_slope_is_the_least_squares_line():
    cost, accuracy = np.array([1.0, 2.0, 8.0]), np.array([0.1, 0.3, 0.4])
    assert accuracy @ scaling.slope_weights(cost) == pytest.approx(stats.linregress(np.log2(cost), accuracy).slope)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    store = ResultStore(tmp_path_factory.mktemp("results"))
    records.add_sweep(store)
    records.add_run(store, "toy", 24, "none", cost_only=True)
    return store, aggregate.analyse(store, "toy", *MONEY)


def test_variants_are_means_over_seeds(sweep):
    store, found = sweep
    assert len(found["runs"]) == 19
    assert len(found["variants"]) == 10
    row = found["variants"].query("model == 'e5-small-l6' and strategy == 'hybrid'").iloc[0]
    both = [store.load(f"e5-small-l6-hybrid-toy-s{seed}-abcd") for seed in (0, 1)]
    assert row["seeds"] == 2
    assert row["metrics.facts.multi.map"] == pytest.approx(np.mean([r.metrics["facts.multi.map"] for r in both]))
    assert row["profile.ms_per_passage"] == pytest.approx(15)
    assert bool(row["profile.grade_passed"])


def test_fronts_of_a_sweep(sweep):
    _, found = sweep
    points = found["pareto"]
    assert len(points) == 9 * 3 * 6  # variants, settings, costs; the cost-only cell has no accuracy
    panel = points.query("setting == 'multi' and cost == 'query_latency_p95_ms'")
    assert panel[panel["on_front"]]["strategy"].unique().tolist() == ["hybrid"]  # best of its cost everywhere
    assert panel["on_own_front"].all()
    assert (panel["accuracy_low"] < panel["accuracy"]).all()
    assert (panel["accuracy"] < panel["accuracy_high"]).all()
    assert panel[panel["on_front"]]["front_probability"].min() > 0.95
    assert panel[panel["strategy"] == "none"]["front_probability"].max() == 0
    assert panel["source"].unique().tolist() == ["measured: wall clock"]


def test_summaries_of_a_sweep(sweep):
    _, found = sweep
    chosen = "setting == 'multi' and cost == 'query_latency_p95_ms'"
    volumes = found["hypervolume"].query(chosen).set_index("strategy")
    assert volumes.loc["all", "hypervolume"] == pytest.approx(volumes.loc["hybrid", "hypervolume"])
    assert volumes["hypervolume"].between(volumes["low"], volumes["high"]).all()
    rates = found["exchange"].query(chosen).set_index(["strategy", "other", "model"])
    assert rates.loc[("hybrid", "none", "e5-small-l3"), "rate"] == np.inf  # .28 at its best, against .42
    assert rates.loc[("hybrid", "none", "e5-small-l3"), "reached"] == 0
    assert rates.loc[("none", "hybrid", "e5-small-l12"), "rate"] == pytest.approx(5.0 / 14.9)  # its cheapest does
    slopes = found["slopes"].query(chosen).set_index("strategy")
    assert slopes.loc["hybrid - none", "slope"] == pytest.approx(
        slopes.loc["hybrid", "slope"] - slopes.loc["none", "slope"]
    )
    assert len(found["tests"].query("setting == 'multi'")) == 9  # 3 pairs of strategies, 3 models
    assert (found["tests"]["p_holm"] >= found["tests"]["p"]).all()


def test_settings_of_a_sampler_tell_its_strategies_apart(tmp_path):
    store = ResultStore(tmp_path)
    for alpha in (0.3, 0.5):
        records.add_run(store, "s", 3, "hybrid", alpha=alpha)
    records.add_run(store, "s", 3, "monolingual")
    runs = tables.runs(store, "s")
    assert runs["strategy"].tolist() == ["hybrid alpha=0.3", "hybrid alpha=0.5", "monolingual"]
    assert runs["variant"].nunique() == 3


def test_of_runs_that_differ_in_code_only_the_newest_counts(tmp_path):
    store = ResultStore(tmp_path)
    old = records.add_run(store, "s", 3, "hybrid")
    new = replace(old, name="again", provenance=old.provenance | {"time": "2026-01-02T00:00:00Z"})
    store.save(new)
    store.note("s", Cell("again", "done", new.choices, 1.0))
    assert tables.runs(store, "s")["name"].tolist() == ["again"]


def test_what_cannot_be_compared_is_refused(tmp_path):
    store = ResultStore(tmp_path)
    store.note("s", Cell("dead", "failed", {}, 1.0, "killed by SIGKILL"))
    with pytest.raises(UserError, match=r"sweep s in .* has no finished run"):
        tables.runs(store, "s")
    run = records.add_run(store, "s", 3, "hybrid")
    records.add_run(store, "s", 3, "none")
    store.save_frame(store.run_dir(run.name), "per_query-facts", records.per_query(3, "hybrid", 0, questions=39))
    store.save(run)
    with pytest.raises(UserError, match="different questions of facts"):
        tables.scores(store, tables.runs(store, "s"))


def test_a_sweep_without_profiles_has_tests_and_no_front(tmp_path):
    store = ResultStore(tmp_path)
    for sampler in ("none", "hybrid"):
        records.add_run(store, "s", 3, sampler, profiled=False)
    found = aggregate.analyse(store, "s", *MONEY)
    assert found["pareto"].empty
    assert len(found["tests"]) == 3
    assert set(found) == {"runs", "variants", "pareto", "tests"}


def test_joint_draws_leave_no_point_behind(sweep):
    """Some variant stands on the front in every draw."""
    _, found = sweep
    total = found["pareto"].groupby(fronts.PANEL)["front_probability"].sum()
    assert (total >= 1).all()
