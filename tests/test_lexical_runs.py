"""BM25 alone, and fused with an encoder, from the command line to records, profiles, export and refusals."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from command import RUN, SMALL, inside, records
from test_config import composed
from test_profiling import SETTINGS, TEXTS
from tiny import encoder

from pipeline import config
from pipeline.encoder.deploy import save
from pipeline.export import export
from pipeline.launch.request import make_request
from pipeline.profiling import meter, served
from pipeline.profiling.meter import Job
from pipeline.profiling.summary import summarize
from pipeline.retrieval.lexical import Bm25
from pipeline.store.results import ResultStore
from pipeline.values import UserError, Variant

BM25 = ["model=bm25", *RUN]


def test_bm25_is_a_run_like_others(tmp_path):
    code, out, err = inside(*BM25, "sampler=none", "variants=grid", cwd=tmp_path)
    assert code == 0, err
    assert "worldfacts, mAP: mono " in out
    (record,) = records(tmp_path)  # it has no inference variants
    assert (record["choices"]["model"], record["variant"], record["provenance"]["layers"]) == ("bm25", "as trained", 0)
    assert record["provenance"]["kind"] == "lexical"
    metrics = {name.removeprefix("worldfacts."): value for name, value in record["metrics"].items()}
    assert 0.4 < metrics["mono.map"] < 1
    assert metrics["cross.map"] < metrics["mono.map"]
    assert "multi.rank_distance" in metrics
    code, _, err = inside(*BM25, "sampler=none", cwd=tmp_path)
    assert code == 0
    assert "cached" in err
    with pytest.raises(UserError, match=r"^bm25-.* is BM25, which has no weights to export: "):
        export(ResultStore(tmp_path / "results"), record["name"], tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_an_encoder_is_ranked_alone_and_fused_from_one_encoding(tmp_path):
    code, _, err = inside(*SMALL, "sampler=none", "variants=fusion", cwd=tmp_path)
    assert code == 0, err
    alone, fused = sorted(records(tmp_path), key=lambda record: record["name"])
    assert fused["name"] == f"{alone['name']}+rrf"
    assert fused["variant"] == "rrf"
    assert [record["provenance"]["kind"] for record in (alone, fused)] == ["full", "fused"]
    assert fused["metrics"]["worldfacts.mono.map"] > alone["metrics"]["worldfacts.mono.map"]
    assert fused["corpus"]["worldfacts"] == alone["corpus"]["worldfacts"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=bm25"], "model.weights=lexical: BM25 is not trained: set sampler=none."),
        (["model=bm25", "sampler=none", "device=cuda"], "device=cuda: BM25 .* runs on the processor: set device=cpu."),
        (["model=bm25", "sampler=none", "model.layers=3"], "model.layers=3: BM25 .* has no layers."),
        (["model=bm25", "sampler=none", "model.architecture.k1=-1"], "model.architecture.k1=-1: it must lie"),
        (["model=bm25", "sampler=none", "model.architecture.analyser=icv"], "model.architecture.analyser=icv: did you"),
        (["model=bm25", "sampler=none", "+model.architecture.k2=1"], "unknown key model.architecture.k2: "),
        (["variants.grids=[{fusion:[sum]}]"], "variants: fusion=sum: There are: rrf"),
        (["variants.grids=[{fusion:[rrf],width:[96]}]"], "variants: fusion=rrf takes exact search at full width"),
        (["variants.grids=[{fusion:[rrf],index:[SQ8]}]"], "variants: fusion=rrf takes exact search at full width"),
    ],
)
def test_what_bm25_lacks_is_refused_before_any_work(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        make_request(config.check(composed(*overrides)), {"model": "m", "sampler": "s", "data": "d"})


def test_the_options_of_bm25_are_the_defaults_of_a_fusion():
    cfg = composed("model=bm25", "sampler=none")
    assert Bm25(**cfg.model.architecture) == Bm25()


QUICK = replace(SETTINGS, index_rows=50, energy_seconds=0.05, min_calls=10, rounds=1)


def profiled(folder, variant=None):
    """The figures of all meters but the ceiling, each in this process."""
    job = Job(str(folder), TEXTS, QUICK, threads=1, device="cpu", seed=0, variant=variant or Variant())
    job = replace(Job.from_json(job.to_json()), token_budget=32, ceiling_flop_per_s=1e9)
    watched = {"watch": {"others_share": 0, "steal_share": 0, "throttle_events": None, "slowed": None}, "threads": {}}
    results = {"ceiling": {"flop_per_s": 1e9, **watched}}
    for name in meter.names():
        if name != "ceiling":
            results[name] = {**meter.find(name).run(job, lambda: served.load(job)), **watched}
    results = json.loads(json.dumps(results))  # as from a child process
    facts = {"device": "cpu", "cpu": "one"}
    return summarize([results], None, facts, job)


def test_bm25_and_a_fusion_are_measured_by_the_same_meters(tmp_path):
    served.save_lexical(asdict(Bm25()), tmp_path / "bm25")
    save(encoder(), Variant(), tmp_path / "dense")
    bm25, dense, fused = (
        profiled(tmp_path / "bm25"),
        profiled(tmp_path / "dense"),
        profiled(tmp_path / "dense", Variant(fusion="rrf")),
    )
    assert bm25.parameters is None
    assert (bm25.weights_mib, bm25.flop_per_s) == (0, 0)
    assert fused.parameters == dense.parameters
    assert fused.index_bytes_per_passage == pytest.approx(bm25.index_bytes_per_passage + dense.index_bytes_per_passage)
    assert 0 < bm25.query_latency_p50_ms < dense.query_latency_p50_ms
    assert bm25.energy_j_per_1k_queries > 0
    assert "with the scores of BM25 over 50 passages" in bm25.sources["query_latency_p50_ms"]
    assert dense.details["latency"]["index"] == "Flat, 50 x 32 float32, top 10"
    assert bm25.details["latency"]["index"] == "BM25 over 50 passages, top 10"
    assert "first 1000 of both by reciprocal rank" in fused.details["latency"]["index"]
    threads = {check["name"]: check["passed"] for check in bm25.details["quality"]["checks"]}["threads"]
    assert threads  # bm25s has none


def test_a_process_that_serves_bm25_imports_neither_torch_nor_faiss():
    code = "import sys, importlib, pipeline.profiling.worker\n"
    code += f"for name in {[f'pipeline.profiling.meters.{name}' for name in meter.names() if name != 'ceiling']}:\n"
    code += " importlib.import_module(name)\nimportlib.import_module('pipeline.retrieval.lexical_served').preload()\n"
    code += "print([name for name in ('torch', 'faiss', 'transformers', 'hydra') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
