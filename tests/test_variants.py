"""One trained encoder, served in several ways: a record each, from one encoding; accuracy and cost measured anew."""

import numpy as np
import pytest
from command import SMALL, records, run

from pipeline.config import servings
from pipeline.retrieval import exact as retrieval
from pipeline.retrieval import faiss_index as indexes
from pipeline.retrieval import metrics
from pipeline.retrieval.evaluation import evaluate
from pipeline.training.fit import precision
from pipeline.values import Collection, Relevance, Serving, Texts

RNG = np.random.default_rng(0)


def vectors(rows, width=32):
    emb_ND = RNG.standard_normal((rows, width), np.float32)
    return emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)


def collection(passages=300, queries=40):
    side = {lang: Texts([f"{lang}{n}" for n in range(passages)], [""] * passages) for lang in ("de", "en")}
    asked = {lang: Texts([f"q{n}" for n in range(queries)], [""] * queries) for lang in ("de", "en")}
    positions = np.arange(queries)
    judged = Relevance(positions.astype(np.int32), positions, np.ones(queries, np.int8))
    return Collection("toy", asked, side, {(a, b): judged for a in side for b in side})


def scored(servings, queries, passages):
    benchmark = collection()
    return {
        result.serving: result
        for result in evaluate(queries, passages, benchmark, servings, {"map": metrics.average_precision})
    }


def test_widths_and_indexes_read_the_same_embeddings():
    passages = {lang: vectors(300) for lang in ("de", "en")}
    queries = {lang: vectors(40) + 0.3 * passages[lang][:40] for lang in ("de", "en")}
    queries = {lang: emb_QD / np.linalg.norm(emb_QD, axis=1, keepdims=True) for lang, emb_QD in queries.items()}
    ways = [Serving(), Serving(index="Flat"), Serving(width=8), Serving(index="SQ8"), Serving(width=8, index="LSH")]
    found = scored(ways, queries, passages)
    assert found[Serving()].figures == pytest.approx(found[Serving(index="Flat")].figures)
    narrow = [{lang: indexes.truncate(emb_ND, 8) for lang, emb_ND in side.items()} for side in (queries, passages)]
    by_hand = metrics.macro(
        metrics.per_query_table(retrieval.rank(*narrow, collection()), collection(), {"map": metrics.average_precision})
    )
    assert found[Serving(width=8)].figures == {f"toy.{key}": value for key, value in by_hand.items()}
    exact, coarse = (found[way].figures["toy.multi.map"] for way in (Serving(), Serving(width=8, index="LSH")))
    assert coarse < exact


def test_a_grid_is_every_combination_and_engines_stand_together():
    grid = {
        "backend": ["eager"],
        "precision": ["float32"],
        "max_passage_tokens": [None],
        "width": [None, 96],
        "index": ["exact", "SQ8"],
    }
    onnx = grid | {"backend": ["onnx"], "width": [None], "index": ["exact"]}
    found = servings({"variants": {"grids": [onnx, grid]}})
    assert [serving.label for serving in found] == ["as trained", "SQ8", "w96", "w96 SQ8", "onnx"]
    assert found[3].run("name") == "name+w96-SQ8"
    assert found[0].run("name") == "name"


def test_variants_are_runs_of_their_own_and_cached(tmp_path):
    grids = "variants.grids=[{width:[null,96],index:[exact,SQ8]},{precision:[bfloat16]}]"
    code, _, err = run(*SMALL, "sampler=none", grids, cwd=tmp_path)
    assert code == 0, err
    found = {record["served"]: record for record in records(tmp_path)}
    has_bfloat16 = precision("auto", "cpu") == "bf16-mixed"
    assert has_bfloat16 or "skipped: variants: bfloat16 is only slower" in err
    assert set(found) == {"as trained", "SQ8", "w96", "w96 SQ8"} | ({"bfloat16"} if has_bfloat16 else set())
    accuracy = {served: record["metrics"]["worldfacts.multi.map"] for served, record in found.items()}
    assert accuracy["w96"] < accuracy["as trained"]
    assert accuracy["SQ8"] == pytest.approx(accuracy["as trained"], abs=0.02)
    assert accuracy.get("bfloat16", accuracy["as trained"]) == pytest.approx(accuracy["as trained"], abs=0.02)
    assert found["w96"]["corpus"]["worldfacts"] == found["as trained"]["corpus"]["worldfacts"]
    code, _, err = run(*SMALL, "sampler=none", grids, cwd=tmp_path)
    assert code == 0
    assert "cached" in err
