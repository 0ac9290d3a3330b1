"""Published scores are joined only to runs of the same architecture, and marked."""

import subprocess
import sys

import pandas as pd
import pytest
import records

from pipeline.analysis import published
from pipeline.store.results import ResultStore
from pipeline.values import UserError

SMALL = {"layers": 12, "hidden": 384, "heads": 12, "intermediate": 1536, "vocab": 250037}
HEADER = "model,language,ndcg_at_10,recall_at_100,layers,hidden,heads,intermediate,vocab\n"
TABLE = f"""{HEADER}\
a/small,ar,.5,.8,12,384,12,1536,250037
a/small,en,.3,.6,12,384,12,1536,250037
b/half,ar,.4,.7,6,384,12,1536,250037
b/half,en,.4,.7,6,384,12,1536,250037
c/wide,ar,.9,.9,12,768,12,3072,250037
c/wide,en,.9,.9,12,768,12,3072,250037
d/better,ar,.6,.8,12,384,12,1536,250037
d/better,en,.6,.8,12,384,12,1536,250037
"""


@pytest.fixture
def store(tmp_path):
    store = ResultStore(tmp_path / "results")
    keys = dict(zip(published.ARCHITECTURE.values(), SMALL.values(), strict=True))
    for layers in (6, 12):
        record = records.add_run(store, "sweep", layers, "none", architecture=keys)
        assert record.provenance["layers"] == layers
    return store


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def test_the_mean_over_languages_stands_at_the_cost_of_the_same_architecture(store, table):
    points = published.points(published.read(table), published.profiled_runs(store, "sweep"))
    latency = points[points["cost"] == "query_latency_p95_ms"].set_index("model")
    assert set(latency.index) == {"a/small", "b/half", "d/better"}  # no run has the architecture of c/wide
    assert latency["ndcg_at_10"].to_dict() == pytest.approx({"a/small": 0.4, "b/half": 0.4, "d/better": 0.6})
    cost = {layers: records.profile(layers).query_latency_p95_ms for layers in (6, 12)}
    assert latency["value"].to_dict() == {"a/small": cost[12], "b/half": cost[6], "d/better": cost[12]}
    assert latency["on_front"].to_dict() == {"a/small": False, "b/half": True, "d/better": True}
    assert set(points["mark"]) == {"published accuracy, measured cost"}


def test_the_command_leaves_a_table_and_a_figure(store, table):
    command = [sys.executable, "-m", "pipeline.published", "sweep", f"table={table}", f"results_dir={store.root}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "published accuracy, measured cost" in done.stdout
    folder = store.sweep_dir("sweep")
    assert len(pd.read_csv(folder / "published.csv")["model"].unique()) == 3
    assert (folder / "published.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("layers", "depth"), "lacks the column layers"),
        (TABLE.replace("b/half,en,.4,.7,6,384,12,1536,250037\n", ""), "scored on different languages, so"),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused(table, text, message):
    table.write_text(text)
    with pytest.raises(UserError, match=message):
        published.read(table)


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"table=.*none\.csv cannot be read"):
        published.read(tmp_path / "none.csv")


def test_no_common_architecture_is_a_sentence(store, table):
    scores = published.read(table).query("model == 'c/wide'")
    with pytest.raises(UserError, match="none of the sweep's runs"):
        published.points(scores, published.profiled_runs(store, "sweep"))


def test_a_sweep_of_other_weights_has_no_architecture_in_common(store, table):
    records.add_run(store, "trained", 12, "none")  # packaged: the config names no architecture
    with pytest.raises(UserError, match="none of the sweep's runs"):
        published.points(published.read(table), published.profiled_runs(store, "trained"))


def test_a_sweep_without_profiles_is_refused(store):
    records.add_run(store, "accuracy", 3, "none", profiled=False)
    with pytest.raises(UserError, match=r"sweep accuracy in .* has no finished run with a profile"):
        published.profiled_runs(store, "accuracy")
