"""Can the profiler be believed? Repeated, disturbed, against other people's loops, under a limit, and from its files.

One table, a row per check: what was seen, what is wanted, and whether it is met.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.bench import hand_written, memory_limit, texts
from pipeline.bench.pairs import alternate, rotated
from pipeline.encoder import deployed
from pipeline.encoder.deploy import deploy, save
from pipeline.encoder.encoding import encode
from pipeline.encoder.model import Encoder
from pipeline.profiling.measure import measure, run_meter
from pipeline.profiling.meter import Job, Settings
from pipeline.profiling.meters import latency
from pipeline.profiling.samples import Rounds
from pipeline.store.records import Profile
from pipeline.values import Side, Variant

SETTINGS = Settings(
    min_calls=150,
    min_seconds=1.0,
    token_budgets=[1024],
    index_rows=1000,
    energy_seconds=5,
    country="USA",
    intensity_g_per_kwh=369.5,
    rounds=3,
)
THREADS = 2
PROFILED = 64  # paragraphs per language
QUERIES = 150
BATCH = 8  # passages of the memory comparison
TURN = 10  # queries per turn of an implementation
SAME = 0.05  # by which two timings of the same work may differ
EXPORTED = [Variant("onnx"), Variant("onnx", "int8"), Variant("openvino"), Variant("openvino", "int8")]
LIMITED = [Variant(), *EXPORTED]
FIELDS = ("query_latency_p50_ms", "passages_per_s", "peak_rss_mib", "energy_j_per_1k_queries")
HEADER = ["check", "of", "seen", "wanted", "met"]


def table() -> Iterator[str]:
    """Yield the lines of a Markdown table, as soon as they are known."""
    yield f"| {' | '.join(HEADER)} |"
    yield f"|{'---|' * len(HEADER)}"
    with tempfile.TemporaryDirectory() as folder:
        encoder = texts.encoder()
        for check in (repeated, same_work, saved_files, limits):
            yield from check(encoder, Path(folder))


def row(check: str, of: str, seen: str, wanted: str, met: bool | None) -> str:
    """Return one line; `met` is None where this machine does not allow the check."""
    return f"| {' | '.join([check, of, seen, wanted, {True: 'yes', False: '**no**', None: 'not checked'}[met]])} |"


def job_of(encoder: Encoder, variant: Variant, folder: Path) -> Job:
    """Return the job of e5-small-l12 on XQuAD's texts, as a variant, whose folder is made when first asked for."""
    sides: dict[str, dict[Side, list[str]]] = {
        language: {
            "query": [paragraph["qas"][0]["question"] for paragraph in of_language[:PROFILED]],
            "passage": [paragraph["context"] for paragraph in of_language[:PROFILED]],
        }
        for language, of_language in texts.paragraphs().items()
    }
    place = folder / variant.label
    if not (place / deployed.DESCRIPTION).exists():
        save(encoder, variant, place)
    return Job(str(place), sides, SETTINGS, threads=THREADS, device="cpu", seed=0, variant=variant, token_budget=1024)


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


def repeated(encoder: Encoder, folder: Path) -> Iterator[str]:
    """Compare two profiles on a quiet machine; one beside a busy neighbour must fail its quality checks."""
    job = job_of(encoder, Variant(), folder)
    first, second = measure(job), measure(job)
    for field in FIELDS:
        before, after = interval(first, field), interval(second, field)
        met = before[0] <= after[1] and after[0] <= before[1]
        seen = f"{shown(first, field, before)}, then {shown(second, field, after)}"
        yield row("repeated profiles", field, seen, "95 % intervals overlap", met)
    for name, profile in {"first": first, "second": second}.items():
        failed = ", ".join(profile.failed_checks) or "none"
        yield row("quality checks", f"{name} profile", f"failed: {failed}", "passed", profile.quality == "passed")
    with burned_cores():
        disturbed = measure(replace(job, settings=replace(SETTINGS, rounds=1)))
    failed = ", ".join(disturbed.failed_checks) or "none"
    yield row(
        "quality checks", "cores burned", f"failed: {failed}", "failed: quiet", "quiet" in disturbed.failed_checks
    )


def interval(profile: Profile, field: str) -> tuple[float, float]:
    """Return the 95 % interval of a figure, from its rounds."""
    value, error = getattr(profile, field), profile.relative_errors[field]
    factor = float(np.exp(Rounds(value, error, profile.details["rounds"][field]).t_95 * error))
    return value / factor, value * factor


def shown(profile: Profile, field: str, limits: tuple[float, float]) -> str:
    return f"{getattr(profile, field):.4g} [{limits[0]:.4g}, {limits[1]:.4g}]"


def same_work(ours: Encoder, folder: Path) -> Iterator[str]:
    """Compare the meter's latency with a plain loop and sentence-transformers; then one batch of passages.

    The implementations take turns, TURN queries each, so that a drift of the machine affects all of them.
    """
    theirs = texts.sentence_transformer(ours)
    queries = texts.queries(QUERIES)

    def tokenize(text: str) -> list[int]:
        return ours.tokenize([text], "query")[0]

    def encode_ids(ids: Sequence[int]) -> np.ndarray:
        return ours.to_host([ours.embed([list(ids)])])

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
        "the latency meter": metered_s,
        "a hand-written loop": partial(timed_s, lambda query: encode_ids(tokenize(query))),
        "SentenceTransformer, its tokenizer and forward pass": partial(timed_s, their_forward),
        "SentenceTransformer.encode": partial(
            timed_s, lambda query: theirs.encode_query([query], show_progress_bar=False)
        ),
    }
    times_s: dict[str, list[float]] = {name: [] for name in implementations}
    for turn, start in enumerate(range(0, QUERIES, TURN)):
        for name in rotated(list(implementations), turn):
            times_s[name] += implementations[name](queries[start : start + TURN])
    meter_s = times_s.pop("the latency meter")
    for name, theirs_s in times_s.items():
        yield compared("one query, batch 1", name, meter_s, theirs_s)
    # One batch of passages of equal length in tokens, so that both sides batch alike.
    passages = texts.contexts(2000)
    lengths = np.array([len(ids) for ids in ours.tokenize(passages, "passage")])
    batch = [passages[n] for n in np.argsort(np.abs(lengths - np.median(lengths)))[:16]]
    ours_s, batch_s = alternate(
        lambda: encode(ours, batch, "passage", token_budget=100_000),
        lambda: theirs.encode_document(batch, batch_size=len(batch), show_progress_bar=False),
        15,
    )
    yield compared("one batch of 16 passages", "SentenceTransformer.encode, the same batch", ours_s, batch_s)


def compared(check: str, against: str, ours_s: Sequence[float], theirs_s: Sequence[float]) -> str:
    """Return the row of two timings of the same work."""
    ratio = float(np.median(np.array(theirs_s) / np.array(ours_s)))
    seen = f"{1000 * np.median(ours_s):.1f} ms against {1000 * np.median(theirs_s):.1f} ms, ratio {ratio:.3f}"
    return row(check, against, seen, f"within {SAME:.0%}", abs(ratio - 1) <= SAME)


def saved_files(encoder: Encoder, folder: Path) -> Iterator[str]:
    """Compare what was saved with the encoder in memory, and its memory with a script that knows nothing of us."""
    passages = texts.contexts(50)
    peaks: dict[Variant, float] = {}
    for variant in [*EXPORTED, Variant(), Variant("onednn"), Variant(precision="bfloat16")]:
        place = Path(job_of(encoder, variant, folder).folder)
        here = deploy(encoder, variant, None if variant.backend in ("eager", "onednn") else place)
        loaded = encode(deployed.load(place, threads=THREADS), passages, "passage")
        difference = float(np.abs(loaded - encode(here, passages, "passage")).max())
        yield row("saved file, vectors", variant.label, f"differ by {difference:.1e}", "1e-6", difference <= 1e-6)
        if variant not in EXPORTED:
            continue
        few = passages[:BATCH]  # one batch, of all texts
        settings = replace(SETTINGS, token_budgets=[10**6])
        job = replace(job_of(encoder, variant, folder), texts={"all": {"query": few, "passage": few}})
        job = replace(job, settings=settings, token_budget=10**6)
        peaks[variant] = run_meter("memory", job)["serving_peak_rss_mib"]
        script = [sys.executable, hand_written.__file__, str(place)]
        done = subprocess.run(script, input=json.dumps(few), capture_output=True, text=True, check=True)
        theirs_mib = float(done.stdout)
        seen = f"{peaks[variant]:.0f} MiB against {theirs_mib:.0f} MiB"
        met = abs(peaks[variant] / theirs_mib - 1) <= 0.1
        yield row("saved file, memory", f"{variant.label}, a hand-written script", seen, "within 10 %", met)
    for backend in ("onnx", "openvino"):
        low, high = peaks[Variant(backend, "int8")], peaks[Variant(backend)]
        yield row("int8 needs less memory", backend, f"{low:.0f} against {high:.0f} MiB", "less", low < high)


def limits(encoder: Encoder, folder: Path) -> Iterator[str]:
    """Serve each variant with 10 % more memory than its figure, and with 10 % less."""
    for variant in LIMITED:
        job = job_of(encoder, variant, folder)
        result = run_meter("memory", job)
        peak_mib = max(result["load_peak_rss_mib"], result["serving_peak_rss_mib"])
        trial = memory_limit.trial(job, peak_mib, result["file_rss_mib"])
        for share, served in trial.items():
            wanted = share > 1
            seen = {True: "serves", False: "killed for memory", None: "no control group"}[served]
            met = None if served is None else served == wanted
            yield row(
                "memory limit",
                f"{variant.label}, {share:.0%} of {peak_mib:.0f} MiB",
                seen,
                "serves" if wanted else "killed",
                met,
            )
