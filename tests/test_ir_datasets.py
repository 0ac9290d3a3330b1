"""pipeline.data.ir_datasets: a data set that is registered with the library, read through its own classes."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.data import ir_datasets as ours
from pipeline.values import UserError

theirs = pytest.importorskip("ir_datasets")


class Document(NamedTuple):
    doc_id: str
    title: str
    text: str

    def default_text(self) -> str:
        return f"{self.title} {self.text}"


class Docs(theirs.formats.BaseDocs):
    def __init__(self, rows: list[Document]):
        self.rows = rows

    def docs_iter(self) -> Any:
        return iter(self.rows)


class Queries(theirs.formats.BaseQueries):
    def queries_iter(self) -> Any:
        return iter(theirs.formats.GenericQuery(id, text) for id, text in [("q1", "who?"), ("q2", "not judged")])


class Qrels(theirs.formats.BaseQrels):
    def qrels_iter(self) -> Any:
        rows = [("q1", "d2", 2), ("q1", "d1", 0), ("q1", "d2", 2)]
        return iter(theirs.formats.TrecQrel(query, doc, grade, "0") for query, doc, grade in rows)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def register(monkeypatch: pytest.MonkeyPatch, *parts: Any) -> str:
    monkeypatch.setattr(theirs, "load", lambda id: {"own/test": theirs.Dataset(*parts)}[id])
    return "own/test"


DOCUMENTS = [
    Document("d1", "A", "fox."),
    Document("d2", "Ten", "hens."),
    Document("d1", "A", "fox."),
    Document("d3", "", " "),
]


def test_documents_queries_and_qrels_become_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = ours.benchmark(register(monkeypatch, Docs(DOCUMENTS), Queries(), Qrels()), "en")
    assert collection.name == "ir_datasets[own-test]"
    assert list(collection.passages["en"].texts) == ["A fox.", "Ten hens."]
    assert collection.queries["en"].texts == ["who?"]
    relevance = collection.relevance["en", "en"]
    assert (relevance.passage.tolist(), relevance.grade.tolist()) == ([1, 0], [2, 0])
    assert collection.provenance["note"] == "Repeated entries were counted once: judgements (1)."


def test_what_cannot_be_a_benchmark_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    id = register(monkeypatch, Docs(DOCUMENTS), Queries())
    with pytest.raises(
        UserError, match=r"^eval\.ir_datasets\.id=own/test: this data set has no qrels; name one of its"
    ):
        ours.benchmark(id, "en")
    with pytest.raises(UserError, match=r"^eval\.ir_datasets\.id=nothing: ir_datasets has no such data set"):
        ours.benchmark("nothing", "en")
    other = [*DOCUMENTS, Document("d2", "Ten", "cocks.")]
    with pytest.raises(UserError, match=r"document 5 repeats the id d2 with other content\.$"):
        ours.benchmark(register(monkeypatch, Docs(other), Queries(), Qrels()), "en")
    with pytest.raises(UserError, match=r"the corpus lacks 1 of its 2 judged passages, such as d2"):
        ours.benchmark(register(monkeypatch, Docs(DOCUMENTS[:1]), Queries(), Qrels()), "en")
