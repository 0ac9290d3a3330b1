"""The figures and tables of a sweep's report, and the command that writes them."""

import io
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import records
from command import inside
from matplotlib.offsetbox import AnnotationBbox

from pipeline.analysis.costs import COSTS
from pipeline.analysis.money import CAPACITY
from pipeline.analysis.strategies import batches
from pipeline.encoder.starts import of_run
from pipeline.export import export
from pipeline.reporting import figure, publish, terminal
from pipeline.reporting.config import options
from pipeline.reporting.drawing import save
from pipeline.reporting.looks import MARKERS, looks_of
from pipeline.store.results import ResultStore, RunState
from pipeline.values import LEXICAL, USE, UserError


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The report of a sweep with a cost-only run, a failed run and a profile that failed its quality checks."""
    store = ResultStore(tmp_path_factory.mktemp("results"))
    records.add_sweep(store, seeds=1)
    records.add_run(store, "toy", 6, "hybrid", quality="failed")
    records.add_run(store, "toy", 24, "none", cost_only=True)
    store.add_to_manifest("toy", RunState("dead", "failed", {}, 1.0, "killed by SIGKILL"))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setenv("WANDB_MODE", "disabled")
        publish.report(store.root, "toy")
    return store, printed.getvalue()


@pytest.fixture(scope="module")
def points(sweep):
    store, _ = sweep
    return pd.read_csv(store.sweep_dir("toy") / "pareto.csv")


@pytest.fixture(scope="module")
def plot(points):
    return figure.draw(points, "title", "how to read it", "mAP")


def test_kinds_of_systems_have_a_figure_where_there_are_further_ones(sweep, tmp_path):
    assert not (sweep[0].sweep_dir("toy") / "kinds.png").exists()  # truncated encoders alone
    store = ResultStore(tmp_path)
    for layers, kind in ((12, "full"), (6, "truncated"), (4, "distilled"), (3, "asymmetric")):
        records.add_run(store, "toy", layers, "hybrid", kind=kind)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setenv("WANDB_MODE", "disabled")
        publish.report(store.root, "toy")
    folder = store.sweep_dir("toy")
    words = list(ElementTree.parse(folder / "kinds.svg").getroot().itertext())
    assert {"full", "truncated", "distilled", "asymmetric"} <= set(words)
    assert "hybrid" not in words
    assert "kinds.pdf" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_csv_holds_the_records_numbers(sweep, points):
    for point in points[points["cost"] == "query_latency_p95_ms"].to_dict("records"):
        record = sweep[0].load(f"{point['model']}-{point['strategy']}-toy-s0-abcd")
        assert point["value"] == record.profile.query_latency_p95_ms
        assert point["accuracy"] == pytest.approx(record.metrics[f"facts.{point['setting']}.map"], rel=1e-12)


def test_files_are_a_picture_in_three_formats(sweep):
    folder = sweep[0].sweep_dir("toy")
    height, width, _ = matplotlib.image.imread(folder / "pareto.png").shape
    assert width > 2000
    assert height > 1500
    assert (folder / "pareto.pdf").read_bytes().startswith(b"%PDF")
    words = " ".join(ElementTree.parse(folder / "pareto.svg").getroot().itertext())
    for expected in (
        "toy",
        "facts",
        "Imaginary 9000, 2 threads",
        "seeds per point: 1",
        "hybrid",
        "quality checks failed",
    ):
        assert expected in words
    for expected in ("query latency, p95 (ms)", "energy per 1,000 queries (J)", "measured", "modelled"):
        assert expected in words


def test_one_panel_per_cost_and_setting_whose_front_is_a_step(points, plot):
    panels = plot.axes
    assert len(panels) == 3 * 4
    assert [panel.get_ylabel() for panel in panels[::4]] == [f"{setting} mAP" for setting in figure.SETTINGS.values()]
    multi_latency = panels[8]
    step = multi_latency.lines[0]
    hybrid = points.query("strategy == 'hybrid' and setting == 'multi' and cost == 'query_latency_p95_ms'")
    assert step.get_drawstyle() == "steps-post"
    assert step.get_xdata()[:-1].tolist() == sorted(hybrid["value"])
    assert multi_latency.get_xscale() == "log"
    assert panels[10].get_xscale() == "linear"  # memory differs by less than a factor of 2


def test_labels_are_the_sizes_and_keep_clear_of_points_and_each_other(plot):
    renderer = plot.canvas.get_renderer()
    for panel in plot.axes:
        assert sorted(int(text.get_text()) for text in panel.texts) == [3, 6, 12]
        boxes = [text.get_window_extent(renderer) for text in panel.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        for line in panel.lines:
            if line.get_marker() in MARKERS:
                drawn = line.get_transform().transform(line.get_xydata())
                assert not any(box.contains(*xy) for box in boxes for xy in drawn)


def test_labels_name_what_the_systems_differ_in(points):
    """BM25 beside an encoder in two inference variants: the label of each is its model, and what was changed in it."""
    one = points.query("setting == 'multi' and cost == 'query_latency_p95_ms' and strategy == 'hybrid'")
    bm25 = {"family": "bm25", "model": "bm25", "layers": 0, "variant": "as trained"}
    encoder = one.assign(model="e5-small", variant=["as trained", "SQ8", "w96"], layers=12, on_front=True)
    both = pd.concat([one.iloc[:1].assign(**bm25, on_front=True), encoder.iloc[1:]])

    def labels(points):
        (panel,) = figure.draw_one(points, "title", "how to read it", "mAP").axes
        return {text.get_text() for text in panel.texts}

    assert labels(both) == {"bm25", "e5-small SQ8", "e5-small w96"}
    assert figure.reading(both, "query").startswith("Labels: models and inference variants on the Pareto front. ")
    assert labels(encoder) == {"as trained", "SQ8", "w96"}
    assert figure.reading(encoder, "query").startswith("Labels: inference variants on the Pareto front. ")


def test_names_with_dollar_signs_are_no_mathematics(points, tmp_path):
    """As $\\x$, which mathematics does not know: the figure would be lost after all runs."""
    one = points.query("setting == 'multi' and cost == 'query_latency_p95_ms'")
    named = one.assign(**dict.fromkeys(("benchmark", "family", "machine", "strategy"), r"$\x$"))
    drawn = figure.draw(named, figure.title("$", named), figure.reading(named, "query"), "mAP")
    words = ElementTree.parse(save(drawn, tmp_path / "front").with_suffix(".svg")).getroot().itertext()
    assert sum(r"$\x$" in word for word in words) > 2


def test_a_failed_profile_is_a_hollow_marker(points, plot):
    fills = {
        (line.get_marker(), line.get_markerfacecolor(), line.get_xdata()[0])
        for line in plot.axes[8].lines
        if line.get_marker() in MARKERS
    }
    (failed,) = points.query("quality == 'failed' and setting == 'multi' and cost == 'query_latency_p95_ms'")["value"]
    assert [(marker, value) for marker, fill, value in fills if fill == "white"] == [("o", failed)]


def names_beside(panel) -> dict[str, AnnotationBbox]:
    """The direct labels at the right of a panel, from the top."""
    boxes = [artist for artist in panel.artists if isinstance(artist, AnnotationBbox)]
    boxes.sort(key=lambda box: box.xybox[1], reverse=True)
    return {box.offsetbox.get_children()[1].get_text(): box for box in boxes}


def many_strategies(points: pd.DataFrame, count: int) -> pd.DataFrame:
    one = points.query("strategy == 'hybrid' and setting == 'multi' and cost == 'serving_mib'")
    return pd.concat([one.assign(strategy=f"s{i}", system=f"v{i}") for i in range(count)], ignore_index=True)


def test_nine_strategies_are_named_beside_the_panel_with_their_looks(points):
    drawn = figure.draw(many_strategies(points, 9), "title", "how to read it", "mAP")
    (panel,) = drawn.axes
    assert panel.get_legend() is None
    named = names_beside(panel)
    assert len(named) == 9
    lines = {name: box.offsetbox.get_children()[0].get_children()[0] for name, box in named.items()}
    assert {name: (line.get_color(), line.get_marker()) for name, line in lines.items()} == looks_of(sorted(named))
    boxes = [box.offsetbox.get_window_extent(drawn.canvas.get_renderer()) for box in named.values()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    marks = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert marks == ["Pareto front", "quality checks failed"]


def test_strategies_that_do_not_fit_have_a_legend(points):
    (panel,) = figure.draw(many_strategies(points, 25), "title", "how to read it", "mAP").axes
    handles = panel.get_legend().legend_handles
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == 25
    assert not names_beside(panel)


def equal_costs(points: pd.DataFrame) -> pd.DataFrame:
    """Seven strategies at the same three costs: s0 is the most accurate at the highest, and the least at the lowest."""
    one = points.query("strategy == 'hybrid' and setting == 'multi' and cost == 'query_latency_p95_ms'")
    highest = one["value"] == one["value"].max()
    copies = []
    for i in range(7):
        accuracy = one["accuracy"] + 0.005 * i * (1 - 2 * highest)
        ends = {"accuracy_low": accuracy - 0.02, "accuracy_high": accuracy + 0.02}
        copies.append(one.assign(strategy=f"s{i}", system=f"v{i}", accuracy=accuracy, **ends))
    return pd.concat(copies, ignore_index=True)


def test_every_mark_and_interval_lies_at_its_cost(points):
    many = equal_costs(points)
    (panel,) = figure.draw(many, "title", "how to read it", "mAP").axes
    marks = [line for line in panel.lines if line.get_marker() in MARKERS]
    assert all(line.get_transform() == panel.transData for line in marks)
    drawn = [(line.get_color(), tuple(xy)) for line in marks for xy in line.get_xydata()]
    looks = looks_of(many["strategy"].unique())
    expected = [(looks[p["strategy"]][0], (p["value"], p["accuracy"])) for p in many.to_dict("records")]
    assert sorted(drawn) == sorted(expected)
    intervals = {tuple(map(tuple, segment)) for lines in panel.collections for segment in lines.get_segments()}
    assert intervals == {
        ((p["value"], p["accuracy_low"]), (p["value"], p["accuracy_high"])) for p in many.to_dict("records")
    }
    caps = {line.get_markersize() for line in panel.lines if line.get_marker() == "_"}
    assert len(caps) == 7


def test_an_interval_that_rounding_puts_beside_its_point_is_drawn(points):
    """Where all queries score alike: BM25 across languages."""
    beside = points.assign(accuracy_low=np.nextafter(points["accuracy"], 1), accuracy_high=points["accuracy"])
    assert figure.draw(beside, "title", "how to read it", "mAP").axes


def test_names_are_sorted_by_the_largest_model_and_the_best_lies_on_top(points):
    (panel,) = figure.draw(equal_costs(points), "title", "how to read it", "mAP").axes
    assert [*names_beside(panel)] == [f"s{i}" for i in range(7)]
    marks = [line for line in panel.lines if line.get_marker() in MARKERS]
    assert max(marks, key=lambda line: line.get_zorder()).get_color() == looks_of(["s0"])["s0"].colour


def test_a_strategy_without_the_last_cost_is_named_all_the_same(points):
    multi = points.query("setting == 'multi'")
    lacking = multi[(multi["cost"] != "energy_j_per_1k_queries") | (multi["strategy"] != "none")]
    named = names_beside(figure.draw(lacking, "title", "how to read it", "mAP").axes[-1])
    assert [*named] == ["hybrid", "monolingual", "no training"]
    assert [name for name, box in named.items() if box.arrowprops is None] == ["no training"]


def test_an_energy_that_repeats_latency_has_no_panel(points):
    of_energy = points["cost"] == "energy_j_per_1k_queries"
    constant = points["source"].where(~of_energy, "modelled: constant power x time, AMD EPYC 9354, 280 W")
    drawn = figure.draw(points.assign(source=constant), "title", "how to read it", "mAP")
    assert len(drawn.axes) == 3 * 3
    assert not any("energy" in panel.get_xlabel() for panel in drawn.axes)
    some = constant.where(points["layers"] > 3, "measured: RAPL")
    assert len(figure.draw(points.assign(source=some), "title", "how to read it", "mAP").axes) == 3 * 4


def test_a_quality_that_was_not_measured_has_a_mark_of_its_own(points):
    unknown = points.assign(quality=points["quality"].where(points["layers"] > 3, "not measured"))
    drawn = figure.draw(unknown, "title", "how to read it", "mAP")
    dots = [line for line in drawn.axes[8].lines if line.get_marker() == "."]
    lowest = points.query("setting == 'multi' and cost == 'query_latency_p95_ms'")["value"].min()
    assert [line.get_xdata()[0] for line in dots] == [lowest] * 3
    marks = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert marks == ["Pareto front", "quality checks failed", "quality not measured"]


def test_the_terminal_table_shows_every_system_and_failure(sweep):
    store, text = sweep
    lines = text.splitlines()
    assert lines[1] == "toy, facts"
    heads = "model strategy seeds mono cross multi rank distance p95 ms passages/s MiB J/1k queries"
    assert " ".join(lines[2].split()) == heads
    record = store.load("e5-small-l3-hybrid-toy-s0-abcd")
    (row,) = [line.split() for line in lines if line.split()[:2] == ["e5-small-l3", "hybrid"]]
    assert row[3:6] == [f"{record.metrics[f'facts.{setting}.map']:.4f}" for setting in ("mono", "cross", "multi")]
    assert row[6:] == ["270.0", "5.0", "133.3", "408", "93.0"]
    (row,) = [line.split() for line in lines if line.split()[:1] == ["xlmr-large"]]
    assert row[1:8] == ["no", "training", "1", *["-"] * 4]
    assert "failed: dead: killed by SIGKILL" in lines


def test_the_end_of_the_report_is_the_verdict_its_cards_and_the_next_commands(sweep):
    store, text = sweep
    cards = pd.read_csv(store.sweep_dir("toy") / "cards.csv").set_index("card")
    _, end = text.split("failed: dead: killed by SIGKILL\n")
    sentence, note, _, heads, *rows, _, report, recommend, export = end.strip().splitlines()
    assert sentence.startswith(
        f"The most accurate system on facts is e5-small-l12 with {batches(cards['strategy'].iloc[0])}:"
    )
    assert note == "Note: an exercise"
    assert heads.split()[:4] == ["model", "strategy", "multi", "mAP"]
    assert len(rows) == cards["system"].nunique()
    assert report == f"Report: {store.root}/toy/report.html"
    best = cards.loc["most accurate"]  # the simulated front is a straight line, without a knee
    limit = math.ceil(best["query_latency_p95_ms"])
    folder = f"results_dir={store.root}"
    assert recommend == f"Next:   python -m pipeline.recommend toy p95_ms={limit} {folder}"
    assert export == f"Next:   python -m pipeline.export {best['run']} to=my-retriever {folder}"
    assert store.load(best["run"]).choices["model"] == best["model"]


def test_one_panel_on_request(sweep, points):
    store, _ = sweep
    folder = store.sweep_dir("toy")
    assert (folder / "front.pdf").read_bytes().startswith(b"%PDF")
    assert "multilingual mAP" in (folder / "front.svg").read_text()
    one = figure.select(points, "mono.memory_mib")
    assert set(one[["setting", "cost"]].itertuples(index=False, name=None)) == {("mono", "serving_mib")}
    drawn = figure.draw_one(one, "title", "how to read it", "mAP")
    (panel,) = drawn.axes
    assert panel.get_ylabel() == "monolingual mAP"
    assert panel.get_xlabel() == "memory of the serving process (MiB)\nmeasured"
    assert {*names_beside(panel)} == {"hybrid", "monolingual", "no training"}
    front = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert front == ["Pareto front", "quality checks failed"]


def test_the_committed_study_can_be_drawn():
    study = pd.read_csv(Path(__file__).parent.parent / "results/reference/study/pareto.csv")
    drawn = figure.draw_one(figure.select(study, "multi.p95_ms"), "title", "how to read it", "mAP")
    hybrids = ["hybrid, alpha .25", "hybrid", "hybrid, alpha .75"]
    assert [*names_beside(drawn.axes[0])] == ["crosslingual", *hybrids, "monolingual", "no training", "mixed"]
    assert sorted(int(text.get_text()) for text in drawn.axes[0].texts) == [2, 3, 4, 6, 8, 12]


def test_the_command_draws_the_panel_that_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    records.add_run(ResultStore(tmp_path), "toy", 3, "hybrid")
    publish.publish(options(tmp_path, "toy", "panel=cross.energy_j_per_1k_queries"))
    words = " ".join(ElementTree.parse(tmp_path / "toy" / "front.svg").getroot().itertext())
    assert "cross-lingual mAP" in words
    assert "energy per 1,000 queries (J)" in words
    with pytest.raises(
        UserError, match=r"panel=multi\.p95: did you mean multi\.p95_ms\? There are: mono\.p95_ms, mono"
    ):
        publish.publish(options(tmp_path, "toy", "panel=multi.p95"))


def test_the_latex_table_has_the_numbers_of_the_csv(sweep, points):
    store, _ = sweep
    lines = (store.sweep_dir("toy") / "systems.tex").read_text().splitlines()
    assert [lines.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    rows = [line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r" \\")]
    costs = ["query latency, p95 (ms)", "memory of the serving process (MiB)"]
    assert rows[0] == ["model", "strategy", "mono", "cross", "multi", *costs]
    assert {len(row) for row in rows} == {7}
    models = [row[0] for row in rows[1:]]
    assert [model for model in models if model] == ["e5-small-l3", "e5-small-l6", "e5-small-l12", "xlmr-large"]
    point = points.query("model == 'e5-small-l12' and strategy == 'hybrid' and setting == 'multi'").iloc[0]
    (row,) = [
        row
        for row, model in zip(rows[1:], filled(models), strict=True)
        if (model, row[1]) == ("e5-small-l12", "hybrid")
    ]
    interval = f"{{\\scriptsize [{point['accuracy_low']:.3f}, {point['accuracy_high']:.3f}]}}"
    assert row[4] == f"\\textbf{{{point['accuracy']:.3f}}} {interval}"
    assert row[5] == "14.9"
    assert rows[-1][1:5] == ["no training", "--", "--", "--"]
    (caption,) = [line for line in lines if line.startswith(r"\caption")]
    assert caption.startswith(
        r"\caption{mAP on facts; the best of each model in bold; in brackets: 95 \% intervals over pages"
    )
    assert r"\label{tab:toy-facts}" in lines


def filled(models: list[str]) -> list[str]:
    """Models as they are printed, only where they change -> the model of each row."""
    return pd.Series(models).replace("", None).ffill().tolist()


def test_a_cost_only_sweep_has_a_table_and_no_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    publish.report(tmp_path, "costs")
    assert "costs, cost only" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "costs").glob("*.*"))
    assert names == [".store", "README.md", "report.html", "runs.csv", "sources.csv", "systems.csv"]


@pytest.mark.parametrize("weights", [LEXICAL, USE])
def test_no_command_exports_what_cannot_be_exported(tmp_path, capsys, monkeypatch, weights):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    store = ResultStore(tmp_path)
    record = records.add_run(store, "bare", 3, "none", profiled=False)
    store.save(replace(record, config=record.config | {"model": record.config["model"] | {"weights": weights}}))
    publish.report(tmp_path, "bare")
    said = capsys.readouterr().out
    _, out, _ = inside("bare", f"results_dir={tmp_path}", cwd=tmp_path, module="pipeline.recommend")
    assert "python -m pipeline.recommend bare" in said
    assert "Deploy untrained e5-small-l3" in out
    assert "pipeline.export" not in said + out + (tmp_path / "bare/report.html").read_text()
    with pytest.raises(UserError, match=r"no weights to export|which runs as it is"):
        export(store, record.name, tmp_path / "to") if weights == LEXICAL else of_run(store, store.load(record.name))


def test_every_cost_names_a_field_of_the_tables(sweep):
    folder = sweep[0].sweep_dir("toy")
    costs = [cost for cost in COSTS if cost.inverse_of != CAPACITY]  # which only a measured load adds: test_load
    assert {cost.column for cost in costs} <= set(pd.read_csv(folder / "runs.csv"))
    assert {cost.source_field for cost in costs} <= set(pd.read_csv(folder / "sources.csv")["figure"])


def test_the_table_of_runs_is_short_and_ordered_and_loses_nothing(sweep):
    """Its other metrics and the sources of its figures are tables of their own."""
    store, _ = sweep
    folder = store.sweep_dir("toy")
    runs = pd.read_csv(folder / "runs.csv")
    assert list(runs)[:7] == ["name", "model", "strategy", "seed", "variant", "data", "layers"]
    settings = ("mono", "cross", "multi")
    assert {*list(runs)[7:10]} == {f"metrics.facts.{setting}.map" for setting in settings}
    assert len(runs.columns) < 32
    record = store.load("e5-small-l3-hybrid-toy-s0-abcd")
    metrics = pd.read_csv(folder / "metrics.csv").query("run == @record.name")
    named = metrics[["benchmark", "setting", "metric"]].agg(".".join, axis=1)
    assert dict(zip(named, metrics["value"], strict=True)) == pytest.approx(dict(record.metrics))
    sources = pd.read_csv(folder / "sources.csv").query("run == @record.name").set_index("figure")
    assert sources.at["query_latency_p95_ms", "value"] == record.profile.query_latency_p95_ms
    assert sources.at["query_latency_p95_ms", "relative_error"] == 0.01
    assert sources["source"].dropna().to_dict().items() >= record.profile.sources.items() - {
        ("quality", "measured: wall clock")
    }


def test_the_readme_names_every_file_of_the_folder(sweep):
    folder = sweep[0].sweep_dir("toy")
    text = (folder / "README.md").read_text()
    assert [path.name for path in folder.iterdir() if f"`{path.name}`" not in text] == ["README.md"]


def test_a_sweep_without_profiles_leaves_no_empty_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for layers in (3, 6):
        records.add_run(ResultStore(tmp_path), "bare", layers, "hybrid", profiled=False)
    publish.report(tmp_path, "bare")
    assert all(len(pd.read_csv(path)) for path in (tmp_path / "bare").glob("*.csv"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sweep=nowhere"], "no sweep nowhere in"),
        (["nowhere"], "nowhere"),
        (["prices=dear"], "cpu_example"),
        (["prices.usd_per_kwh=much"], "prices.usd_per_kwh"),
        (["prices.usd_per_mwh=1"], "usd_per_mwh"),
        (["prices.usd_per_kwh=-1"], "prices.usd_per_kwh=-1.0: it must lie in [0, 1,000,000,000,000]."),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, sentence):
    code, _, err = inside(*arguments, cwd=tmp_path, module="pipeline.report")
    assert code == 2
    assert "Traceback" not in err
    (message,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert sentence in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("pipeline.report, pipeline.reporting.wandb.live", "torch wandb"),
        ("pipeline.reporting.config", "torch matplotlib"),
    ],
)
def test_reading_results_needs_no_torch(modules, absent):
    code = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in '{absent}'.split()))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_are_those_of_the_conf_with_overrides():
    config = options("somewhere", "toy", "scenario.queries_per_day=5", "prices=gpu_example")
    assert (config.results_dir, config.sweep, config.scenario.queries_per_day) == ("somewhere", "toy", 5)
    assert config.prices != options("somewhere", "toy").prices


def test_labels_are_of_the_main_metric(points):
    """A benchmark whose records name nDCG@10 is drawn and tabulated with it."""
    one = points.query("cost == 'serving_mib'")
    assert [panel.get_ylabel() for panel in figure.draw(one, "title", "how to read it", "nDCG@10").axes] == [
        f"{setting} nDCG@10" for setting in ("monolingual", "cross-lingual", "multilingual")
    ]
    systems = pd.DataFrame({"model": ["m"], "strategy": ["s"], "variant": ["as trained"], "seeds": [1]})
    systems = systems.assign(**{"main_metric.b": "ndcg_10", "metrics.b.mono.map": 0.1, "metrics.b.mono.ndcg_10": 0.2})
    assert terminal.systems_table(systems, "b").splitlines()[1].split() == ["m", "s", "1", "0.2000"]
