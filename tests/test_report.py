"""The figures and tables of a sweep's report, and the command that writes them."""

import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stdout

import matplotlib.image
import pandas as pd
import pytest
import records

from pipeline.analysis.costs import COSTS
from pipeline.reporting import figure, publish
from pipeline.reporting.config import options
from pipeline.store.results import ResultStore, RunState


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The report of a sweep with a cost-only run, a failed run and a profile that failed its quality checks."""
    store = ResultStore(tmp_path_factory.mktemp("results"))
    records.add_sweep(store, seeds=1)
    records.add_run(store, "toy", 6, "hybrid", quality_passed=False)
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
    return figure.draw(points, "title", "mAP")


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
            if line.get_marker() != "None":
                drawn = line.get_transform().transform(line.get_xydata())
                assert not any(box.contains(*xy) for box in boxes for xy in drawn)


def test_a_failed_profile_is_a_hollow_marker(points, plot):
    fills = {
        (line.get_marker(), line.get_markerfacecolor(), line.get_xdata()[0])
        for line in plot.axes[8].lines
        if line.get_marker() != "None"
    }
    (failed,) = points.query("not quality_passed and setting == 'multi' and cost == 'query_latency_p95_ms'")["value"]
    assert [(marker, value) for marker, fill, value in fills if fill == "white"] == [("o", failed)]


def test_more_strategies_than_colours_still_look_different(points):
    one = points.query("strategy == 'hybrid' and setting == 'multi' and cost == 'peak_rss_mib'")
    many = pd.concat([one.assign(strategy=f"s{i}", system=f"v{i}") for i in range(9)], ignore_index=True)
    legend = figure.draw(many, "title", "mAP").legends[0]
    looks = {(handle.get_color(), handle.get_marker()) for handle in legend.legend_handles}
    assert len(looks) == 9 + 2  # the Pareto front, the hollow marker


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
    assert row[3:7] == ["-"] * 4
    assert "failed: dead: killed by SIGKILL" in lines
    for line in lines[lines.index("failed: dead: killed by SIGKILL") + 1 :]:
        assert (store.root / line).exists()


def test_a_cost_only_sweep_has_a_table_and_no_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    store = ResultStore(tmp_path)
    records.add_run(store, "costs", 24, "none", cost_only=True)
    publish.report(tmp_path, "costs")
    assert "costs, cost only" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "costs").glob("*.*"))
    assert names == ["pareto.csv", "report.html", "runs.csv", "systems.csv"]
    assert pd.read_csv(tmp_path / "costs" / "pareto.csv").empty


def test_every_cost_names_a_field_of_the_table(sweep):
    table = pd.read_csv(sweep[0].sweep_dir("toy") / "runs.csv")
    assert {cost.column for cost in COSTS} | {cost.source for cost in COSTS} <= set(table)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sweep=nowhere"], "no sweep nowhere in"),
        (["nowhere"], "nowhere"),
        (["prices=dear"], "cpu_example"),
        (["prices.usd_per_kwh=much"], "prices.usd_per_kwh"),
        (["prices.usd_per_mwh=1"], "usd_per_mwh"),
        (["prices.usd_per_kwh=-1"], "prices.usd_per_kwh=-1.0: it must be finite and not negative"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, sentence):
    command = [sys.executable, "-m", "pipeline.report", *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    (message,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert sentence in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("modules", "absent"),
    [("pipeline.report, pipeline.reporting.wandb", "torch wandb"), ("pipeline.reporting.config", "torch matplotlib")],
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
    one = points.query("cost == 'peak_rss_mib'")
    assert [panel.get_ylabel() for panel in figure.draw(one, "title", "nDCG@10").axes] == [
        f"{setting} nDCG@10" for setting in ("monolingual", "cross-lingual", "multilingual")
    ]
    systems = pd.DataFrame({"model": ["m"], "strategy": ["s"], "variant": ["as trained"], "seeds": [1]})
    systems = systems.assign(**{"main_metric.b": "ndcg_10", "metrics.b.mono.map": 0.1, "metrics.b.mono.ndcg_10": 0.2})
    assert figure.terminal(systems, "b").splitlines()[1].split() == ["m", "s", "1", "0.2000"]
