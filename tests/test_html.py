"""report.html: its numbers against the csv files, its sentences against their rules, and the file in a real browser."""

import html
import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest
import records
from browser import PROGRAM, Browser

from pipeline.analysis import money
from pipeline.analysis.analyse import analyse
from pipeline.reporting.html import evidence, show, statistics
from pipeline.reporting.html import tables as html_tables
from pipeline.reporting.html import write as report
from pipeline.reporting.html.findings import findings
from pipeline.reporting.html.material import gather
from pipeline.reporting.html.verdict import verdict
from pipeline.retrieval import metrics
from pipeline.store.results import ResultStore, RunState

MONEY = money.Prices("a rack", "imagined", "2026-01-01", 0.4, 0, 0.1, 400), money.Scenario(1000, 1000, 1, 1)
EVIL = "</script><b>ended by SIGKILL</b>"
CHECKS = [{"name": "quiet", "passed": False, "value": {"others_share": 0.31}, "limit": "others at most 5%"}]
ERRORS = {"query_latency_p95_ms": 0.1, "energy_j_per_1k_queries": 0.02}
FAR = {field: math.exp(4.3027 * error) for field, error in ERRORS.items()}  # Student's t with 2 degrees of freedom
BY_LANGUAGE = {"ar": 19.5, "en": 17.25, "th": 21.0}


def add_details(store: ResultStore, record) -> None:
    """Add what the real meters keep beside a profile's figures, and the attraction table."""
    profile = record.profile
    meters = {
        "by_language": [
            {"language": name, "tokens": n, "query_p50_ms": n / 2, "energy_j_per_1k_queries": n}
            for name, n in BY_LANGUAGE.items()
        ],
        "quality": {"passed": profile.quality == "passed", "checks": [] if profile.quality == "passed" else CHECKS},
    }
    shares = {name: [2.0, 0.5, 0.5] for name in records.LANGUAGES}
    table = pd.DataFrame({"query_language": records.LANGUAGES} | shares)
    store.save_frame(store.run_dir(record.name), "attraction-facts", table)
    changed = {"relative_errors": ERRORS, "rounds": 3, "details": profile.details | meters}
    store.save(replace(record, profile=replace(profile, **changed)))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three sizes and strategies, hybrid with two seeds; a failed profile, a cost-only run and a failed run."""
    store = ResultStore(tmp_path_factory.mktemp("results"))
    for record in records.add_sweep(store, seeds=1):
        add_details(store, record)
    for layers in (3, 6, 12):
        add_details(
            store,
            records.add_run(store, "toy", layers, "hybrid", seed=1, quality="failed" if layers == 6 else "passed"),
        )
    for sampler in records.GAIN:
        add_details(store, records.add_run(store, "toy", 6, sampler, quality="failed"))
    records.add_run(store, "toy", 24, "none", cost_only=True)
    store.add_to_manifest("toy", RunState("dead", "failed", {}, 1.0, EVIL))
    tables = analyse(store, "toy", *MONEY)
    folder = store.sweep_dir("toy")
    for stem, table in tables.items():
        table.to_csv(folder / f"{stem}.csv", index=False)
    report.write(store, "toy", tables, folder / "report.html")
    return store, tables, folder / "report.html"


@pytest.fixture(scope="module")
def text(sweep):
    """The text of the file before a script runs, without its JSON and scripts."""
    markup = re.sub(r"<(script|style).*?</\1>", "", sweep[2].read_text(), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "\n", markup))


@pytest.fixture(scope="module")
def data(sweep):
    return json.loads(re.search(r'id="data">(.*?)</script>', sweep[2].read_text(), re.DOTALL)[1])


def verdict_on(store, sweep, tables):
    return verdict(gather(store, sweep, tables))


def test_the_figures_numbers_are_the_csvs(sweep, data):
    points = pd.read_csv(sweep[2].with_name("pareto.csv"))
    points["error_key"] = points["error_key"].fillna("")  # of language bias
    pd.testing.assert_frame_equal(pd.DataFrame(data["points"]), points, check_exact=True, check_dtype=False)


def test_the_tables_numbers_are_the_csvs(sweep, text):
    _, tables, path = sweep
    lines = text.split("\n")
    for point in pd.read_csv(path.with_name("pareto.csv")).to_dict("records"):
        interval = f"{point['accuracy']:.3f} [{point['accuracy_low']:.3f}, {point['accuracy_high']:.3f}]"
        assert lines.count(interval) >= 2  # by strategy and model, and beside its cost
    for test in tables["tests"].to_dict("records"):
        assert f"{test['difference']:+.3f}".replace("-", "−") in text
    far = FAR["query_latency_p95_ms"]
    assert lines.count(f"5.00 [{5 / far:.2f}, {5 * far:.2f}]") > 1
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
        assert matrices["accuracy"][system] == pytest.approx(mean.to_numpy(), rel=1e-12)
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


def test_the_verdict_says_which_at_what_cost_and_how_sure(sweep):
    store, tables, _ = sweep
    which, cost, sure = verdict_on(store, "toy", tables).paragraphs
    best = tables["systems"].query("model == 'e5-small-l12'").set_index("strategy")
    assert "On facts, e5-small-l12 is the most accurate model. The best batch strategies are" in which
    assert f"hybrid for multilingual mAP ({best.at['hybrid', 'metrics.facts.multi.map']:.3f} [" in which
    assert "Costs of e5-small-l12: query latency, p95 = 14.9 [9.69, 22.9] ms, measured" in cost
    assert "energy per 1,000 queries = 372 [341, 405] J, modelled" in cost
    assert "The next cheaper system on the Pareto front is e5-small-l6, hybrid (query latency, p95 = 8.30 [5.40" in cost
    assert "is on the Pareto front against query latency, p95, in" in sure
    assert re.search(r"\[.*\] \(multilingual mAP, over monolingual, p [=<] 0\.\d{3}\)", sure)


def test_a_difference_needs_interval_and_corrected_p(sweep):
    store, tables, _ = sweep
    tests, of_hybrid = tables["tests"], tables["tests"]["a"].str.contains("hybrid").map({True: 1, False: -1})
    clear = tables | {"tests": tests.assign(difference=0.015 * of_hybrid, p_holm=0.049)}
    which = verdict_on(store, "toy", clear).paragraphs[0]
    assert "not significantly better" not in which.split("multilingual mAP")[1]
    for doubt in ({"p_holm": 0.05}, {"p_holm": float("nan")}):
        which = verdict_on(store, "toy", tables | {"tests": tests.assign(**doubt)}).paragraphs[0]
        assert "not significantly better" in which.split("multilingual mAP")[1]


def test_the_winners_interval_allows_for_its_having_been_chosen(sweep):
    store, tables, _ = sweep
    odd = tables["winners"].assign(accuracy=0.777, low=0.666, high=0.888)
    which, _, sure = verdict_on(store, "toy", tables | {"winners": odd}).paragraphs
    assert which.count("0.777 [0.666, 0.888]") == 3
    assert sure.endswith("the intervals of the winners allow for their having been chosen.")


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
    assert "over articles and seeds, with Holm's correction" in verdict_on(store, "toy", of_articles).paragraphs[2]
    rows = statistics.tests(gather(store, "toy", of_articles)).rows
    assert {row.entries[6].text for row in rows} <= {"articles", "articles and seeds"}


def test_models_whose_intervals_overlap_are_named(sweep):
    store, tables, _ = sweep
    points = tables["pareto"]
    sixes = points["model"] == "e5-small-l6"
    narrow = {"winners": tables["winners"].assign(low=0.5)}
    which = verdict_on(store, "toy", tables | narrow | {"pareto": points.assign(accuracy_high=0.5)}).paragraphs[0]
    assert "overlaps" not in which
    wide = {"pareto": points.assign(accuracy_high=sixes.map({True: 0.51, False: 0.49}))}
    which = verdict_on(store, "toy", tables | narrow | wide).paragraphs[0]
    assert which.split("multilingual mAP")[1].count("the interval overlaps that of e5-small-l6, hybrid") == 1
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


CONSTANT = "modelled: constant power x time (AMD EPYC 9354, 280 W)"


def with_constant_power(tables):
    """The tables of a sweep whose energy no meter read."""
    points, column = tables["pareto"], "profile.sources.energy_j_per_1k_queries"
    systems = tables["systems"].assign(**{column: CONSTANT})
    of_energy = points["cost"] == "energy_j_per_1k_queries"
    return tables | {"systems": systems, "pareto": points.assign(source=points["source"].where(~of_energy, CONSTANT))}


def test_an_energy_that_repeats_latency_is_no_finding(sweep):
    store, tables, _ = sweep
    constant = with_constant_power(tables)
    said = verdict_on(store, "toy", constant)
    assert "energy" in " ".join(verdict_on(store, "toy", tables).paragraphs)
    assert "energy" not in " ".join(said.paragraphs)
    assert "energy" not in " ".join(findings(gather(store, "toy", constant)))
    sentence = "Modelled as a constant power times time, which repeats latency: energy per 1,000 queries."
    assert sentence in said.caveats
    assert [caveat for caveat in said.caveats if caveat.startswith("Modelled, not measured")]  # of the dollars


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
    assert report.numbers(material, small)[-1] == "quality checks: passed"
    assert report.numbers(material, large)[-1] == "quality checks: not measured"


def test_a_sweep_without_accuracy_claims_none(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    tables = analyse(store, "costs", *MONEY)
    first, second, third = verdict_on(store, "costs", tables).paragraphs
    assert "no accuracy" in first
    assert second.startswith("Cheapest: xlmr-large, no training (query latency, p95 = 28.1 [26.9, 29.3] ms, measured")
    assert third == "Confidence: quality checks, by system: 1 passed."
    report.write(store, "costs", tables, tmp_path / "report.html")
    assert "Accuracy against cost" not in (tmp_path / "report.html").read_text().split("<script")[0]


def test_a_sweep_without_profiles_claims_no_cost(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "s", 3, "hybrid", profiled=False)
    tables = analyse(store, "s", *MONEY)
    which, cost, sure = verdict_on(store, "s", tables).paragraphs
    assert "e5-small-l3 is the only model tried" in which
    assert cost == "e5-small-l3 was not profiled, so its cost is unknown."
    assert sure == "Confidence: no other system of its model was tried."
    report.write(store, "s", tables, tmp_path / "report.html")


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
    data = json.loads(re.search(r'id="data">(.*?)</script>', markup, re.DOTALL)[1])
    assert data["settings"]["facts"]["multi"] == "multilingual nDCG@10"
    assert data["matrices"]["facts"]["metric"] == "nDCG@10"
    (hybrid,) = tables["systems"].query("strategy == 'hybrid'").to_dict("records")
    assert f"hybrid for multilingual nDCG@10 ({hybrid['metrics.facts.multi.ndcg_10']:.3f}" in markup
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
    notes.unlink()


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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("no chromium is installed")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


FIRST_MARKER = """(() => {  // position of a strategy's first marker in the window
  document.getElementById("front").scrollIntoView();
  const figure = document.getElementById("front"), {xaxis, yaxis} = figure._fullLayout;
  const trace = figure.data.find((trace) => trace.name === "hybrid"), box = figure.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(trace.x[0]), box.top + yaxis._offset + yaxis.d2p(trace.y[0])];
})()"""


def test_in_a_browser_the_front_can_be_hovered_and_clicked(sweep, browser, data, tmp_path):
    _, tables, path = sweep
    browser.open(path, 1400)
    hybrid = tables["systems"].query("model == 'e5-small-l3' and strategy == 'hybrid'")["system"].item()

    x_px, y_px = browser.run(FIRST_MARKER)
    browser.mouse("mouseMoved", x_px - 3, y_px)
    browser.mouse("mouseMoved", x_px, y_px)
    hovered = browser.run(
        "new Promise((d) => setTimeout(() => d(document.querySelector('.hoverlayer').textContent), 200))"
    )
    assert data["systems"][hybrid]["label"] in hovered
    assert re.search(r"on the Pareto front in (< 1|> 99|\d\d?) % of draws of costs and accuracies", hovered)
    assert all(line in hovered for line in data["systems"][hybrid]["numbers"])
    assert browser.screenshot(tmp_path / "report-1400.png").stat().st_size > 100_000

    browser.mouse("mousePressed", x_px, y_px)
    browser.mouse("mouseReleased", x_px, y_px)
    assert data["systems"][hybrid]["label"] in browser.run("document.getElementById('chosen').textContent")
    assert browser.run("document.getElementById('system').value") == hybrid
    assert browser.run("document.getElementById('matrix-metric').textContent") == "mAP"
    z = browser.run("document.getElementById('matrix').data[0].z")
    assert z == data["matrices"]["facts"]["accuracy"][hybrid]

    traces = "document.getElementById('front').data"
    assert browser.run(f"{traces}.find((t) => t.name === 'hybrid').marker.symbol") == [
        "circle",
        "circle-open",
        "circle",
    ]
    legend = "[...document.querySelectorAll('.legendtoggle')].map((item) => item.getBoundingClientRect())"
    names = browser.run("[...document.querySelectorAll('.legendtext')].map((item) => item.textContent)")
    box = browser.run(
        f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({legend}[{names.index('hybrid')}])"
    )
    browser.mouse("mousePressed", *box)
    browser.mouse("mouseReleased", *box)
    hidden = (
        f"new Promise((done) => setTimeout(() => done({traces}.filter((t) => t.visible === 'legendonly').length), 600))"
    )
    assert browser.run(hidden) == 2  # the markers and the line of hybrid
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_in_a_browser_the_axes_can_be_chosen(sweep, browser):
    browser.open(sweep[2], 1400)
    choose = (
        "(($, to) => {{ $.value = to; $.dispatchEvent(new Event('change')); }})(document.getElementById('{}'), '{}')"
    )
    figure = "document.getElementById('front')"
    title = f"{figure}.layout.xaxis.title.text"
    assert browser.run(title) == "query latency, p95 (ms), measured"
    assert browser.run(f"{figure}.layout.xaxis.type") == "log"
    browser.run(choose.format("cost", "energy_j_per_1k_queries"))
    assert browser.run(title) == "energy per 1,000 queries (J), modelled"
    browser.run(choose.format("cost", "serving_mib"))
    assert browser.run(f"{figure}.layout.xaxis.type") == "linear"  # it differs by less than a factor of 2
    browser.run(choose.format("setting", "mono"))
    panel = sweep[1]["pareto"].query("setting == 'mono' and cost == 'serving_mib'")
    markers = browser.run(
        f"{figure}.data.filter((t) => t.customdata).flatMap((t) => t.customdata.map((v, i) => [v, t.y[i]]))"
    )
    assert dict(markers) == dict(zip(panel["system"], panel["accuracy"], strict=True))
    shown = browser.run(
        "[...document.querySelectorAll('tr[data-panel]:not([hidden])')].map((row) => row.dataset.panel)"
    )
    assert set(shown) == {"facts|mono|serving_mib", "facts|mono"}

    matrices = json.loads(browser.run("document.getElementById('data').textContent"))["matrices"]
    first, second = list(matrices["facts"]["accuracy"].items())[:2]
    browser.run(choose.format("system", second[0]) + ";" + choose.format("other", first[0]))
    z = browser.run("document.getElementById('contrast').data[0].z")
    assert z == [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(second[1], first[1], strict=True)]
    low, high = browser.run("(({zmin, zmax}) => [zmin, zmax])(document.getElementById('contrast').data[0])")
    assert low == -high
    assert browser.errors == []


CHOOSE = "(($, to) => {{ $.value = to; $.dispatchEvent(new Event('change')); }})(document.getElementById('{}'), '{}')"


def test_in_a_browser_every_point_lies_at_its_cost(sweep, browser, tmp_path):
    """Also those that share it; the legend and the order of drawing follow the accuracy of the largest model."""
    store, tables, _ = sweep
    points = tables["pareto"]
    quality = points["quality"].where(points["layers"] != 3, "not measured")
    report.write(
        store, "toy", with_constant_power(tables | {"pareto": points.assign(quality=quality)}), tmp_path / "r.html"
    )
    browser.open(tmp_path / "r.html", 1400)
    front = "document.getElementById('front').data.filter((t) => t.customdata)"
    for cost, repeats in (("query_latency_p95_ms", False), ("energy_j_per_1k_queries", True)):
        browser.run(CHOOSE.format("cost", cost))
        drawn = browser.run(f"{front}.flatMap((t) => t.customdata.map((v, i) => [v, t.x[i], t.y[i]]))")
        panel = points.query("setting == 'multi' and cost == @cost")
        assert sorted(drawn) == sorted(panel[["system", "value", "accuracy"]].to_numpy().tolist())
        assert browser.run("document.getElementById('repeats').hidden") != repeats
    text = browser.run("document.getElementById('repeats').innerText")
    assert text == "This cost is modelled as a constant power times time: it repeats latency."
    legend = "[...document.querySelectorAll('#front .legendtext')].map((item) => item.textContent)"
    assert browser.run(legend) == ["hybrid", "monolingual", "no training", "Pareto front"]
    assert browser.run(f"{front}.map((t) => t.name)") == ["no training", "monolingual", "hybrid"]
    symbols = browser.run(f"{front}.at(-1).marker.symbol")
    assert symbols == ["circle-open-dot", "circle-open", "circle"]
    assert browser.errors == []


@pytest.mark.parametrize(("width_px", "scheme"), [(400, "light"), (400, "dark"), (1400, "dark")])
def test_in_a_browser_nothing_runs_off_the_side(sweep, browser, tmp_path, width_px, scheme):
    browser.open(sweep[2], width_px, scheme=scheme)
    assert browser.run("document.documentElement.scrollWidth") == width_px
    ink, paper = browser.run(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert browser.errors == []
    browser.screenshot(tmp_path / f"report-{width_px}-{scheme}.png")


def test_on_paper_it_is_light_and_without_controls(sweep, browser):
    browser.open(sweep[2], 1400, scheme="dark", media="print")
    assert browser.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.errors == []


def test_in_a_browser_inference_variants_can_be_hidden(browser, tmp_path):
    store = ResultStore(tmp_path)
    for layers in (3, 6):
        record = records.add_run(store, "s", layers, "hybrid")
        table = store.per_query(record.name, "facts")
        variant = replace(
            record, name=f"{record.name}-int8", variant="onnx int8", config=record.config | {"variant": 1}
        )
        store.save_frame(store.run_dir(variant.name), "per_query-facts", table)
        store.save(variant)
        store.add_to_manifest("s", RunState(variant.name, "done", variant.choices, 1.0))
    report.write(store, "s", analyse(store, "s", *MONEY), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    marks = "document.getElementById('front').data.flatMap((trace) => trace.customdata ?? []).length"
    assert browser.run(marks) == 4
    browser.run("document.querySelector('#variant input[value=\"onnx int8\"]').click()")
    assert browser.run(marks) == 2
    assert browser.errors == []


def test_in_a_browser_a_sweep_of_costs_alone_has_no_error(browser, tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    report.write(store, "costs", analyse(store, "costs", *MONEY), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    assert browser.errors == []


def test_in_a_browser_the_accuracy_over_pool_size_is_drawn(sweep, browser, tmp_path):
    store, tables, _ = sweep
    one = tables["systems"].query("model == 'e5-small-l3' and strategy == 'hybrid'")[["system", "model", "strategy"]]
    sizes = pd.DataFrame({"pool_size": [10, 100, 1000], "ndcg_10": [0.9, 0.8, 0.7], "low": 0.6, "high": 0.95})
    curve = one.merge(sizes.assign(kind=["measured", "measured", "extrapolated"]), how="cross")
    curves = pd.concat([curve.assign(benchmark="facts", language=name) for name in records.LANGUAGES])
    report.write(store, "toy", tables | {"pool_curve": curves}, tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    traces = browser.run("document.getElementById('pool').data.map((trace) => [trace.x, trace.y])")
    assert traces == [[[100, 1000], [0.8, 0.7]], [[10, 100], [0.9, 0.8]]]
    assert browser.run("document.getElementById('pool').layout.yaxis.title.text") == "nDCG@10"
    assert browser.run("document.getElementById('pool-language').value") == "ar"
    table = browser.run("document.querySelector('#pools tbody tr').innerText")
    assert table.split("\t")[2:] == ["100", "0.800 [0.600, 0.950]", "1,000", "0.700 [0.600, 0.950]", "extrapolated"]
    assert browser.errors == []
