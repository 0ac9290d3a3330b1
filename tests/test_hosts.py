"""Two hosts of different hardware share a sweep: costs on the fronts are of one of them, and notes say so."""

from dataclasses import replace

import pytest
import records
from reports import MONEY

from pipeline.analysis import tables
from pipeline.analysis.costs import COSTS
from pipeline.analysis.recommendation import recommend
from pipeline.store.results import ResultStore

BIG, SMALL = {"cpu": "Imaginary 9000", "cores": 64}, {"cpu": "Imaginary 9000", "cores": 2}
TAKEN = "Runs that were profiled on {} are shown at the costs of the same model on {}."
LEFT_OUT = "Costs measured on {} are left out: those of other models are of {}."


def profiled_on(store, record, machine, factor, device="cpu"):
    """Save a record as if another machine, slower by a factor, had profiled it."""
    details = dict(record.profile.details) | {"machine": machine | {"device": device}}
    latency = record.profile.query_latency_p95_ms * factor
    store.save(replace(record, profile=replace(record.profile, details=details, query_latency_p95_ms=latency)))


@pytest.fixture
def store(tmp_path):
    """Each host made three runs: of 3 layers both, of 6 and 12 layers one."""
    store = ResultStore(tmp_path)
    for layers, sampler, machine, factor in (
        (3, "hybrid", SMALL, 5), (3, "monolingual", BIG, 1), (6, "hybrid", BIG, 1), (6, "monolingual", BIG, 1),
        (12, "hybrid", SMALL, 5),
    ):  # fmt: skip
        profiled_on(store, records.add_run(store, "toy", layers, sampler), machine, factor)
    return store


def test_costs_of_two_hosts_are_not_on_one_front(store):
    by_name = {run.name: run.record for run in store.runs("toy")}
    small, big = ("e5-small-l3-hybrid-toy-s0-abcd", "e5-small-l3-monolingual-toy-s0-abcd")
    assert by_name[small].profile == by_name[big].profile
    assert by_name[small].metrics == store.load(small).metrics
    assert store.load(small).profile.query_latency_p95_ms == 5 * by_name[small].profile.query_latency_p95_ms
    alone = by_name["e5-small-l12-hybrid-toy-s0-abcd"]
    assert alone.profile is None
    hosts = [note.split(" are ")[0] for note in (by_name[small].notes[-1], alone.notes[-1])]
    of_small, of_big = hosts[0].removeprefix("Runs that were profiled on "), by_name[small].notes[-1].split(" on ")[-1]
    assert of_small.startswith("Imaginary 9000 (2 cores; ")
    assert of_big.startswith("Imaginary 9000 (64 cores; ")
    assert by_name[small].notes[-1] == TAKEN.format(of_small, of_big.rstrip("."))
    assert alone.notes[-1] == LEFT_OUT.format(of_small, of_big.rstrip("."))
    assert [name for name, record in by_name.items() if len(record.notes) == 1] == [
        "e5-small-l3-monolingual-toy-s0-abcd", "e5-small-l6-hybrid-toy-s0-abcd", "e5-small-l6-monolingual-toy-s0-abcd"
    ]  # fmt: skip

    points = tables.points(tables.systems(tables.runs(store, "toy")))
    latencies = points[points["cost"] == "query_latency_p95_ms"]
    expected = {layers: store.load(f"e5-small-l{layers}-monolingual-toy-s0-abcd").profile for layers in (3, 6)}
    assert set(latencies["layers"]) == {3, 6}
    assert dict(zip(latencies["layers"], latencies["value"], strict=True)) == {
        layers: profile.query_latency_p95_ms for layers, profile in expected.items()
    }


def test_recommend_says_where_costs_are_from(store):
    (p95,) = [cost for cost in COSTS if cost.field == "query_latency_p95_ms"]
    said = recommend(store, "toy", "multi.map", {p95: 1e6}, *MONEY).sentences
    assert not any("left out" in sentence or "are shown at" in sentence for sentence in said)  # of 6 layers, on BIG
    cheap = store.load("e5-small-l3-monolingual-toy-s0-abcd").profile.query_latency_p95_ms
    said = recommend(store, "toy", "multi.map", {p95: cheap * 1.01}, *MONEY).sentences
    assert said[-1].startswith("an exercise Runs that were profiled on Imaginary 9000 (2 cores; ")


def test_devices_may_be_of_different_hosts(tmp_path):
    store = ResultStore(tmp_path)
    profiled_on(store, records.add_run(store, "toy", 3, "hybrid"), SMALL, 1)
    profiled_on(store, records.add_run(store, "toy", 3, "monolingual"), BIG | {"gpu": "Imaginary GPU"}, 0.1, "cuda")
    for run in store.runs("toy"):
        assert run.record.profile.details["machine"] == store.load(run.name).profile.details["machine"]
        assert run.record.notes == ("an exercise",)
