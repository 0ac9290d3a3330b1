"""`python -m pipeline.load`: LoadGen's tests of known systems, the search for a rate, what reads the results.

Nothing here compares times: durations are fractions of a second, on a machine that may be busy.
"""

import json
import re
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import faiss
import hydra
import numpy as np
import pandas as pd
import pytest
from command import inside, start
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from records import add_run
from test_serve import NAME, make_results, served

from pipeline.analysis import load, money, tables
from pipeline.analysis.analyse import analyse
from pipeline.analysis.fleet import Load, with_fleet
from pipeline.bench import soak
from pipeline.capacity import loadgen, meter, subjects, systems
from pipeline.capacity.search import LEAST, largest_rate
from pipeline.profiling.meters import ceiling
from pipeline.profiling.samples import supported
from pipeline.recommend import answer
from pipeline.reporting import publish
from pipeline.reporting.html.write import write
from pipeline.retrieval import faiss_index
from pipeline.store import capacity
from pipeline.store.capacity import EARLY_STOPPING, JUDGED, Capacity, LoadTest
from pipeline.store.results import ResultStore, RunState
from pipeline.values import CONF, UserError

TEXTS = [f"text {'long ' * number}" for number in range(20)]
SHORT = loadgen.Settings("Server", 200.0, 10_000.0, 0.2, 20, at_once=4, offline_at_once=2, per_call=8, seed=1)
QUICK = ("min_seconds=0.1", "min_queries=5", "tolerance=1", "p99_ms=60000", "threads=1", "queue=8", "max_batch=8")


class Known:
    """A system that keeps what it was sent, and refuses every call whose number `refuses` names."""

    def __init__(self, refuses=lambda number: False, error=None):
        self.calls, self.refuses, self.error, self.lock = [], refuses, error, threading.Lock()

    def embed(self, texts, side):
        with self.lock:
            self.calls.append((tuple(texts), side))
            number = len(self.calls)
        if self.error:
            raise self.error
        if self.refuses(number):
            raise systems.Refused
        return np.ones((len(texts), 3), np.float32)


def summary(folder):
    """What LoadGen's summary, for people, says."""
    text = (folder / "mlperf_log_summary.txt").read_text()
    return {key.strip(): value.strip() for key, value in re.findall(r"^([^:\n]+?) *: (.+)$", text, re.M)}


@pytest.mark.parametrize("scenario", ["SingleStream", "Server", "Offline"])
def test_a_test_says_what_loadgens_summary_says(tmp_path, scenario):
    system, side = Known(), "passage" if scenario == "Offline" else "query"
    test = loadgen.run(system, TEXTS, side, replace(SHORT, scenario=scenario), tmp_path / "a")
    says = summary(tmp_path / "a")
    assert (test.scenario, test.folder, says["Scenario"]) == (scenario, "a", scenario)
    assert test.valid == (says["Result is"] == "VALID")
    for percentile, ms in ((50, test.p50_ms), (90, test.p90_ms), (99, test.p99_ms)):
        assert round(ms * 1e6) == int(says[f"{percentile}.00 percentile latency (ns)"])
    rate = {"SingleStream": "QPS w/ loadgen overhead", "Server": "Completed samples per second"}
    expected = float(says[rate.get(scenario, "Samples per second")])  # the detailed log has six digits
    assert test.per_s == pytest.approx(expected, rel=1e-5, abs=0.01)
    assert test.rate_per_s == (200 if scenario == "Server" else None)
    assert test.checks[EARLY_STOPPING] == (says["Early stopping satisfied"] == "Yes")
    assert test.checks["minimum duration"] == (says["Min duration satisfied"] == "Yes")
    assert test.samples == sum(len(texts) for texts, _ in system.calls) >= 20
    assert {side for _, side in system.calls} == {side}
    assert {text for texts, _ in system.calls for text in texts} <= {*TEXTS}
    assert test.accepted_p99_ms > 0
    sizes = [len(texts) for texts, _ in system.calls]
    if scenario == "Offline":
        assert set(sizes[:-1]) == {8}
        lengths = [len(text) for texts, _ in sorted(system.calls, key=lambda call: -len(call[0][0])) for text in texts]
        assert lengths == sorted(lengths, reverse=True)
    else:
        assert set(sizes) == {1}


def test_refused_queries_are_counted_and_a_rate_with_one_does_not_hold(tmp_path):
    test = loadgen.run(Known(lambda number: number == 3), TEXTS, "query", SHORT, tmp_path / "a")
    assert (test.refused, test.valid, test.holds(1)) == (1, False, False)
    assert test.samples >= 20
    assert meter.verdict(test).endswith("queries refused")
    everything = loadgen.run(Known(lambda number: True), TEXTS, "query", SHORT, tmp_path / "b")
    assert (everything.refused, everything.accepted_p99_ms) == (everything.samples, None)


def test_an_error_of_the_system_ends_the_test_with_it(tmp_path):
    system = Known(error=UserError("no such model"))
    with pytest.raises(UserError, match="no such model"):
        loadgen.run(system, TEXTS, "query", SHORT, tmp_path / "a")
    assert len(system.calls) <= SHORT.at_once  # what comes after it is not sent


def test_arrivals_and_order_follow_from_the_seed(tmp_path):
    sent = []
    for number, seed in enumerate((1, 1, 2)):
        system = Known()
        settings = replace(SHORT, seed=seed, at_once=1)
        loadgen.run(system, TEXTS, "query", settings, tmp_path / str(number))
        sent.append([texts for texts, _ in system.calls])
    assert sent[0] == sent[1] != sent[2]


def test_early_stopping_is_asked_where_there_are_queries_enough_for_it():
    assert supported(99, JUDGED)
    assert not supported(99, JUDGED - 1)
    few = a_test(20.0, checks={"p99 within the limit": True, EARLY_STOPPING: False}, valid=False)
    assert few.holds(JUDGED - 1)
    assert not few.holds(JUDGED)
    slow = a_test(20.0, checks={"p99 within the limit": False, EARLY_STOPPING: False}, valid=False)
    assert not slow.holds(1)


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.floats(0.01, 1), st.sampled_from([1.15, 2.0]))
def test_bisection_finds_the_rate_that_a_system_carries(carried, first, tolerance, step):
    tried = []

    def holds(rate):
        tried.append(rate)
        return rate <= carried

    rate = largest_rate(holds, first, tolerance, step=step)
    if rate is None:
        assert carried < tried[-1] < first * LEAST * step
    else:
        assert rate <= carried < rate * (1 + tolerance) * (1 + 1e-9)
        assert rate in tried


def test_bisection_on_a_queue_of_known_service_time():
    """M/D/1 in heavy traffic: waiting is exponential with mean s u / 2 (1 - u), so p99 is s + mean x ln 100."""
    service_s, limit_s = 0.01, 0.05

    def p99_s(rate):
        use = rate * service_s
        return np.inf if use >= 1 else service_s + service_s * use / (2 * (1 - use)) * np.log(100)

    rate = largest_rate(lambda rate: p99_s(rate) <= limit_s, 50, 0.01)
    exact = 1 / service_s / (1 + np.log(100) * service_s / (2 * (limit_s - service_s)))  # 63.5 per second
    assert exact / 1.01 <= rate <= exact


def measure(system, tmp_path, rounds=1, device=None, **changes):
    limits = replace(SHORT, min_seconds=0.1, min_queries=5, **changes)
    facts = {"index": None, "settings": {"min_seconds": 0.1, "min_queries": 5}, "texts": {}, "machine": {}}
    texts = {"query": TEXTS, "passage": TEXTS}
    plan = meter.Plan(limits, rounds, tolerance=1.0)
    return meter.measure("toy", system, systems.Null(), texts, plan, tmp_path / "logs", facts, device=device)


def test_a_rate_that_fails_is_tried_once_more():
    """A system that carries 45 queries per second, with a pause in the first test at 40."""
    tried = []

    def run(scenario, rate):
        tried.append(round(rate, 1))
        return a_test(rate, 20.0 if rate <= 45 and tried.count(40) != 1 else 90.0)

    plan = meter.Plan(replace(SHORT, p99_ms=50, min_queries=5), rounds=1, tolerance=0.5)
    tests = SimpleNamespace(plan=plan, run=run, look_at_clock=lambda: None)
    assert [test.rate_per_s for test in meter.largest(tests, a_test(40.0))] == [40.0]
    assert tried == [20, 40, 40, 80, 80, 56.6, 56.6]


@pytest.mark.parametrize(
    ("flop_per_s", "steal", "failed"), [([100, 95, 92], 0.0, []), ([100, 95, 89], 0.03, ["quiet", "clock"])]
)
def test_what_the_machine_did_meanwhile(tmp_path, monkeypatch, flop_per_s, steal, failed):
    """Before the first round and after each the clock is read; each test says whether the processors were stolen."""

    @contextmanager
    def watch(device):
        activity = {}
        yield activity
        activity |= {"others_share": 0.01, "steal_share": steal, "throttle_events": None}

    monkeypatch.setattr(ceiling, "matrix_product_flop_per_s", lambda *_: 1e9 * flop_per_s.pop(0))
    monkeypatch.setattr(meter.machine, "watch", watch)
    result = measure(Known(), tmp_path, rounds=2, device="cpu", p99_ms=1e-6)
    assert flop_per_s == []
    assert [check["name"] for check in result.quality["checks"]] == ["quiet", "clock"]
    assert (result.failed_checks, result.quality["passed"]) == (failed, not failed)
    source = load.source(
        replace(result, queries_per_s_at_p99=9.0, settings={"min_seconds": 600, "min_queries": 662}), None
    )
    assert source.endswith("; failed quality checks: quiet, clock" if failed else "on run toy")
    assert ("Quality checks that failed: quiet, clock" in " ".join(subjects.sentences(result))) == bool(failed)
    capacity.save(tmp_path, result)
    assert capacity.read(tmp_path, "toy") == result


def test_a_system_that_is_too_slow_for_one_query_has_no_capacity(tmp_path):
    result = measure(Known(), tmp_path, p99_ms=1e-6)
    assert (result.queries_per_s_at_p99, result.rounds, result.null) == (None, [None], None)
    assert [test.scenario for test in result.tests][:2] == ["SingleStream", "Offline"]
    assert result.passages_per_s > 0


def test_a_system_that_refuses_single_queries_is_not_measured(tmp_path):
    with pytest.raises(UserError, match="is it overloaded"):
        measure(Known(lambda number: True), tmp_path)
    with pytest.raises(UserError, match=r"toy refused \d+ of \d+ queries that were sent one at a time"):
        measure(Known(lambda number: number > 15), tmp_path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("load"))[0]


def check_result(store, name, encoder_index):
    result = capacity.read(store.root, name)
    folder = capacity.folder(store.root, name)
    assert result.queries_per_s_at_p99 == result.rounds[0] > 0
    scenarios = [test.scenario for test in result.tests]
    assert scenarios[0] == "SingleStream"
    assert set(scenarios) == {"SingleStream", "Server", "Offline"}
    rates = [test.rate_per_s for test in result.server_tests()]
    assert rates == sorted(rates)
    held = [test for test in result.server_tests() if test.holds(5)]
    assert result.queries_per_s_at_p99 in [test.per_s for test in held]
    for test in [*result.tests, result.null]:
        assert summary(folder / test.folder)["Result is"] == ("VALID" if test.valid else "INVALID") or test.refused
        assert test.samples >= (1 if test.scenario == "Offline" else 5)
    assert result.null.rate_per_s == pytest.approx(2 * result.queries_per_s_at_p99)
    if not name.startswith("127"):  # in this process
        assert all(test.energy_j > 0 for test in result.tests)
        (held,) = [test for test in held if test.per_s == result.queries_per_s_at_p99]
        assert result.energy_j_per_1k_queries == pytest.approx(1000 * held.energy_j / held.samples)
        assert result.energy_source.startswith(("measured: ", "modelled: "))
    assert (result.quality is None) == name.startswith("127")
    assert result.index == encoder_index
    assert not result.by_the_rules
    assert result.settings["max_batch"] == 8
    assert result.machine["loadgen"] == "6.0.17"
    assert result.texts["queries"] > 10
    return result


def test_a_run_in_process(results):
    code, out, err = inside(NAME, *QUICK, cwd=results.root.parent, module="pipeline.load")
    assert code == 0, err
    result = check_result(results, NAME, None)
    assert result.texts["benchmark"] == "worldfacts"
    assert f"load · {NAME} · SingleStream" in out
    assert f"{NAME} carries" in out
    assert "shorter than MLPerf Inference's rules ask: 600 s and 662 queries." in out
    assert not [path for path in results.root.parent.iterdir() if path != results.root]  # no log elsewhere


def test_with_a_search(results):
    options = (
        *QUICK,
        "index_rows=500",
        "index='IVF4,Flat;nprobe=2'",
        "eval=worldfacts",
        "eval.worldfacts.languages=[de]",
    )
    code, _, err = inside(NAME, *options, cwd=results.root.parent, module="pipeline.load")
    assert code == 0, err
    check_result(results, NAME, "IVF4,Flat;nprobe=2, 500 vectors of 384")


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat;nprobe=2"])
def test_queries_are_searched_side_by_side(factory, monkeypatch):
    emb_ND = np.random.default_rng(0).standard_normal((200, 8), np.float32)
    search, threads, found = systems.Search(faiss_index.build_index(emb_ND, factory), 2), set(), []
    once = faiss_index.search

    def watched(*arguments):
        threads.add((threading.get_ident(), faiss.omp_get_max_threads()))
        found.append(once(*arguments)[1].shape)

    monkeypatch.setattr(faiss_index, "search", watched)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(search, [emb_ND[number : number + 1] for number in range(40)]))
    search.stop()
    assert found == [(1, 10)] * 40
    assert {count for _, count in threads} == {1}
    assert len(threads) <= 2


@pytest.mark.slow
def test_a_server_over_the_wire(results):
    with served(results, "queue=8", "max_batch=8") as server:
        options = (f"target={server.url}/v1", *QUICK, "eval=worldfacts", "eval.worldfacts.languages=[de]")
        code, _, err = inside(*options, cwd=results.root.parent, module="pipeline.load")
        assert code == 0, err
        result = check_result(results, f"127.0.0.1-{server.port()}", None)
        sent = sum(test.samples for test in result.tests)
        assert server.metrics()["paretrieve_batch_texts_sum",] > sent
        for option, says in (
            ("model_name=gpt", f"answers 404: .*this server has {NAME}"),
            ("index_rows=10", "index_rows=10: a search is measured in process"),
        ):
            code, _, err = inside(*options, option, cwd=results.root.parent, module="pipeline.load")
            assert code == 2
            assert re.search(says, err), err


def test_a_sweep_is_measured_once_per_system(results, monkeypatch, capsys):
    """What the sweep has no embeddings for is left out by name, and what was measured is not measured again."""
    names = [path.parent.name for path in sorted(results.root.glob("runs/*/record.json"))]
    for name in names:
        results.add_to_manifest("all", RunState(name, "done", {}, 1.0))
    measured = []

    def quick(store, config, name, system, *_):
        measured.append(name)
        settings = subjects.settings_of(config)
        capacity.save(store.root, replace(a_result(name), settings=settings))

    monkeypatch.setattr(subjects, "finish", quick)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["sweep=all", f"results_dir={results.root}", "seed=5"]
        config = OmegaConf.to_object(hydra.compose("load", overrides))
    subjects.measure(config)
    said = capsys.readouterr().out
    left_out = [name for name in names if f"load · {name} · left out: {name}" in said]
    assert sorted([*measured, *left_out]) == sorted(names)
    assert len(left_out) == 3  # BM25, and the variants that fuse rankings or centre embeddings
    assert {NAME, "bm25"} & {*measured} == {NAME}
    subjects.measure(config)
    assert capsys.readouterr().out.count("measured before") == len(measured)


def test_what_is_no_server(results):
    options = ("target=http://127.0.0.1:9", "eval=worldfacts", "eval.worldfacts.languages=[de]")
    code, _, err = inside(*options, cwd=results.root.parent, module="pipeline.load")
    assert (code, "target=http://127.0.0.1:9 cannot be reached" in err) == (2, True)


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once(results):
    process = start(NAME, "min_seconds=3600", "threads=1", cwd=results.root.parent, module="pipeline.load")
    folder = capacity.folder(results.root, NAME)
    for path in folder.glob("*-SingleStream/*"):
        path.unlink()
    while not list(folder.glob("*-SingleStream/mlperf_log_detail.txt")):
        assert process.poll() is None
        threading.Event().wait(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted: run the same command again to resume\n")


def test_the_extra_is_named_where_loadgen_is_missing(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    code, _, err = inside(NAME, cwd=results.root.parent, module="pipeline.load")
    assert (code, err) == (2, "error: mlperf_loadgen is missing: pip install -c constraints.txt -e '.[load]'\n")


def a_test(rate, p99_ms=20.0, refused=0, checks=None, valid=True):
    checks = checks or {"p99 within the limit": p99_ms <= 50}
    return LoadTest("Server", rate, valid, checks, 99, refused, rate, p99_ms / 2, p99_ms * 0.9, p99_ms, p99_ms, "02")


def a_result(name, rate=200.0, rounds=None, p99_ms=50.0, index_rows=0, cpu="Imaginary 9000"):
    tests = [a_test(400.0, 90.0, refused=7, valid=False), a_test(100.0), a_test(200.0, 40.0)]
    settings = {"p99_ms": p99_ms, "index_rows": index_rows, "min_seconds": 60, "min_queries": JUDGED}
    machine = {"cpu": cpu, "device": "cpu", "threads": 2}
    rounds = rounds or [rate]
    facts = {"index": None, "settings": settings, "texts": {}, "machine": machine, "time": "2026"}
    energy = {"energy_j_per_1k_queries": 180.0, "energy_source": "measured: a counter"}
    return Capacity(name, rate, rounds, p99_ms, 30.0, tests, a_test(400.0), **facts, **energy)


@pytest.fixture
def store(tmp_path):
    """Runs of 3 encoders with 2 strategies; the smallest encoder was put under load with one of them."""
    store = ResultStore(tmp_path)
    for layers in (3, 6, 12):
        for sampler in ("none", "hybrid"):
            add_run(store, "toy", layers, sampler)
    capacity.save(store.root, a_result("e5-small-l3-hybrid-toy-s0-abcd", rounds=[190.0, 200.0, 210.0]))
    return store


def test_runs_of_one_encoder_share_its_capacity(store):
    runs = tables.runs(store, "toy")
    known = runs[runs["layers"] == 3]
    assert set(known["profile.queries_per_s_at_p99"]) == {200.0}
    assert set(known["profile.ms_per_query_at_p99"]) == {5.0}
    assert set(known["load.p99_ms"]) == {50.0}
    expected = np.std([190, 200, 210], ddof=1) / 3**0.5 / 200
    assert known["profile.relative_errors.queries_per_s_at_p99"].iloc[0] == pytest.approx(expected)
    source = "measured: LoadGen Server, p99 of 50 ms, the encoder alone, in tests shorter than MLPerf's; on run "
    assert set(known["profile.sources.queries_per_s_at_p99"]) == {f"{source}e5-small-l3-hybrid-toy-s0-abcd"}
    assert set(known["profile.energy_j_per_1k_queries_at_p99"]) == {180.0}
    assert set(known["profile.sources.energy_j_per_1k_queries_at_p99"]) == {"measured: a counter"}
    assert runs[runs["layers"] > 3]["profile.queries_per_s_at_p99"].isna().all()
    points = tables.points(tables.systems(runs))
    assert set(points.loc[points["cost"] == "ms_per_query_at_p99", "model"]) == {"e5-small-l3"}


def test_a_load_of_another_machine_is_left_out(store):
    capacity.save(store.root, a_result("e5-small-l3-hybrid-toy-s0-abcd", cpu="Real 1"))
    runs = tables.runs(store, "toy")
    assert runs["profile.queries_per_s_at_p99"].isna().all()
    (says,) = runs["profile.sources.queries_per_s_at_p99"].dropna().unique()
    assert says == "not measured: the load was put on Real 1, 2 threads, the profile is of Imaginary 9000, 2 threads"


def test_a_system_that_holds_no_rate_says_so(store):
    capacity.save(store.root, replace(a_result("e5-small-l3-hybrid-toy-s0-abcd"), queries_per_s_at_p99=None))
    runs = tables.runs(store, "toy")
    assert runs["profile.queries_per_s_at_p99"].isna().all()
    assert "not measured: no rate holds a p99 of 50 ms" in set(runs["profile.sources.queries_per_s_at_p99"])


@pytest.mark.parametrize("other", [{"p99_ms": 20.0}, {"index_rows": 1000}])
def test_different_limits_are_not_compared(store, other):
    capacity.save(store.root, a_result("e5-small-l6-hybrid-toy-s0-abcd", **other))
    (key, value), *_ = other.items()
    with pytest.raises(UserError, match=rf"e5-small-l6-hybrid-toy-s0-abcd have {key}=\d+ and {value:g}: they cannot"):
        tables.runs(store, "toy")


def test_a_damaged_result_is_named_and_left_out(store, capsys):
    path = capacity.folder(store.root, "e5-small-l3-hybrid-toy-s0-abcd") / "load.json"
    path.write_text(path.read_text().replace("200.0", "900.0", 1))
    assert "profile.queries_per_s_at_p99" not in tables.runs(store, "toy")
    assert "load.json is damaged" in capsys.readouterr().err


def ask(store, *overrides):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("recommend", ["sweep=toy", f"results_dir={store.root}", *overrides])
    return answer(cfg).sentences


def test_a_fleet_for_a_load(store):
    """100 queries/s at half of 200/s are one instance, 250/s are three; of 100/s six: at 0.1008 USD for 730 h each."""
    capacity.save(store.root, a_result("e5-small-l6-hybrid-toy-s0-abcd", rate=100.0))
    said = "\n".join(ask(store, "qps=250", "p99_ms=50"))
    assert said.startswith("Deploy e5-small-l6 with hybrid batches")  # 12 layers were not put under load
    assert "For 250 queries/s at a p99 of 50 ms, on instances like AWS m7i.large" in said
    assert "  e5-small-l3 with hybrid batches: 3 instances, 220.75 USD per month, accuracy " in said
    assert "  e5-small-l6 with hybrid batches: 5 instances, 367.92 USD per month, accuracy " in said
    assert said.index("3 instances") < said.index("5 instances")
    assert "1 instance, 73.58 USD" in "\n".join(ask(store, "qps=100"))
    within = "\n".join(ask(store, "qps=250", "p95_ms=6"))
    assert within.startswith("Deploy e5-small-l3")
    assert "e5-small-l6 with hybrid batches: 5" not in within


def test_what_recommend_cannot_answer(store, tmp_path):
    with pytest.raises(UserError, match=r"p99_ms=20: capacity was measured at 50 ms\. Measure it again: .* p99_ms=20"):
        ask(store, "qps=1", "p99_ms=20")
    with pytest.raises(UserError, match="p99_ms=20 is the limit of a load: set qps too"):
        ask(store, "p99_ms=20")
    bare = ResultStore(tmp_path / "bare")
    add_run(bare, "toy", 3, "hybrid")
    with pytest.raises(UserError, match=r"qps: no run of the sweep has a capacity: python -m pipeline.load sweep=NAME"):
        ask(bare, "qps=1")


def test_power_of_a_fleet_is_paid_where_it_is_not_in_the_hour():
    systems = pd.DataFrame({"profile.queries_per_s_at_p99": [200.0], "load.p99_ms": [50.0]})
    systems = systems.assign(**{"profile.energy_j_per_1k_queries_at_p99": 180.0, "profile.idle_power_w": 10.0})
    prices = money.Prices("a rack", "imagined", "2026-01-01", 0.36, 0.25, 0.10, 400)
    scenario = money.Scenario(9_000_000, queries_per_day=120_000, reencodes_per_year=2, utilisation=0.5)
    own = with_fleet(systems, prices, scenario, Load(250.0)).iloc[0]
    assert (own["instances"], own["fleet_usd_per_month"]) == (3, pytest.approx(802.0875))  # docs/money.md
    assert "**802.09 USD**" in (CONF.parent / "docs/money.md").read_text()
    cloud = with_fleet(systems, replace(prices, usd_per_kwh=0), scenario, Load(250.0)).iloc[0]
    assert cloud["fleet_usd_per_month"] == pytest.approx(788.4)


def test_latency_is_drawn_against_rate(store, tmp_path):
    curve = load.curves(store, tables.runs(store, "toy"))
    assert curve[["rate_per_s", "p99_ms", "refused"]].to_numpy().tolist() == [[100, 20, 0], [200, 40, 0], [400, 90, 7]]
    assert {*curve["queries_per_s_at_p99"], *curve["limit_ms"]} == {200, 50}
    assert list(curve) == load.CURVE
    assert publish.draw_load({"load": curve}, "toy", tmp_path) == [tmp_path / "load.png"]
    svg = (tmp_path / "load.svg").read_text()
    prices, scenario = money.Prices("a", "b", "2026", 1, 0, 0, 0), money.Scenario(1, 1, 1, 1)
    write(store, "toy", analyse(store, "toy", prices, scenario), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Queries per second within a p99 of 50.0 ms" in page
    says = "come from different figures (queries_per_s_at_p99 and query_latency_p50_ms): compare only within one."
    assert says in page
    assert re.search(r">e5-small-l3, hybrid</th>\s*<td[^>]*>200</td>\s*<td[^>]*>400</td>", page)
    for word in ("200/s", "limit on p99", "queries refused", "e5-small-l3, hybrid, as trained"):
        assert word in svg


def test_a_sweep_without_load_results_has_no_such_figure(tmp_path):
    store = ResultStore(tmp_path)
    add_run(store, "toy", 3, "hybrid", cost_only=True)
    analysed = analyse(store, "toy", money.Prices("a", "b", "2026", 1, 0, 0, 0), money.Scenario(1, 1, 1, 1))
    assert "load" not in analysed
    assert publish.draw_load(analysed, "toy", tmp_path) == []
    capacity.save(store.root, a_result("xlmr-large-hybrid-toy-s0-abcd"))
    assert (
        len(analyse(store, "toy", money.Prices("a", "b", "2026", 1, 0, 0, 0), money.Scenario(1, 1, 1, 1))["load"]) == 3
    )


def test_result_files_are_json_that_is_checked(store):
    path = capacity.folder(store.root, "e5-small-l3-hybrid-toy-s0-abcd") / "load.json"
    raw = json.loads(path.read_text())
    assert raw["tests"][0]["scenario"] == "Server"
    with pytest.raises(UserError, match="a run's name has"):
        capacity.read(store.root, "../up")


def test_help(tmp_path):
    code, out, _ = inside("--help", cwd=tmp_path, module="pipeline.load")
    assert code == 0
    for word in ("LoadGen", "p99_ms", "target=http"):
        assert word in out
    assert list(tmp_path.iterdir()) == []


def test_the_soak_test_refuses_what_it_cannot_use(results, monkeypatch, capsys):
    options = soak.options_of(NAME, {"minutes": "0.5", "threads": "1", "results_dir": str(results.root)})
    assert (options.minutes, options.threads, options.p99_ms) == (0.5, 1, 50.0)
    config = soak.load_config(options)
    assert (config.threads, [*config.eval]) == (1, ["worldfacts"])
    for words, says in (
        ([NAME, "minutes=many"], "error: minutes=many: it must be a number."),
        ([NAME, "threads=0"], "error: threads=0: it must lie in (0, 1,000,000]."),
        ([NAME, "hours=1"], "error: unknown key hours: "),
        ([], "error: the first word must name a sweep, a run"),
        (["nothing", f"results_dir={results.root}"], f"error: no run nothing in {results.root}"),
    ):
        monkeypatch.setattr(sys, "argv", ["soak", *words])
        with pytest.raises(SystemExit) as ended:
            soak.main()
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith(says)


def test_rows_of_the_soak_test():
    assert soak.row("it holds", "3 ms", True) == ["it holds", "3 ms", "yes"]
    assert soak.row("it holds", "90 ms", False)[-1] == "**no**"
