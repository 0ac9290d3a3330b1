"""Can the profiler be trusted? Repeated, disturbed, without its own tracker, and against other people's loops."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline.bench import texts
from pipeline.bench.pairs import Row, alternate
from pipeline.encoder.encoding import encode
from pipeline.profiling import latency
from pipeline.profiling import measure as profile
from pipeline.values import Profile, Side

SETTINGS = {
    "min_calls": 150, "min_seconds": 3.0, "token_budgets": [1024], "index_rows": 1000, "energy_seconds": 10,
    "country": "USA", "intensity_g_per_kwh": 369.5,
}  # fmt: skip
THREADS = 2
QUERIES = 150
TURN = 10  # queries after which another way has its turn


def profiled() -> Profile:
    paragraphs = texts.paragraphs()
    sides: dict[str, dict[Side, list[str]]] = {
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
        figures = [f"{one.query_latency_p50_ms:.2f}", f"{one.passages_per_s:.2f}", f"{one.energy_j_per_1k_queries:.1f}"]
        figures += [
            f"{one.details['energy']['passage']['tracker_cost']:.1%}",
            "passed" if one.grade_passed else "failed",
            ", ".join(one.failed_checks) or "none",
        ]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


def same_work() -> list[Row]:
    """The meter's latency beside a plain loop and sentence-transformers; and one batch of passages.

    The ways take turns, a few queries each, so that a drift of the machine meets all alike.
    """
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    asked = texts.questions(QUERIES)

    def tokenise(text: str) -> list[int]:
        return ours.tokenize([text], "query")[0]

    def encode_ids(ids: Sequence[int]) -> Any:
        ids_1T, mask_1T = ours.pad([list(ids)])
        with torch.inference_mode():
            return ours(ids_1T, mask_1T).numpy()

    def their_forward(question: str) -> Any:
        """What SentenceTransformer.encode does, but for its book-keeping."""
        with torch.inference_mode():
            return theirs(theirs.preprocess([question], prompt=theirs.prompts["query"]))["sentence_embedding"].numpy()

    def metered_s(some: list[str]) -> list[float]:
        found = latency.measure(
            tokenise, encode_ids, None, {"all": some}, min_calls=len(some), min_seconds=0, synchronise=lambda: None,
            device_ms=None, seed=0,
        )  # fmt: skip
        return [ms / 1000 for ms in found["calls_ms"]["query"]]

    def timed_s(encode_one: Callable[[str], Any], some: list[str]) -> list[float]:
        taken_s = []
        for question in some:
            start_s = time.perf_counter()
            encode_one(question)
            taken_s.append(time.perf_counter() - start_s)
        return taken_s

    ways: dict[str, Callable[[list[str]], list[float]]] = {
        "meter": metered_s,
        "loop": partial(timed_s, lambda question: encode_ids(tokenise(question))),
        "forward": partial(timed_s, their_forward),
        "encode": partial(timed_s, lambda question: theirs.encode_query([question], show_progress_bar=False)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn, start in enumerate(range(0, QUERIES, TURN)):
        names = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
        for name in names:
            seconds[name] += ways[name](asked[start : start + TURN])
    book_keeping = "encode walks all modules twice a call: eval(), and the dtype of every parameter"
    against = {"loop": ("a plain loop", ""), "forward": ("SentenceTransformer, its tokenizer and forward pass", "")}
    against |= {"encode": ("SentenceTransformer.encode", book_keeping)}
    rows = [
        Row("the latency meter, batch 1", name, None, seconds["meter"], seconds[way], note)
        for way, (name, note) in against.items()
    ]
    # One batch of passages that are equally long in tokens: there is one way to batch them.
    passages = texts.contexts(2000)
    lengths = np.array([len(row) for row in ours.tokenize(passages, "passage")])
    chosen = [passages[n] for n in np.argsort(np.abs(lengths - np.median(lengths)))[:16]]
    taken = alternate(
        lambda: encode(ours, chosen, "passage", token_budget=100_000),
        lambda: theirs.encode_document(chosen, batch_size=len(chosen), show_progress_bar=False),
        15,
    )
    return [*rows, Row("one batch of 16 passages", "SentenceTransformer.encode, the same batch", None, *taken)]
