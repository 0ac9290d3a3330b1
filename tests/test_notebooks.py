"""The notebooks run on the committed sweep, and csv, report, W&B and notebook show the same numbers."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from test_wandb import read_back, store, table_of  # noqa: F401 (a fixture)

from pipeline.analysis.tables import main_metric
from pipeline.reporting import publish

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "results/reference"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
POINT = ["benchmark", "setting", "cost", "system"]


def executed(path: Path, *further: str) -> list:
    """Run a notebook, and `further` code after it; return the code cells with their outputs."""
    book = nbformat.read(path, as_version=4)
    book.cells += [nbformat.v4.new_code_cell(source) for source in further]
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    return [cell for cell in book.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_it_runs_and_draws(path):
    outputs = [output for cell in executed(path) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


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
    points = pd.DataFrame(data["points"]).set_index(POINT)
    pd.testing.assert_frame_equal(points[numbers], csv[numbers], check_exact=True)

    systems, (run,) = pd.read_csv(store.root / "small/systems.csv"), read_back(store)
    for (benchmark, setting, cost), panel in csv.groupby(POINT[:3], sort=False):
        sent = table_of(run, f"pareto/{benchmark}/{setting}/{cost}_table").set_index("system")
        accuracy = sent[f"{benchmark}_{setting}_{main_metric(systems, benchmark)}"]
        by_system = panel.droplevel(POINT[:3])
        assert sent[cost].astype(float).to_dict() == by_system["value"].to_dict()
        assert accuracy.to_dict() == by_system["accuracy"].to_dict()

    (store.root.parent / "home").mkdir()  # a kernel needs one
    monkeypatch.setenv("RESULTS", str(store.root))
    *cells, last = executed(NOTEBOOKS[0], 'print(tables["pareto"].to_csv())')
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    (store.root / "notebook.csv").write_text("".join(output.text for output in last.outputs))
    notebook = pd.read_csv(store.root / "notebook.csv").set_index(POINT)
    pd.testing.assert_frame_equal(notebook[numbers], csv[numbers], check_exact=True)
