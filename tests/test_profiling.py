"""The profile's arithmetic against scipy, torch's FLOP counter and hand-worked cases; then the real thing, once."""

import inspect
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from tiny import encoder as tiny_encoder
from tiny import model_config
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from pipeline.bench import memory_limit
from pipeline.encoder.deploy import describe, save
from pipeline.encoder.sources import load
from pipeline.profiling import machine, measure, meter, nvidia, processors, summary, tracker
from pipeline.profiling.meter import Job, Settings
from pipeline.profiling.meters import energy, index, latency, memory, throughput
from pipeline.profiling.quality import check_quality
from pipeline.profiling.samples import (
    Rounds,
    distinct_texts,
    percentiles,
    relative_standard_error,
    round_robin,
    supported,
)
from pipeline.retrieval import faiss_index
from pipeline.store.records import Profile
from pipeline.values import Collection, Texts, Variant


@pytest.mark.parametrize(("percentile", "needed"), [(90, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_mlperfs_number_of_timings(percentile, needed):
    assert [supported(percentile, needed + extra) for extra in (-1, 0, 1)] == [False, True, True]
    for count in (needed - 1, needed, needed + 1):  # at most one of so many above the percentile
        assert supported(percentile, count) == (scipy.stats.binom.cdf(1, count, 1 - percentile / 100) <= 0.01)


def test_percentiles_with_their_intervals():
    values = np.random.default_rng(1).gamma(4.0, size=200)
    estimates = percentiles(values, seed=0)
    assert estimates["p99"] is None
    for name, percentile in (("p50", 50), ("p90", 90), ("p95", 95)):
        interval = scipy.stats.bootstrap(
            (values,),
            lambda x, axis, percentile=percentile: np.percentile(x, percentile, axis=axis),
            method="percentile",
            rng=np.random.default_rng(2),
        ).confidence_interval
        assert estimates[name]["value"] == np.percentile(values, percentile)
        assert estimates[name]["low"] == pytest.approx(interval.low, rel=0.03)
        assert estimates[name]["high"] == pytest.approx(interval.high, rel=0.03)
    assert percentiles(values, seed=0) == estimates
    assert percentiles(values[:129], seed=0)["p95"] is None
    assert percentiles(values[:1], seed=0)["p50"]["value"] == values[0]


def test_relative_standard_error():
    assert relative_standard_error([1.0, 2.0, 4.0]) == pytest.approx(scipy.stats.sem([1, 2, 4]) * 3 / 7)
    assert relative_standard_error([3.0]) is None
    assert relative_standard_error([1.0, -1.0]) is None


def test_languages_take_turns():
    texts = {"en": ["a", "b", "c"], "th": ["x"]}
    assert round_robin(texts) == [("en", "a"), ("th", "x"), ("en", "b"), ("en", "c")]
    assert distinct_texts({"en": ["a", "bb", "c"], "de": ["a", "d"]}, len, 3) == ["a", "bb"]
    assert distinct_texts({"en": ["a", "bb", "c"], "de": ["a", "d"]}, len, 4) == ["a", "bb", "d"]
    assert distinct_texts({"en": ["a"], "de": ["a"]}, len, 9) == ["a"]


FLOP_SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size")


def test_flop_are_those_that_torch_counts():
    linear_weights, attention_width = 3 * (4 * 24 * 24 + 2 * 24 * 40), 3 * 24
    config = BertConfig(vocab_size=9, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40)
    config._attn_implementation = "eager"
    model = BertModel(config, add_pooling_layer=False).eval()
    for tokens in (1, 7):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, tokens, dtype=torch.long))
        assert throughput.transformer_flop([tokens], linear_weights, attention_width) == counter.get_total_flops()
    encoder = tiny_encoder()  # what a description counts
    described = describe(encoder, Variant(), 0)
    layers, width, inner = (encoder.backbone.config.to_dict()[key] for key in FLOP_SIZES)
    assert described.linear_weights == layers * (4 * width**2 + 2 * width * inner)
    assert described.attention_width == layers * width


def test_throughput_curve():
    """A device that takes 1 ms a batch and is otherwise free: the largest budget wins. A single pass is disturbed."""
    lengths = {"aaaa": 4, "bbbb": 4}
    budgets = []

    def encode(texts, budget):
        budgets.append(budget)
        time.sleep(0.001 * math.ceil(sum(lengths[text] for text in texts) / budget) + 0.05 * (len(budgets) == 4))

    result = throughput.measure(
        encode,
        lengths.__getitem__,
        {"en": ["aaaa"], "de": ["bbbb"]},
        token_budgets=[1, 8],
        min_seconds=0,
        flop=lambda texts: 100,
        ceiling_flop_per_s=5e5,
        seed=0,
    )
    assert budgets == [1, 8] * (1 + throughput.MIN_PASSES)  # the first round warms up
    best = result["best"]
    assert (best["token_budget"], result["passages"], result["tokens"]) == (8, 2, 8)
    assert [len(point["passes_s"]) for point in result["curve"]] == [throughput.MIN_PASSES] * 2
    median_s = np.median(best["passes_s"])
    assert max(best["passes_s"]) > 0.05
    assert best["passages_per_s"] == pytest.approx(2 / median_s)
    assert best["tokens_per_s"] == pytest.approx(8 / median_s)
    assert result["flop_share_of_matrix_product"] == pytest.approx(100 / median_s / 5e5)
    interval = best["passages_per_s_interval"]
    assert 2 / max(best["passes_s"]) <= interval["low"] <= best["passages_per_s"] <= interval["high"]
    assert interval["high"] <= 2 / min(best["passes_s"])


@pytest.mark.parametrize(("min_calls", "passes"), [(1, [2]), (2, [2, 2]), (3, [2, 2, 3]), (4, [2, 2, 3, 2, 2, 3])])
def test_latency_calls_and_spans(min_calls, passes):
    """Whole passes over the texts, languages in turn; then the same again with a search behind them."""
    encoded = []
    result = latency.measure(
        lambda text: text.split(),
        lambda ids: encoded.append(len(ids)),
        lambda emb: time.sleep(0.002),
        {"en": ["a b", "c d e"], "th": ["x y"]},
        min_calls=min_calls,
        min_seconds=0,
        device_ms=itertools.count(1.0).__next__,
        seed=0,
    )
    warm_up = list(dict.fromkeys(passes))  # one text of every length
    assert encoded == 2 * [*warm_up, *passes]
    assert result["calls"] == len(passes)
    calls = [language["calls"] for language in result["by_language"].values()]
    assert calls == [[1], [1, 1], [2, 1], [4, 2]][min_calls - 1]
    ms = result["calls_ms"]
    assert ms["device"] == [len(warm_up) + n for n in range(1, len(passes) + 1)]
    assert result["device"]["p50"]["value"] == np.median(ms["device"])
    assert all(inner <= query for inner, query in zip(ms["encode"], ms["query"], strict=True))
    assert all(outer >= 2 for outer in ms["end_to_end"])
    assert len(ms["end_to_end"]) == len(passes)


def test_latency_without_index_or_device():
    """The token counts of a language are those of its own texts, however often they were timed."""
    result = latency.measure(
        str.split,
        len,
        None,
        {"en": ["a b", "c d e"], "th": ["x"]},
        min_calls=5,
        min_seconds=0,
        device_ms=None,
        seed=0,
    )
    assert result["end_to_end"] is result["device"] is None
    assert set(result["calls_ms"]) == {"query", "encode"}
    assert [result["by_language"][name]["tokens_mean"] for name in ("en", "th")] == [2.5, 1]


MEMORY = """
import json
from pipeline.profiling.meters import memory

before = bytearray(32 * 2**20)

def build():
    scratch = bytearray(96 * 2**20)
    return bytearray(len(scratch) // 3)

def use(built):
    return bytearray(16 * 2**20) + built[:1]

_, _, result = memory.measure(build, use, device="cpu")
print(json.dumps(result))
"""


MEMORY_RESULT = dict.fromkeys(("parameters", "weights_mib", "weights_on_disk_mib", "index_bytes_per_passage"), 1.0)
MEMORY_RESULT |= {"index_missing": None}


def test_peaks_are_of_the_whole_process_and_the_scratch_of_loading_is_apart():
    """In a fresh process, as a meter runs: elsewhere the allocator may reuse what other tests freed."""
    result = json.loads(
        subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    )
    assert result["idle_rss_mib"] > 32
    assert result["load_peak_rss_mib"] == pytest.approx(result["idle_rss_mib"] + 128, abs=8)
    assert result["serving_peak_rss_mib"] == pytest.approx(
        result["idle_rss_mib"] + 64, abs=8
    )  # 32 kept, 16 + 16 in use
    figures = memory.figures(result | MEMORY_RESULT, None)
    assert figures["peak_rss_mib"].value == result["load_peak_rss_mib"]
    assert figures["encoder_rss_mib"].value == pytest.approx(64, abs=8)


class SteadyTracker:
    """Every text costs 2 J over half a second, whatever the work."""

    source, has_idle, block_s = "measured: known", True, 0.0

    def track(self, work):
        texts = work()
        return texts, {"seconds": texts / 2, "cpu_j": texts * 1.25, "gpu_j": texts * 0.75}


def test_energy_windows_by_hand():
    chunks = {"en": [["a"], ["b"]], "th": [["x", "y", "z"]]}
    window = energy.window(SteadyTracker(), len, chunks, seconds=0, idle_w=1.0)
    assert (window["j_per_1k"], window["gross_j_per_1k"]) == (1500, 2000)
    assert window["passes"][0]["th"]["texts"] == 3
    assert window["j_per_1k_by_label"] == {"en": 1500, "th": 1500}


@pytest.mark.parametrize("languages", [1, 11, 40])
def test_a_window_has_five_passes_however_many_languages(languages, monkeypatch):
    """One pass over 11 languages fills a window of 10 s, and one pass has no error."""
    now_s = [0.0]
    monkeypatch.setattr(energy, "time", SimpleNamespace(perf_counter=lambda: now_s[0]))

    def encode(_):
        now_s[0] += 0.3

    class Slow(SteadyTracker):
        block_s = 1.0

    chunks = {str(number): [["a"]] for number in range(languages)}
    for seconds in (0.0, 10.0):
        window = energy.window(Slow(), encode, chunks, seconds=seconds, idle_w=0.0)
        assert len(window["passes"]) == energy.MIN_PASSES  # no error at all, so the window ends early
        assert window["relative_error"] == 0.0


def test_a_model_knows_no_idle_power():
    class Model(SteadyTracker):
        source, has_idle = "modelled: constant power x time, unknown processor (x), 4 W per thread", False

    queries, passages = {"en": [["a"]]}, {"all": [["a", "b"]]}
    result = energy.measure(Model(), len, queries, len, passages, seconds=0, intensity_g_per_kwh=360.0)
    assert result["idle_w"] == 0.0
    figures = energy.figures(result | {"country": "FRA"}, None)
    assert figures["energy_j_per_1k_queries"].value == figures["gross_energy_j_per_1k_queries"].value == 2000
    assert figures["co2_g_per_1m_queries"].value == pytest.approx(2e6 / 3.6e6 * 360)
    assert all("modelled: constant power x time" in figure.source for figure in figures.values())
    assert result["query"]["tracker_cost"] is None


def test_the_trackers_own_cost_is_measured_between_neighbours(monkeypatch):
    """A block of one text takes 4 s and twice as long from the third on; the tracker adds a quarter."""
    now_s, texts = [0.0], itertools.count()
    monkeypatch.setattr(energy, "time", SimpleNamespace(perf_counter=lambda: now_s[0]))

    def encode(_):
        now_s[0] += 4 if next(texts) < 3 else 8

    class SlowTracker(SteadyTracker):
        def track(self, work):
            start_s = now_s[0]
            tracked = super().track(work)
            now_s[0] += (now_s[0] - start_s) / 4
            return tracked

    window = energy.window(SlowTracker(), encode, {"en": [["a"]]}, seconds=60, idle_w=1.0)
    assert window["tracker_cost"] == pytest.approx(1 - 1 / 1.25)


def test_energy_of_work_is_modelled_from_its_cpu_time_or_counted():
    real = tracker.Tracker("FRA", None)
    texts, busy = real.track(lambda: energy.work(lambda texts: sum(range(10**5)), itertools.repeat(["a"]), 0.5))
    idle = energy.idle(real, 0.5)
    assert texts > 1
    assert busy["seconds"] >= 0.5
    assert real.source.startswith(("measured: RAPL", "modelled: constant power x time"))
    if real.source.startswith("modelled"):
        assert not real.has_idle
        assert busy["cpu_j"] <= real.power.w_per_thread * busy["seconds"] * 1.05  # one thread
        assert busy["cpu_j"] > 3 * idle["cpu_j"]


def test_a_processor_has_its_published_power():
    assert processors.power("AMD EPYC 7763 64-Core Processor").w_per_thread == 280 / 128
    assert processors.power("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz").w_per_thread == 270 / 80
    for model in ("Intel(R) Xeon(R) Processor", "AMD EPYC 77631", "AMD EPYC-Milan Processor"):
        assert processors.power(model) == (4.0, f"unknown processor ({model}), 4 W per thread")
    for row in processors.table():
        assert set(row) == {"name", "tdp_w", "threads", "source"}
        assert row["source"].startswith("https://")


SETTINGS_SEEN = """
import json, warnings
from pipeline.profiling.tracker import CODECARBON, codecarbon_tracker
seen = codecarbon_tracker("FRA")
names = [*CODECARBON, "country_iso_code"]
print(json.dumps({name: getattr(seen, f"_{name}") for name in names}))
"""


def test_no_setting_of_codecarbon_comes_from_outside(tmp_path):
    """Neither a variable nor a file moves one of its settings: CODECARBON_PUE=2 would double every watt."""
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.emissions_tracker import BaseEmissionsTracker

    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\npue = 3\nforce_cpu_power = 999\n")
    variables = {f"CODECARBON_{name.upper()}": "2" for name in tracker.CODECARBON} | {
        "CODECARBON_COUNTRY_ISO_CODE": "2"
    }
    variables |= {"CODECARBON_PUE": "2", "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SETTINGS_SEEN]
    child = subprocess.run(
        command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert json.loads(child.stdout) == tracker.CODECARBON | {"country_iso_code": "FRA"}
    known = {
        name
        for part in (BaseEmissionsTracker, OfflineEmissionsTracker)
        for name in inspect.signature(part.__init__).parameters
    }
    deprecated = {name for name in known if name.startswith("save_to_")} | {"co2_signal_api_token"}
    assert known - deprecated - {"self", "args", "kwargs", "country_iso_code"} == set(tracker.CODECARBON)


def one_round():
    quiet = {"others_share": 0.05, "steal_share": 0.02, "throttle_events": None}
    meters = {name: {"watch": dict(quiet), "threads": {"torch": 2}} for name in meter.names()}
    meters["ceiling"]["flop_per_s"] = 100.0
    meters["latency"]["calls"] = 130
    meters["energy"] |= {side: {"seconds": 4.0, "passes": [None] * 5} for side in ("query", "passage")}
    return meters


def failed_checks(again=None, figures=None, **changes):
    """The names of the checks that fail for three rounds, after these changes to the last one."""
    rounds = [one_round() for _ in range(3)]
    for path, value in changes.items():
        *keys, last = path.split("__")
        node = rounds[-1]
        for step in keys:
            node = node[step]
        node[last] = value
    known = {"query_latency_p50_ms": 10.0, "end_to_end_latency_p50_ms": 12.0, "query_latency_p95_ms": 20.0}
    known |= {"end_to_end_latency_p95_ms": 22.0, "energy_j_per_1k_queries": 5.0, "energy_j_per_1k_passages": 5.0}
    combined = {name: Rounds(value, 0.01, [value] * 3) for name, value in known.items()} | (figures or {})
    quality = check_quality(rounds, combined, again, threads=2)
    failed = [check["name"] for check in quality["checks"] if not check["passed"]]
    assert quality["passed"] == (not failed)
    assert all(check["limit"] and check["value"] is not None for check in quality["checks"])  # what it wants, and saw
    return failed


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"latency__calls": 129}, ["count"]),
        ({"energy__query__passes": [None] * 4}, ["window"]),
        ({"memory__watch__others_share": 0.051}, ["quiet"]),
        ({"latency__watch__steal_share": 0.021}, ["quiet"]),
        ({"ceiling__flop_per_s": 90.0}, ["clock"]),
        ({"ceiling__flop_per_s": 109.0}, []),
        ({"ceiling__flop_per_s": 111.0}, ["clock"]),
        ({"latency__watch__throttle_events": 1}, ["clock"]),
        ({"latency__watch__slowed": True}, ["clock"]),
        ({"latency__watch__slowed": False, "memory__watch__throttle_events": 0}, []),
        ({"energy__missing": "NVML says no", "energy__query": None}, []),
        ({"latency__threads": {"torch": 2, "faiss": 1}}, ["threads"]),
        ({"again": {"first_ms": 10.0, "again_ms": 10.9}}, ["drift"]),  # t 4.3 x 1 % x 2 = 8.6 %
        ({"again": {"first_ms": 10.0, "again_ms": 9.2}}, []),
        ({"figures": {"end_to_end_latency_p95_ms": Rounds(19.4, 0.01, [19.4] * 3)}}, ["end_to_end"]),
        ({"figures": {"end_to_end_latency_p95_ms": Rounds(19.5, 0.01, [19.5] * 3)}}, []),
        ({"figures": {"end_to_end_latency_p95_ms": Rounds(16.0, 0.1, [16.0] * 3)}}, []),
        ({"figures": {"end_to_end_latency_p95_ms": Rounds(None, None, [None] * 3)}}, []),
    ],
    ids=str,
)
def test_quality_checks(changes, failed):
    assert failed_checks(**changes) == failed


def test_a_noisy_window_needs_ten_seconds():
    noisy = {"energy_j_per_1k_queries": Rounds(5.0, 0.05, [5.0] * 3)}
    assert failed_checks(figures=noisy) == []  # 3 x 4 s
    assert failed_checks(figures=noisy, energy__query__seconds=1.9) == ["window"]
    assert failed_checks(energy__query__seconds=1.9) == []  # 1 %


def test_a_figure_over_rounds_by_hand():
    """The median; the larger of the errors between rounds and within them, of their mean."""
    figure = Rounds.of([10.0, 11.0, 12.0], [0.01] * 3)
    assert (figure.value, figure.values) == (11.0, [10.0, 11.0, 12.0])
    assert figure.relative_error == pytest.approx(scipy.stats.sem([10, 11, 12]) / 11)
    steady = Rounds.of([10.0, 10.0, 10.0], [0.03, 0.03, 0.03])
    assert steady.relative_error == pytest.approx(0.03 / 3**0.5)
    assert Rounds.of([10.0], [0.03]).relative_error == pytest.approx(0.03)
    assert Rounds.of([10.0], [None]).relative_error is None
    assert Rounds.of([1.0, None], [0.1, None]).value is None
    for count in range(1, 10):
        assert Rounds(1.0, 0.1, [1.0] * count).t_95 == pytest.approx(
            scipy.stats.t.ppf(0.975, max(2, count - 1)), abs=0.01
        )


def test_the_draws_of_a_cost_hold_the_drift_between_rounds():
    """Simulated: a machine that drifts by 5 % between rounds; errors within them alone would be 10 times too small."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        drift = 1 + 0.05 * rng.standard_normal(3)
        figure = Rounds.of((10 * drift * (1 + 0.005 * rng.standard_normal(3))).tolist(), [0.005] * 3)
        inside += abs(np.mean(figure.values) / 10 - 1) < figure.t_95 * figure.relative_error
    assert 0.93 < inside / 2000 < 0.97


def test_an_energy_below_what_the_meter_resolves_says_so():
    def round_with(joules, error):
        return {"energy_j_per_1k_queries": meter.Figure(joules, "measured: RAPL", error)}

    combined, sources = summary.combine([round_with(-1.1, 0.5), round_with(-2.3, 0.5), round_with(0.4, 2.0)])
    assert combined["energy_j_per_1k_queries"].value is None
    assert combined["energy_j_per_1k_queries"].values == [-1.1, -2.3, 0.4]
    assert sources["energy_j_per_1k_queries"].startswith("not resolved: -1.1, ")
    combined, sources = summary.combine([round_with(5.0, 0.02), round_with(5.2, 0.02), round_with(5.1, 0.02)])
    assert combined["energy_j_per_1k_queries"].value == 5.1
    assert sources["energy_j_per_1k_queries"] == "measured: RAPL; median of 3 rounds"


@pytest.mark.parametrize("count", [1, 33])
@pytest.mark.parametrize(("factory", "size"), [("Flat", 64), ("SQ8", 16), ("SQfp16", 32)])
def test_an_index_has_no_header_per_passage(count, factory, size):
    """33 vectors of 384 floats were 1,537 bytes each: they shared the header of the file."""
    vectors = np.eye(count, 16, dtype=np.float32) + 0.5
    assert index.bytes_per_passage(faiss_index.build_index(vectors, factory)) == size


def test_a_stage_counts_what_earlier_attempts_took(monkeypatch):
    """3 J per block of a stage. The second attempt continues from the last cost that the killed first one kept."""

    class SteadyTracker:
        source = "known"

        def track(self, work):
            return work(), {"seconds": 0.0, "cpu_j": 2.0, "gpu_j": 1.0}

    monkeypatch.setattr(tracker, "KEEP_S", 0.001)
    monkeypatch.setattr(tracker, "Tracker", lambda *_: SteadyTracker())
    kept, three = [], threading.Event()

    def keep(cost):
        kept.append(dict(cost))
        if len(kept) == 3:
            three.set()

    with tracker.StageTracker("FRA", None)(None, keep) as cost:
        assert three.wait(60)
    assert kept[2]["gross_energy_j"] == 9.0
    assert cost == kept[-1] == {"seconds": cost["seconds"], "gross_energy_j": 3.0 * len(kept), "energy_source": "known"}
    monkeypatch.setattr(tracker, "KEEP_S", 60)  # one block each, however busy the machine
    with tracker.StageTracker("FRA", None)(kept[2]) as both:
        pass
    assert both["gross_energy_j"] == 12.0
    assert both["seconds"] > kept[2]["seconds"] > 0
    with tracker.StageTracker(None, None)(kept[2]) as timed:  # the energy of some attempts is not that of the stage
        pass
    assert timed.keys() == {"seconds"}


def test_a_block_of_a_stage_that_cannot_be_kept_is_an_error():
    def keep(cost):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), tracker.StageTracker(None, None)(None, keep):
        pass


def test_an_unreadable_nvml_has_a_reason():
    reason = nvidia.problem()
    if reason:
        assert reason.startswith("NVML says: ")  # pynvml is installed here
        assert nvidia.clock_state() == {}
    else:
        assert nvidia.energy_j() > 0
        assert nvidia.clock_state()["sm_clock_mhz"] > 0


def test_a_neighbour_on_the_cores_fails_the_quiet_check():
    """On all cores but one: others work more than 5 % of the time, and this process is not charged for it."""
    command = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(command) for _ in range(os.cpu_count())]
    try:
        with machine.watch("cpu") as activity:
            time.sleep(1)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert activity["own_share"] < 0.2
    assert failed_checks(latency__watch=activity) == ["quiet"]


MODEL = model_config(
    family="e5-small",
    freeze_word_embeddings=False,
    architecture={
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
)
SETTINGS = Settings(
    min_calls=64,
    min_seconds=0.0,  # so the number of calls does not depend on the speed of the machine
    token_budgets=[32, 64],
    index_rows=100_000,
    energy_seconds=1.0,
    country="FRA",
    intensity_g_per_kwh=56.0,
    rounds=2,
)
TEXTS = {
    "en": {"query": ["Where is Oslo?", "Who rules?"], "passage": ["Oslo is in Norway.", "The king rules the country."]},
    "th": {"query": ["ออสโลอยู่ที่ไหน"], "passage": ["ออสโลเป็นเมืองหลวงของนอร์เวย์", "กษัตริย์ปกครองประเทศ"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The encoder of MODEL, deployed as it is."""
    path = tmp_path_factory.mktemp("deployed")
    save(load(MODEL, seed=0), Variant(), path)
    return str(path)


@pytest.fixture(scope="module")
def measured(folder):
    """A real profile, and which share of its time this process worked."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    profile = measure.measure(Job(folder, TEXTS, SETTINGS, threads=1, device="cpu", seed=0, key="key"))
    return profile, (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)


def test_a_real_profile(measured):
    profile, own_share = measured
    assert own_share < 0.02  # the parent sleeps

    others = ("sources", "details", "relative_errors", "encoder_key", "rounds")
    figures = {name for name in Profile.__dataclass_fields__ if name not in others}
    assert figures == set(profile.sources)
    assert all(source.startswith(("measured: ", "modelled: ", "not measured: ")) for source in profile.sources.values())
    absent = {name for name in figures if getattr(profile, name) is None}
    assert absent == {
        "search_latency_p50_ms",
        "search_latency_p95_ms",
        "index_build_s",
        "index_recall_10",
        "index_mib",
        "serving_mib",
        "query_latency_p95_ms",
        "query_latency_p99_ms",
        "end_to_end_latency_p95_ms",
        "gpu_peak_allocated_mib",
        "gpu_peak_reserved_mib",
        "query_device_time_p50_ms",
    }
    assert profile.sources["query_device_time_p50_ms"].startswith("not measured: no CUDA device")
    assert profile.sources["query_latency_p99_ms"].endswith("too few for a p99")
    assert profile.query_latency_without_tokenisation_p50_ms > 0
    assert profile.end_to_end_latency_p50_ms > 0
    assert profile.query_latency_p50_ms <= profile.query_latency_p90_ms
    assert profile.passages_per_s > 0
    assert profile.flop_per_s < profile.details["ceiling"]["flop_per_s"]
    assert (
        profile.parameters
        == 250037 * 16 + (512 + 2) * 16 + 2 * 16 + 4 * (16 * 16 + 16) + 16 * 32 + 32 + 32 * 16 + 16 + 4 * 16
    )
    assert profile.weights_mib == pytest.approx(profile.parameters * 4 / 2**20, rel=0.01)
    assert profile.weights_on_disk_mib == pytest.approx(profile.weights_mib, rel=0.01)
    assert profile.peak_rss_mib >= profile.load_peak_rss_mib > profile.encoder_rss_mib > profile.weights_mib
    assert profile.peak_rss_mib > profile.encoder_rss_mib + 200  # torch and transformers
    assert profile.index_bytes_per_passage == 16 * 4
    assert profile.energy_j_per_1k_queries <= profile.gross_energy_j_per_1k_queries
    assert profile.co2_g_per_1m_queries == pytest.approx(profile.energy_j_per_1k_queries / 3600 * 56)

    assert (profile.rounds, profile.encoder_key) == (2, "key")
    assert profile.relative_errors.keys() <= figures
    assert {"query_latency_p50_ms", "passages_per_s", "peak_rss_mib"} <= profile.relative_errors.keys()
    for name, values in profile.details["rounds"].items():
        assert len(values) == 2
        assert getattr(profile, name) == pytest.approx(np.median(values))

    details = profile.details
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    rounds = [details, *details["further_rounds"]]
    assert [len(one["throughput"]["curve"]) for one in rounds] == [2, 1]  # then the best budget alone
    assert all(one["latency"]["calls"] >= 64 for one in rounds)
    assert details["again"]["calls"] >= 3
    languages = {"en", "th"}
    assert set(details["latency"]["by_language"]) == set(details["energy"]["query"]["j_per_1k_by_label"]) == languages
    rows = {row["language"]: row for row in details["by_language"]}
    thai = [one["latency"]["by_language"]["th"]["query_p50_ms"] for one in rounds]
    assert rows["th"] == {
        "language": "th",
        "tokens": details["latency"]["by_language"]["th"]["tokens_mean"],
        "query_p50_ms": pytest.approx(np.mean(thai)),
        "energy_j_per_1k_queries": pytest.approx(
            np.mean([one["energy"]["query"]["j_per_1k_by_label"]["th"] for one in rounds])
        ),
    }
    assert details["throughput"]["attn_implementation"] == "sdpa"
    assert details["latency"]["index"] == "Flat, 100000 x 16 float32, top 10"
    assert "count" in profile.failed_checks
    assert profile.quality == "failed"
    assert details["memory"]["threads"] == {"torch": 1, "faiss": 1}

    sized = summary.with_corpus(profile, passages=2**20)
    assert sized.index_mib == 64
    assert sized.sources["index_mib"] == "modelled: index_bytes_per_passage x 1,048,576 passages"
    assert sized.serving_mib == profile.peak_rss_mib + 64
    spread = sized.relative_errors["serving_mib"] * sized.serving_mib
    assert spread == pytest.approx(profile.relative_errors["peak_rss_mib"] * profile.peak_rss_mib)


def test_an_index_is_measured_in_rounds_as_well(folder, measured):
    """Its figures replace those of the flat index, and what belongs to the encoder stays."""
    job = Job(folder, TEXTS, replace(SETTINGS, index_rows=300), threads=1, device="cpu", seed=0, key="key")
    base, _ = measured
    variants = [Variant(index="SQ8"), Variant(width=8)]
    profiles = measure.measure_indexes(job, base, variants)
    assert [profiles[variant].index_bytes_per_passage for variant in variants] == [16, 32]
    for profile in profiles.values():
        assert len(profile.details["rounds"]["search_latency_p50_ms"]) == 2
        assert "search_latency_p50_ms" in profile.relative_errors
        assert profile.encoder_key == base.encoder_key
        assert profile.peak_rss_mib == base.peak_rss_mib


@pytest.mark.slow
def test_the_memory_figure_is_what_a_process_needs(tmp_path):
    """Served in a control group: with 10 % more it works, with 10 % less the kernel kills it."""
    if not memory_limit.can_limit():
        pytest.skip("no right to make a control group")
    save(
        load(model_config(weights="packaged", family="e5-small", layers=1, architecture={}), seed=0),
        Variant(),
        tmp_path,
    )
    job = Job(str(tmp_path), TEXTS, SETTINGS, threads=1, device="cpu", seed=0, token_budget=64)
    result = measure.run_meter("memory", job)
    peak_mib = memory.figures(result, job)["peak_rss_mib"].value
    assert memory_limit.trial(job, peak_mib, result["file_rss_mib"]) == {1.1: True, 0.9: False}


def test_a_meter_of_another_engine_imports_no_torch(folder):
    """What the worker imports before it is ready and while it measures, but for the ceiling."""
    modules = [f"pipeline.profiling.meters.{name}" for name in (*meter.names(), "index") if name != "ceiling"]
    code = f"import sys, importlib, pipeline.profiling.worker\nfor name in {modules}: importlib.import_module(name)\n"
    code += "print([name for name in ('torch', 'transformers', 'hydra', 'codecarbon') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_child_that_dies_gives_its_reason(folder):
    job = Job(folder, TEXTS, SETTINGS, threads=1, device="moon", seed=0, token_budget=32, made_up_words=True)
    with measure._workers(["memory", "latency"], job) as workers:
        workers["memory"].process.kill()
        with pytest.raises(RuntimeError, match=r"^the memory meter was killed by SIGKILL$"):
            measure._result("memory", workers["memory"], job)
        with pytest.raises(RuntimeError, match=r"^the latency meter failed: .*moon"):
            measure._result("latency", workers["latency"], job)


def test_a_child_may_log_more_than_a_pipe_holds_before_it_is_ready(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # Python logs a line for each import
    with measure._workers(["memory"], Job(folder, TEXTS, SETTINGS, threads=1, device="cpu", seed=0)) as workers:
        assert os.fstat(workers["memory"].log.fileno()).st_size > 2**16


def test_a_signal_does_not_wait_for_meters(folder):
    job = Job(folder, TEXTS, SETTINGS, threads=1, device="cpu", seed=0, token_budget=32, made_up_words=True)
    with pytest.raises(KeyboardInterrupt), measure._workers(["latency"], job) as workers:
        raise KeyboardInterrupt
    assert workers["latency"].process.returncode == -signal.SIGKILL


def test_a_job_crosses_to_its_child_as_json():
    variant = Variant("onnx", "int8", max_passage_tokens=16)
    indexes = (Variant(index="SQ8"), Variant(width=8))
    options = {"threads": 2, "device": "cpu", "seed": 3, "variant": variant, "token_budget": 64, "indexes": indexes}
    for job in (
        Job("folder", TEXTS, SETTINGS, **options),
        Job("other", TEXTS, SETTINGS, threads=1, device="cuda", seed=0, key="key", ceiling_flop_per_s=1e9),
    ):
        assert Job.from_json(job.to_json()) == job


def test_meters_are_the_files_of_their_folder():
    assert meter.names() == ["ceiling", "throughput", "latency", "memory", "energy"]
    for name in meter.names():
        assert callable(meter.find(name).run)
        assert callable(meter.find(name).figures)


@pytest.mark.parametrize("count", [63, 64, 65, 200])
def test_profiled_texts_are_evenly_spaced(count):
    texts = Texts([str(n) for n in range(count)], [f"text {n}" for n in range(count)])
    sampled = measure.sample_texts(Collection("tiny", {"en": texts}, {"en": texts}, {}))["en"]["passage"]
    positions = [int(text.split()[1]) for text in sampled]
    assert len(set(positions)) == min(count, 64)
    assert (positions[0], positions[-1]) == (0, count - 1)
    assert max(np.diff(positions)) - min(np.diff(positions)) <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_profile_on_a_gpu(tmp_path):
    settings = replace(SETTINGS, token_budgets=[64, 256])
    variant = Variant(precision="bfloat16")
    save(load(MODEL, seed=0), variant, tmp_path)
    profile = measure.measure(Job(str(tmp_path), TEXTS, settings, threads=1, device="cuda", seed=0, variant=variant))
    assert 0 < profile.query_device_time_p50_ms < profile.query_latency_without_tokenisation_p50_ms
    assert profile.sources["query_device_time_p50_ms"].startswith("measured: CUDA events")
    assert profile.gpu_peak_reserved_mib >= profile.gpu_peak_allocated_mib > profile.weights_mib
    assert profile.weights_mib == pytest.approx(profile.parameters * 2 / 2**20, rel=0.01)
    assert profile.details["ceiling"]["dtype"] == "torch.bfloat16"
