"""report.html in a real browser: plots, folded sections, tables, keyboard, axe-core, phones and paper.

Pictures of the pages are kept in outputs/screenshots.
"""

import re
from dataclasses import replace

import pandas as pd
import pytest
import records
from browser import AXE, OPEN_ALL, PICTURES, PROGRAM, SERIOUS, Browser
from reports import MONEY, data_of, toy, unpacked, with_constant_power

from pipeline.analysis.analyse import analyse
from pipeline.reporting.html import write as report
from pipeline.store.results import ResultStore, RunState

CHOOSE = "(($, to) => {{ $.value = to; $.dispatchEvent(new Event('change')); }})(document.getElementById('{}'), '{}')"
FRONT = "document.getElementById('front')"
MARKERS = f"{FRONT}.data.filter((trace) => trace.customdata)"
FIRST_MARKER = """(() => {  // position of a strategy's first marker in the window
  document.getElementById("front").scrollIntoView();
  const figure = document.getElementById("front"), {xaxis, yaxis} = figure._fullLayout;
  const trace = figure.data.find((trace) => trace.name === "hybrid"), box = figure.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(trace.x[0]), box.top + yaxis._offset + yaxis.d2p(trace.y[0])];
})()"""
HOVERED = "new Promise((d) => setTimeout(() => d(document.querySelector('.hoverlayer').textContent), 200))"
ROWS = """[...document.querySelectorAll("#deploy tbody tr:not([hidden])")].map((row) => row.cells[0].textContent)"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def data(sweep):
    return data_of(sweep[2])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("no chromium is installed")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def system_of(tables, model, strategy):
    return tables["systems"].query("model == @model and strategy == @strategy")["system"].item()


def open_section(browser, name):
    browser.run(f"document.querySelector('nav a[href=\"#{name}\"]').click(); new Promise((d) => setTimeout(d, 100))")


def test_the_front_can_be_hovered_and_clicked(sweep, browser, data):
    _, tables, path = sweep
    browser.open(path, 1400)
    hybrid = system_of(tables, "e5-small-l3", "hybrid")
    figures = dict(zip(data["figures"], data["systems"][hybrid]["figures"], strict=True))

    x_px, y_px = browser.run(FIRST_MARKER)
    browser.mouse("mouseMoved", x_px - 3, y_px)
    browser.mouse("mouseMoved", x_px, y_px)
    hovered = browser.run(HOVERED)
    assert data["systems"][hybrid]["label"] in hovered
    assert re.search(r"on the Pareto front in (< 1|> 99|\d\d?) % of draws of costs and accuracies", hovered)
    assert all(figures[key] in hovered for key in ("facts|multi", "query_latency_p95_ms"))

    browser.click(x_px, y_px)
    chosen = browser.run("document.getElementById('chosen').textContent")
    assert data["systems"][hybrid]["label"] in chosen
    assert all(text in chosen for text in figures.values() if text)
    assert browser.run("document.getElementById('system').value") == hybrid
    open_section(browser, "languages")
    assert browser.run("document.getElementById('matrix-metric').textContent") == "mAP"
    z = browser.run("document.getElementById('matrix').data[0].z")
    assert z == data["matrices"]["facts"]["accuracy"][hybrid]

    symbols = f"{MARKERS}.find((trace) => trace.name === 'hybrid').marker.symbol"
    assert browser.run(symbols) == ["circle", "circle-open", "circle"]
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_strategies_can_be_hidden(sweep, browser):
    browser.open(sweep[2], 1400)
    names = "[...document.querySelectorAll('#groups label')].map((label) => label.textContent.trim().slice(2).trim())"
    assert browser.run(names) == ["hybrid", "monolingual", "no training"]
    browser.run("document.querySelector('#groups input[value=hybrid]').click()")
    assert browser.run(f"{MARKERS}.map((trace) => trace.name)") == ["no training", "monolingual"]
    assert browser.run("document.activeElement.value") == "hybrid"  # the box keeps the focus
    browser.run("document.querySelector('#groups input[value=hybrid]').click()")
    assert browser.run(f"{MARKERS}.length") == 3
    assert browser.errors == []


def test_colours_can_be_those_of_kinds_of_systems(sweep, browser):
    browser.open(sweep[2], 1400)
    assert browser.run("document.getElementById('by').parentElement.hidden") is True  # there is one kind only
    browser.run(CHOOSE.format("by", "kind"))
    assert browser.run(f"{MARKERS}.map((trace) => trace.name)") == ["truncated"]
    assert browser.run("[...document.querySelectorAll('#groups input')].map((box) => box.value)") == ["truncated"]
    assert browser.errors == []


def test_the_axes_can_be_chosen(sweep, browser, data):
    browser.open(sweep[2], 1400)
    title = f"{FRONT}.layout.xaxis.title.text"
    assert browser.run(title) == "query latency, p95 (ms), measured"
    assert browser.run(f"{FRONT}.layout.xaxis.type") == "log"
    browser.run(CHOOSE.format("cost", "energy_j_per_1k_queries"))
    assert browser.run(title) == "energy per 1,000 queries (J), modelled"
    browser.run(CHOOSE.format("cost", "serving_mib"))
    assert browser.run(f"{FRONT}.layout.xaxis.type") == "linear"  # it differs by less than a factor of 2
    browser.run(CHOOSE.format("setting", "mono"))
    panel = unpacked(data["points"]).query("setting == 'mono' and cost == 'serving_mib'")
    markers = browser.run(f"{MARKERS}.flatMap((t) => t.customdata.map((v, i) => [v, t.y[i]]))")
    assert dict(markers) == dict(zip(panel["system"], panel["accuracy"], strict=True))
    for section in ("deploy", "sizes", "statistics"):
        open_section(browser, section)
    visible = "[...document.querySelectorAll('tr[data-panel]')].filter((row) => row.checkVisibility())"
    assert set(browser.run(f"{visible}.map((row) => row.dataset.panel)")) == {"facts|mono|serving_mib", "facts|mono"}
    note = browser.run("document.querySelector('.axes').innerText")
    assert "monolingual mAP on facts against memory of the serving process (MiB)" in note

    open_section(browser, "languages")
    first, second = list(data["matrices"]["facts"]["accuracy"].items())[:2]
    browser.run(CHOOSE.format("system", second[0]) + ";" + CHOOSE.format("other", first[0]))
    z = browser.run("document.getElementById('contrast').data[0].z")
    assert z == [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(second[1], first[1], strict=True)]
    low, high = browser.run("(({zmin, zmax}) => [zmin, zmax])(document.getElementById('contrast').data[0])")
    assert low == -high
    assert browser.errors == []


def test_every_point_lies_at_its_cost(sweep, browser, tmp_path):
    """Also those that share it; the legend and the order of drawing follow the accuracy of the largest model."""
    store, tables, _ = sweep
    points = tables["pareto"]
    quality = points["quality"].where(points["layers"] != 3, "not measured")
    report.write(
        store, "toy", with_constant_power(tables | {"pareto": points.assign(quality=quality)}), tmp_path / "r.html"
    )
    browser.open(tmp_path / "r.html", 1400)
    for cost, repeats in (("query_latency_p95_ms", False), ("energy_j_per_1k_queries", True)):
        browser.run(CHOOSE.format("cost", cost))
        drawn = browser.run(f"{MARKERS}.flatMap((t) => t.customdata.map((v, i) => [v, t.x[i], t.y[i]]))")
        panel = points.query("setting == 'multi' and cost == @cost").set_index("system")
        for system, value, accuracy in drawn:
            assert (value, accuracy) == pytest.approx(tuple(panel.loc[system, ["value", "accuracy"]]), rel=1e-5)
        assert len(drawn) == len(panel)
        assert browser.run("document.getElementById('repeats').hidden") != repeats
    text = browser.run("document.getElementById('repeats').innerText")
    assert text == "This cost is modelled as a constant power times time: it repeats latency."
    assert browser.run(f"{MARKERS}.map((t) => t.name)") == ["no training", "monolingual", "hybrid"]
    assert browser.run(f"{MARKERS}.at(-1).marker.symbol") == ["circle-open-dot", "circle-open", "circle"]
    assert browser.errors == []


def test_sections_are_folded_and_links_open_them(sweep, browser):
    browser.open(sweep[2], 1400)
    sections = "[...document.querySelectorAll('.section')]"
    names = ["deploy", "sizes", "languages", "language-costs", "statistics", "trust", "published"]
    assert browser.run(f"{sections}.map(({{id}}) => id)") == names
    assert browser.run(f"{sections}.filter(({{open}}) => open)") == []
    links = browser.run("[...document.querySelectorAll('nav a')].map((link) => link.hash.slice(1))")
    assert links == ["answer", *names]
    assert browser.run("document.getElementById('fit').data ?? null") is None  # drawn when it is seen
    open_section(browser, "sizes")
    assert browser.run(f"{sections}.filter(({{open}}) => open).map(({{id}}) => id)") == ["sizes"]
    width_px, of_section = browser.run(
        "['.main-svg', null].map((part) => (part ? document.querySelector(`#fit ${part}`) : "
        "document.getElementById('sizes')).getBoundingClientRect().width)"
    )
    assert width_px == pytest.approx(of_section, abs=2)
    top_px = browser.run("document.getElementById('sizes').getBoundingClientRect().top")
    assert 0 <= top_px < 900
    assert browser.errors == []


def test_tables_show_ten_rows_sort_and_filter(sweep, browser):
    browser.open(sweep[2], 1400)
    open_section(browser, "trust")
    visible = "[...document.querySelectorAll('#trust .block:last-of-type tbody tr')].filter((row) => !row.hidden)"
    block = "document.querySelector('#trust .block:last-of-type')"
    assert browser.run(f"{visible}.length") == 10  # of 13 runs
    browser.run(f"{block}.querySelector(':scope > button').click()")
    assert browser.run(f"{visible}.length") == 13
    browser.run(
        f"(($) => {{ $.value = 'l12 hybrid'; $.dispatchEvent(new Event('input')); }})({block}.querySelector('input'))"
    )
    assert browser.run(f"{visible}.length") == 2  # two seeds
    assert all("e5-small-l12, hybrid" in text for text in browser.run(f"{visible}.map((row) => row.innerText)"))

    open_section(browser, "deploy")
    assert len(browser.run(ROWS)) == 9
    sort = "document.querySelectorAll('#deploy thead button')[{}].click(); new Promise((d) => setTimeout(d, 100))"
    accuracies = (
        "[...document.querySelectorAll('#deploy tbody tr:not([hidden])')].map((row) => row.cells[3].textContent)"
    )
    browser.run(sort.format(3))
    falling = [float(text.split()[0]) for text in browser.run(accuracies)]
    assert falling == sorted(falling, reverse=True)
    assert browser.run("document.querySelector('#deploy [aria-sort]').ariaSort") == "descending"
    browser.run(sort.format(3))
    assert [float(text.split()[0]) for text in browser.run(accuracies)] == falling[::-1]
    browser.run(sort.format(0))
    browser.run(sort.format(0))
    assert [name.split(",")[0] for name in browser.run(ROWS)][::3] == ["e5-small-l3", "e5-small-l6", "e5-small-l12"]
    assert browser.errors == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("0.191 [0.176, 0.207]", "0.191"),
        ("−0.003 [−0.010, 0.004]", "-0.003"),
        ("1,537 MiB", "1537"),
        ("at most 1.00 [≤ 1.00, 1.20]", "1.00"),
        ("p < 0.001", "0.001"),
        ("> 99 %", "99"),
        ("not reached", "Infinity"),
        ("–", ""),
        ("e5-small-l12", "e000005-small-l000012"),
        ("2026-01-02", "002026-000001-000002"),
    ],
)
def test_numbers_sort_as_numbers(sweep, browser, text, key):
    if browser.run("typeof sortKey") == "undefined":
        browser.open(sweep[2], 1400)
    assert browser.run(f"sortKey('{text}')") == key


def test_the_keyboard_reaches_every_control(sweep, browser):
    browser.open(sweep[2], 1400)
    browser.run(OPEN_ALL)
    controls = "[...document.querySelectorAll('a, button, input, select, summary, .scroll')]"
    controls = f"{controls}.filter((control) => control.checkVisibility())"
    expected = browser.run(f"{controls}.length")
    browser.run(f"{controls}.forEach((control, place) => (control.dataset.place = place)); document.body.focus()")
    reached = []
    for _ in range(expected):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.dataset.place ?? null"))
    assert [int(place) for place in reached] == list(range(expected))
    browser.open(sweep[2], 1400)
    browser.run("document.querySelector('#point').focus()")
    hybrid = system_of(sweep[1], "e5-small-l3", "hybrid")
    browser.run(CHOOSE.format("point", hybrid))
    assert "e5-small-l3, hybrid" in browser.run("document.getElementById('chosen').innerText")
    browser.run("document.querySelector('#deploy summary').focus()")
    browser.press("Enter")
    assert browser.run("document.getElementById('deploy').open")
    browser.run("document.querySelector('#deploy thead button').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('#deploy th').ariaSort") == "descending"


@pytest.mark.parametrize(("width_px", "scheme"), [(1400, "light"), (1400, "dark"), (800, "light"), (400, "dark")])
def test_nothing_runs_off_the_side_and_axe_finds_nothing_serious(sweep, browser, width_px, scheme):
    browser.open(sweep[2], width_px, scheme=scheme)
    browser.screenshot(PICTURES / f"report-{width_px}-{scheme}.png", whole=False)
    browser.run(OPEN_ALL)
    assert browser.run("document.documentElement.scrollWidth") == width_px
    ink, page = browser.run("(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))")
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, page)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    browser.run(AXE.read_text())
    assert browser.run(SERIOUS) == []
    assert browser.errors == []
    browser.screenshot(PICTURES / f"report-{width_px}-{scheme}-open.png")


def test_on_a_phone_no_tooltip_covers_the_plot(sweep, browser):
    browser.open(sweep[2], 400, 860)
    x_px, y_px = browser.run(FIRST_MARKER)
    browser.click(x_px, y_px)
    assert browser.run(HOVERED) == ""
    assert "e5-small-l3, hybrid" in browser.run("document.getElementById('chosen').innerText")
    assert browser.run(
        "document.getElementById('chosen').getBoundingClientRect().top >= "
        "document.getElementById('front').getBoundingClientRect().bottom"
    )
    assert browser.errors == []


def test_on_paper_it_is_a_light_summary_without_controls(sweep, browser):
    browser.open(sweep[2], 1400, scheme="dark")
    browser.print(PICTURES / "report.pdf")
    browser.open(sweep[2], 1400, scheme="dark", media="print")
    shown = "(part) => [...document.querySelectorAll(part)].filter((one) => one.checkVisibility()).length"
    for part in ("nav", "select", "button", "input", "#trust", "#languages", ".how"):
        assert browser.run(f"({shown})('{part}')") == 0, part
    for part in (".card", ".lead", "#front", "#deploy"):
        assert browser.run(f"({shown})('{part}')") > 0, part
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("document.querySelector('#front .main-svg').getBoundingClientRect().width") <= 700
    assert browser.errors == []


def test_inference_variants_can_be_hidden(browser, tmp_path):
    store = ResultStore(tmp_path)
    for layers in (3, 6):
        record = records.add_run(store, "s", layers, "hybrid")
        table = store.per_query(record.name, "facts")
        variant = replace(record, name=f"{record.name}-int8", variant="onnx int8", profile=records.profile(layers - 1))
        store.save_frame(store.run_dir(variant.name), "per_query-facts", table)
        store.save(variant)
        store.add_to_manifest("s", RunState(variant.name, "done", variant.choices, 1.0))
    report.write(store, "s", analyse(store, "s", *MONEY), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    marks = f"{FRONT}.data.flatMap((trace) => trace.customdata ?? []).length"
    assert browser.run(marks) == 4
    browser.run("document.querySelector('#variant input[value=\"onnx int8\"]').click()")
    assert browser.run(marks) == 2
    open_section(browser, "variants")
    assert browser.run("document.querySelector('#variants tbody tr').innerText").startswith("e5-small-l")
    assert browser.errors == []


def test_a_sweep_of_costs_alone_has_no_error(browser, tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    report.write(store, "costs", analyse(store, "costs", *MONEY), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    browser.run(OPEN_ALL)
    assert browser.run("[...document.querySelectorAll('.block')].every((block) => !block.hidden)")
    assert browser.errors == []


def test_the_accuracy_over_pool_size_is_drawn(sweep, browser, tmp_path):
    store, tables, _ = sweep
    one = tables["systems"].query("model == 'e5-small-l3' and strategy == 'hybrid'")[["system", "model", "strategy"]]
    sizes = pd.DataFrame({"pool_size": [10, 100, 1000], "ndcg_10": [0.9, 0.8, 0.7], "low": 0.6, "high": 0.95})
    curve = one.merge(sizes.assign(kind=["measured", "measured", "extrapolated"]), how="cross")
    curves = pd.concat([curve.assign(benchmark="facts", language=name) for name in records.LANGUAGES])
    report.write(store, "toy", tables | {"pool_curve": curves}, tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1400)
    open_section(browser, "pools")
    traces = browser.run("document.getElementById('pool').data.map((trace) => [trace.x, trace.y])")
    assert traces == [[[100, 1000], [0.8, 0.7]], [[10, 100], [0.9, 0.8]]]
    assert browser.run("document.getElementById('pool').layout.yaxis.title.text") == "nDCG@10"
    assert browser.run("document.getElementById('pool-language').value") == "ar"
    table = browser.run("document.querySelector('#pools tbody tr').innerText")
    assert table.split("\t")[2:] == ["100", "0.800 [0.600, 0.950]", "1,000", "0.700 [0.600, 0.950]", "extrapolated"]
    assert browser.errors == []
