"""The notebooks give the outputs that are committed, and csv, report, W&B and notebook show the same numbers."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from reports import unpacked
from run_notebooks import NOTEBOOKS, executed, stripped
from test_wandb import read_back, store, table_of  # noqa: F401 (a fixture)

from pipeline.analysis.costs import COSTS
from pipeline.analysis.tables import BIAS, main_metric
from pipeline.reporting import publish

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "results/reference"
POINT = ["benchmark", "setting", "cost", "system"]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def code_cells(book) -> list:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def assert_same_text(text: str, committed: str):
    """Words are equal, numbers nearly so: processors round differently, and shares of draws move by a draw or two."""
    assert NUMBER.sub("#", text).split() == NUMBER.sub("#", committed).split()
    numbers = [[float(number) for number in NUMBER.findall(each)] for each in (text, committed)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.01, abs=0.005)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_with_its_outputs_and_no_noise(path):
    book = nbformat.read(path, as_version=4)
    assert book == stripped(nbformat.read(path, as_version=4))
    outputs = [output for cell in code_cells(book) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_run_gives_the_committed_outputs(path):
    cells = zip(code_cells(executed(path)), code_cells(nbformat.read(path, as_version=4)), strict=True)
    for cell, committed in cells:
        for output, seen in zip(cell.outputs, committed.outputs, strict=True):
            assert output.output_type == seen.output_type
            assert output.get("name") == seen.get("name") != "stderr"
            assert_same_text(output.get("text", ""), seen.get("text", ""))
            data, shown = output.get("data", {}), seen.get("data", {})
            assert data.keys() == shown.keys()
            assert_same_text(data.get("text/plain", ""), shown.get("text/plain", ""))


def test_report_csv_wandb_and_notebook_show_the_same_numbers(store, monkeypatch):  # noqa: F811
    monkeypatch.chdir(store.root.parent)  # where the records' own W&B folder then lies
    shutil.copytree(REFERENCE / "runs", store.root / "runs")
    shutil.copytree(REFERENCE / "small", store.root / "small")
    publish.report(store.root, "small")
    csv = pd.read_csv(store.root / "small/pareto.csv").set_index(POINT)
    assert len(csv) > 100
    numbers = ["value", "accuracy", "accuracy_low", "accuracy_high"]

    html = (store.root / "small/report.html").read_text()
    data = json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', html).group(1))
    points = unpacked(data["points"]).set_index(POINT)
    pd.testing.assert_frame_equal(points[numbers], csv[numbers], rtol=1e-5)

    systems, (run,) = pd.read_csv(store.root / "small/systems.csv"), read_back(store.root)
    sent = table_of(run, "6_systems/systems").set_index("system")
    columns = {cost.field: cost.column for cost in COSTS}
    for (benchmark, setting, cost), panel in csv.groupby(POINT[:3], sort=False):
        by_system = panel.droplevel(POINT[:3])
        accuracy = sent[f"metrics.{benchmark}.{setting}.{main_metric(systems, benchmark)}"]
        assert accuracy.to_dict() == by_system["accuracy"].to_dict()
        value = sent[columns.get(cost, f"metrics.{benchmark}.multi.{BIAS}")]
        assert value.astype(float).to_dict() == by_system["value"].to_dict()

    (store.root.parent / "home").mkdir()  # a kernel needs one
    monkeypatch.setenv("RESULTS", str(store.root))
    *cells, last = code_cells(executed(NOTEBOOKS[0], 'print(tables["pareto"].to_csv())'))
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    (store.root / "notebook.csv").write_text("".join(output.text for output in last.outputs))
    notebook = pd.read_csv(store.root / "notebook.csv").set_index(POINT)
    pd.testing.assert_frame_equal(notebook[numbers], csv[numbers], check_exact=True)
