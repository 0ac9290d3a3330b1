"""Trust in the profiler: repeated, disturbed, without its own tracker, and against other people's loops."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from pipeline.bench import texts
from pipeline.bench.pairs import Row, alternate
from pipeline.config import ProfileConfig
from pipeline.encoder.encoding import encode
from pipeline.profiling.measure import measure
from pipeline.profiling.meter import Job
from pipeline.profiling.meters import latency
from pipeline.store.records import Profile
from pipeline.values import Side

SETTINGS = ProfileConfig(
    min_calls=150,
    min_seconds=3.0,
    token_budgets=[1024],
    index_rows=1000,
    energy_seconds=10,
    country="USA",
    intensity_g_per_kwh=369.5,
)
THREADS = 2
PROFILED = 64  # paragraphs per language
QUERIES = 150
TURN = 10  # queries per turn of an implementation


def profiled() -> Profile:
    """Return a profile of e5-small-l12 on XQuAD's texts."""
    sides: dict[str, dict[Side, list[str]]] = {
        language: {
            "query": [paragraph["qas"][0]["question"] for paragraph in of_language[:PROFILED]],
            "passage": [paragraph["context"] for paragraph in of_language[:PROFILED]],
        }
        for language, of_language in texts.paragraphs().items()
    }
    return measure(Job(texts.config().model, None, sides, SETTINGS, threads=THREADS, device="cpu", seed=0))


@contextmanager
def burned_cores() -> Iterator[None]:
    """Keep every core busy, as a neighbour on the machine would."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(THREADS)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def repeated() -> list[str]:
    """Return a Markdown table of two profiles on a quiet machine and one beside a busy neighbour."""
    profiles = {"first": profiled(), "second": profiled()}
    with burned_cores():
        profiles["cores burned"] = profiled()
    header = ["profile", "query p50 (ms)", "passages/s", "J per 1,000 queries", "tracker's cost", "quality checks"]
    header.append("failed checks")
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for name, profile in profiles.items():
        columns = [
            name,
            f"{profile.query_latency_p50_ms:.2f}",
            f"{profile.passages_per_s:.2f}",
            f"{profile.energy_j_per_1k_queries:.1f}",
            f"{profile.details['energy']['passage']['tracker_cost']:.1%}",
            "passed" if profile.quality_passed else "failed",
            ", ".join(profile.failed_checks) or "none",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def same_work() -> list[Row]:
    """Compare the meter's latency with a plain loop and sentence-transformers; then one batch of passages.

    The implementations take turns, TURN queries each, so that a drift of the machine affects all of them.
    """
    ours = texts.encoder()
    theirs = texts.sentence_transformer(ours)
    queries = texts.queries(QUERIES)

    def tokenize(text: str) -> list[int]:
        return ours.tokenize([text], "query")[0]

    def encode_ids(ids: Sequence[int]) -> np.ndarray:
        ids_1T, mask_1T = ours.pad([list(ids)])
        with torch.inference_mode():
            return ours(ids_1T, mask_1T).numpy()

    def their_forward(query: str) -> np.ndarray:
        """Do what SentenceTransformer.encode does, without its book-keeping."""
        with torch.inference_mode():
            return theirs(theirs.preprocess([query], prompt=theirs.prompts["query"]))["sentence_embedding"].numpy()

    def metered_s(turn: list[str]) -> list[float]:
        result = latency.measure(
            tokenize,
            encode_ids,
            None,
            {"all": turn},
            min_calls=len(turn),
            min_seconds=0,
            synchronize=lambda: None,
            device_ms=None,
            seed=0,
        )
        return [ms / 1000 for ms in result["calls_ms"]["query"]]

    def timed_s(encode_one: Callable[[str], object], turn: list[str]) -> list[float]:
        times_s = []
        for query in turn:
            start_s = time.perf_counter()
            encode_one(query)
            times_s.append(time.perf_counter() - start_s)
        return times_s

    implementations: dict[str, Callable[[list[str]], list[float]]] = {
        "meter": metered_s,
        "loop": partial(timed_s, lambda query: encode_ids(tokenize(query))),
        "forward": partial(timed_s, their_forward),
        "encode": partial(timed_s, lambda query: theirs.encode_query([query], show_progress_bar=False)),
    }
    times_s: dict[str, list[float]] = {name: [] for name in implementations}
    for turn, start in enumerate(range(0, QUERIES, TURN)):
        first = turn % len(implementations)
        for name in [*implementations, *implementations][first : first + len(implementations)]:
            times_s[name] += implementations[name](queries[start : start + TURN])
    book_keeping = "encode walks all modules twice per call: eval(), and the dtype of every parameter"
    against = {"loop": ("a plain loop", ""), "forward": ("SentenceTransformer, its tokenizer and forward pass", "")}
    against |= {"encode": ("SentenceTransformer.encode", book_keeping)}
    rows = [
        Row("the latency meter, batch 1", title, None, times_s["meter"], times_s[name], note)
        for name, (title, note) in against.items()
    ]
    # One batch of passages of equal length in tokens, so that both sides batch alike.
    passages = texts.contexts(2000)
    lengths = np.array([len(row) for row in ours.tokenize(passages, "passage")])
    batch = [passages[n] for n in np.argsort(np.abs(lengths - np.median(lengths)))[:16]]
    batch_s = alternate(
        lambda: encode(ours, batch, "passage", token_budget=100_000),
        lambda: theirs.encode_document(batch, batch_size=len(batch), show_progress_bar=False),
        15,
    )
    return [*rows, Row("one batch of 16 passages", "SentenceTransformer.encode, the same batch", None, *batch_s)]
