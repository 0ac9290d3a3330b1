"""What a load measurement leaves behind: a Capacity, in <results_dir>/load/<name>/load.json.

`pipeline.load` writes it, tables and figures read it. LoadGen's own logs lie beside it, a folder per test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.store.files import read_again, write_json
from pipeline.store.names import check_run
from pipeline.store.records import STRICT, failed_checks
from pipeline.values import conforming

MLPERF_SECONDS = 600  # the shortest test that MLPerf Inference's rules allow
JUDGED = 662  # queries by which LoadGen's early stopping can judge a p99 (profiling.samples.supported)
EARLY_STOPPING = "early stopping"  # LoadGen's check that enough queries keep the limit, at 99 % confidence
Scenario = Literal["SingleStream", "Server", "Offline"]


@dataclass(frozen=True)
class LoadTest:
    """One test of LoadGen. Latencies count from the time at which LoadGen scheduled a query.

    Attributes:
        rate_per_s: of the queries that Server schedules; None in the other scenarios.
        valid: whether LoadGen's summary says VALID and the system refused nothing.
        checks: LoadGen's own: which of its conditions were met.
        samples: texts that were sent.
        refused: texts that the system did not take, as with HTTP status 429.
        per_s: texts that were completed per second.
        accepted_p99_ms: of what was not refused, from when it was sent; None if all was refused.
        folder: of LoadGen's logs, beside load.json.
        energy_j: of the whole test, above idle; None for a server, whose processes are others.
    """

    __pydantic_config__ = STRICT

    scenario: Scenario
    rate_per_s: float | None
    valid: bool
    checks: Mapping[str, bool]
    samples: int
    refused: int
    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    accepted_p99_ms: float | None
    folder: str
    energy_j: float | None = None

    def holds(self, min_queries: int) -> bool:
        """Whether the system carries this rate: the test is valid, by all checks that `min_queries` can meet."""
        missed = {name for name, met in self.checks.items() if not met}
        unjudged = {EARLY_STOPPING} if min_queries < JUDGED else set()
        return not self.refused and missed <= unjudged


@dataclass(frozen=True)
class Capacity:
    """What a system carries.

    Attributes:
        name: of the run, the exported folder, or the host and port of a server.
        queries_per_s_at_p99: completed at the largest rate of the Server scenario that holds, median over the rounds;
            None if a round found none.
        rounds: that rate in each round.
        p99_ms: the limit.
        passages_per_s: of the Offline scenario.
        tests: all tests, in the order in which they ran.
        null: a Server test of a system that answers at once, at twice the capacity: what the generator itself costs.
        index: what each query searched; None: the encoder alone.
        settings: the command's, batching limits included.
        texts: the benchmark, and its numbers of queries and passages.
        machine: facts of the machine that ran the generator, and the system unless it is a server elsewhere.
        energy_j_per_1k_queries: above idle, at the rate of `queries_per_s_at_p99`, median over the rounds; None for a
            server, and where a round found no rate.
        energy_source: how it came about, as in the sources of a profile.
        quality: whether the machine was quiet during the tests and its clock steady over the rounds, as in a profile;
            None for a server, whose machine may be another one.
    """

    __pydantic_config__ = STRICT

    name: str
    queries_per_s_at_p99: float | None
    rounds: Sequence[float | None]
    p99_ms: float
    passages_per_s: float
    tests: Sequence[LoadTest]
    null: LoadTest | None
    index: str | None
    settings: Mapping[str, Any]
    texts: Mapping[str, Any]
    machine: Mapping[str, Any]
    time: str
    energy_j_per_1k_queries: float | None = None
    energy_source: str | None = None
    quality: Mapping[str, Any] | None = None

    @property
    def failed_checks(self) -> list[str]:
        """Names of the quality checks that failed."""
        return failed_checks(self.quality) if self.quality else []

    @property
    def by_the_rules(self) -> bool:
        """Whether tests had the duration and the number of queries that MLPerf Inference's rules ask for."""
        return self.settings["min_seconds"] >= MLPERF_SECONDS and self.settings["min_queries"] >= JUDGED

    def server_tests(self) -> list[LoadTest]:
        """The tests of the Server scenario, the lowest rate first."""
        tests = [test for test in self.tests if test.scenario == "Server"]
        return sorted(tests, key=lambda test: test.rate_per_s or 0.0)


def folder(root: Path, name: str) -> Path:
    """Return the folder of a load result; UserError for a name that leads elsewhere."""
    return root / "load" / check_run("run", name)


def save(root: Path, capacity: Capacity) -> Path:
    """Write load.json; return its path."""
    path = folder(root, capacity.name) / "load.json"
    write_json(path, asdict(capacity))
    return path


def read(root: Path, name: str) -> Capacity | None:
    """Return what was measured for a run; None if nothing was, or the file is damaged, with a warning."""
    path = folder(root, name) / "load.json"
    raw = read_again(path)
    return None if raw is None else conforming(Capacity, raw, str(path))
