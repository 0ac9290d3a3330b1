"""The W&B run of a sweep: its panels in order, offline and on a server; the figure of the fronts against pareto.csv."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import records
import wandb
from wandb_copies import OWN, file_of, read_back, table_of
from wandb_server import WandbServer

from pipeline.analysis.costs import COSTS
from pipeline.reporting import figure, publish
from pipeline.retrieval.metrics import language_matrix
from pipeline.store.results import ResultStore


def report(folder, **environment):
    """Write the report of a small sweep."""
    store = ResultStore(folder)
    records.add_sweep(store, seeds=1)
    records.add_run(store, "toy", 6, "hybrid", quality="failed")
    records.add_run(store, "toy", 24, "none", cost_only=True)
    return write(store, **environment)


def write(store, **environment):
    """Write the report of a store's sweep with nothing of the user's W&B in the environment."""
    folder = store.root
    with pytest.MonkeyPatch.context() as patch:
        for name in OWN:
            patch.setenv(name, "")
            patch.delenv(name)
        for name, value in (environment | {"HOME": str(folder), "NETRC": str(folder / "netrc")}).items():
            patch.setenv(name, value)
        wandb.teardown()
        before = dict(os.environ)
        publish.report(store.root, "toy")
        wandb.teardown()
        assert dict(os.environ) == before
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return report(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def run(store):
    (run,) = read_back(store.root)
    return run


@pytest.fixture(scope="module")
def front(run):
    """The figure as W&B gets it."""
    return json.loads(file_of(run, "1_front/facts").read_text())


def test_the_sections_come_in_the_order_in_which_people_ask(run):
    keys = [key.removesuffix(".path") for key in run["summary"] if key.endswith(".path")]
    assert sorted(keys) == [
        "1_front/facts",
        "2_cards/cards",
        "3_languages/facts",
        "4_report/report",
        "6_systems/systems",
    ]
    assert (run["job_type"], run["run_group"], run["exit_code"]) == ("report", "toy", 0)


def test_tables_are_those_of_the_csv_files(store, run):
    for key, name in (("2_cards/cards", "cards"), ("6_systems/systems", "systems")):
        csv, sent = pd.read_csv(store.root / f"toy/{name}.csv"), table_of(run, key)
        assert sent.columns.tolist() == csv.columns.tolist()
        for column in csv.select_dtypes("number"):
            np.testing.assert_allclose(sent[column].astype(float), csv[column], rtol=1e-12)


def test_the_matrices_are_those_of_the_cards(store, run):
    cards, sent = pd.read_csv(store.root / "toy/cards.csv"), table_of(run, "3_languages/facts")
    assert sent["card"].unique().tolist() == cards["card"].tolist()
    for card in cards.to_dict("records"):
        expected = language_matrix(store.per_query(card["run"], "facts"), "map")
        rows = sent[sent["card"] == card["card"]].set_index("query_language")
        np.testing.assert_allclose(rows.loc[expected.index, expected.columns].astype(float), expected, rtol=1e-12)


def test_the_page_is_the_report(store, run):
    assert file_of(run, "4_report/report").read_bytes() == (store.root / "toy/report.html").read_bytes()


def test_the_front_is_coloured_and_has_a_line_and_a_logarithmic_axis(store, front):
    points = pd.read_csv(store.root / "toy/pareto.csv")
    points = points[(points["setting"] == "multi") & (points["cost"] == "query_latency_p95_ms")].sort_values("value")
    shown = [trace for trace in front["data"] if trace["visible"]]
    line, *strategies = shown
    on_front = points[points["on_front"]]
    assert (line["name"], line["mode"], line["line"]["shape"]) == ("Pareto front", "lines", "hv")
    assert (line["x"], line["y"]) == (on_front["value"].tolist(), on_front["accuracy"].tolist())
    looks = figure.looks_of(pd.read_csv(store.root / "toy/pareto.csv")["strategy"].unique())
    assert [trace["marker"]["color"] for trace in strategies] == [colour for colour, _ in looks.values()]
    assert [trace["name"] for trace in strategies] == ["hybrid", "monolingual", "no training"]
    for trace, strategy in zip(strategies, looks, strict=True):
        own = points[points["strategy"] == strategy]
        assert (trace["x"], trace["y"]) == (own["value"].tolist(), own["accuracy"].tolist())
        assert trace["error_y"]["array"] == pytest.approx((own["accuracy_high"] - own["accuracy"]).tolist())
        assert [symbol.endswith("-open") for symbol in trace["marker"]["symbol"]] == (
            own["quality"] == "failed"
        ).tolist()
        assert all(f"{value:.4g} ms" in text for value, text in zip(own["value"], trace["hovertext"], strict=True))
    layout = front["layout"]
    assert (layout["xaxis"]["title"]["text"], layout["xaxis"]["type"]) == ("query latency, p95 (ms)", "log")
    assert layout["yaxis"]["title"]["text"] == "multilingual mAP"


def test_the_menu_shows_every_panel_alone(store, front):
    points = pd.read_csv(store.root / "toy/pareto.csv")
    (menu,) = front["layout"]["updatemenus"]
    labels = [button["label"] for button in menu["buttons"]]
    drawn = [cost for cost in COSTS if cost.drawn and cost.field in set(points["cost"])]
    assert len(set(labels)) == len(labels) == 3 * len(drawn)
    assert labels[0] == "multilingual mAP, query latency, p95"
    masks = np.array([button["args"][0]["visible"] for button in menu["buttons"]])
    assert (masks.sum(axis=0) == 1).all()
    for button, mask in zip(menu["buttons"], masks, strict=True):
        (cost,) = [cost for cost in drawn if cost.label == button["args"][1]["xaxis.title.text"]]
        setting = {"mono": "monolingual", "cross": "cross-lingual", "multi": "multilingual"}
        (setting,) = [key for key, name in setting.items() if button["label"].startswith(f"{name} ")]
        panel = points[(points["setting"] == setting) & (points["cost"] == cost.field)]
        shown = [trace for trace, visible in zip(front["data"], mask, strict=True) if visible]
        assert sorted(x for trace in shown[1:] for x in trace["x"]) == sorted(panel["value"])


def test_no_value_is_packed(front):
    """plotly packs arrays as base64 text, which W&B has shown blank."""
    assert "bdata" not in json.dumps(front)


@pytest.mark.slow
def test_a_report_that_is_written_again_replaces_its_copy_also_where_results_are_moved_to(tmp_path):
    report(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    write(ResultStore(tmp_path / "new"))
    assert len(read_back(tmp_path / "new")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.slow
def test_a_server_gets_panels_and_an_artifact(tmp_path):
    with WandbServer() as server:
        store = report(tmp_path, **server.environment)
        assert server.unknown == []
    (run,) = server.runs.values()
    assert (run.fields["groupName"], run.fields["jobType"], run.complete) == ("toy", "report", True)
    folder = store.root / "toy"
    for name in ("report.html", "pareto.csv", "pareto.png", "systems.csv", "tests.csv"):
        assert server.artifacts["toy-report"][name] == (folder / name).read_bytes()
    front = json.loads(run.files[run.summary["1_front/facts"]["path"]])
    assert front["layout"]["xaxis"]["type"] == "log"
    assert run.summary["1_front/facts"]["_type"] == "plotly-file"
    assert run.files[run.summary["4_report/report"]["path"]] == (folder / "report.html").read_bytes()
