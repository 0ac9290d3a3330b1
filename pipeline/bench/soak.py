"""`python -m pipeline.bench.soak RUN`: does `pipeline.serve` keep its promises under load, overload and SIGTERM?

Starts the server on loopback as a process, measures its capacity with `capacity`, and puts LoadGen on it. Prints a
table, a row per promise; exits with 1 if one is not kept.
"""

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import hydra
import psutil
from omegaconf import OmegaConf

from pipeline.capacity import loadgen, subjects, systems
from pipeline.capacity.config import LoadConfig
from pipeline.config import from_plain
from pipeline.launch.commands import arguments, command
from pipeline.launch.signals import end_at_once, ended_by
from pipeline.store.capacity import LoadTest
from pipeline.store.results import ResultStore
from pipeline.values import CONF, UserError

USAGE = """
Starts pipeline.serve on a free port of 127.0.0.1, measures its capacity, and tests what it promises: at 80 % of the
capacity for some minutes no error, p99 within the limit and flat memory; at 150 % status 429, and p99 of what it
accepts within the limit; on SIGTERM under load, every accepted request is answered. Exits with 1 if a promise is not
kept.

  python -m pipeline.bench.soak e5-small-l12-hybrid-worldfacts-s0-1a2b3c4d minutes=20

Keys: minutes (20), p99_ms (50), seconds (60) and min_queries (662; both of each other test), threads (2), results_dir
(results)
"""
STEADY, OVERLOAD = 0.8, 1.5  # shares of the capacity
GROWTH = 1.05  # of resident memory, from the end of the measurement of the capacity to that of the steady load
TERM_S, AFTER_S = 5.0, 3.0  # of load before SIGTERM, and after it
STOP_S = 10.0  # in which the server must have ended: docker stop waits as long
HEADER = ["promise", "seen", "kept"]


@dataclass(frozen=True)
class Options:
    """The command line."""

    run: str
    minutes: float = 20.0
    p99_ms: float = 50.0
    seconds: float = 60.0
    min_queries: int = 662
    threads: int = 2
    results_dir: str = "results"


@dataclass(frozen=True)
class Server:
    """A server process and its address."""

    process: subprocess.Popen[str]
    url: str

    @property
    def memory_mib(self) -> float:
        """Its resident memory."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20


@contextmanager
def serving(options: Options, *keys: str) -> Iterator[Server]:
    """Run a server process; it is killed at the end if it has not ended by then."""
    words = [options.run, "port=0", f"threads={options.threads}", f"results_dir={options.results_dir}", *keys]
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-m", "pipeline.serve", *words], stdout=pipe, text=True)
    try:
        assert process.stdout  # a pipe
        line = process.stdout.readline()
        if not line:
            raise UserError(f"pipeline.serve {options.run} did not start.")
        yield Server(process, line.split()[-1])
    finally:
        process.kill()
        process.communicate()


def promises(options: Options, folder: Path) -> Iterator[Sequence[str]]:
    """Yield a row per promise, as soon as it is known.

    Raises:
        UserError: the server has no capacity at this limit, or answers with an error.
    """
    config = load_config(options)
    store = ResultStore(folder)
    queries = subjects.flat(subjects.texts_of(config, None)[0], "query")

    def load(server: Server, rate_per_s: float, seconds: float, name: str) -> LoadTest:
        at_once = subjects.calls_at_once(config)
        target = systems.connect(server.url, None, at_once, sided=True)
        limits = replace(subjects.plan_of(config).limits, rate_per_s=rate_per_s, min_seconds=seconds, min_queries=1)
        try:
            return loadgen.run(target, queries, "query", limits, folder / name)
        finally:
            target.stop()

    with serving(options) as server:
        rate = subjects.measure_target(store, config, server.url).queries_per_s_at_p99
        if rate is None:
            raise UserError(
                f"p99_ms={options.p99_ms:g}: the server holds it at no rate. Allow more, or a smaller model."
            )
        before_mib = server.memory_mib
        steady = load(server, STEADY * rate, 60 * options.minutes, "steady")
        grown = server.memory_mib / before_mib
        where = f"at {STEADY:.0%} of {rate:.3g}/s"
        refused = f"{steady.refused} of {steady.samples:,}"
        yield row(f"{where} for {options.minutes:g} min, nothing is refused", refused, not steady.refused)
        kept = steady.p99_ms <= options.p99_ms
        yield row(f"{where}, p99 is at most {options.p99_ms:g} ms", f"{steady.p99_ms:.3g} ms", kept)
        yield row(f"{where}, memory grows by at most {GROWTH - 1:.0%}", f"{grown - 1:+.1%}", grown <= GROWTH)

        ended = threading.Timer(TERM_S, server.process.send_signal, [signal.SIGTERM])
        ended.start()
        last = load(server, STEADY * rate, TERM_S + AFTER_S, "term")
        out, _ = server.process.communicate(timeout=STOP_S)
        answered = "all accepted requests answered" in out and server.process.returncode == 128 + signal.SIGTERM
        seen = f"{out.strip()}; {last.samples - last.refused} of {last.samples} before and after it"
        yield row("on SIGTERM under load, every accepted request is answered", seen, answered)

    queue = max(1, int(rate * options.p99_ms / 1000 / 2))  # answered within half of the limit
    with serving(options, f"queue={queue}", f"max_batch={min(queue, config.max_batch)}") as server:
        over = load(server, OVERLOAD * rate, options.seconds, "overload")
    where = f"at {OVERLOAD:.0%} with queue={queue}"
    yield row(f"{where}, it refuses some", f"{over.refused:,} of {over.samples:,}", over.refused > 0)
    accepted_ms = over.accepted_p99_ms or float("inf")
    kept = accepted_ms <= options.p99_ms
    yield row(f"{where}, p99 of what it accepts is at most {options.p99_ms:g} ms", f"{accepted_ms:.3g} ms", kept)


def load_config(options: Options) -> LoadConfig:
    """Return the settings of the load meter, with the texts of the run's own benchmark."""
    keys = [f"p99_ms={options.p99_ms}", f"min_seconds={options.seconds}"]
    keys += [f"min_queries={options.min_queries}", f"threads={options.threads}"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = cast(LoadConfig, OmegaConf.to_object(hydra.compose("load", keys)))
    config.eval = from_plain(ResultStore(options.results_dir).load(options.run).config).eval
    return config


def row(promise: str, seen: str, kept: bool) -> Sequence[str]:
    """Return a row of the table."""
    return [promise, seen, "yes" if kept else "**no**"]


def options_of(run: str, values: dict[str, str]) -> Options:
    """Return the options of a command line; UserError for a value that is no positive number."""
    numbers: dict[str, float] = {}
    for key in values.keys() - {"results_dir"}:
        try:
            numbers[key] = int(values[key]) if key in ("threads", "min_queries") else float(values[key])
        except ValueError:
            raise UserError(f"{key}={values[key]}: it must be a number.") from None
        if not 0 < numbers[key] <= 10**6:
            raise UserError(f"{key}={values[key]}: it must lie in (0, 1,000,000].")
    return Options(run, results_dir=values.get("results_dir", "results"), **numbers)  # type: ignore[arg-type]


def main() -> None:
    """Print the table; exit with 1 if a promise is not kept."""
    kept = True
    with command():
        options = options_of(*arguments(USAGE, "minutes", "p99_ms", "seconds", "min_queries", "threads", "results_dir"))
        try:
            with tempfile.TemporaryDirectory() as folder:
                rows = [*promises(options, Path(folder))]
        except BaseException as error:
            if number := ended_by(error):
                end_at_once(number)  # LoadGen's threads cannot be stopped
            raise
        for cells in (HEADER, ["---"] * len(HEADER), *rows):
            print(f"| {' | '.join(cells)} |", flush=True)
        kept = all(cells[-1] == "yes" for cells in rows)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
