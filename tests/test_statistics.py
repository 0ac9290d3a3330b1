"""The error model against scipy, hand-worked cases, and simulations of the study's size with a known truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import records
from scipy import stats

from pipeline.analysis import draws, errors, fronts, money, paired, scaling, simulation, tables, winners
from pipeline.analysis.analyse import analyse
from pipeline.analysis.errors import QUERIES, QUERIES_AND_SEEDS, estimate
from pipeline.analysis.scores import query_scores
from pipeline.analysis.seeds import NO_SEEDS, moderate, predict
from pipeline.store.results import ResultStore, RunState

MONEY = money.Prices("a rack", "imagined", "2026-01-01", 0.4, 0, 0.1, 400), money.Scenario(1000, 1000, 1, 1)


def labels(systems, strategy="hybrid", variant="as trained"):
    return pd.DataFrame({"strategy": strategy, "model": list(systems), "variant": variant}, index=list(systems))


def clustered(values_by_run, clusters):
    index = pd.MultiIndex.from_arrays([clusters, range(len(clusters))], names=["cluster", "query_id"])
    return pd.DataFrame(values_by_run, index)


def test_query_scores_keep_the_macro_average():
    """Whether a query is missing in a language or none is, the mean of the values is the mean of the pairs' means."""
    table = records.per_query(3, "hybrid", 0, queries=7)
    for frame in (table, table.drop(index=[0, 1, 8])):
        for setting in ("mono", "cross", "multi"):
            rows = frame[frame["setting"] == setting]
            macro = rows.groupby(["query_language", "passage_language"])["map"].mean().mean()
            assert query_scores(frame, setting, "map").mean() == pytest.approx(macro)
    frame = table[(table["setting"] != "multi") | (table["query_id"] != "q3")]
    multi = query_scores(frame, "multi", "map").droplevel("cluster")
    assert multi["q3"] == pytest.approx(multi.mean())  # left out of this setting: an average query
    assert query_scores(frame, "multi", "map").index.equals(query_scores(frame, "cross", "map").index)
    whole = query_scores(table, "cross", "map").droplevel("cluster")
    assert whole["q3"] == pytest.approx(table[(table.setting == "cross") & (table.query_id == "q3")]["map"].mean())


def test_scores_of_older_results_have_each_query_as_its_cluster():
    table = records.per_query(3, "hybrid", 0, queries=20)
    old = query_scores(table.drop(columns="cluster"), "multi", "map")
    assert (old.index.get_level_values("cluster") == old.index.get_level_values("query_id")).all()
    assert estimate(pd.DataFrame({("a", 0): old})).query_degrees == 19
    new = estimate(pd.DataFrame({("a", 0): query_scores(table, "multi", "map")}))
    assert new.clusters == table["cluster"].nunique() < 20


def test_without_clusters_and_seeds_it_is_the_t_test_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.beta(2, 1, (2, 30))
    of = estimate(pd.DataFrame({("a", 0): a, ("b", 0): b}))
    test, mean = stats.ttest_rel(a, b), stats.ttest_1samp(a, 0)
    difference = of.difference("a", "b")
    assert difference.p == pytest.approx(test.pvalue)
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval()))
    assert of.interval("a")[1:3] == pytest.approx(tuple(mean.confidence_interval()))
    assert of.covers("a", "b") == QUERIES


def test_with_clusters_of_one_size_it_is_the_t_test_of_their_means():
    rng = np.random.default_rng(1)
    a_GQ, b_GQ = rng.normal(0.5, 0.1, (2, 8, 5)) + rng.normal(0, 0.1, (2, 8, 1))
    of = estimate(clustered({("a", 0): a_GQ.ravel(), ("b", 0): b_GQ.ravel()}, np.repeat(np.arange(8), 5)))
    test = stats.ttest_rel(a_GQ.mean(axis=1), b_GQ.mean(axis=1))
    assert of.difference("a", "b").p == pytest.approx(test.pvalue)
    assert of.difference("a", "b").degrees == pytest.approx(7)


def test_with_clusters_of_unequal_size_it_is_the_jackknife():
    """Leave a cluster out, one at a time: (G - 1) / G times the squared deviations."""
    rng = np.random.default_rng(2)
    cluster_Q = np.repeat([0, 1, 2, 3, 4], [9, 2, 5, 1, 3])
    score_Q = rng.normal(0, 1, 20) + rng.normal(0, 1, 5)[cluster_Q]
    without_G = np.array([score_Q[cluster_Q != g].mean() for g in range(5)])
    of = estimate(clustered({("a", 0): score_Q}, cluster_Q))
    assert of.interval("a").standard_error ** 2 == pytest.approx(4 / 5 * ((without_G - score_Q.mean()) ** 2).sum())
    assert of.query_degrees < 4


def test_one_cluster_alone_is_no_cluster():
    scores = clustered({("a", 0): [0.1, 0.3, 0.2]}, ["page"] * 3)
    assert estimate(scores).query_degrees == 2


def test_queries_that_all_score_alike_leave_students_t_over_seeds():
    effects = [0.0, 0.3, 0.9]
    of = estimate(pd.DataFrame({("a", seed): np.full(10, effect) for seed, effect in enumerate(effects)}))
    expected = stats.ttest_1samp(effects, 0).confidence_interval(0.95)
    assert of.interval("a")[1:3] == pytest.approx(tuple(expected))
    assert of.covers("a") == QUERIES_AND_SEEDS
    assert np.array(errors.interval(of.draws(size=100_000)["a"])) == pytest.approx(expected, rel=0.05)


def test_two_systems_that_differ_by_seeds_alone_are_welchs_test():
    """Without comparable systems nothing is moderated: variances of 2 and of 3 seeds, degrees after Satterthwaite."""
    a, b = [0.0, 0.2], [0.5, 0.9, 0.6]
    runs = {("a", k): np.full(10, x) for k, x in enumerate(a)} | {("b", k): np.full(10, x) for k, x in enumerate(b)}
    kinds = pd.DataFrame({"strategy": ["x", "y"], "model": ["m", "n"], "variant": ["v", "w"]}, index=["a", "b"])
    difference = estimate(pd.DataFrame(runs), kinds).difference("a", "b")
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert difference.p == pytest.approx(welch.pvalue)
    assert difference.degrees == pytest.approx(welch.df)


def test_the_noise_of_single_queries_is_not_counted_twice():
    """Seeds that do nothing but add noise to each query: their variance is that of the noise alone."""
    rng = np.random.default_rng(0)
    added = []
    for _ in range(100):
        scores = pd.DataFrame(
            rng.normal(0, 0.3, (40, 1)) + rng.normal(0, 0.2, (40, 3)), columns=[("a", k) for k in range(3)]
        )
        scores.columns = pd.MultiIndex.from_tuples(scores.columns)
        of = estimate(scores)
        part = of.seed_part("a")
        added.append((part.variance, part.uncertain))
    of_noise = 0.2**2 / 40 / 3
    variance, uncertain = np.mean(added, axis=0)
    assert uncertain == pytest.approx(of_noise, rel=0.3)
    assert variance < 0.5 * of_noise  # what the limit at 0 leaves


def test_an_untrained_encoder_has_no_error_of_seeds_even_with_one_seed():
    same = np.random.default_rng(0).normal(0, 1, 10)
    runs = {("u3", 0): same, ("u3", 1): same, ("u6", 0): same, ("t3", 0): same, ("t3", 1): same + 0.2, ("t6", 0): same}
    kinds = labels(["u3", "u6", "t3", "t6"], strategy=["none", "none", "hybrid", "hybrid"])
    of = estimate(pd.DataFrame(runs), kinds)
    assert of.seed_part("u3") == of.seed_part("u6") == NO_SEEDS
    assert of.covers("u3", "u6") == QUERIES
    assert of.seed_part("t6").variance > of.seed_part("t3").variance * 2  # of one seed, by what is known of the other
    assert of.seed_part("t6").degrees < of.seed_part("t3").degrees
    assert of.covers("t6") == QUERIES_AND_SEEDS


def test_single_seeds_alone_speak_of_queries():
    scores = pd.DataFrame(
        np.random.default_rng(0).normal(0, 1, (20, 2)), columns=pd.MultiIndex.from_product([["a", "b"], [0]])
    )
    of = estimate(scores)
    assert of.covers("a", "b") == QUERIES
    assert of.difference("a", "b").p == pytest.approx(stats.ttest_rel(scores["a", 0], scores["b", 0]).pvalue)


def test_inference_variants_share_the_seeds_of_their_encoder():
    """Seeds move both alike, so their difference has no error of seeds; to another encoder there is one."""
    runs = {(system, k): np.full(10, k + 0.1 * (system == "a")) for system in ("a", "a SQ8", "b") for k in range(2)}
    of = estimate(pd.DataFrame(runs))
    assert of.difference("a", "a SQ8").standard_error == pytest.approx(0)
    assert of.difference("a", "b").standard_error > 0.5
    assert np.allclose(of.difference_variances("a", ["a SQ8", "b"]), [0, of.difference("a", "b").standard_error ** 2])
    drawn = of.draws()
    assert np.allclose(drawn["a"] - drawn["a SQ8"], 0.1)
    assert (drawn["a"] - drawn["b"]).std() > 0.5


def test_draws_have_the_errors_of_the_intervals():
    """The same centre and pairing. Where seeds with few degrees of freedom matter, a draw adds t variables, which is a
    little wider than Satterthwaite's t of their sum (Behrens and Fisher's against Welch's solution).
    """
    of = estimate(simulation.sweep("cross", np.random.default_rng(3)), simulation.labels())
    drawn = of.draws(size=20_000)
    pairs = [
        ("l2-none", "l3-none"),
        ("l2-hybrid", "l2-monolingual"),
        ("l8-mixed", "l6-none"),
        ("l12-mixed", "l12-none"),
    ]
    for a, b in pairs:
        for drawn_B, interval in ((drawn[a], of.interval(a)), (drawn[a] - drawn[b], of.difference(a, b))):
            low, high = errors.interval(drawn_B)
            width = interval.high - interval.low
            assert (low + high) / 2 == pytest.approx(interval.value, abs=0.05 * width)
            assert 0.97 < (high - low) / width < (1.03 if b.endswith("3-none") else 1.4)


def test_accuracy_and_bias_are_drawn_with_the_same_queries_and_seeds():
    rng = np.random.default_rng(0)
    scores = pd.DataFrame({("a", k): rng.normal(k, 1, 30) for k in range(3)})
    accuracy, bias = estimate(scores).draws(), estimate(300 - 10 * scores).draws()
    assert np.allclose(bias["a"], 300 - 10 * accuracy["a"])


def test_variances_are_moderated_by_comparable_systems():
    """Smyth's limits: alike variances are pooled, unlike ones stay their own, a lone one stays what it is."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"degrees": 2, "strategy": np.repeat(list("abcdef"), 6), "model": list("uvwxyz") * 6})
    alike = [moderate(table.assign(variance=rng.chisquare(2, 36) / 2)) for _ in range(10)]
    assert np.median([of["degrees"] for of in alike]) > 5
    assert np.std(np.log([of["variance"] for of in alike])) < 0.5  # of two seeds' own: 1.3
    unlike = moderate(table.assign(variance=np.exp(rng.normal(0, 4, 36)) * rng.chisquare(2, 36) / 2))
    assert unlike["degrees"].median() < 4
    (lone,) = moderate(table.head(1).assign(variance=0.04)).to_dict("records")
    assert lone == pytest.approx({"variance": 0.04, "degrees": 2})
    (unknown,) = moderate(table.head(1).assign(variance=np.nan, degrees=0)).to_dict("records")
    assert (np.isnan(unknown["variance"]), unknown["degrees"]) == (True, 0)


def test_a_variance_is_expected_to_be_like_those_of_its_strategy_and_model():
    """Where strategies differ a hundredfold, the prior of a new system is that of its strategy; so with models."""
    rng = np.random.default_rng(0)
    kinds, others = np.repeat(list("abc"), 8), np.array(list("mnopqrst") * 3)
    level = {"a": 0.0, "b": 4.6, "c": 9.2}
    variance = np.exp([level[kind] for kind in kinds]) * rng.chisquare(4, 24) / 4
    for strategy, model in ((kinds, others), (others, kinds)):
        table = pd.DataFrame({"variance": variance, "degrees": 4, "strategy": strategy, "model": model})
        table.loc[9, ["variance", "degrees"]] = np.nan, 0  # of kind b
        guess = moderate(table).loc[9]
        assert abs(np.log(guess["variance"]) - 4.6) < 1
        assert guess["degrees"] > 4


def test_the_prior_leaves_the_system_out():
    """A prediction does not change with the system's own variance, up to the weights of the effects."""
    one = pd.Series(["a"] * 6)
    noise = np.full(6, 0.5)
    models = pd.Series(list("uvwxyz"))
    log_E = np.array([0.1, -0.3, 0.2, 0.0, 0.4, -0.1])
    mean, _ = predict(log_E, noise, one, models)
    moved, _ = predict(np.where(np.arange(6) == 5, 0.3, log_E), noise, one, models)
    assert moved[5] == pytest.approx(mean[5], abs=0.02)


def test_unstable_training_is_not_drawn_to_the_stable():
    table = pd.DataFrame(
        {"variance": [1.0] * 11 + [100.0], "degrees": 2, "strategy": "a", "model": list("abcdefghijkl")}
    )
    moderated = moderate(table)
    assert moderated.loc[11, "variance"] > 90
    assert moderated.loc[0, "degrees"] > moderated.loc[11, "degrees"]


def test_holm_by_hand():
    assert paired.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])
    assert paired.holm(np.array([])).tolist() == []


def test_strategies_are_compared_at_equal_model():
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.1, 60)
    scores = pd.DataFrame({("x", 0): base + 0.02 + rng.normal(0, 0.02, 60), ("y", 0): base, ("z", 0): base + 1})
    models = pd.Series({"x": "small", "y": "small", "z": "large", "cost only": "large"})
    (row,) = paired.compare(estimate(scores), models).to_dict("records")
    test = stats.permutation_test(
        [scores["x", 0] - scores["y", 0]], np.mean, permutation_type="samples", n_resamples=2000, rng=rng
    )
    assert (row["model"], row["a"], row["b"]) == ("small", "x", "y")
    assert row["difference"] == pytest.approx((scores["x", 0] - scores["y", 0]).mean())
    assert row["low"] < row["difference"] < row["high"]
    assert row["p"] == row["p_holm"] < 0.001 > test.pvalue - 0.001


def agree(table):
    """An interval excludes 0 exactly where its p-value is below .05: checked row by row."""
    pairs = [("low", "high", "p")] + ([("holm_low", "holm_high", "p_holm")] if "p_holm" in table else [])
    for low, high, p in pairs:
        excludes = (table[low] > 0) | (table[high] < 0)
        assert (excludes == (table[p] < 0.05)).all(), (low, p)


@pytest.mark.parametrize(("seeds", "gain"), [(1, 1.0), (2, 0.15), (3, 0.3)])
def test_a_test_and_its_interval_never_disagree(tmp_path, monkeypatch, seeds, gain):
    """All rows of all tables of a sweep that have a p-value, with differences from none to clear."""
    monkeypatch.setattr(records, "GAIN", {name: tuple(gain * x for x in of) for name, of in records.GAIN.items()})
    store = ResultStore(tmp_path)
    records.add_sweep(store, seeds=seeds)
    for seed in range(seeds):  # the same encoder with another index
        add_variant(store, records.add_run(store, "toy", 3, "hybrid", seed), 0.002 * seed)
    made = analyse(store, "toy", *MONEY)
    with_p = {name: table for name, table in made.items() if "p" in table}
    assert set(with_p) == {"tests", "trades"}
    for table in with_p.values():
        agree(table)
    tests = made["tests"]
    assert (tests["holm_low"] <= tests["low"]).all()
    assert (tests["p_holm"] >= tests["p"]).all()
    assert tests["cluster"].unique() == ["page"]
    assert tests["clusters"].unique() == [records.CLUSTERS]
    assert (tests["covers"] == QUERIES).all() == (seeds == 1)


def add_variant(store, record, lost):
    """Save the run again as an inference variant that loses a little accuracy."""
    name = f"{record.name}+SQ8"
    table = store.per_query(record.name, "facts")
    table["map"] = table["map"] - lost - np.random.default_rng(0).normal(0, 0.01, len(table))
    store.save_frame(store.run_dir(name), "per_query-facts", table)
    store.save(replace(record, name=name, variant="SQ8"))
    store.add_to_manifest("toy", RunState(name, "done", record.choices, 1.0))


def test_a_test_and_its_interval_never_disagree_in_simulation():
    of = estimate(simulation.sweep("multi", np.random.default_rng(5)), simulation.labels())
    table = paired.compare(of, simulation.labels()["model"])
    assert len(table) == 6 * 21
    agree(table)
    agree(table.assign(p_holm=table["p"], holm_low=table["low"], holm_high=table["high"]))


def test_coverage_at_the_size_of_the_study():
    """Each kind of pair, with the study's own seed deviations and 16 unequal articles: 240 intervals of each kind.

    Binomial errors of 240 are 1.4 points; the table of docs/statistics.md has the errors of 6,000.
    """
    pairs = [("hybrid", "monolingual"), ("hybrid", "crosslingual"), ("mixed", "none"), ("hybrid", "none")]
    for setting, seed in (("multi", 0), ("cross", 1)):
        table = simulation.coverage(setting, 40, seed, pairs, won=False).set_index("kind")["held"]
        assert table.between(0.91, 0.99).all(), table


def test_the_winners_interval_allows_for_the_choice():
    """42 systems of equal truth: the best looks better than it is, and only the simultaneous interval holds."""
    table = simulation.coverage("multi", 20, 2, [("hybrid", "none")]).set_index("kind")["held"]
    assert table["lead over the runner-up, simultaneous"] >= 0.9
    assert table["winner, simultaneous"] >= 0.9


def test_the_winner_and_its_lead_by_hand():
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.1, 400)
    runs = {
        (name, 0): base + gain + rng.normal(0, 0.02, 400)
        for name, gain in zip("abcd", (0, 0.02, 0.05, 0.01), strict=True)
    }
    of = estimate(pd.DataFrame(runs))
    (row, _) = winners.winners({("x", "multi"): of}, {("x", "multi"): of.draws()}).to_dict("records")
    assert (row["system"], row["runner_up"], row["candidates"], row["variant"]) == ("c", "b", 4, "all")
    own, lead = of.interval("c"), of.difference("c", "b")
    assert row["low"] < own.low < own.high < row["high"]
    assert row["lead"] == pytest.approx(lead.value)
    assert 0 < row["lead_low"] < lead.low
    reach = (row["lead_high"] - row["lead"]) / lead.standard_error
    assert reach == pytest.approx(stats.studentized_range.ppf(0.95, 4, 399) / np.sqrt(2), rel=0.05)  # Tukey


def panel(**columns):
    frame = {"benchmark": "b", "setting": "multi", "cost": "ms", "strategy": "hybrid", tables.BIAS: np.nan}
    return pd.DataFrame(frame | {"system": ["x", "y"], "value": [20.0, 21.0], "accuracy": [0.5, 0.51]} | columns)


def marked(points):
    of = estimate(pd.DataFrame({("x", 0): [0.50, 0.52], ("y", 0): [0.50, 0.5]}))
    drawn = pd.DataFrame({"x": np.full(2000, 0.51), "y": np.full(2000, 0.5)})
    return fronts.mark(points, {("b", "multi"): of}, {("b", "multi"): drawn}, {})


def test_engines_five_percent_apart_are_no_certainty():
    """The dearer one is on the front when its cost is drawn below the other's; with a fixed cost it never is."""
    points = panel(relative_error=0.03, rounds=5, error_key=["one", "two"])
    table = marked(points)
    probability = table["front_probability"]
    assert table["on_front"].tolist() == [True, True]
    t = np.random.default_rng(0).standard_t(4, (2, 200_000))
    expected = (21 * np.exp(0.03 * t[1]) < 20 * np.exp(0.03 * t[0])).mean()
    assert probability.tolist() == pytest.approx([1, expected], abs=0.03)
    assert table["cost_drawn"].all()
    assert ((table["value_low"] < table["value"]) & (table["value"] < table["value_high"])).all()
    fixed = marked(points.assign(relative_error=np.nan))
    assert fixed["front_probability"].tolist() == [1, 0]
    assert not fixed["cost_drawn"].any()


def test_systems_of_one_encoder_share_the_draw_of_their_cost():
    points = panel(relative_error=0.05, rounds=3, error_key="one", value=20.0)
    assert marked(points)["front_probability"].tolist() == [1, 0]  # equal costs stay equal


def test_costs_are_drawn_around_their_value_with_the_errors_of_their_rounds():
    points = panel(relative_error=[0.02, 0.0], rounds=[6, np.nan], error_key=["one", "two"])
    cost_BN = draws.costs(points, 50_000)
    low, high = np.log(np.quantile(cost_BN[:, 0], [0.025, 0.975]) / 20)
    assert (low, high) == pytest.approx(np.array([-1, 1]) * stats.t.ppf(0.975, 5) * 0.02, rel=0.05)
    assert (cost_BN[:, 1] == 21).all()
    few = np.quantile(draws.costs(points.assign(rounds=1), 50_000)[:, 0], 0.975)
    assert few == pytest.approx(20 * np.exp(stats.t.ppf(0.975, 2) * 0.02), rel=0.01)  # at least 2 degrees of freedom


def test_the_points_of_a_sweep_know_how_their_costs_are_drawn(tmp_path):
    store = ResultStore(tmp_path)
    for seed, sampler in enumerate(records.GAIN):
        records.add_run(store, "s", 3, sampler, seed)
    record = records.add_run(store, "s", 6, "none")
    old = replace(record.profile, relative_errors={}, encoder_key="")
    store.save(replace(record, profile=old))
    points = analyse(store, "s", *MONEY)["pareto"].query("setting == 'multi'").set_index(["cost", "layers"])
    latency = points.loc["query_latency_p95_ms"]
    assert latency.loc[[3], "error_key"].nunique() == 1  # all strategies share a profile
    assert latency["relative_error"].fillna(-1).unique().tolist() == [0.01, -1]
    assert latency["cost_drawn"].tolist() == [True, True, True, False]  # an old profile: the cost is fixed
    assert points.loc["ms_per_passage", "relative_error"].iloc[0] == 0.01  # of the rate that it is the inverse of
    assert (points.loc["parameters", "relative_error"] == 0).all()
    assert points.loc["usd_per_1m_queries", "relative_error"].iloc[0] == pytest.approx(0.01)  # hours alone


def test_a_mean_of_several_profiles_has_a_smaller_error():
    runs = pd.DataFrame({"system": "a", "seed": range(4), "name": list("wxyz"), "profile.encoder_key": list("pppq")})
    runs["profile.relative_errors.serving_mib"] = 0.02
    (system,) = tables.systems(runs).to_dict("records")
    assert system["profile.relative_errors.serving_mib"] == pytest.approx(0.02 / np.sqrt(2))
    assert system["profile.encoder_key"] == "p q"


def test_an_unprofiled_system_is_not_measured():
    runs = pd.DataFrame({"system": ["a", "b", "c", "c"], "seed": [0, 0, 0, 1], "name": list("wxyz")})
    runs[tables.QUALITY] = ["passed", None, "passed", None]
    assert tables.systems(runs)[tables.QUALITY].tolist() == ["passed", "not measured", "not measured"]


def test_the_slope_allows_for_lack_of_fit():
    """500 studies of 6 models that lie off their line: the interval of the slope holds it; without lack of fit not."""
    rng = np.random.default_rng(0)
    cost_N = np.array([2.0, 3, 4, 6, 8, 12])
    held, narrow = [], []
    for _ in range(500):
        accuracy_N = 0.05 * np.log2(cost_N) + rng.normal(0, 0.02, 6) + rng.normal(0, 0.01, 6)
        error_BN = rng.normal(0, 0.01, (400, 6))
        line = scaling.line(cost_N, accuracy_N, np.tile(cost_N, (400, 1)), accuracy_N + error_BN)
        low, high = errors.interval(line.slope_B)
        held.append(low <= 0.05 <= high)
        low, high = errors.interval((scaling.slope_weights(np.log2(cost_N)) * (accuracy_N + error_BN)).sum(axis=1))
        narrow.append(low <= 0.05 <= high)
    assert 0.91 <= np.mean(held) <= 0.99
    assert np.mean(narrow) < 0.8
