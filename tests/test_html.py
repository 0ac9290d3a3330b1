"""report.html: its numbers against the csv files, and its sentences against their rules."""

import html
import re
from dataclasses import replace

import pandas as pd
import pytest
import records
from reports import EVIL, FAR, MONEY, data_of, toy, unpacked, with_constant_power

from pipeline.analysis import verdict as rule
from pipeline.analysis.analyse import analyse
from pipeline.reporting.html import evidence, show, statistics
from pipeline.reporting.html import tables as html_tables
from pipeline.reporting.html import write as report
from pipeline.reporting.html.cards import cards
from pipeline.reporting.html.findings import findings
from pipeline.reporting.html.material import gather
from pipeline.reporting.html.payload import POINT, figures, values
from pipeline.reporting.html.verdict import verdict
from pipeline.retrieval import metrics
from pipeline.store.results import ResultStore
from pipeline.values import UserError


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def text(sweep):
    """The text of the file before a script runs, without its JSON and scripts."""
    markup = re.sub(r"<(script|style).*?</\1>", "", sweep[2].read_text(), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "\n", markup))


@pytest.fixture(scope="module")
def data(sweep):
    return data_of(sweep[2])


def verdict_on(store, sweep, tables):
    return verdict(gather(store, sweep, tables))


def test_the_figures_numbers_are_the_csvs(sweep, data):
    points = pd.read_csv(sweep[2].with_name("pareto.csv"))[POINT]
    points = points.assign(source=points["source"].str.split(":").str[0])
    drawn = unpacked(data["points"])
    pd.testing.assert_frame_equal(drawn[POINT], points, check_dtype=False, rtol=1e-5)
    assert set(drawn.columns) - set(POINT) == {"chance", "chance_with_bias"}
    assert {data["systems"][system]["size"] for system in points["system"]} == {"3", "6", "12"}


def test_the_tables_numbers_are_the_csvs(sweep, text):
    _, tables, path = sweep
    lines = text.split("\n")
    for point in pd.read_csv(path.with_name("pareto.csv")).to_dict("records"):
        interval = f"{point['accuracy']:.3f} [{point['accuracy_low']:.3f}, {point['accuracy_high']:.3f}]"
        assert lines.count(interval) >= 2  # by strategy and model, and beside its cost
    for test in tables["tests"].to_dict("records"):
        assert f"{test['difference']:+.3f}".replace("-", "−") in text
    far = FAR["query_latency_p95_ms"]
    latency = f"5.00 [{5 / far:.2f}, {5 * far:.2f}]"
    assert {latency, f"{latency} ms"} <= set(lines)  # of the profile, and at the points
    assert f"93.0 [{93 / FAR['energy_j_per_1k_queries']:.1f}, {93 * FAR['energy_j_per_1k_queries']:.0f}]" in lines


def test_matrices_are_means_over_seeds_of_the_per_query_tables(sweep, data):
    store, tables, _ = sweep
    matrices = data["matrices"]["facts"]
    assert (matrices["languages"], matrices["metric"]) == (list(records.LANGUAGES), "mAP")
    multi = tables["systems"].set_index("system")["metrics.facts.multi.map"].dropna()
    assert list(matrices["accuracy"]) == list(multi.sort_values()[::-1].index)
    for system, runs in tables["runs"].dropna(subset="metrics.facts.mono.map").groupby("system"):
        by_seed = [metrics.language_matrix(store.per_query(name, "facts"), "map") for name in runs["name"]]
        mean = (sum(by_seed) / len(by_seed)).loc[list(records.LANGUAGES), list(records.LANGUAGES)]
        assert matrices["accuracy"][system] == pytest.approx(mean.to_numpy(), abs=1e-5)
        assert matrices["attraction"][system] == [[2.0] * 3, [0.5] * 3, [0.5] * 3]


def test_every_section_is_there(text):
    for expected in (EVIL, "quiet", "others share 0.310", "others at most 5%", "failed", "an exercise"):
        assert expected in text
    for expected in (
        "Published: LAReQA",
        "Language bias on facts",
        "Exchange rates",
        "Hypervolume",
        "Differences between strategies of one model",
        "Imaginary 9000",
    ):
        assert expected in text
    assert "\n17.2\n" in text  # tokens of an English query


def test_bias_is_the_mean_rank_distance(sweep, text):
    assert "270\n" in text  # 3 layers: all queries alike, so the interval is as narrow as the rounding
    assert sweep[1]["systems"]["metrics.facts.multi.rank_distance"].dropna().isin([270, 240, 180]).all()


def test_the_cards_say_what_the_csv_says(sweep, text):
    """The lead, the cards and the table of winners give one interval, which allows for the winner's having been
    chosen."""
    store, tables, _ = sweep
    table = tables["cards"].set_index("card")
    best, winner = table.loc["most accurate"], tables["winners"].set_index(["setting", "variant"]).loc[("multi", "all")]
    assert (best["system"], best["low"], best["high"]) == (winner["system"], winner["low"], winner["high"])
    shown = cards(gather(store, "toy", tables))
    assert [card.title for card in shown] == ["most accurate", "cheapest worth having"]
    for card, (_, row) in zip(shown, table.drop_duplicates("system").iterrows(), strict=True):
        accuracy, latency, memory = card.figures
        assert (accuracy.label, accuracy.text) == ("multilingual mAP", rule.accuracy(row))
        note = "measured, quality checks failed" if row["quality"] == "failed" else "measured"
        assert (latency.text, latency.note) == (f"{show.amount(row['query_latency_p95_ms'])} ms", note)
        assert memory.text.endswith(" MiB")
        assert card.command == f"python -m pipeline.export {row['run']} to=my-retriever results_dir={store.root}"
        assert all(words in text for words in (card.name, card.command, card.meaning, accuracy.text))
    assert rule.accuracy(best) in rule.sentence(tables["cards"])
    assert len(rule.sentence(tables["cards"]).split()) < 40


def test_a_banner_says_that_the_data_are_a_toy(tmp_path, text):
    assert "Toy data" not in text
    store = ResultStore(tmp_path)
    for layers in (3, 6, 12):
        records.add_run(store, "s", layers, "hybrid", benchmark="worldfacts")
    report.write(store, "s", analyse(store, "s", *MONEY), tmp_path / "report.html")
    said = rule.warning(["worldfacts"])
    assert said.startswith("Toy data: worldfacts ")
    before_verdict = (tmp_path / "report.html").read_text().split('class="lead"')[0]
    assert f'<p class="banner">{said}</p>' in before_verdict


def test_the_verdict_says_which_at_what_cost_and_how_sure(sweep):
    store, tables, _ = sweep
    details = verdict_on(store, "toy", tables).details
    *_, multi, front, lead, basis, cheaper = details
    assert multi.startswith("On facts, e5-small-l12, hybrid has the highest multilingual mAP.")
    assert front.startswith("e5-small-l12, hybrid is on the Pareto front against query latency, p95 in ")
    assert re.fullmatch(r"Its lead over monolingual, the runner-up of its model, is .*\[.*\], p [=<] 0\.\d{3}\.", lead)
    assert basis.endswith("the intervals of the winners allow for their having been chosen.")
    cheapest = "The next cheaper system on the Pareto front is e5-small-l6, hybrid: multilingual mAP "
    assert cheaper.startswith(cheapest)
    assert cheaper.endswith(", query latency, p95 = 8.30 [5.40, 12.8] ms, measured.")
    words = " ".join(details)
    assert len(words.split()) < 200
    assert len(re.findall(r"\d[\d.,]*", words)) < 40


def test_a_difference_needs_interval_and_corrected_p(sweep):
    store, tables, _ = sweep
    tests, of_hybrid = tables["tests"], tables["tests"]["a"].str.contains("hybrid").map({True: 1, False: -1})
    clear = tables | {"tests": tests.assign(difference=0.015 * of_hybrid, p_holm=0.049)}
    assert "not significantly better" not in verdict_on(store, "toy", clear).details[2]
    for doubt in ({"p_holm": 0.05}, {"p_holm": float("nan")}):
        doubtful = verdict_on(store, "toy", tables | {"tests": tests.assign(**doubt)}).details[2]
        assert "It is not significantly better than" in doubtful


def test_the_winners_are_tabulated(sweep):
    store, tables, _ = sweep
    odd = tables["winners"].assign(accuracy=0.777, low=0.666, high=0.888)
    rows = statistics.winners(gather(store, "toy", tables | {"winners": odd})).rows
    assert len(rows) == 3  # settings: no other inference variant than as trained
    assert {row.entries[3].text for row in rows} == {"0.777 [0.666, 0.888]"}
    assert rows[-1].entries[2].text == "e5-small-l12, hybrid"


def test_every_printed_interval_agrees_with_its_p_value(sweep):
    """An interval excludes 0 exactly when the p-value beside it is below 5 %, corrected for their number or not."""
    store, tables, _ = sweep
    printed = statistics.tests(gather(store, "toy", tables))
    assert len(printed.rows) == len(tables["tests"])
    decided = 0
    for row in printed.rows:
        _, _, accuracy, p, corrected, p_corrected, covers, degrees = (entry.text for entry in row.entries)
        for interval, p_value in ((accuracy, p), (corrected, p_corrected)):
            low, high = (float(end.replace("−", "-")) for end in re.search(r"\[(.*), (.*)\]", interval).groups())
            if 0 not in (low, high):  # rounded to 0: either is right
                assert (low > 0 or high < 0) == (float(p_value[4:]) < 0.05 or p_value == "p < 0.001")
                decided += 1
        assert covers in ("pages", "pages and seeds")
        assert float(degrees) > 1
    assert decided > len(printed.rows)


def test_clusters_are_named(sweep):
    store, tables, _ = sweep
    of_articles = tables | {"runs": tables["runs"].assign(**{"clusters.facts": "article"})}
    assert "over articles and seeds, with Holm's correction" in " ".join(verdict_on(store, "toy", of_articles).details)
    rows = statistics.tests(gather(store, "toy", of_articles)).rows
    assert {row.entries[6].text for row in rows} <= {"articles", "articles and seeds"}


def test_models_whose_intervals_overlap_are_named(sweep):
    store, tables, _ = sweep
    of = tables["accuracies"]
    sixes = of["system"].str.startswith("e5-small-l6")
    narrow = {"winners": tables["winners"].assign(low=0.5)}
    which = verdict_on(store, "toy", tables | narrow | {"accuracies": of.assign(high=0.5)}).details[2]
    assert "overlaps" not in which
    wide = {"accuracies": of.assign(high=sixes.map({True: 0.51, False: 0.49}))}
    which = verdict_on(store, "toy", tables | narrow | wide).details[2]
    assert which.count("Its interval overlaps that of e5-small-l6, hybrid") == 1
    assert "e5-small-l3" not in which


def test_the_verdict_has_its_caveats(sweep, tmp_path):
    caveats = verdict_on(sweep[0], "toy", sweep[1]).caveats
    assert caveats[0].startswith("One seed for some systems: intervals and tests cover the sampling of queries only.")
    doubt = "its costs are doubtful and shown as hollow markers."
    assert caveats[1] == f"The profile of e5-small-l6 failed the quality checks (quiet): {doubt}"
    assert caveats[2] == "Quality checks, by system: 7 passed and 3 failed."
    assert caveats[3].startswith("Modelled, not measured: energy per 1,000 queries")
    assert caveats[4:] == ["Failed runs, missing from all figures: 1.", "an exercise"]
    store = ResultStore(tmp_path)
    for seed in range(5):
        for sampler in ("none", "hybrid"):
            records.add_run(store, "s", 3, sampler, seed)
    assert not any("seed" in caveat for caveat in verdict_on(store, "s", analyse(store, "s", *MONEY)).caveats)


def test_an_energy_that_repeats_latency_is_no_finding(sweep):
    store, tables, _ = sweep
    constant = with_constant_power(tables)
    material = gather(store, "toy", constant)
    assert "energy" not in " ".join(verdict(material).details)
    assert "energy" not in str(findings(material))
    assert not [figure for card in cards(material) for figure in card.figures if "energy" in figure.label]
    said = verdict(material).caveats
    assert "Modelled as a constant power times time, which repeats latency: energy per 1,000 queries." in said
    assert [caveat for caveat in said if caveat.startswith("Modelled, not measured")]  # of the dollars


def test_findings_begin_the_sections_that_they_are_about(sweep):
    found = findings(gather(sweep[0], "toy", sweep[1]))
    size, scaling = found["sizes"]
    assert size.startswith("Model size: at equal multilingual mAP, hybrid batches need ")
    assert scaling.startswith("Scaling: when query latency, p95 doubles, multilingual mAP with hybrid batches changes")
    assert found["languages"][0].startswith("Language bias: e5-small-l12, ")
    assert found["variants"] == []


def test_a_figure_too_small_for_its_meter_says_so(tmp_path):
    store = ResultStore(tmp_path)
    for layers in (3, 6):
        record = records.add_run(store, "s", layers, "hybrid")
        if layers == 3:
            sources = record.profile.sources | {"energy_j_per_1k_queries": "not resolved: 0.2 J, standard error 90%"}
            unresolved = replace(record.profile, energy_j_per_1k_queries=None, sources=sources)
            store.save(replace(record, profile=unresolved))
    material = gather(store, "s", analyse(store, "s", *MONEY))
    rows = [[entry.text for entry in row.entries] for row in html_tables.costs(material).rows]
    (energy,) = [row for row in rows if row[0].startswith("energy per 1,000 queries")]
    assert energy[2] == "not resolved"
    assert energy[3].startswith("186 [")


def test_the_report_says_that_a_price_is_of_another_kind_of_machine(tmp_path):
    store = ResultStore(tmp_path)
    record = records.add_run(store, "s", 3, "hybrid")
    details = record.profile.details | {"machine": {"cpu": "c", "device": "cpu", "cpu_vector_instructions": "AVX2"}}
    store.save(replace(record, profile=replace(record.profile, details=details)))
    for architecture, doubts in {"x86_64": [], "": [], "arm64": ["priced as arm64, profiled on x86_64"]}.items():
        prices = replace(MONEY[0], architecture=architecture)
        caveats = verdict_on(store, "s", analyse(store, "s", prices, MONEY[1])).caveats
        said = [caveat for caveat in caveats if "price sheet" in caveat]
        assert said == [f"The price sheet is of another kind of machine than the profiled one: {d}." for d in doubts]


def test_profiles_of_unlike_settings_are_named(tmp_path):
    store = ResultStore(tmp_path)
    for layers, calls in ((3, 150), (6, 1000)):
        record = records.add_run(store, "s", layers, "hybrid")
        settings = {"enabled": True, "shared": True, "min_calls": calls, "min_seconds": 1.0}
        store.save(replace(record, config=record.config | {"profile": settings}))
    caveats = verdict_on(store, "s", analyse(store, "s", *MONEY)).caveats
    assert "Profiles differ in profile.min_calls (150 and 1000): compare equal ones only." in caveats


def test_what_was_not_profiled_is_not_called_passed(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "s", 3, "hybrid")
    records.add_run(store, "s", 6, "hybrid", profiled=False)
    tables = analyse(store, "s", *MONEY)
    said = verdict_on(store, "s", tables)
    assert "Quality checks, by system: 1 passed and 1 not measured." in said.caveats
    assert "1 of 2 systems were not profiled and are on no Pareto front." in said.caveats
    material = gather(store, "s", tables)
    small, large = material.systems.sort_values("layers").index
    assert values(material, small, figures(material))[-1] == "passed"
    assert values(material, large, figures(material))[-1] == "not measured"


def test_a_sweep_without_accuracy_claims_none(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    tables = analyse(store, "costs", *MONEY)
    first, second, third = verdict_on(store, "costs", tables).details
    assert "no accuracy" in first
    assert second.startswith("Cheapest: xlmr-large, no training (query latency, p95 = 28.1 [26.9, 29.3] ms, measured")
    assert third == "Confidence: quality checks, by system: 1 passed."
    report.write(store, "costs", tables, tmp_path / "report.html")
    assert "Accuracy against cost" not in (tmp_path / "report.html").read_text().split("<script")[0]


def test_a_sweep_without_profiles_claims_no_cost(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "s", 3, "hybrid", profiled=False)
    tables = analyse(store, "s", *MONEY)
    *_, which, sure, cost = verdict_on(store, "s", tables).details
    assert which == "On facts, e5-small-l3, hybrid has the highest multilingual mAP."
    assert sure == "No other system of its model was tried."
    assert cost == "e5-small-l3 was not profiled, so its cost is unknown."
    report.write(store, "s", tables, tmp_path / "report.html")
    (card,) = cards(gather(store, "s", tables))
    assert [figure.label for figure in card.figures] == ["multilingual mAP"]


def test_monolingual_accuracies_without_profiles_have_intervals(tmp_path):
    """There is no point to draw then, since no cost is known and no language bias either."""
    store = ResultStore(tmp_path)
    for layers in (3, 6, 12):
        record = records.add_run(store, "s", layers, "hybrid", profiled=False)
        frame = store.per_query(record.name, "facts")
        store.save_frame(store.run_dir(record.name), "per_query-facts", frame[frame["setting"] == "mono"])
        store.save(replace(record, metrics={key: of for key, of in record.metrics.items() if ".mono." in key}))
    tables = analyse(store, "s", *MONEY)
    assert tables["pareto"].empty
    of = tables["accuracies"].set_index("system")
    _, second, _ = of.sort_values("accuracy", ascending=False).index
    which = verdict_on(store, "s", tables).details[-3]
    assert which.startswith("On facts, e5-small-l12, hybrid has the highest monolingual mAP.")
    low = tables["winners"]["low"].iloc[0]
    assert ("overlaps that of e5-small-l6" in which) == (of["high"][second] > low)
    report.write(store, "s", tables, tmp_path / "report.html")
    assert show.between(of["accuracy"][second], tuple(of.loc[second, ["low", "high"]]), show.accuracy) in (
        tmp_path / "report.html"
    ).read_text(encoding="utf-8")


def test_a_benchmark_is_reported_with_its_main_metric(tmp_path):
    store = ResultStore(tmp_path)
    for sampler in records.GAIN:
        record = records.add_run(store, "s", 3, sampler)
        frame = store.per_query(record.name, "facts").rename(columns={"map": "ndcg_10"})
        store.save_frame(store.run_dir(record.name), "per_query-facts", frame.assign(map=0.5))
        scores = {f"facts.{key}": value for key, value in metrics.macro(frame.assign(map=0.5)).items()}
        provenance = record.provenance | {"main_metrics": {"facts": "ndcg_10"}}
        store.save(replace(record, metrics=scores, provenance=provenance))
    tables = analyse(store, "s", *MONEY)
    report.write(store, "s", tables, tmp_path / "report.html")
    markup = (tmp_path / "report.html").read_text()
    data = data_of(tmp_path / "report.html")
    assert data["settings"]["facts"]["multi"] == "multilingual nDCG@10"
    assert data["matrices"]["facts"]["metric"] == "nDCG@10"
    (hybrid,) = tables["systems"].query("strategy == 'hybrid'").to_dict("records")
    accuracy = f"<dt>multilingual nDCG@10</dt><dd><b>{hybrid['metrics.facts.multi.ndcg_10']:.3f} ["
    assert accuracy in markup
    assert "mAP" not in markup.split('id="published"')[0].split("</style>")[1]


def test_published_figures_lie_over_benchmarks_of_the_same_name(sweep):
    store, tables, _ = sweep
    assert evidence.overlay(gather(store, "toy", tables)) == []
    renamed = tables["systems"].rename(columns=lambda column: column.replace("facts", "xquad_r"))
    lines = evidence.overlay(gather(store, "toy", tables | {"systems": renamed}))
    assert [line["accuracy"] for line in lines if line["label"] == "LaBSE, hybrid"] == [0.817, 0.767, 0.682]
    assert {line["benchmark"] for line in lines} == {"xquad_r"}
    columns = {"main_metric.xquad_r": "mrr", "metrics.xquad_r.multi.mrr": 0.5}  # what is published is mAP
    assert evidence.overlay(gather(store, "toy", tables | {"systems": renamed.assign(**columns)})) == []


def test_the_command_is_hydras(sweep):
    store, tables, _ = sweep
    material = gather(store, "toy", tables)
    assert evidence.command(material) is None
    notes = store.kept_dir("toy") / "multirun.yaml"
    notes.write_text(
        "hydra: {job: {config_name: articles}, overrides: {task: ['seed=0,1', 'sweep=toy']}, runtime: {config_sources: "
        "[{path: pipeline.conf, provider: main}, {path: /somewhere/sweeps, provider: command-line}]}}"
    )
    command = "python -m pipeline.run --config-dir sweeps --config-name articles -m seed=0,1 sweep=toy"
    assert evidence.command(material) == command
    foreign = ["", "- 1", "hydra: [", "hydra: {}", "hydra: {runtime: 5}", "\0", "[" * 5000, notes.read_text()[:150]]
    for content in [*(text.encode() for text in foreign), b"\xff", None]:
        notes.unlink()
        notes.mkdir() if content is None else notes.write_bytes(content)
        with pytest.raises(UserError, match=r"multirun\.yaml is not Hydra's note of a multirun: move it away\.$"):
            evidence.command(material)
    notes.rmdir()


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (
            show.plain,
            {"p95": {"query_ms": 36.2, "noise": 0.05}, "p50": {"query_ms": 9.0}},
            "p95 (query ms 36.2; noise 0.0500); p50 (query ms 9.00)",
        ),
        (show.accuracy, 0.8296, "0.830"),
        (show.accuracy, float("nan"), "–"),
        (show.difference, -0.0004, "−0.000"),
        (show.amount, 53.27, "53.3"),
        (show.amount, 99.96, "100"),
        (show.amount, 1537.4, "1,537"),
        (show.amount, 0.00123, "0.00123"),
        (show.amount, 0.0, "0.00"),
        (show.times, float("inf"), "not reached"),
        (show.probability, 0.991, "> 99 %"),
        (show.probability, 0.009, "< 1 %"),
        (show.probability, 0.5, "50 %"),
        (show.p_value, 0.0009, "p < 0.001"),
        (show.p_value, 0.012, "p = 0.012"),
    ],
)
def test_numbers_have_one_rounding(form, value, text):
    assert form(value) == text
