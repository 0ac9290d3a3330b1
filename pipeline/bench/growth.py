"""How the cost of encoding and ranking grows with size: time and peak memory, each size in a fresh process.

`python -m pipeline.bench.growth encode 1000` is such a process; `table` starts them.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np

from pipeline.bench import texts
from pipeline.bench.ranking import QUERIES, WIDTH, one_pool
from pipeline.encoder.encoding import SHARD
from pipeline.profiling.meters.memory import status_mib
from pipeline.retrieval import exact
from pipeline.store.shards import Shards

SIZES = {"encode": (1_000, 10_000, 100_000, 1_000_000), "rank": (1_000, 10_000, 100_000, 1_000_000)}
WORK_NAMES = {
    "encode": "encode sentences, 2 layers, truncated to 16 tokens",
    "rank": f"full ranking of {QUERIES:,} queries over passages x {WIDTH}",
}
SHALLOW = ["model=e5-small-l2", "model.max_passage_tokens=16"]  # 1,000,000 passages in 12 minutes
WARM_UP = 64  # texts
INTERVAL_S = 0.01  # between readings of the memory


def passages(count: int) -> list[str]:
    """Return distinct passages: XQuAD-R's sentences of 11 languages, repeated with a number in front."""
    from pipeline.data import lareqa

    benchmark = lareqa.benchmark("xquad_r", list(texts.LANGUAGES), str(texts.folder()))
    sentences = [sentence for pool in benchmark.passages.values() for sentence in pool.texts]
    return [f"{n} {sentences[n % len(sentences)]}" for n in range(count)]


def encoding(count: int) -> Callable[[], object]:
    """Return the encoding of `count` passages, warmed up."""
    from pipeline.encoder.encoding import encode

    encoder = texts.encoder(*SHALLOW)
    to_encode = passages(count)
    encode(encoder, to_encode[:WARM_UP], "passage")
    return lambda: encode(encoder, to_encode, "passage")


def ranking(count: int) -> Callable[[], object]:
    """Return the ranking of `count` passages, whose embeddings lie in shards like those of a large benchmark."""
    rng, folder = np.random.default_rng(0), tempfile.TemporaryDirectory()
    shards = Shards(folder.name, SHARD)
    for first in range(0, count, SHARD):
        emb_SD = rng.standard_normal((min(SHARD, count - first), WIDTH), np.float32)
        shards.save(first, emb_SD / np.linalg.norm(emb_SD, axis=1, keepdims=True))
    queries = rng.standard_normal((QUERIES, WIDTH), np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    collection = one_pool(count)

    def rank() -> None:
        with folder:
            exact.rank({"en": queries}, {"en": shards.rows(count, WIDTH)}, collection)

    return rank


WORK = {"encode": encoding, "rank": ranking}


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Return `seconds` and `peak_mib`: how far memory, without mapped files, rose above the level at the start."""
    before_mib, ended, peaks_mib = status_mib("RssAnon"), threading.Event(), [0.0]

    def watch() -> None:
        while not ended.wait(INTERVAL_S):
            peaks_mib.append(status_mib("RssAnon") - before_mib)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start_s = time.perf_counter()
    work()
    seconds = time.perf_counter() - start_s
    ended.set()
    watcher.join()
    return {"seconds": seconds, "peak_mib": max(peaks_mib)}


def table() -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| work | size | seconds | ms per item | peak memory above the start (MiB) |", "|---|---|---|---|---|"]
    for name, sizes in SIZES.items():
        for size in sizes:
            command = [sys.executable, "-m", "pipeline.bench.growth", name, str(size)]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            result = json.loads(output.splitlines()[-1])
            columns = [WORK_NAMES[name], f"{size:,}", f"{result['seconds']:.2f}"]
            columns += [f"{1000 * result['seconds'] / size:.4f}", f"{result['peak_mib']:.0f}"]
            lines.append(f"| {' | '.join(columns)} |")
    return lines


if __name__ == "__main__":
    print(json.dumps(measured(WORK[sys.argv[1]](int(sys.argv[2])))))
