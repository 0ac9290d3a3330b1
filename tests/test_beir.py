"""pipeline.data.beir: small folders in BEIR's layout, one and three languages, and each mistake in one sentence."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.data import beir
from pipeline.retrieval.relevant import check_answers
from pipeline.values import Collection, UserError

CORPUS = [
    {"_id": "p1", "title": "Ada", "text": "wrote notes."},
    {"_id": "p2", "text": "A fox."},
    {"_id": "p3", "text": "x"},
]
QUERIES = [{"_id": "q1", "text": "who?"}, {"_id": "q2", "text": "what?"}, {"_id": "q9", "text": "not judged"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\tp1\t2\nq2\tp2\t1\nq2\tp1\t0\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(
    folder: Path, corpus: list[Any] = CORPUS, queries: list[Any] = QUERIES, qrels: str = QRELS, split="test"
) -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in {"corpus": corpus, "queries": queries}.items():
        text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / f"qrels/{split}.tsv").write_text(qrels)
    return folder


def load(path: Path | None, languages=None, split="test", parallel="no") -> Collection:
    return beir.benchmark(path and str(path), languages, split, parallel)


def judgements(collection: Collection) -> dict[tuple[str, str], list[tuple[str, str, int]]]:
    return {
        (asked, pool): [
            (collection.queries[asked].ids[query], collection.passages[pool].ids[passage], grade)
            for query, passage, grade in zip(
                relevance.query.tolist(), relevance.passage.tolist(), relevance.grade.tolist(), strict=True
            )
        ]
        for (asked, pool), relevance in collection.relevance.items()
    }


@pytest.mark.parametrize("header", [True, False])
def test_one_folder(tmp_path: Path, header: bool) -> None:
    folder = write(tmp_path / "mine", qrels=QRELS if header else QRELS.partition("\n")[2])
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress((folder / "corpus.jsonl").read_bytes()))
    (folder / "corpus.jsonl").unlink()
    collection = load(folder)
    assert collection.name == "beir[mine]"
    assert judgements(collection) == {("und", "und"): [("q1", "p1", 2), ("q2", "p2", 1), ("q2", "p1", 0)]}
    assert list(collection.passages["und"].texts) == ["Ada wrote notes.", "A fox.", "x"]
    assert collection.queries["und"].texts == ["who?", "what?"]  # as in BEIR, without the query that is not judged
    assert (collection.settings, collection.main_metric, collection.every_query_counts) == (("mono",), "ndcg_10", True)
    assert list(load(folder, ["en"]).queries) == ["en"]
    check_answers(collection)


def test_scores_are_pytrec_evals(tmp_path: Path) -> None:
    """From files to nDCG@10, on embeddings of our own."""
    import numpy as np
    import pytrec_eval

    from pipeline.retrieval import exact
    from pipeline.retrieval.metrics import metric

    rng = np.random.default_rng(0)
    corpus = [{"_id": f"p{n}", "text": f"text {n}"} for n in range(50)]
    queries = [{"_id": f"q{n}", "text": f"query {n}"} for n in range(9)]
    qrels = "".join(f"q{n}\tp{p}\t{grade}\n" for n in range(9) for p, grade in enumerate(rng.integers(-1, 3, 50)))
    collection = load(write(tmp_path / "mine", corpus, queries, qrels))
    query_QD, passage_PD = (rng.normal(size=(n, 8)).astype(np.float32) for n in (9, 50))
    for emb_ND in (query_QD, passage_PD):
        emb_ND /= np.linalg.norm(emb_ND, axis=1, keepdims=True)
    [ranking] = exact.rank({"und": query_QD}, {"und": passage_PD}, collection)
    scores = {
        f"q{q}": {f"p{p}": float(score) for p, score in enumerate(row)} for q, row in enumerate(query_QD @ passage_PD.T)
    }
    judged: dict[str, dict[str, int]] = {}
    for line in qrels.splitlines():
        query, passage, grade = line.split("\t")
        judged.setdefault(query, {})[passage] = int(grade)
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "map"}).evaluate(scores)
    for name, key in {"ndcg_10": "ndcg_cut_10", "map": "map"}.items():
        np.testing.assert_allclose(metric(name).function(ranking), [theirs[f"q{q}"][key] for q in range(9)], atol=1e-9)


def test_languages_search_themselves_unless_their_ids_are_parallel(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    write(root / "de")
    write(root / "en", qrels="q1\tp3\t1\nq2\tp2\t1\n")
    (root / "notes").mkdir()
    assert judgements(load(root)) == {
        ("de", "de"): [("q1", "p1", 2), ("q2", "p2", 1), ("q2", "p1", 0)],
        ("en", "en"): [("q1", "p3", 1), ("q2", "p2", 1)],
    }
    assert load(root).settings == ("mono",)
    by_query = load(root, parallel="queries")
    assert by_query.settings == ("mono", "cross", "multi")
    assert judgements(by_query)["de", "en"] == [("q1", "p3", 1), ("q2", "p2", 1)]  # judged in English for q1 and q2
    assert judgements(by_query)["en", "de"] == judgements(by_query)["de", "de"]
    by_passage = load(root, parallel="passages")
    assert judgements(by_passage)["en", "de"] == judgements(by_passage)["en", "en"]  # the same passages, in German
    assert list(load(root, ["en"]).queries) == ["en"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"qrels": "q1\tp1\t1\nq1\tp1\t2\n"},
            r"test\.tsv, line 2 repeats the judgement q1 p1 of .*, line 1 with other",
        ),
        ({"qrels": "q1\tp1\n"}, r"test\.tsv, line 1: expected a query's id, a passage's id and a whole grade"),
        (
            {"qrels": QRELS + "q1\tp2\t0.5\n"},
            r"test\.tsv, line 5: a grade is a whole number .*, got '0\.5'\.$",
        ),
        ({"qrels": "q8\tp1\t1\n"}, r"test\.tsv judges query q8, which .*queries\.jsonl lacks"),
        ({"qrels": "q1\tp8\t1\n"}, r"corpus\.jsonl lacks 1 of its 1 judged passages, such as p8"),
        (
            {"queries": [*QUERIES, QUERIES[0] | {"text": "other"}]},
            r"queries\.jsonl, line 4 repeats the query q1 of .*line 1",
        ),
        ({"queries": [{"_id": "q1"}]}, r"queries\.jsonl, line 1: a query needs _id and text"),
        ({"queries": [{"_id": "q1", "text": " "}]}, r"queries\.jsonl, line 1: query q1 has no text"),
        (
            {"corpus": [*CORPUS, CORPUS[0] | {"text": "other"}]},
            r"corpus\.jsonl, row 4 repeats the id p1 of .*row 1 with",
        ),
        ({"corpus": [{"id": "p1", "text": "x"}]}, r"corpus\.jsonl, line 1: a passage needs _id and text"),
        ({"corpus": ["{"]}, r"corpus\.jsonl is broken JSON at line 1"),
        ({"corpus": [CORPUS[1] | {"text": ""}]}, r"corpus\.jsonl, line 1: passage p2 has no text"),
    ],
)
def test_a_mistake_in_a_file_names_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path / "mine", **changes))


def test_a_mistake_in_a_setting_names_its_key(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine/en")
    for arguments, message in [
        ((None,), r"^eval\.beir\.path is null: set it to a folder with corpus\.jsonl"),
        ((tmp_path / "no",), r"^eval\.beir\.path: there is no folder .*no\.$"),
        ((tmp_path / "mine/en/qrels",), r"has no corpus\.jsonl, nor a folder per language that has one"),
        ((tmp_path / "mine", ["de"]), r"has no folder de with a corpus\.jsonl \(languages there: en\)"),
        ((folder, ["de", "en"]), r"holds one corpus, but eval\.beir\.languages names 2"),
        ((folder, None, "dev"), r"^eval\.beir\.split=dev: there is no file .*dev\.tsv \(splits there: test\)\.$"),
        ((folder, None, "test", "queries"), r"^eval\.beir\.parallel=queries: .* has one language"),
    ]:
        with pytest.raises(UserError, match=message):
            load(*arguments)
    write(tmp_path / "mine/de", queries=[{"_id": "other", "text": "t"}], qrels="other\tp1\t1\n")
    with pytest.raises(UserError, match=r"^eval\.beir\.parallel=queries: de and en share no judged queries\.$"):
        load(tmp_path / "mine", parallel="queries")
    (tmp_path / "mine/de/corpus.jsonl").unlink()
    with pytest.raises(UserError, match=r"^eval\.beir\.path: there is no file .*de/corpus\.jsonl\.$"):
        load(tmp_path / "mine")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(UserError, match=r"^eval\.beir\.path: there is no file .*queries\.jsonl\.$"):
        load(folder)
