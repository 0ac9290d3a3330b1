"""The figure and the table of a sweep, and the command that makes them."""

import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stdout

import matplotlib.image
import pandas as pd
import pytest
import records

from pipeline import report as aggregate
from pipeline.analysis.tables import COSTS
from pipeline.reporting import figure as report
from pipeline.store.results import Cell, ResultStore


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep with a cost-only cell, a failed one and a profile in doubt, aggregated."""
    store = ResultStore(tmp_path_factory.mktemp("results"))
    records.add_sweep(store, seeds=1)
    records.add_run(store, "toy", 6, "hybrid", graded=False)
    records.add_run(store, "toy", 24, "none", cost_only=True)
    store.note("toy", Cell("dead", "failed", {}, 1.0, "killed by SIGKILL"))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setenv("WANDB_MODE", "disabled")
        aggregate.aggregate(store.root, "toy")
    return store, printed.getvalue()


@pytest.fixture(scope="module")
def points(sweep):
    store, _ = sweep
    return pd.read_csv(store.sweep_dir("toy") / "pareto.csv")


@pytest.fixture(scope="module")
def figure(points):
    return report.draw(points, "title")


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
    for expected in ("toy", "facts", "Imaginary 9000, 2 threads", "seeds a point: 1", "hybrid", "profile in doubt"):
        assert expected in words
    for expected in ("query latency, p95 (ms)", "energy per 1,000 queries (J)", "measured", "modelled"):
        assert expected in words


def test_a_panel_a_cost_and_setting_whose_front_is_a_step(points, figure):
    panels = figure.axes
    assert len(panels) == 3 * 4
    assert [panel.get_ylabel() for panel in panels[::4]] == list(report.SETTINGS.values())
    multi_latency = panels[8]
    step = multi_latency.lines[0]
    hybrid = points.query("strategy == 'hybrid' and setting == 'multi' and cost == 'query_latency_p95_ms'")
    assert step.get_drawstyle() == "steps-post"
    assert step.get_xdata()[:-1].tolist() == sorted(hybrid["value"])
    assert multi_latency.get_xscale() == "log"
    assert panels[10].get_xscale() == "linear"  # memory differs by less than a factor of 2


def test_labels_are_the_sizes_and_keep_clear_of_points_and_each_other(figure):
    renderer = figure.canvas.get_renderer()
    for panel in figure.axes:
        assert sorted(int(text.get_text()) for text in panel.texts) == [3, 6, 12]
        boxes = [text.get_window_extent(renderer) for text in panel.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        for line in panel.lines:
            if line.get_marker() != "None":
                drawn = line.get_transform().transform(line.get_xydata())
                assert not any(box.contains(*xy) for box in boxes for xy in drawn)


def test_a_profile_in_doubt_is_hollow(points, figure):
    fills = {
        (line.get_marker(), line.get_markerfacecolor(), line.get_xdata()[0])
        for line in figure.axes[8].lines
        if line.get_marker() != "None"
    }
    (doubted,) = points.query("not grade_passed and setting == 'multi' and cost == 'query_latency_p95_ms'")["value"]
    assert [(marker, value) for marker, fill, value in fills if fill == "white"] == [("o", doubted)]


def test_more_strategies_than_colours_still_look_different(points):
    one = points.query("strategy == 'hybrid' and setting == 'multi' and cost == 'peak_rss_mib'")
    many = pd.concat([one.assign(strategy=f"s{i}", variant=f"v{i}") for i in range(9)], ignore_index=True)
    figure = report.draw(many, "title")
    looks = {(handle.get_color(), handle.get_marker()) for handle in figure.legends[0].legend_handles}
    assert len(looks) == 9 + 2  # the joint front, the hollow mark


def test_the_terminal_table_shows_every_variant_and_failure(sweep):
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
    aggregate.aggregate(tmp_path, "costs")
    assert "costs, cost only" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "costs").glob("*.*"))
    assert names == ["pareto.csv", "report.html", "runs.csv", "variants.csv"]
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
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert sentence in said
    assert not list(tmp_path.iterdir())


def test_reading_results_needs_no_torch():
    code = (
        "import sys, pipeline.report, pipeline.reporting.wandb; sys.exit(any(m in sys.modules for m in ('torch', 'wandb')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
