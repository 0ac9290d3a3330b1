"""A small encoder of queries over the passages of the one that it was distilled from."""

import numpy as np
import pytest
from command import SMALL, inside, records
from records import profile
from sentence_transformers import SentenceTransformer

from pipeline.data import worldfacts
from pipeline.encoder.encoding import encode
from pipeline.encoder.starts import of_run
from pipeline.export import export
from pipeline.profiling.summary import OF_PASSAGES, with_query_encoder
from pipeline.retrieval.ranking import encode_side, rank_benchmark
from pipeline.retrieval.scoring import score_benchmark
from pipeline.store.results import ResultStore
from pipeline.values import Variant

UNTRAINED = [*SMALL, "sampler=none", "metrics=[map]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder, and the names of a run and of the one that learned its queries."""
    folder = tmp_path_factory.mktemp("runs")
    code, _, err = inside(*UNTRAINED, cwd=folder)
    assert code == 0, err
    (passages,) = records(folder)
    learning = ["+distill@model.distill=default", f"model.distill.teacher={passages['name']}", "model.distill.steps=2"]
    code, _, err = inside(*UNTRAINED, *learning, "model.distill.sides=[query]", cwd=folder)
    assert code == 0, err
    queries = next(record for record in records(folder) if record["name"] != passages["name"])
    return folder, passages["name"], queries["name"]


def test_queries_are_encoded_by_the_one_and_passages_by_the_other(runs, tmp_path):
    folder, passages, queries = runs
    code, _, err = inside(*UNTRAINED, f"variants.grids=[{{query_encoder:[{queries}],width:[null,96]}}]", cwd=folder)
    assert code == 0, err
    label = f"queries by {queries.rpartition('-s0-')[0]}"
    by_variant = {record["variant"]: record for record in records(folder) if record["name"].startswith(passages)}
    assert set(by_variant) == {"as trained", label, f"w96 {label}"}
    assert {record["provenance"]["kind"] for record in by_variant.values()} == {"full", "asymmetric"}
    store, benchmark = ResultStore(folder / "results"), worldfacts.benchmark(["de", "en"])
    assert store.load(queries).provenance["kind"] == "distilled"
    sides = {}
    for side, name in (("query", queries), ("passage", passages)):
        record = store.load(name)
        sides[side] = encode_side(of_run(store, record), benchmark, side)
    rank_benchmark(sides["query"], sides["passage"], benchmark, Variant(), tmp_path)
    expected = score_benchmark(tmp_path, benchmark, ["map"]).figures
    assert by_variant[label]["metrics"] == pytest.approx(expected)
    assert by_variant[label]["metrics"] != by_variant["as trained"]["metrics"]
    code, _, err = inside(*UNTRAINED, f"variants.grids=[{{query_encoder:[{queries}],width:[null,96]}}]", cwd=folder)
    assert (code, "cached" in err) == (0, True)


def test_both_encoders_are_exported(runs, tmp_path):
    """Needs the variant that the test before makes."""
    folder, passages, queries = runs
    grids = f"variants.grids=[{{query_encoder:[{queries}],width:[null,96]}}]"
    assert inside(*UNTRAINED, grids, cwd=folder)[0] == 0
    store = ResultStore(folder / "results")
    name = Variant(query_encoder=queries).run_name(passages)
    export(store, name, tmp_path / "both")
    card = (tmp_path / "both/README.md").read_text()
    assert "Encode queries with the encoder in the folder query_encoder" in card
    assert f"Distilled from {passages} in 2 steps" in (tmp_path / "both/query_encoder/README.md").read_text()
    for side, at, run in (("query", "both/query_encoder", queries), ("passage", "both", passages)):
        record = store.load(run)
        ours = of_run(store, record)
        theirs = SentenceTransformer(str(tmp_path / at), device="cpu")
        expected = theirs.encode_query(["Wer?"]) if side == "query" else theirs.encode_document(["Wer?"])
        np.testing.assert_allclose(encode(ours, ["Wer?"], side), expected, atol=1e-5)


def test_an_encoder_of_another_space_is_refused(runs):
    folder, passages, queries = runs
    for sampler, name, says in (
        ("none", passages, "learned no other encoder's vectors"),
        ("hybrid", queries, passages),
    ):
        code, _, err = inside(*SMALL, f"sampler={sampler}", f"variants.grids=[{{query_encoder:[{name}]}}]", cwd=folder)
        assert code == 2, err
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert f"query_encoder={name}" in line
        assert says in line


def test_variants_of_several_seeds_are_one_system_and_runs_of_their_own():
    one, other = (Variant(query_encoder=f"e5-small-d3-none-toy-s{seed}-0123abcd") for seed in (0, 1))
    assert one.label == other.label == "queries by e5-small-d3-none-toy"
    assert one.run_name("run") == "run+queries-by-e5-small-d3-none-toy-s0-0123abcd"
    assert one.run_name("run") != other.run_name("run")


def test_costs_of_passages_are_those_of_their_encoder_and_all_others_of_the_other():
    passages, queries = profile(12), profile(3)
    both = with_query_encoder(passages, queries)
    for name in type(both).__dataclass_fields__:
        if name not in ("sources", "details", "relative_errors", "encoder_key", "quality"):
            assert getattr(both, name) == getattr(passages if name in OF_PASSAGES else queries, name), name
    assert both.query_latency_p50_ms != passages.query_latency_p50_ms
    assert both.passages_per_s != queries.passages_per_s
    assert "by the encoder of passages" in both.sources["passages_per_s"]
    assert len(both.details["quality"]["checks"]) == 2 * len(queries.details["quality"]["checks"])
