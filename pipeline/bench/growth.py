"""How the cost of encoding and ranking grows with the work: time and peak memory, each size in a fresh process.

`python -m pipeline.bench.growth encode 1000` is such a process; `table` starts them.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.bench import texts
from pipeline.bench.ranking import QUERIES, WIDTH, one_pool
from pipeline.profiling.memory import status_mib
from pipeline.retrieval import exact as retrieval

SIZES = {"encode": (1_000, 10_000, 100_000), "rank": (1_000, 10_000, 100_000, 1_000_000)}
BLOCK = 10_000
SHALLOW = ["model=e5-small-l2", "model.max_passage_tokens=32"]  # 100,000 passages within some minutes


def passages(count: int) -> list[str]:
    """Distinct: XQuAD-R's sentences of 11 languages, over again with a number in front."""
    from pipeline.data import lareqa

    whole = lareqa.benchmark("xquad_r", list(texts.LANGUAGES), str(texts.folder()))
    sentences = [sentence for of in whole.passages.values() for sentence in of.texts]
    return [f"{n} {sentences[n % len(sentences)]}" for n in range(count)]


def encoding(count: int) -> Callable[[], Any]:
    from pipeline.encoder import model as encoders
    from pipeline.encoder.encoding import encode

    encoder = encoders.load(**texts.settings("model", *SHALLOW), seed=0)
    some = passages(count)
    encode(encoder, some[:64], "passage")
    return lambda: encode(encoder, some, "passage")


def ranking(count: int) -> Callable[[], Any]:
    """Passages lie in a mapped file, as those of a large benchmark do."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryFile() as file:
        emb_ND = np.memmap(file, np.float32, "w+", shape=(count, WIDTH))
    for start in range(0, count, BLOCK):
        block = rng.standard_normal((min(BLOCK, count - start), WIDTH), np.float32)
        emb_ND[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    queries = rng.standard_normal((QUERIES, WIDTH), np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return lambda: retrieval.rank({"en": queries}, {"en": emb_ND}, one_pool(count))


WORK = {"encode": encoding, "rank": ranking}


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds, and how far memory, but for mapped files, rose above where it was, seen every 10 ms."""
    before_mib, ended, peaks = status_mib("RssAnon"), threading.Event(), [0.0]

    def watch() -> None:
        while not ended.wait(0.01):
            peaks.append(status_mib("RssAnon") - before_mib)

    watching = threading.Thread(target=watch)
    watching.start()
    start_s = time.perf_counter()
    work()
    seconds = time.perf_counter() - start_s
    ended.set()
    watching.join()
    return {"seconds": seconds, "peak_mib": max(peaks)}


def table() -> list[str]:
    lines = ["| work | size | seconds | ms an item | peak memory above the start (MiB) |", "|---|---|---|---|---|"]
    names = {
        "encode": "encode sentences, 2 layers, cut at 32 tokens",
        "rank": f"rank {QUERIES:,} queries over passages x {WIDTH}, uncut",
    }
    for name, sizes in SIZES.items():
        for size in sizes:
            command = [sys.executable, "-m", "pipeline.bench.growth", name, str(size)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            found = json.loads(answer.splitlines()[-1])
            each_ms = 1000 * found["seconds"] / size
            lines.append(
                f"| {names[name]} | {size:,} | {found['seconds']:.2f} | {each_ms:.4f} | {found['peak_mib']:.0f} |"
            )
    return lines


if __name__ == "__main__":
    print(json.dumps(measured(WORK[sys.argv[1]](int(sys.argv[2])))))
