"""pipeline.data.mteb: small subsets in mteb's hub layout, from a folder and from a hub on loopback."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hub_server import HubServer

from pipeline.data import mteb
from pipeline.retrieval.relevant import check_answers
from pipeline.values import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(root: Path, subset: str, **changes: list[dict[str, Any]]) -> None:
    tables = {
        "corpus": [{"_id": f"{subset} {n}", "title": "", "text": f"passage {n} of {subset}"} for n in range(3)],
        "queries": [{"_id": f"q{n}", "text": f"{subset} query {n}"} for n in range(3)],
        "qrels": [{"query-id": f"q{n}", "corpus-id": f"{subset} {2 - n}", "score": 1} for n in range(2)],
    } | changes
    for kind, rows in tables.items():
        file = root / f"{subset}-{kind}/test-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


LOAD = """
import json
from pipeline.data import mteb
found = mteb.benchmark("mteb/MLQARetrieval", None, ["deu-deu", "ara-deu"], "test", None)
print(json.dumps({language: texts.texts[:] for language, texts in found.passages.items()}))
"""


def test_subsets_have_pools_of_their_own(tmp_path: Path) -> None:
    root = tmp_path / "datasets/mteb/MLQARetrieval"
    for subset in ("deu-deu", "ara-deu"):
        write(root, subset)
    found = mteb.benchmark("mteb/MLQARetrieval", None, ["deu-deu", "ara-deu"], "test", str(root))
    assert found.name == "mteb[MLQARetrieval]"
    assert found.settings == ("mono", "cross")
    assert list(found.queries) == ["deu-deu", "deu of ara-deu"]
    assert list(found.passages) == ["deu-deu", "ara of ara-deu"]
    assert found.queries["deu-deu"].texts == ["deu-deu query 0", "deu-deu query 1"]  # judged ones
    assert set(found.relevance) == {("deu-deu", "deu-deu"), ("deu of ara-deu", "ara of ara-deu")}
    relevance = found.relevance["deu of ara-deu", "ara of ara-deu"]
    assert list(zip(relevance.query.tolist(), relevance.passage.tolist(), strict=True)) == [(0, 2), (1, 1)]
    check_answers(found)
    with HubServer(tmp_path) as hub:
        passages = {language: texts.texts[:] for language, texts in found.passages.items()}
        assert json.loads(hub.client(LOAD)) == passages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qrels": [{"query-id": "q9", "corpus-id": "deu 0", "score": 1}]}, "qrels of deu judge query q9"),
        ({"qrels": [{"query-id": "q0", "corpus-id": "x", "score": 1}]}, "corpus of deu lacks 1 of its 1 judged"),
        ({"qrels": [{"query": "q0"}]}, r"parquet lacks the column query-id; it has query\."),
        ({"queries": [{"_id": "q0", "text": " "}]}, r"parquet, row 1: query q0 has no text\."),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path, "deu", **changes)
    with pytest.raises(UserError, match=message):
        mteb.benchmark("mteb/X", None, ["deu"], "test", str(tmp_path))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    write(tmp_path, "deu")
    with pytest.raises(UserError, match=r"^eval\.mteb\.split=dev: deu-qu.* has no dev-….parquet\.$"):
        mteb.benchmark("mteb/X", None, ["deu"], "dev", str(tmp_path))
