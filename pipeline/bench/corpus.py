"""Large corpora by the path that users take: seconds, memory of all processes and bytes on disk against size.

`python -m pipeline.bench corpus` writes synthetic corpora in BEIR's layout and runs `pipeline.run` on each: as one
process, then by two workers of one thread each, all killed in the middle and started again. The ranks must be the
same bit for bit. CORPUS_SIZES names the sizes: CORPUS_SIZES=1000000 takes hours on two cores.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

from pipeline.encoder.encoding import SHARD
from pipeline.retrieval.rankings import RANKINGS
from pipeline.values import UserError

SIZES = (10_000, 100_000)  # passages
QUERIES, WORDS, SEED = 100, (3, 9), 0  # words per passage
LANGUAGES = ["de", "en", "ru", "zh"]  # of the words
MODEL = ["model=e5-small-l2", "model.max_passage_tokens=16", "sampler=none"]
RUN = [*MODEL, "eval=beir", "profile=off", "tracking.wandb=false", "threads=1"]
INTERVAL_S, MIB = 0.5, 2**20
HEADER = [
    "passages", "how", "seconds of encoding", "passages per second", "peak memory of all processes (MiB)",
    "of the run's own", "shards on disk (MiB)", "ranks",
]  # fmt: skip


def table() -> list[str]:
    """Return the lines of a Markdown table.

    Raises:
        UserError: for CORPUS_SIZES that are no numbers.
    """
    named = os.environ.get("CORPUS_SIZES", "").split(",") if os.environ.get("CORPUS_SIZES") else SIZES
    try:
        sizes = [int(size) for size in named]
    except ValueError:
        raise UserError(f"CORPUS_SIZES={os.environ['CORPUS_SIZES']}: it must be numbers with commas.") from None
    lines = [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for columns in trial(Path(folder), size):
                lines.append(f"| {' | '.join(columns)} |")
                print(lines[-1], file=sys.stderr, flush=True)
    return lines


def trial(folder: Path, size: int) -> Iterator[list[str]]:
    """Yield the columns of one size: as one process, then by two workers with a kill in the middle."""
    write(folder / "corpus", size)
    with watched(run(folder, "one")) as one:
        pass
    ranks = digest(folder / "one")
    yield columns(size, "one process", folder / "one", one, "")
    if size <= 2 * SHARD:
        return
    stages = folder / "two/stages"
    with watched(run(folder, "two", "encode.workers=2")) as killed:
        while kept_shards(stages) < size // SHARD // 2 and killed.process.poll() is None:
            time.sleep(INTERVAL_S)
        killed.kill_all()
    kept = kept_shards(stages)
    with watched(run(folder, "two", "encode.workers=2")) as two:
        pass
    same = "bit-identical" if digest(folder / "two") == ranks else "DIFFERENT"
    how = f"two workers, all killed after {kept} of {-(-size // SHARD)} shards"
    yield columns(size, how, folder / "two", two, same)


def kept_shards(stages: Path) -> int:
    return len(list(stages.glob("encode-*/*/[0-9]*.json")))


def columns(size: int, how: str, results: Path, usage: "Usage", ranks: str) -> list[str]:
    """Return the columns of a run; its seconds are those of encoding, of all attempts together."""
    (path,) = results.glob("runs/*/record.json")
    (facts,) = json.loads(path.read_text(encoding="utf-8"))["corpus"].values()
    time_s, memory = f"{facts['seconds']:.0f}", [f"{usage.all_mib:.0f}", f"{usage.own_mib:.0f}"]
    rate = f"{size / facts['seconds']:.0f}"
    return [f"{size:,}", how, time_s, rate, *memory, f"{usage.disk_mib:.0f}", ranks]


def write(folder: Path, size: int) -> None:
    """Write a corpus of random words, each passage with its number; query n has passage n's words."""
    rng = np.random.default_rng(SEED)
    words = vocabulary()
    (folder / "qrels").mkdir(parents=True)
    with (
        (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (folder / "queries.jsonl").open("w", encoding="utf-8") as queries,
        (folder / "qrels/test.tsv").open("w", encoding="utf-8") as qrels,
    ):
        for n in range(size):
            drawn = " ".join(words[word] for word in rng.integers(len(words), size=rng.integers(*WORDS)))
            corpus.write(json.dumps({"_id": f"p{n}", "text": f"{n} {drawn}"}) + "\n")
            if n % (size // QUERIES) == 0:
                queries.write(json.dumps({"_id": f"q{n}", "text": drawn}) + "\n")
                qrels.write(f"q{n}\tp{n}\t1\n")


def vocabulary() -> list[str]:
    """Return the words of worldfacts' passages, sorted."""
    from pipeline.data import worldfacts

    texts = [text for pool in worldfacts.benchmark(LANGUAGES).passages.values() for text in pool.texts]
    return sorted({word for text in texts for word in text.split()})


def run(folder: Path, results: str, *overrides: str) -> subprocess.Popen[bytes]:
    """Start `pipeline.run` on the corpus of a folder."""
    paths = [f"eval.beir.path={folder / 'corpus'}", f"results_dir={folder / results}"]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "pipeline.run", *RUN, *paths, *overrides]
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL)


class Usage:
    """What a command and all processes that it started use, at most; memory is anonymous, without mapped files."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self.process, self.all_mib, self.own_mib, self.disk_mib = process, 0.0, 0.0, 0.0
        self.results = next(word for word in process.args if str(word).startswith("results_dir="))  # type: ignore[union-attr]

    def look(self) -> None:
        """Look once."""
        sizes = []
        with suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self.process.pid)
            for each in [tree, *tree.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    sizes.append((anonymous_mib(each.pid), "launch.worker" in " ".join(each.cmdline())))
        self.all_mib = max(self.all_mib, sum(mib for mib, _ in sizes))
        self.own_mib = max([self.own_mib, *(mib for mib, own in sizes if own)])
        shards = Path(str(self.results).partition("=")[2]).glob("stages/encode-*/*/*.npy")
        with suppress(FileNotFoundError):
            self.disk_mib = max(self.disk_mib, sum(shard.stat().st_size for shard in shards) / MIB)

    def kill_all(self) -> None:
        """SIGKILL to the command and all that it started."""
        tree = psutil.Process(self.process.pid)
        for each in [tree, *tree.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)


def anonymous_mib(pid: int) -> float:
    """Return the anonymous memory of a process."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)
    return 0.0


@contextmanager
def watched(process: subprocess.Popen[bytes]) -> Iterator[Usage]:
    """Yield what a command uses, and wait until it has ended."""
    usage, ended = Usage(process), threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL_S):
            usage.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield usage
        process.wait()
    finally:
        ended.set()
        watcher.join()


def digest(results: Path) -> dict[str, bytes]:
    """Return the rankings of a results folder, array by array."""
    (path,) = results.glob(f"stages/rank-*/{RANKINGS}")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: array.tobytes() for name, array in arrays.items()}
