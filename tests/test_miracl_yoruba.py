"""MIRACL's whole Yoruba corpus as we read it: BM25 by another library scores what Anserini's reproductions publish."""

from pathlib import Path

import bm25s
import numpy as np
import pytest
import pytrec_eval

from pipeline.data import miracl

PUBLISHED = {"ndcg_cut_10": 0.4059, "recall_100": 0.7325}  # Pyserini, 2cr/miracl.yaml, bm25.yo (tokens between spaces)


def test_bm25_scores_as_published(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    collection = miracl.dev(["yo"], str(shared_data / "miracl-yo"), "full", seed=0)
    queries, passages, gold = collection.queries["yo"], collection.passages["yo"], collection.relevance["yo", "yo"]
    assert len(passages) == miracl.PASSAGES["yo"]
    index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)  # Anserini's
    index.index([text.split() for text in passages.texts], show_progress=False)
    run = {}
    for id, text in zip(queries.ids, queries.texts, strict=True):
        scores = index.get_scores(text.split())
        best = np.argsort(-scores, kind="stable")[:100]
        run[id] = {passages.ids[position]: float(scores[position]) for position in best}
    qrels: dict[str, dict[str, int]] = {id: {} for id in queries.ids}
    for query, passage, grade in zip(gold.query, gold.passage, gold.grade, strict=True):
        qrels[queries.ids[query]][passages.ids[passage]] = int(grade)
    values = pytrec_eval.RelevanceEvaluator(qrels, set(PUBLISHED)).evaluate(run)
    means = {name: np.mean([of_query[name] for of_query in values.values()]) for name in PUBLISHED}
    # Lucene keeps four significant bits of a passage's length, bm25s all of them: places change, the first 100 hardly.
    assert means["recall_100"] == pytest.approx(PUBLISHED["recall_100"], abs=0.0005)
    assert means["ndcg_cut_10"] == pytest.approx(PUBLISHED["ndcg_cut_10"], abs=0.004)
