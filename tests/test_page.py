"""report.html: its numbers against the csv, its sentences against their rules, and the page in a real browser."""

import html
import json
import re
from dataclasses import replace

import pandas as pd
import pytest
import records
from browser import PROGRAM, Browser

from pipeline import report as aggregate
from pipeline.analysis import money
from pipeline.reporting.html import evidence, show
from pipeline.reporting.html import write as page
from pipeline.reporting.html.material import gather
from pipeline.reporting.html.verdict import verdict
from pipeline.retrieval import metrics
from pipeline.store.results import Cell, ResultStore

MONEY = money.Prices("a rack", "imagined", "2026-01-01", 0.4, 0, 0.1, 400), money.Scenario(1000, 1000, 1, 1)
EVIL = "</script><b>ended by SIGKILL</b>"
CHECKS = [{"name": "quiet", "passed": False, "value": {"others_share": 0.31}, "limit": "others at most 5%"}]
BY_LANGUAGE = {"ar": 19.5, "en": 17.25, "th": 21.0}


def add_details(store: ResultStore, record) -> None:
    """What the real meters keep beside a profile's figures, and the attraction table."""
    profile = record.profile
    meters = {
        "latency": {
            "query": {"p95": {"value": profile.query_latency_p95_ms, "low": 4.25, "high": 6.75}},
        },
        "energy": {"query": {"relative_error": 0.1}},
        "by_language": [
            {"language": name, "tokens": n, "query_p50_ms": n / 2, "energy_j_per_1k_queries": n}
            for name, n in BY_LANGUAGE.items()
        ],
        "grade": {"passed": profile.grade_passed, "checks": [] if profile.grade_passed else CHECKS},
    }
    shares = {name: [2.0, 0.5, 0.5] for name in records.LANGUAGES}
    table = pd.DataFrame({"query_language": records.LANGUAGES} | shares)
    store.save_frame(store.run_dir(record.name), "attraction-facts", table)
    store.save(replace(record, profile=replace(profile, details=profile.details | meters)))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three sizes and strategies, hybrid with two seeds; a profile in doubt, a cost-only cell and a failed one."""
    store = ResultStore(tmp_path_factory.mktemp("results"))
    for record in records.add_sweep(store, seeds=1):
        add_details(store, record)
    for layers in (3, 6, 12):
        add_details(store, records.add_run(store, "toy", layers, "hybrid", seed=1, graded=layers != 6))
    for sampler in records.GAIN:
        add_details(store, records.add_run(store, "toy", 6, sampler, graded=False))
    records.add_run(store, "toy", 24, "none", cost_only=True)
    store.note("toy", Cell("dead", "failed", {}, 1.0, EVIL))
    found = aggregate.analyse(store, "toy", *MONEY)
    folder = store.sweep_dir("toy")
    for stem, table in found.items():
        table.to_csv(folder / f"{stem}.csv", index=False)
    page.write(store, "toy", found, folder / "report.html")
    return store, found, folder / "report.html"


@pytest.fixture(scope="module")
def text(sweep):
    """What stands in the page before a script runs; its JSON and scripts left out."""
    markup = re.sub(r"<(script|style).*?</\1>", "", sweep[2].read_text(), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "\n", markup))


@pytest.fixture(scope="module")
def data(sweep):
    return json.loads(re.search(r'id="data">(.*?)</script>', sweep[2].read_text(), re.DOTALL)[1])


def said(store, sweep, found):
    return verdict(gather(store, sweep, found))


def test_the_figures_numbers_are_the_csvs(sweep, data):
    wanted = pd.read_csv(sweep[2].with_name("pareto.csv"))
    pd.testing.assert_frame_equal(pd.DataFrame(data["points"]), wanted, check_exact=True, check_dtype=False)


def test_the_tables_numbers_are_the_csvs(sweep, text):
    _, found, path = sweep
    lines = text.split("\n")
    for point in pd.read_csv(path.with_name("pareto.csv")).to_dict("records"):
        interval = f"{point['accuracy']:.3f} [{point['accuracy_low']:.3f}, {point['accuracy_high']:.3f}]"
        assert lines.count(interval) >= 2  # by strategy and size, and beside its cost
    for test in found["tests"].to_dict("records"):
        assert f"{test['difference']:+.3f}".replace("-", "−") in text
    assert lines.count(f"{1.1 * 3 + 1.7:.2f} [4.25, 6.75]") > 1
    assert f"{31.0 * 3:.1f} [{93 * 0.804:.1f}, {93 * 1.196:.0f}]" in lines  # 1.96 standard errors of 10 %


def test_matrices_are_means_over_seeds_of_the_per_query_tables(sweep, data):
    store, found, _ = sweep
    matrices = data["matrices"]["facts"]
    assert matrices["languages"] == list(records.LANGUAGES)
    assert list(matrices["mAP"]) == list(
        found["variants"]
        .dropna(subset="metrics.facts.multi.map")
        .sort_values("metrics.facts.multi.map")["variant"][::-1]
    )
    for variant, runs in found["runs"].dropna(subset="metrics.facts.mono.map").groupby("variant"):
        wanted = [metrics.language_matrix(store.per_query(name, "facts"), "map") for name in runs["name"]]
        wanted = (sum(wanted) / len(wanted)).loc[list(records.LANGUAGES), list(records.LANGUAGES)]
        assert matrices["mAP"][variant] == pytest.approx(wanted.to_numpy(), rel=1e-12)
        assert matrices["attraction"][variant] == [[2.0] * 3, [0.5] * 3, [0.5] * 3]


def test_every_part_is_there(text):
    for expected in (
        EVIL,
        "quiet",
        "others share 0.310",
        "others at most 5%",
        "failed",
        "an exercise",
        "Imaginary 9000",
    ):
        assert expected in text
    for expected in ("Published: LAReQA", "Language bias on facts", "Exchange rates", "Hypervolume", "Paired tests"):
        assert expected in text
    assert "\n17.2\n" in text  # tokens of an English query


def test_bias_is_the_mean_rank_distance(sweep, text):
    assert "270\n" in text  # 3 layers: all questions alike, so the interval is as narrow as the rounding
    assert sweep[1]["variants"]["metrics.facts.multi.rank_distance"].dropna().isin([270, 240, 180]).all()


def test_the_verdict_says_which_at_what_cost_and_how_sure(sweep):
    store, found, _ = sweep
    which, cost, sure = said(store, "toy", found).sentences
    best = found["variants"].query("model == 'e5-small-l12'").set_index("strategy")
    assert "On facts, e5-small-l12 is the most accurate size, and its best batches are" in which
    assert f"hybrid for multilingual mAP ({best.at['hybrid', 'metrics.facts.multi.map']:.3f} [" in which
    assert "e5-small-l12 costs – query latency, p95: 14.9 [4.25, 6.75] ms, measured" in cost
    assert "energy per 1,000 queries: 372 [299, 445] J, modelled" in cost
    assert "the next cheaper on the front, e5-small-l6, hybrid (query latency, p95: 8.30 [4.25, 6.75] ms, mea" in cost
    assert "stands on the front against query latency, p95 in" in sure
    assert "p < 0.001" in sure


def test_strategies_are_told_apart_by_interval_and_corrected_p(sweep):
    store, found, _ = sweep
    tests = found["tests"]
    sure = said(store, "toy", found | {"tests": tests.assign(low=0.01, high=0.02, difference=0.015, p_holm=0.049)})
    assert "cannot be told apart" not in sure.sentences[0].split("multilingual mAP")[1]
    for doubt in ({"p_holm": 0.05}, {"low": -0.01, "high": 0.01}, {"p_holm": float("nan")}):
        which = said(store, "toy", found | {"tests": tests.assign(**doubt)}).sentences[0]
        assert "cannot be told apart" in which.split("multilingual mAP")[1]


def test_sizes_whose_intervals_overlap_are_named(sweep):
    store, found, _ = sweep
    points = found["pareto"]
    sixes = points["model"] == "e5-small-l6"
    which = said(store, "toy", found | {"pareto": points.assign(accuracy_high=0.0)}).sentences[0]
    assert "overlaps" not in which
    wide = points.assign(accuracy_high=points["accuracy_high"].where(sixes, 0.0) + sixes)
    which = said(store, "toy", found | {"pareto": wide}).sentences[0]
    assert which.split("multilingual mAP")[1].count("the interval overlaps that of e5-small-l6, hybrid") == 1
    assert "e5-small-l3" not in which


def test_the_verdict_bears_its_doubts(sweep, tmp_path):
    caveats = said(sweep[0], "toy", sweep[1]).caveats
    assert caveats[0].startswith("One seed for some: intervals and tests then speak of questions only")
    assert caveats[1] == (
        "The profile of e5-small-l6 failed its grade (quiet): its costs are in doubt and drawn hollow."
    )
    assert caveats[2].startswith("Modelled, not measured: energy per 1,000 queries")
    assert caveats[3:] == ["Cells that failed, and are missing from all figures: 1.", "an exercise"]
    store = ResultStore(tmp_path)
    for seed in range(5):
        for sampler in ("none", "hybrid"):
            records.add_run(store, "s", 3, sampler, seed)
    assert not any("seed" in caveat for caveat in said(store, "s", aggregate.analyse(store, "s", *MONEY)).caveats)


def test_a_sweep_without_accuracy_claims_none(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    found = aggregate.analyse(store, "costs", *MONEY)
    first, second, third = said(store, "costs", found).sentences
    assert "no accuracy" in first
    assert second.startswith("Cheapest is xlmr-large, none (untrained): query latency, p95: 28.1 ms, measured")
    assert third == "How sure – 1 of 1 profiles passed their grade."
    page.write(store, "costs", found, tmp_path / "report.html")
    assert "Accuracy against cost" not in (tmp_path / "report.html").read_text().split("<script")[0]


def test_a_sweep_without_profiles_claims_no_cost(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "s", 3, "hybrid", profiled=False)
    found = aggregate.analyse(store, "s", *MONEY)
    which, cost, sure = said(store, "s", found).sentences
    assert "e5-small-l3 is the only size tried" in which
    assert cost == "e5-small-l3 was not profiled: nothing is known of its cost."
    assert sure == "How sure – nothing else of its size was tried."
    page.write(store, "s", found, tmp_path / "report.html")


def test_published_figures_lie_over_benchmarks_of_the_same_name(sweep):
    store, found, _ = sweep
    assert evidence.overlay(gather(store, "toy", found)) == []
    renamed = found["variants"].rename(columns=lambda column: column.replace("facts", "xquad_r"))
    drawn = evidence.overlay(gather(store, "toy", found | {"variants": renamed}))
    assert [line["accuracy"] for line in drawn if line["label"] == "LaBSE, hybrid"] == [0.817, 0.767, 0.682]
    assert {line["benchmark"] for line in drawn} == {"xquad_r"}


def test_the_command_is_hydras(sweep):
    store, found, path = sweep
    material = gather(store, "toy", found)
    assert evidence.command(material) is None
    noted = path.with_name("multirun.yaml")
    noted.write_text(
        "hydra: {job: {config_name: articles}, overrides: {task: ['seed=0,1', 'sweep=toy']}, runtime: {config_sources: "
        "[{path: pipeline.conf, provider: main}, {path: /somewhere/sweeps, provider: command-line}]}}"
    )
    wanted = "python -m pipeline.run --config-dir sweeps --config-name articles -m seed=0,1 sweep=toy"
    assert evidence.command(material) == wanted
    noted.unlink()


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (show.accuracy, 0.8296, "0.830"), (show.accuracy, float("nan"), "–"), (show.difference, -0.0004, "−0.000"),
        (show.amount, 53.27, "53.3"), (show.amount, 99.96, "100"), (show.amount, 1537.4, "1,537"),
        (show.amount, 0.00123, "0.00123"), (show.amount, 0.0, "0.00"), (show.times, float("inf"), "not reached"),
        (show.probability, 0.991, "> 99 %"), (show.probability, 0.009, "< 1 %"), (show.probability, 0.5, "50 %"),
        (show.p_value, 0.0009, "p < 0.001"), (show.p_value, 0.012, "p = 0.012"),
    ],
)  # fmt: skip
def test_numbers_have_one_rounding(form, value, text):
    assert form(value) == text


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("no chromium is installed")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


PLACE = """(() => {  // of a strategy's first mark, in the window
  document.getElementById("front").scrollIntoView();
  const figure = document.getElementById("front"), {xaxis, yaxis} = figure._fullLayout;
  const trace = figure.data.find((trace) => trace.name === "hybrid"), box = figure.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(trace.x[0]), box.top + yaxis._offset + yaxis.d2p(trace.y[0])];
})()"""


def test_in_a_browser_the_front_answers(sweep, browser, data, tmp_path):
    _, found, path = sweep
    browser.open(path, 1400)
    hybrid = found["variants"].query("model == 'e5-small-l3' and strategy == 'hybrid'")["variant"].item()

    x_px, y_px = browser.run(PLACE)
    browser.mouse("mouseMoved", x_px - 3, y_px)
    browser.mouse("mouseMoved", x_px, y_px)
    hovered = browser.run(
        "new Promise((d) => setTimeout(() => d(document.querySelector('.hoverlayer').textContent), 200))"
    )
    assert data["cells"][hybrid]["label"] in hovered
    assert re.search(r"on this front in (< 1|> 99|\d\d?) % of draws", hovered)
    assert all(line in hovered for line in data["cells"][hybrid]["numbers"])
    assert browser.screenshot(tmp_path / "report-1400.png").stat().st_size > 100_000

    browser.mouse("mousePressed", x_px, y_px)
    browser.mouse("mouseReleased", x_px, y_px)
    assert data["cells"][hybrid]["label"] in browser.run("document.getElementById('chosen').textContent")
    assert browser.run("document.getElementById('cell').value") == hybrid
    drawn = browser.run("document.getElementById('matrix').data[0].z")
    assert drawn == data["matrices"]["facts"]["mAP"][hybrid]

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
    assert browser.run(hidden) == 2  # the marks and the line of hybrid
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
    browser.run(choose.format("cost", "peak_rss_mib"))
    assert browser.run(f"{figure}.layout.xaxis.type") == "linear"  # it differs by less than a factor of 2
    browser.run(choose.format("setting", "mono"))
    panel = sweep[1]["pareto"].query("setting == 'mono' and cost == 'peak_rss_mib'")
    drawn = browser.run(
        f"{figure}.data.filter((t) => t.customdata).flatMap((t) => t.customdata.map((v, i) => [v, t.y[i]]))"
    )
    assert dict(drawn) == dict(zip(panel["variant"], panel["accuracy"], strict=True))
    shown = browser.run(
        "[...document.querySelectorAll('tr[data-panel]:not([hidden])')].map((row) => row.dataset.panel)"
    )
    assert set(shown) == {"facts|mono|peak_rss_mib", "facts|mono"}

    first, second = list(
        json.loads(browser.run("document.getElementById('data').textContent"))["matrices"]["facts"]["mAP"].items()
    )[:2]
    browser.run(choose.format("cell", second[0]) + ";" + choose.format("other", first[0]))
    z = browser.run("document.getElementById('contrast').data[0].z")
    assert z == [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(second[1], first[1], strict=True)]
    low, high = browser.run("(({zmin, zmax}) => [zmin, zmax])(document.getElementById('contrast').data[0])")
    assert low == -high
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


def test_in_a_browser_ways_of_serving_can_be_hidden(browser, tmp_path):
    store = ResultStore(tmp_path)
    for layers in (3, 6):
        record = records.add_run(store, "s", layers, "hybrid")
        table = store.per_query(record.name, "facts")
        served = replace(record, name=f"{record.name}-int8", served="onnx int8", config=record.config | {"served": 1})
        store.save_frame(store.run_dir(served.name), "per_query-facts", table)
        store.save(served)
        store.note("s", Cell(served.name, "done", served.choices, 1.0))
    page.write(store, "s", aggregate.analyse(store, "s", *MONEY), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    marks = "document.getElementById('front').data.flatMap((trace) => trace.customdata ?? []).length"
    assert browser.run(marks) == 4
    browser.run("document.querySelector('#served input[value=\"onnx int8\"]').click()")
    assert browser.run(marks) == 2
    assert browser.errors == []


def test_in_a_browser_a_sweep_of_costs_alone_has_no_error(browser, tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    page.write(store, "costs", aggregate.analyse(store, "costs", *MONEY), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    assert browser.errors == []
