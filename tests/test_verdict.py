"""The three cards by hand, and that the verdict, `recommend` and the report follow one rule."""

import numpy as np
import pandas as pd
import pytest
from records import add_run, add_sweep

from pipeline.analysis import verdict
from pipeline.analysis.analyse import analyse
from pipeline.analysis.errors import estimate
from pipeline.analysis.fronts import mark
from pipeline.analysis.recommendation import recommend
from pipeline.analysis.tables import points
from pipeline.reporting import terminal
from pipeline.reporting.config import options
from pipeline.reporting.html import write as html
from pipeline.reporting.html.cards import cards
from pipeline.reporting.html.material import gather
from pipeline.store.results import ResultStore

ACCURACY = {"tiny": 0.30, "small": 0.50, "middle": 0.58, "large": 0.60, "slow": 0.55}
LATENCY_MS = {"tiny": 1.0, "small": 2.0, "middle": 4.0, "large": 32.0, "slow": 40.0}


def sweep(names):
    """Runs, systems, points, accuracies and draws of models whose figures are in the tables above; two seeds each."""
    systems = pd.DataFrame({"system": names, "model": names})
    systems = systems.assign(
        strategy="hybrid", variant="as trained", seeds=2, family="toy", layers=1, kind="full", machine="m"
    )
    systems["metrics.b.multi.map"] = [ACCURACY[name] for name in names]
    systems["profile.query_latency_p95_ms"] = [LATENCY_MS[name] for name in names]
    systems["profile.serving_mib"] = 100.0
    for field in ("query_latency_p95_ms", "serving_mib"):
        systems[f"profile.sources.{field}"] = "measured: wall clock"
    runs = systems.merge(pd.DataFrame({"seed": [1, 0]}), how="cross")
    runs["name"] = runs["system"] + "-s" + runs["seed"].astype(str)
    of = estimate(pd.DataFrame({(name, seed): [ACCURACY[name]] * 3 for name in names for seed in (0, 1)}))
    scale = ("b", "multi")
    draws = of.draws(size=10)
    return runs, systems, mark(points(systems), {scale: of}, {scale: draws}, {}), of, draws


def test_the_three_cards_by_hand():
    """In log2 of the latency the front is (0, .30), (1, .50), (2, .58), (5, .60); slow is dominated. Above the chord
    from (0, 0) to (1, 1) lie small by 2/3 - 1/5 and middle by 14/15 - 2/5, so middle is the knee.
    80 % of .60 is .48."""
    table = verdict.cards(*sweep(list(ACCURACY))).set_index("card")
    chosen = {"most accurate": "large", "best value": "middle", "cheapest worth having": "small"}
    assert table["model"].to_dict() == chosen
    assert table["run"].to_dict() == {card: f"{name}-s0" for card, name in chosen.items()}
    assert table["accuracy"].to_dict() == {card: pytest.approx(ACCURACY[name]) for card, name in chosen.items()}
    assert table["query_latency_p95_ms"].to_dict() == {card: LATENCY_MS[name] for card, name in chosen.items()}
    assert (table["serving_mib"] == 100).all()
    text = verdict.sentence(table.reset_index())
    assert text == (
        "The most accurate system on b is large with hybrid batches: multi mAP 0.600 [0.600, 0.600] at 32 ms per query "
        "(p95); the best value is middle with hybrid batches: 0.580 at 4 ms per query (p95)."
    )
    assert len(text.split()) < 40


def test_a_front_of_two_points_has_no_best_value():
    table = verdict.cards(*sweep(["middle", "large", "slow"]))
    assert table["card"].tolist() == ["most accurate", "cheapest worth having"]
    assert table["model"].tolist() == ["large", "middle"]
    assert "; the cheapest worth having is middle with hybrid batches: 0.580 at 4 ms" in verdict.sentence(table)


def test_a_single_system_is_all_there_is_to_say():
    table = verdict.cards(*sweep(["large"]))
    assert table["model"].tolist() == ["large", "large"]
    assert verdict.sentence(table).endswith("0.600 [0.600, 0.600] at 32 ms per query (p95).")


def test_without_profiles_there_is_the_most_accurate_alone(tmp_path):
    store = ResultStore(tmp_path)
    for layers in (3, 6):
        add_run(store, "toy", layers, "hybrid", profiled=False)
    config = options(tmp_path, "toy")
    (card,) = analyse(store, "toy", config.prices, config.scenario)["cards"].to_dict("records")
    assert (card["card"], card["model"]) == ("most accurate", "e5-small-l6")
    assert card["run"] == "e5-small-l6-hybrid-toy-s0-abcd"


def test_recommend_without_limits_names_the_most_accurate_card(tmp_path):
    store = ResultStore(tmp_path)
    add_sweep(store)
    config = options(tmp_path, "toy")
    table = analyse(store, "toy", config.prices, config.scenario)["cards"].set_index("card")
    best = table.loc["most accurate"]
    answer = recommend(store, "toy", None, {}, config.prices, config.scenario)
    assert answer.sentences[0].startswith(f"Deploy {verdict.name(best)}: facts multi map {verdict.accuracy(best)} at ")
    assert answer.run == best["run"] == f"{best['model']}-{best['strategy']}-toy-s0-abcd"


def test_the_report_begins_with_the_same_sentence(tmp_path):
    store = ResultStore(tmp_path)
    for layers in (3, 6):
        add_run(store, "toy", layers, "hybrid")
    config = options(tmp_path, "toy")
    results = analyse(store, "toy", config.prices, config.scenario)
    html.write(store, "toy", results, tmp_path / "report.html")
    said = verdict.sentence(results["cards"])
    assert f'<p class="lead">{said}</p>' in (tmp_path / "report.html").read_text()
    assert said in terminal.summary(results["cards"], "toy", tmp_path)


@pytest.mark.parametrize("quality", ["passed", "failed"])
def test_costs_that_failed_their_quality_checks_say_so_wherever_they_are_named(tmp_path, quality):
    store = ResultStore(tmp_path)
    for layers in (3, 6):
        add_run(store, "toy", layers, "hybrid", quality=quality)
    config = options(tmp_path, "toy")
    results = analyse(store, "toy", config.prices, config.scenario)
    answer = recommend(store, "toy", None, {}, config.prices, config.scenario)
    failed = quality == "failed"
    assert (verdict.DOUBT in terminal.summary(results["cards"], "toy", tmp_path)) == failed
    assert (verdict.DOUBT in answer.sentences) == failed
    notes = {figure.note for card in cards(gather(store, "toy", results)) for figure in card.figures[1:]}
    assert notes == {"measured, quality checks failed" if failed else "measured"}


def test_of_equally_accurate_systems_the_cheapest_is_first():
    table = pd.DataFrame({"accuracy": [0.5, 0.5], "profile.query_latency_p95_ms": [9.0, 5.0]}, index=["x", "y"])
    table["profile.sources.query_latency_p95_ms"] = "measured: wall clock"
    assert verdict.ranked(table, "accuracy").index.tolist() == ["y", "x"]
    assert verdict.ranked(table, "accuracy", higher_is_better=False).index.tolist() == ["y", "x"]


def test_one_run_says_its_accuracies_and_costs(tmp_path):
    store = ResultStore(tmp_path)
    record = add_run(store, "toy", 6, "hybrid")
    figures = [f"{setting} {record.metrics[f'facts.{setting}.map']:.3f}" for setting in ("mono", "cross", "multi")]
    assert verdict.of_run(record) == [
        f"facts, mAP: {', '.join(figures)}",
        "costs: 8.3 ms per query (p95), 437 MiB, 186 J per 1,000 queries",
    ]
    costs = verdict.of_run(add_run(store, "toy", 24, "none", cost_only=True))
    assert costs[0] == "accuracy: none, since random weights are not scored"
    assert np.isclose(float(costs[1].split()[1]), 28.1)
