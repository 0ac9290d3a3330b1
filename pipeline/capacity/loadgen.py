"""One test of MLPerf's LoadGen on a system: SingleStream, Server (Poisson arrivals) or Offline.

LoadGen decides when a query is sent, which one, and when a test may end; it takes the time, and judges. A pool of
threads hands its queries to the system, and each waits for one answer. LoadGen writes its logs to the folder of the
test, from which the result is read.
"""

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.capacity.systems import Refused, System
from pipeline.store.capacity import EARLY_STOPPING, LoadTest, Scenario
from pipeline.values import Side

Sample = tuple[int, int]  # LoadGen's id of a sample, and the position of its text
MLLOG = ":::MLLOG "
CHECKS = {  # key of LoadGen's log -> name; a scenario has some of them
    "result_perf_constraints_met": "p99 within the limit",
    "result_min_duration_met": "minimum duration",
    "result_min_queries_met": "minimum queries",
    "early_stopping_met": EARLY_STOPPING,
}
RATES = ("result_completed_samples_per_sec", "result_samples_per_second", "result_qps_with_loadgen_overhead")


@dataclass(frozen=True)
class Settings:
    """A test.

    Attributes:
        rate_per_s: of Server, the rate; of Offline, what is expected, which sets the number of passages; of
            SingleStream, nothing.
        p99_ms: the limit of Server.
        min_seconds: at least this long,
        min_queries: and at least so many queries (not in Offline).
        at_once: calls to the system at a time.
        offline_at_once: likewise, in Offline.
        per_call: texts per call in Offline; the other scenarios send one.
        seed: of arrival times and of the order of the texts.
    """

    scenario: Scenario
    rate_per_s: float
    p99_ms: float
    min_seconds: float
    min_queries: int
    at_once: int
    offline_at_once: int
    per_call: int
    seed: int


class Calls:
    """The calls of one test: they answer LoadGen's samples with what the system returns."""

    def __init__(self, system: System, texts: Sequence[str], side: Side, per_call: int):
        self.system, self.texts, self.side, self.per_call = system, texts, side, per_call
        self.accepted_s: list[float] = []  # of each call that was answered; list.append is atomic
        self.samples, self.refused = 0, 0
        self.error: Exception | None = None
        self.lock = threading.Lock()

    def parts(self, samples: Sequence[Sample]) -> list[Sequence[Sample]]:
        """Return the samples of each call; Offline, which knows all of them, sends texts of like lengths together."""
        ordered = sorted(samples, key=lambda sample: len(self.texts[sample[1]]), reverse=True)
        return [ordered[start : start + self.per_call] for start in range(0, len(ordered), self.per_call)]

    def answer(self, samples: Sequence[Sample]) -> None:
        """Have the system embed the texts of some samples, and tell LoadGen that they are complete."""
        import mlperf_loadgen as lg

        began = time.monotonic()
        emb_ND = np.empty((len(samples), 0), np.float32)  # of what is refused; LoadGen must hear of every sample
        refused = 0
        try:
            if self.error is None:
                emb_ND = self.system.embed([self.texts[position] for _, position in samples], self.side)
                self.accepted_s.append(time.monotonic() - began)
        except Refused:
            refused = len(samples)
        except Exception as error:
            self.error = error
        with self.lock:
            self.samples += len(samples)
            self.refused += refused
        pairs = zip(samples, emb_ND, strict=True)
        # LoadGen reads these addresses in this call; emb_ND lives until it ends.
        lg.QuerySamplesComplete(
            [lg.QuerySampleResponse(number, emb_D.ctypes.data, emb_D.nbytes) for (number, _), emb_D in pairs]
        )


def run(system: System, texts: Sequence[str], side: Side, settings: Settings, folder: Path) -> LoadTest:
    """Run one test.

    A signal ends the wait, but not LoadGen, which has no way to be stopped: the process must then exit at once.

    Args:
        folder: of LoadGen's logs, which is made.

    Raises:
        Exception: the first that the system raised, other than Refused.
    """
    import mlperf_loadgen as lg

    folder.mkdir(parents=True, exist_ok=True)
    offline = settings.scenario == "Offline"
    calls = Calls(system, texts, side, settings.per_call if offline else 1)
    at_once = settings.offline_at_once if offline else settings.at_once
    pool = ThreadPoolExecutor(at_once, "caller")  # no `with`: a signal must not wait for what is queued

    def issue(samples: Sequence[Any]) -> None:
        for part in calls.parts([(sample.id, sample.index) for sample in samples]):
            pool.submit(calls.answer, part)

    def nothing(*_: object) -> None:
        """Texts are in memory, and calls are sent as they come."""

    sut = lg.ConstructSUT(issue, nothing)
    qsl = lg.ConstructQSL(len(texts), len(texts), nothing, nothing)
    options = settings_of_test(settings), settings_of_logs(folder)
    thread = threading.Thread(target=lg.StartTestWithLogSettings, args=(sut, qsl, *options), daemon=True)
    thread.start()  # a thread: the main one stays free for signals
    thread.join()
    pool.shutdown()
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)
    if calls.error:
        raise calls.error
    return result(read_log(folder / "mlperf_log_detail.txt"), calls, settings, folder)


def settings_of_test(settings: Settings) -> Any:
    """Return LoadGen's settings of a test."""
    import mlperf_loadgen as lg

    made = lg.TestSettings()
    made.scenario = getattr(lg.TestScenario, settings.scenario)
    made.mode = lg.TestMode.PerformanceOnly
    made.min_duration_ms = round(settings.min_seconds * 1000)
    made.min_query_count = 1 if settings.scenario == "Offline" else settings.min_queries
    made.single_stream_target_latency_percentile = made.server_target_latency_percentile = 0.99
    made.server_target_latency_ns = round(settings.p99_ms * 1e6)
    made.server_target_qps = made.offline_expected_qps = settings.rate_per_s
    made.qsl_rng_seed = made.sample_index_rng_seed = made.schedule_rng_seed = settings.seed
    return made


def settings_of_logs(folder: Path) -> Any:
    """Return LoadGen's settings of its logs: in `folder`, nothing on stdout, no trace of every query."""
    import mlperf_loadgen as lg

    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    made = lg.LogSettings()
    made.log_output = output
    made.enable_trace = False
    return made


def read_log(path: Path) -> dict[str, Any]:
    """Return the last value of every key in a detailed log of LoadGen."""
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line.removeprefix(MLLOG)) for line in lines if line.startswith(MLLOG)]
    return {entry["key"]: entry["value"] for entry in entries}


def result(log: dict[str, Any], calls: Calls, settings: Settings, folder: Path) -> LoadTest:
    """Return the result of a test from LoadGen's log."""
    p50_ms, p90_ms, p99_ms = (log[f"result_{percentile}.00_percentile_latency_ns"] / 1e6 for percentile in (50, 90, 99))
    accepted_s = calls.accepted_s
    return LoadTest(
        scenario=settings.scenario,
        rate_per_s=settings.rate_per_s if settings.scenario == "Server" else None,
        valid=log["result_validity"] == "VALID" and not calls.refused,
        checks={name: log[key] for key, name in CHECKS.items() if key in log},
        samples=calls.samples,
        refused=calls.refused,
        per_s=next(log[key] for key in RATES if key in log),
        p50_ms=p50_ms,
        p90_ms=p90_ms,
        p99_ms=p99_ms,
        accepted_p99_ms=float(np.percentile(accepted_s, 99) * 1000) if accepted_s else None,
        folder=folder.name,
    )
