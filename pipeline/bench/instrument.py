"""Can the profiler be trusted? Repeated, disturbed, without its own tracker, and against other people's loops."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from pipeline import profile
from pipeline.bench import texts
from pipeline.bench.pairs import Row, alternate
from pipeline.encoding import encode
from pipeline.profiling import latency
from pipeline.values import Profile

SETTINGS = {
    "min_calls": 150, "min_seconds": 3.0, "token_budgets": [1024], "index_rows": 1000, "energy_seconds": 10,
    "country": "USA", "intensity_g_per_kwh": 369.5,
}  # fmt: skip
THREADS = 2
QUERIES = 150


def profiled() -> Profile:
    paragraphs = texts.paragraphs()
    sides = {
        language: {"query": [p["qas"][0]["question"] for p in some[:64]], "passage": [p["context"] for p in some[:64]]}
        for language, some in paragraphs.items()
    }
    return profile.measure(profile.Job(texts.model(), None, sides, SETTINGS, threads=THREADS, device="cpu", seed=0))


@contextmanager
def burned_cores() -> Iterator[None]:
    """A neighbour that keeps every core busy."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(THREADS)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def repeated() -> list[str]:
    """Two profiles, then one beside a neighbour: lines of a table in Markdown."""
    found = {"first": profiled(), "second": profiled()}
    with burned_cores():
        found["cores burned"] = profiled()
    lines = ["| profile | query p50 (ms) | passages/s | J per 1,000 queries | tracker's cost | grade | failed checks |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        energy = one.details["energy"]["passage"]
        tracker = 1 - energy["texts_per_s"] / energy["texts_per_s_without_tracker"]
        figures = [f"{one.query_latency_p50_ms:.2f}", f"{one.passages_per_s:.2f}", f"{one.energy_j_per_1k_queries:.1f}"]
        figures += [
            f"{tracker:.1%}",
            "passed" if one.grade_passed else "failed",
            ", ".join(one.failed_checks) or "none",
        ]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


def same_work() -> list[Row]:
    """The meter's latency beside a plain loop and sentence-transformers, query by query; and one batch of passages."""
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    asked = texts.questions(QUERIES)
    by_text: dict[str, list[float]] = {"loop": [], "theirs": []}

    def encode_ids(ids: list[int]) -> Any:
        ids_1T, mask_1T = ours.pad([ids])
        with torch.inference_mode():
            return ours(ids_1T, mask_1T).numpy()

    metered = latency.measure(
        lambda text: ours.tokenize([text], "query")[0], encode_ids, None, {"all": asked}, min_calls=QUERIES,
        min_seconds=0, synchronise=lambda: None, device_ms=None, seed=0,
    )["calls_ms"]["query"]  # fmt: skip
    for question in asked:
        start_s = time.perf_counter()
        encode_ids(ours.tokenize([question], "query")[0])
        by_text["loop"].append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        theirs.encode_query([question], batch_size=1, show_progress_bar=False)
        by_text["theirs"].append(time.perf_counter() - start_s)
    metered_s = [ms / 1000 for ms in metered]
    rows = [
        Row("the latency meter, batch 1", "a plain loop", None, metered_s, by_text["loop"]),
        Row("the latency meter, batch 1", "SentenceTransformer.encode, batch 1", None, metered_s, by_text["theirs"]),
    ]
    # One batch of passages that are equally long in tokens: there is one way to batch them.
    passages = texts.contexts(2000)
    lengths = np.array([len(row) for row in ours.tokenize(passages, "passage")])
    chosen = [passages[n] for n in np.argsort(np.abs(lengths - np.median(lengths)))[:16]]
    taken = alternate(
        lambda: encode(ours, chosen, "passage", token_budget=100_000),
        lambda: theirs.encode_document(chosen, batch_size=len(chosen), show_progress_bar=False),
        7,
    )
    return [*rows, Row("one batch of 16 passages", "SentenceTransformer.encode, the same batch", None, *taken)]
