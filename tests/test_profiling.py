"""The profile's arithmetic against scipy, torch's FLOP counter and hand-worked cases; then the real thing, once."""

import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from tiny import MODEL as TINY
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from pipeline.profiling import energy, latency, machine, nvidia, throughput
from pipeline.profiling import measure as profile
from pipeline.profiling.quality import grade
from pipeline.profiling.samples import percentiles, relative_standard_error, round_robin, supported
from pipeline.values import Profile


@pytest.mark.parametrize(("percentile", "needed"), [(90, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_mlperfs_number_of_timings(percentile, needed):
    assert [supported(percentile, needed + extra) for extra in (-1, 0, 1)] == [False, True, True]
    for count in (needed - 1, needed, needed + 1):  # at most one of so many above the percentile
        assert supported(percentile, count) == (scipy.stats.binom.cdf(1, count, 1 - percentile / 100) <= 0.01)


def test_percentiles_with_their_intervals():
    values = np.random.default_rng(1).gamma(4.0, size=200)
    found = percentiles(values, seed=0)
    assert found["p99"] is None
    for name, percentile in (("p50", 50), ("p90", 90), ("p95", 95)):
        theirs = scipy.stats.bootstrap(
            (values,),
            lambda x, axis, percentile=percentile: np.percentile(x, percentile, axis=axis),
            method="percentile",
            rng=np.random.default_rng(2),
        ).confidence_interval
        assert found[name]["value"] == np.percentile(values, percentile)
        assert found[name]["low"] == pytest.approx(theirs.low, rel=0.03)
        assert found[name]["high"] == pytest.approx(theirs.high, rel=0.03)
    assert percentiles(values, seed=0) == found
    assert percentiles(values[:129], seed=0)["p95"] is None
    assert percentiles(values[:1], seed=0)["p50"]["value"] == values[0]


def test_relative_standard_error():
    assert relative_standard_error([1.0, 2.0, 4.0]) == pytest.approx(scipy.stats.sem([1, 2, 4]) * 3 / 7)
    assert relative_standard_error([3.0]) is None
    assert relative_standard_error([1.0, -1.0]) is None


def test_texts_go_round_the_languages():
    texts = {"en": ["a", "b", "c"], "th": ["x"]}
    assert round_robin(texts) == [("en", "a"), ("th", "x"), ("en", "b"), ("en", "c")]
    assert throughput.sample({"en": ["a", "bb", "c"], "de": ["a", "d"]}, len, 3) == ["a", "bb"]
    assert throughput.sample({"en": ["a", "bb", "c"], "de": ["a", "d"]}, len, 4) == ["a", "bb", "d"]
    assert throughput.sample({"en": ["a"], "de": ["a"]}, len, 9) == ["a"]


def test_flop_are_those_that_torch_counts():
    sizes = {"layers": 3, "width": 24, "feed_forward": 40}
    config = BertConfig(vocab_size=9, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40)
    config._attn_implementation = "eager"
    model = BertModel(config, add_pooling_layer=False).eval()
    for tokens in (1, 7):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, tokens, dtype=torch.long))
        assert throughput.transformer_flop([tokens], **sizes) == counter.get_total_flops()
    # By hand: one layer of width 2, feed-forward 4, texts of 1 and 3 tokens.
    assert throughput.transformer_flop([1, 3], layers=1, width=2, feed_forward=4) == 4 * (32 + 32) + 8 * (1 + 9)


def test_throughput_curve():
    """A device that takes 1 ms a batch and is otherwise free: the largest budget wins. A single pass is disturbed."""
    lengths = {"aaaa": 4, "bbbb": 4}
    asked = []

    def encode(texts, budget):
        asked.append(budget)
        time.sleep(0.001 * math.ceil(sum(lengths[text] for text in texts) / budget) + 0.05 * (len(asked) == 4))

    found = throughput.measure(
        encode,
        lengths.__getitem__,
        {"en": ["aaaa"], "de": ["bbbb"]},
        token_budgets=[1, 8],
        min_seconds=0,
        flop=lambda texts: 100,
        ceiling_flop_per_s=itertools.cycle([4e5, 5e5]).__next__,
        seed=0,
    )
    assert asked == [1, 8] * (1 + throughput.MIN_PASSES)  # the first round warms up
    best = found["best"]
    assert (best["token_budget"], found["passages"], found["tokens"]) == (8, 2, 8)
    assert [len(point["passes_s"]) for point in found["curve"]] == [throughput.MIN_PASSES] * 2
    median_s = np.median(best["passes_s"])
    assert median_s < 0.05 < max(best["passes_s"])
    assert best["passages_per_s"] == pytest.approx(2 / median_s)
    assert best["tokens_per_s"] == pytest.approx(8 / median_s)
    assert found["flop_share_of_matrix_product"] == pytest.approx(100 / median_s / 5e5)
    interval = best["passages_per_s_interval"]
    assert 2 / max(best["passes_s"]) <= interval["low"] <= best["passages_per_s"] <= interval["high"]
    assert interval["high"] <= 2 / min(best["passes_s"])


@pytest.mark.parametrize(("min_calls", "passes"), [(1, [2]), (2, [2, 2]), (3, [2, 2, 3]), (4, [2, 2, 3, 2, 2, 3])])
def test_latency_calls_and_spans(min_calls, passes):
    """Whole passes over the texts, languages in turn; then the same again with a search behind."""
    seen = []
    found = latency.measure(
        lambda text: text.split(),
        lambda ids: seen.append(len(ids)),
        lambda emb: time.sleep(0.002),
        {"en": ["a b", "c d e"], "th": ["x y"]},
        min_calls=min_calls,
        min_seconds=0,
        synchronise=lambda: None,
        device_ms=itertools.count(1.0).__next__,
        seed=0,
    )
    warm_up = list(dict.fromkeys(passes))  # one text of every length
    assert seen == 2 * [*warm_up, *passes]
    assert found["calls"] == len(passes)
    calls = [language["calls"] for language in found["by_language"].values()]
    assert calls == [[1], [1, 1], [2, 1], [4, 2]][min_calls - 1]
    ms = found["calls_ms"]
    assert ms["device"] == [len(warm_up) + n for n in range(1, len(passes) + 1)]
    assert found["device"]["p50"]["value"] == np.median(ms["device"])
    assert all(inner <= query for inner, query in zip(ms["encode"], ms["query"], strict=True))
    assert all(outer >= 2 for outer in ms["end_to_end"])
    assert len(ms["end_to_end"]) == len(passes)


def test_latency_without_index_or_device():
    """And the tokens of a language are those of its own texts, however often they were timed."""
    found = latency.measure(
        str.split, len, None, {"en": ["a b", "c d e"], "th": ["x"]},
        min_calls=5, min_seconds=0, synchronise=lambda: None, device_ms=None, seed=0,
    )  # fmt: skip
    assert found["end_to_end"] is found["device"] is None
    assert set(found["calls_ms"]) == {"query", "encode"}
    assert [found["by_language"][name]["tokens_mean"] for name in ("en", "th")] == [2.5, 1]


MEMORY = """
import json
from pipeline.profiling import memory

before = bytearray(32 * 2**20)

def build():
    scratch = bytearray(96 * 2**20)
    return bytearray(len(scratch) // 3)

def use(built):
    return bytearray(16 * 2**20) + built[:1]

print(json.dumps(memory.measure(build, use, device="cpu")))
"""


def test_memory_leaves_out_what_was_there_before_and_what_loading_alone_needs():
    """In a fresh process, as a meter runs: elsewhere the allocator may hand out what others gave back."""
    found = json.loads(
        subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    )
    assert found["idle_rss_mib"] > 32
    assert found["load_peak_rss_mib"] == pytest.approx(128, abs=8)
    assert found["peak_rss_mib"] == pytest.approx(64, abs=8)  # 32 kept, 16 + 16 while in use


class SteadyTracker:
    """Every text costs 2 J over half a second, whatever the work."""

    def track(self, work):
        texts = work()
        return {
            "texts": texts,
            "seconds": texts / 2,
            "cpu_j": texts * 1.0,
            "ram_j": texts * 0.25,
            "gpu_j": texts * 0.75,
        }


def test_energy_windows_by_hand(monkeypatch):
    monkeypatch.setattr(energy, "BLOCK_S", 0.0)
    chunks = {"en": [["a"], ["b"]], "th": [["x", "y", "z"]]}
    found = energy.window(SteadyTracker(), len, chunks, seconds=60, idle_w=1.0)
    assert len(found["passes"]) == energy.MIN_PASSES  # no error at all, so the window ends early
    assert (found["j_per_1k"], found["gross_j_per_1k"]) == (1500, 2000)
    assert found["j_per_1k_by_label"] == {"en": 1500, "th": 1500}
    assert len(energy.window(SteadyTracker(), len, chunks, seconds=0, idle_w=1.0)["passes"]) == 1


def test_the_trackers_own_cost_is_that_of_neighbours(monkeypatch):
    """A block of one text takes 4 s and twice as long from the third on; the tracker adds a quarter."""
    now_s, texts = [0.0], itertools.count()
    monkeypatch.setattr(energy, "time", SimpleNamespace(perf_counter=lambda: now_s[0]))

    def encode(_):
        now_s[0] += 4 if next(texts) < 3 else 8

    class SlowTracker(SteadyTracker):
        def track(self, work):
            start_s = now_s[0]
            spent = super().track(work)
            now_s[0] += (now_s[0] - start_s) / 4
            return spent

    found = energy.window(SlowTracker(), encode, {"en": [["a"]]}, seconds=60, idle_w=1.0)
    assert found["tracker_cost"] == pytest.approx(1 - 1 / 1.25)


def test_energy_of_work_is_modelled_from_its_cpu_time_or_counted():
    tracker = energy.Tracker("FRA", None)
    busy = tracker.track(lambda: energy.work(lambda texts: sum(range(10**5)), itertools.repeat(["a"]), 0.5))
    idle = energy.idle(tracker, 0.5)
    assert busy["texts"] > 1
    assert busy["seconds"] == pytest.approx(0.5, abs=0.4)
    assert tracker.source.startswith(("measured: RAPL", "modelled: codecarbon"))
    if tracker.source.startswith("modelled"):
        assert busy["cpu_j"] > 3 * idle["cpu_j"]


def graded(**changes):
    quiet = {"others_share": 0.05, "steal_share": 0.02, "throttle_events": None}
    meters = {name: {"watch": dict(quiet), "threads": {"torch": 2}} for name in ("latency", "memory")}
    meters["throughput"] = meters["memory"] | {"matrix_product_flop_per_s": {"before": 100.0, "after": 91.0}}
    sides = {side: {"seconds": 10.0, "relative_error": None} for side in ("query", "passage")}
    meters["energy"] = meters["memory"] | sides
    meters["latency"]["calls"] = 130
    for path, value in changes.items():
        *keys, last = path.split("__")
        node = meters
        for step in keys:
            node = node[step]
        node[last] = value
    result = grade(meters, threads=2)
    failed = [check["name"] for check in result["checks"] if not check["passed"]]
    assert result["passed"] == (not failed)
    return failed


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"latency__calls": 129}, ["count"]),
        ({"energy__query__seconds": 9.9}, ["window"]),
        ({"energy__query__seconds": 9.9, "energy__query__relative_error": 0.0}, []),
        ({"energy__passage__seconds": 9.9, "energy__passage__relative_error": 0.05}, ["window"]),
        ({"memory__watch__others_share": 0.051}, ["quiet"]),
        ({"latency__watch__steal_share": 0.021}, ["quiet"]),
        ({"throughput__matrix_product_flop_per_s__after": 89.0}, ["clock"]),
        ({"throughput__matrix_product_flop_per_s__after": 111.0}, ["clock"]),
        ({"latency__watch__throttle_events": 1}, ["clock"]),
        ({"latency__watch__slowed": True}, ["clock"]),
        ({"latency__watch__slowed": False, "memory__watch__throttle_events": 0}, []),
        ({"energy__missing": "codecarbon is not installed", "energy__query": None}, []),
        ({"latency__threads": {"torch": 2, "faiss": 1}}, ["threads"]),
    ],
)
def test_grade(changes, failed):
    assert graded(**changes) == failed


def test_a_stage_counts_what_earlier_attempts_took(monkeypatch):
    """3 J a block of a stage. Of the first attempt, which was killed, the next knows what was kept last."""

    class SteadyTracker:
        source = "known"

        @contextmanager
        def tracking(self):
            yield {"seconds": 0.0, "cpu_j": 2.0, "ram_j": 1.0, "gpu_j": 0.0}

    monkeypatch.setattr(energy, "KEEP_S", 0.001)
    monkeypatch.setattr(energy, "Tracker", lambda *_: SteadyTracker())
    kept, three = [], threading.Event()

    def keep(spent):
        kept.append(dict(spent))
        if len(kept) == 3:
            three.set()

    with energy.StageMeter("FRA", None)(None, keep) as spent:
        assert three.wait(60)
    assert kept[2]["gross_energy_j"] == 9.0
    assert (
        spent == kept[-1] == {"seconds": spent["seconds"], "gross_energy_j": 3.0 * len(kept), "energy_source": "known"}
    )
    with energy.StageMeter("FRA", None)(kept[2]) as both:
        pass
    assert both["gross_energy_j"] == 12.0
    assert both["seconds"] > kept[2]["seconds"] > 0
    with energy.StageMeter(None, None)(kept[2]) as timed:  # energy of some attempts only would be none of the stage
        pass
    assert timed.keys() == {"seconds"}


def test_a_block_of_a_stage_that_cannot_be_kept_is_an_error():
    def keep(spent):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), energy.StageMeter(None, None)(None, keep):
        pass


def test_what_nvml_cannot_tell_has_a_reason():
    reason = nvidia.problem()
    if reason:
        assert reason.startswith("NVML says: ")  # pynvml is installed here
        assert nvidia.clock_state() == {}
    else:
        assert nvidia.energy_j() > 0
        assert nvidia.clock_state()["sm_clock_mhz"] > 0


def test_a_neighbour_on_the_cores_is_seen():
    """On all cores but for one: others work more than 5 % of the time, and this process is not charged for it."""
    command = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(command) for _ in range(os.cpu_count())]
    try:
        with machine.watch("cpu") as seen:
            time.sleep(1)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert seen["own_share"] < 0.2
    assert graded(latency__watch=seen) == ["quiet"]


MODEL = TINY | {
    "family": "e5-small",
    "freeze_word_embeddings": False,
    "architecture": {
        "model_type": "bert",
        "vocab_size": 250037,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    },
}
SETTINGS = {
    "min_calls": 64,
    "min_seconds": 0.0,  # so the number of calls does not depend on the speed of the machine
    "token_budgets": [32, 64],
    "index_rows": 1_000_000,
    "energy_seconds": 1.0,
    "country": "FRA",
    "intensity_g_per_kwh": 56.0,
}
TEXTS = {
    "en": {"query": ["Where is Oslo?", "Who rules?"], "passage": ["Oslo is in Norway.", "The king rules the country."]},
    "th": {"query": ["ออสโลอยู่ที่ไหน"], "passage": ["ออสโลเป็นเมืองหลวงของนอร์เวย์", "กษัตริย์ปกครองประเทศ"]},
}


def test_a_real_profile():
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    found = profile.measure(profile.Job(MODEL, None, TEXTS, SETTINGS, threads=1, device="cpu", seed=0))
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    assert cpu_s < 0.02 * wall_s  # the parent sleeps

    figures = {name for name in Profile.__dataclass_fields__ if name not in ("sources", "details")}
    assert figures == set(found.sources)
    assert all(source.startswith(("measured: ", "modelled: ", "not measured: ")) for source in found.sources.values())
    absent = {name for name in figures if getattr(found, name) is None}
    assert absent == {
        "search_latency_p50_ms",
        "search_latency_p95_ms",
        "index_build_s",
        "index_recall_10",
        "query_latency_p95_ms",
        "query_latency_p99_ms",
        "end_to_end_latency_p95_ms",
        "gpu_peak_allocated_mib",
        "gpu_peak_reserved_mib",
        "query_device_time_p50_ms",
    }
    assert found.sources["query_device_time_p50_ms"] == "not measured: no CUDA device"
    assert found.sources["query_latency_p99_ms"].endswith("too few for a p99")
    assert 0 < found.query_latency_without_tokenisation_p50_ms < found.query_latency_p50_ms
    assert found.query_latency_p50_ms < found.end_to_end_latency_p50_ms
    assert found.query_latency_p50_ms <= found.query_latency_p90_ms
    assert found.passages_per_s > 0
    assert found.flop_per_s < found.details["throughput"]["matrix_product_flop_per_s"]["before"]
    assert (
        found.parameters
        == 250037 * 16 + (512 + 2) * 16 + 2 * 16 + 4 * (16 * 16 + 16) + 16 * 32 + 32 + 32 * 16 + 16 + 4 * 16
    )
    assert found.weights_mib == pytest.approx(found.parameters * 4 / 2**20, rel=0.01)
    assert found.weights_on_disk_mib == pytest.approx(found.weights_mib, rel=0.01)
    assert found.peak_rss_mib > found.weights_mib
    assert found.index_bytes_per_passage == pytest.approx(16 * 4, abs=16)
    assert found.energy_j_per_1k_queries < found.gross_energy_j_per_1k_queries
    assert found.co2_g_per_1m_queries == pytest.approx(found.energy_j_per_1k_queries / 3600 * 56)

    details = found.details
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert details["latency"]["calls"] >= 64
    assert (
        set(details["latency"]["by_language"]) == set(details["energy"]["query"]["j_per_1k_by_label"]) == {"en", "th"}
    )
    rows = {row["language"]: row for row in details["by_language"]}
    assert rows["th"] == {
        "language": "th",
        "tokens": details["latency"]["by_language"]["th"]["tokens_mean"],
        "query_p50_ms": details["latency"]["by_language"]["th"]["query_p50_ms"],
        "energy_j_per_1k_queries": details["energy"]["query"]["j_per_1k_by_label"]["th"],
    }
    assert details["throughput"]["attn_implementation"] == "sdpa"
    assert details["latency"]["index"] == "Flat, 1000000 x 16 float32, top 10"
    assert "count" in {check["name"] for check in details["grade"]["checks"] if not check["passed"]}
    assert not found.grade_passed
    assert details["memory"]["threads"] == {"torch": 1, "faiss": 1}


def test_a_child_that_dies_gives_its_reason():
    killed, broken = (profile._start(name, threads=1) for name in ("memory", "latency"))
    with killed, broken:
        killed.kill()
        assert [child.stdout.readline() for child in (killed, broken)] == ["", "ready\n"]
        with pytest.raises(RuntimeError, match=r"^the memory meter was killed by SIGKILL$"):
            profile._answer("memory", killed, {})
        job = {"model": MODEL, "checkpoint": None, "texts": TEXTS, "settings": SETTINGS, "device": "moon", "threads": 1}
        job |= {"seed": 0, "token_budget": 32, "precision": "float32", "made_up_words": True}
        with pytest.raises(RuntimeError, match=r"^the latency meter failed: .*moon"):
            profile._answer("latency", broken, job)


def test_a_profile_is_shared_only_between_equals():
    key = profile.key({"layers": 3}, TEXTS, SETTINGS, threads=1, device="cpu")
    assert key == profile.key({"layers": 3}, dict(TEXTS), dict(SETTINGS), threads=1, device="cpu")
    others = [
        profile.key({"layers": 6}, TEXTS, SETTINGS, threads=1, device="cpu"),
        profile.key({"layers": 3}, {"en": TEXTS["en"]}, SETTINGS, threads=1, device="cpu"),
        profile.key({"layers": 3}, TEXTS, SETTINGS | {"shared": False}, threads=1, device="cpu"),
        profile.key({"layers": 3}, TEXTS, SETTINGS, threads=2, device="cpu"),
    ]
    assert len({key, *others}) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_profile_on_a_gpu():
    settings = SETTINGS | {"token_budgets": [64, 256]}
    found = profile.measure(
        profile.Job(MODEL, None, TEXTS, settings, threads=1, device="cuda", seed=0, precision="bfloat16")
    )
    assert 0 < found.query_device_time_p50_ms < found.query_latency_without_tokenisation_p50_ms
    assert found.sources["query_device_time_p50_ms"].startswith("measured: CUDA events")
    assert found.gpu_peak_reserved_mib >= found.gpu_peak_allocated_mib > found.weights_mib
    assert found.weights_mib == pytest.approx(found.parameters * 2 / 2**20, rel=0.01)
    assert found.details["throughput"]["matrix_product_dtype"] == "torch.bfloat16"
