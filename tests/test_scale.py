"""Large sweeps: what would be quadratic is not done, without timing; what is done in blocks equals the definition."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import records
import reports

from pipeline.analysis import exchange, fronts, paired, pareto, scores, tables, winners
from pipeline.analysis.analyse import analyse
from pipeline.analysis.errors import estimate
from pipeline.reporting.html import material, statistics
from pipeline.reporting.html.material import gather
from pipeline.store import files, progress
from pipeline.store.results import ReadOnce, ResultStore, RunState


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sweep of 3 sizes x 3 strategies."""
    store = ResultStore(tmp_path_factory.mktemp("results"))
    records.add_sweep(store, seeds=1)
    return store


def counted(monkeypatch, module, name):
    """Count the calls of a function."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments: calls.append(arguments) or function(*arguments))
    return calls


def test_after_each_run_one_entry_of_the_manifest_is_read(tmp_path, monkeypatch):
    store = ResultStore(tmp_path)
    names = [f"run{n}" for n in range(20)]
    store.plan("s", {name: {"model": "m"} for name in names})
    reads = counted(monkeypatch, files, "read_json")
    for name in names:
        store.add_to_manifest("s", RunState(name, "done", {"model": "m"}, 10.0))
        progress.states(ResultStore(tmp_path), "s")
    assert len(reads) == len(names) + 1  # and the plan
    store.add_to_manifest("s", RunState("run0", "failed", {"model": "m"}, 1.0, "NaN loss"))
    assert progress.states(store, "s")[0].reason == "NaN loss"


def test_a_waiting_run_costs_no_look_at_its_lock(tmp_path, monkeypatch):
    store = ResultStore(tmp_path)
    store.plan("s", {f"run{n}": {"model": "m"} for n in range(9)})
    store.add_to_manifest("s", RunState("run0", "done", {"model": "m"}, 10.0))
    asked = counted(monkeypatch, store, "locked")
    with store.lock("run3"):
        states = progress.states(store, "s")
    assert [state.name for state in states if state.status == "running"] == ["run3"]
    assert asked == [("run3",)]


def test_a_report_reads_every_record_once(store, monkeypatch):
    once = ReadOnce(store.root)
    loads = counted(monkeypatch, once, "load_vouched")
    gather(once, "toy", analyse(once, "toy", *reports.MONEY))
    assert len(loads) == 9


def test_runs_scored_in_blocks_equal_runs_scored_alone(store, monkeypatch):
    monkeypatch.setattr(scores, "BLOCK", 4)
    runs = tables.runs(store, "toy")
    for metric, by_scale in zip(("map", tables.BIAS), scores.scores(store, runs, None, tables.BIAS), strict=True):
        for (benchmark, setting), scores_QC in by_scale.items():
            alone = {
                (system, seed): scores.query_scores(store.per_query(name, benchmark), setting, metric)
                for name, system, seed in runs[["name", "system", "seed"]].itertuples(index=False)
            }
            pd.testing.assert_frame_equal(scores_QC, pd.DataFrame(alone), check_exact=True)


def test_runs_of_a_block_that_lack_different_scores():
    table = records.per_query(3, "hybrid", 0, queries=5)
    rows = table[["setting", "query_language", "passage_language", "query_id", "cluster"]]
    values_RC = np.tile(table[["map"]].to_numpy(), 2)
    values_RC[3, 0] = values_RC[8, 1] = np.nan
    both = scores.block_scores(rows, values_RC, "mono")
    for place in (0, 1):
        alone = scores.query_scores(rows.assign(map=values_RC[:, place]), "mono", "map")
        pd.testing.assert_series_equal(both[place], alone, check_names=False, check_exact=True)


def test_the_cost_to_reach_an_accuracy_by_definition():
    """The first point of the sorted front at or above the target, and the one before it."""
    rng = np.random.default_rng(0)
    cost_BN, accuracy_BN = rng.integers(1, 6, (30, 8)) * 1.0, rng.integers(0, 6, (30, 8)) / 5
    target_BA = rng.random((30, 4)) * 1.2
    reached_BA = exchange.cost_to_reach(cost_BN, accuracy_BN, target_BA)
    for cost_N, accuracy_N, target_A, reached_A in zip(cost_BN, accuracy_BN, target_BA, reached_BA, strict=True):
        front, best = [], -np.inf
        for place in np.argsort(cost_N, kind="stable"):
            if accuracy_N[place] > best:
                best = accuracy_N[place]
                front.append((best, np.log(cost_N[place])))
        for target, reached in zip(target_A, reached_A, strict=True):
            above = [place for place, (accuracy, _) in enumerate(front) if accuracy >= target]
            if not above:
                assert reached == np.inf
                continue
            (low, start), (high, end) = front[max(above[0] - 1, 0)], front[above[0]]
            share = (target - low) / (high - low) if high > low else 1.0
            assert reached == pytest.approx(np.exp(start + share * (end - start)))


def test_volumes_of_each_draws_front_are_those_of_all_points(monkeypatch):
    sides = np.random.default_rng(0).random((3, 20, 30))
    kept, limits = fronts.useful(*sides), (1.0, 0.0, 1.0)
    monkeypatch.setattr(fronts, "MANY", 10)
    packed = fronts.useful(*sides)
    assert packed[0].shape[1] < kept[0].shape[1] <= 30
    for points in (kept, packed):
        np.testing.assert_allclose(pareto.hypervolume_3(*points, *limits), pareto.hypervolume_3(*sides, *limits))


def of_many(systems):
    names = [f"s{n}" for n in range(systems)]
    rng = np.random.default_rng(0)
    table = rng.normal(0, 1, (50, systems)) + np.arange(systems) / 10
    of = estimate(pd.DataFrame(table, columns=pd.MultiIndex.from_product([names, [0]])))
    return of, pd.Series("m", names)


def test_many_systems_of_a_model_are_compared_with_its_best_only(monkeypatch):
    """Pairs grow with the systems, and the correction is at least that of all pairs."""
    of, models = of_many(8)
    whole = paired.compare(of, models).set_index(["a", "b"])
    assert list(whole.index) == list(combinations(models.index, 2))
    monkeypatch.setattr(paired, "MOST_IN_PAIRS", 5)
    some = paired.compare(of, models).set_index(["a", "b"])
    best = of.mean_S.idxmax()
    assert sorted(map(set, some.index), key=sorted) == sorted(
        ({best, s} for s in models.index if s != best), key=sorted
    )
    same = whole.loc[some.index]
    pd.testing.assert_series_equal(some["p"], same["p"], check_exact=True)
    assert (some["p_holm"] >= same["p_holm"]).all()
    assert (some["p_holm"] >= np.minimum(some["p"] * (28 - 6), 1) - 1e-12).all()  # 28 pairs, 7 of them tested
    assert ((some["p_holm"] < 0.05) == (some["holm_low"] * some["holm_high"] > 0)).all()


def test_the_lead_among_many_candidates_is_bounded_by_bonferroni(monkeypatch):
    of, _ = of_many(8)
    draws = of.draws()
    drawn = winners.winner(of, draws)
    monkeypatch.setattr(winners, "MOST_IN_PAIRS", 5)
    bounded = winners.winner(of, draws)
    assert bounded["lead"] == drawn["lead"]
    assert bounded["lead_high"] - bounded["lead_low"] > drawn["lead_high"] - drawn["lead_low"]


def test_tables_of_a_page_list_the_systems_on_fronts_first(store, monkeypatch):
    made = analyse(store, "toy", *reports.MONEY)
    assert len(statistics.points(gather(store, "toy", made)).rows) == len(made["pareto"])
    monkeypatch.setattr(material, "MOST_LISTED", 4)
    page = gather(store, "toy", made)
    on_front = made["pareto"].groupby("system")["on_front"].sum().sort_values(ascending=False)
    assert len(page.listed) == 4
    assert on_front.index[0] in page.listed
    table = statistics.points(page)
    assert len(table.rows) == made["pareto"]["system"].isin(page.listed).sum()
    assert table.caption.endswith("; 4 of 9 systems, all are in pareto.csv")
