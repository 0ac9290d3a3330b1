"""Energy meter: joules above idle for queries (one at a time) and passages (in batches), and where they come from.

`tracker` says how joules are measured or modelled. Where they are measured, idle power is taken just before and
subtracted, and the gross figures are kept. A model of constant power knows no idle power: net and gross are the same.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import TypedDict, final

import numpy as np

from pipeline.profiling import nvidia
from pipeline.profiling.meter import Figure, Job
from pipeline.profiling.samples import distinct_texts, relative_standard_error
from pipeline.profiling.served import Served
from pipeline.profiling.tracker import J_PER_KWH, Block, Tracker, joules

IDLE_SHARE = 0.25  # of the window, spent idle before it
MIN_PASSES = 5  # fewer say little of a standard error
ERROR_LIMIT = 0.05  # relative standard error at which a window may end early
FIELDS = [  # of the Profile
    f"{figure}_{texts}"
    for figure in ("energy_j_per_1k", "gross_energy_j_per_1k", "co2_g_per_1m")
    for texts in ("queries", "passages")
]

Chunks = Mapping[str, Sequence[list[str]]]  # label (a language, say) -> lists of texts, each encoded by one call
Encode = Callable[[list[str]], object]


class TextBlock(Block):
    texts: int


class Window(TypedDict):
    j_per_1k: float  # above idle, per 1,000 texts
    gross_j_per_1k: float
    relative_error: float | None  # standard error over passes
    seconds: float
    j_per_1k_by_label: dict[str, float]
    tracker_cost: float | None  # share of the untracked rate
    passes: list[dict[str, TextBlock]]


class SideEnergy(Window):
    kwh_per_1m: float
    co2_g_per_1m: float


class Energy(TypedDict):
    source: str
    intensity_g_per_kwh: float
    idle_w: float
    has_idle: bool
    query: SideEnergy
    passage: SideEnergy


@final
class EnergyResult(Energy):
    country: str


@final
class Missing(TypedDict):
    """Why energy was not measured."""

    missing: str


def run(job: Job, load: Callable[[], Served]) -> EnergyResult | Missing:
    """Measure the encoder on the job's queries, one at a time, and on one batch of its passages."""
    on_gpu = job.device == "cuda"
    if on_gpu and (missing := nvidia.problem()):
        return {"missing": missing}
    served, settings, budget = load(), job.settings, job.token_budget
    assert budget  # throughput ran before
    batch = distinct_texts(job.texts_of("passage"), lambda text: len(served.tokenize(text, "passage")), tokens=budget)
    measured = measure(
        Tracker(settings.country, nvidia.energy_j if on_gpu else None),
        lambda texts: served.encode(texts, "query", budget),
        {language: [[text] for text in texts] for language, texts in job.texts_of("query").items()},
        lambda texts: served.encode(texts, "passage", budget),
        {"all": [batch]},
        seconds=settings.energy_seconds,
        intensity_g_per_kwh=settings.intensity_g_per_kwh,
    )
    return {**measured, "country": settings.country}


def figures(result: EnergyResult | Missing, job: Job) -> dict[str, Figure]:
    """Return energy and CO2 per side, and the idle power."""
    if "missing" in result:
        return dict.fromkeys([*FIELDS, "idle_power_w"], Figure(None, f"not measured: {result['missing']}"))
    source = result["source"]
    co2 = f"modelled: energy x {result['intensity_g_per_kwh']} gCO2e/kWh ({result['country']}); energy {source}"
    idle = source if result["has_idle"] else f"{source}, which has no idle part"
    gross = source if result["has_idle"] else f"{source}, without idle: net and gross are the same"
    fields = {"idle_power_w": Figure(result["idle_w"], idle)}
    for texts, energy in {"queries": result["query"], "passages": result["passage"]}.items():
        error = energy["relative_error"]
        fields[f"energy_j_per_1k_{texts}"] = Figure(energy["j_per_1k"], source, error)
        fields[f"gross_energy_j_per_1k_{texts}"] = Figure(energy["gross_j_per_1k"], gross, error)
        fields[f"co2_g_per_1m_{texts}"] = Figure(energy["co2_g_per_1m"], co2, error)
    return fields


def window(tracker: Tracker, encode: Encode, chunks: Chunks, *, seconds: float, idle_w: float) -> Window:
    """Pass over the labels, one block each, for `seconds` or until the standard error over passes is under 5 %.

    At least MIN_PASSES passes, however many labels there are: blocks are shorter with many labels, but never shorter
    than the tracker can tell.

    Beside every block of a counter, before or after it in turn, runs one without the tracker: the tracker's cost is the
    median over such pairs, in which a drift of the machine cancels out.

    Args:
        tracker: measures a block.
        encode: one chunk.
        chunks: by label.
        seconds: of tracked blocks.
        idle_w: power to subtract.
    """
    supply = {label: cycle(lists) for label, lists in chunks.items()}
    for label in chunks:
        encode(next(supply[label]))  # warm-up
    block_s = max(tracker.block_s, seconds / (MIN_PASSES * len(chunks)))
    passes: list[dict[str, TextBlock]] = []
    costs: list[float] = []

    def texts_per_s(label: str, tracked: bool) -> float:
        block = partial(work, encode, supply[label], block_s)
        start_s = time.perf_counter()
        if tracked:
            texts, spent = tracker.track(block)
            passes[-1][label] = {"texts": texts, **spent}
        else:
            texts = block()
        return texts / (time.perf_counter() - start_s)

    elapsed_s, error = 0.0, None
    while len(passes) < MIN_PASSES or (elapsed_s < seconds and (error is None or error >= ERROR_LIMIT)):
        passes.append({})
        for label in supply:
            if not tracker.has_idle:  # a model: reading clocks costs nothing
                texts_per_s(label, True)
                continue
            order = (True, False) if len(costs) % 2 == 0 else (False, True)
            rate = {tracked: texts_per_s(label, tracked) for tracked in order}
            costs.append(1 - rate[True] / rate[False])
        elapsed_s = sum(block["seconds"] for one_pass in passes for block in one_pass.values())
        net_j = [_j_per_text(one_pass, idle_w) for one_pass in passes]
        error = relative_standard_error(net_j)
    of_label = {label: [one_pass[label] for one_pass in passes] for label in chunks}
    return {
        "j_per_1k": 1000 * float(np.mean(net_j)),
        "gross_j_per_1k": 1000 * float(np.mean([_j_per_text(one_pass, 0.0) for one_pass in passes])),
        "relative_error": error,
        "seconds": elapsed_s,
        "j_per_1k_by_label": {
            label: 1000 * sum(joules(block, idle_w) for block in blocks) / sum(block["texts"] for block in blocks)
            for label, blocks in of_label.items()
        },
        "tracker_cost": float(np.median(costs)) if costs else None,
        "passes": passes,
    }


def _j_per_text(one_pass: Mapping[str, TextBlock], idle_w: float) -> float:
    """Return the mean over labels, so that every language weighs the same."""
    return float(np.mean([joules(block, idle_w) / block["texts"] for block in one_pass.values()]))


def work(encode: Encode, chunks: Iterator[list[str]], seconds: float) -> int:
    """Encode chunks, at least one, until `seconds` have passed; return the number of texts."""
    texts, start_s = 0, time.perf_counter()
    while texts == 0 or time.perf_counter() - start_s < seconds:
        chunk = next(chunks)
        encode(chunk)
        texts += len(chunk)
    return texts


def idle(tracker: Tracker, seconds: float) -> Block:
    """Return what the process draws with the encoder loaded and nothing to do."""
    _, block = tracker.track(partial(time.sleep, seconds))
    return block


def idle_power_w(tracker: Tracker, seconds: float) -> float:
    """Return the power of the idle process; 0 where the tracker cannot tell it."""
    if not tracker.has_idle:
        return 0.0
    block = idle(tracker, seconds)
    return joules(block) / block["seconds"]


def measure(
    tracker: Tracker,
    encode_query: Encode,
    queries: Chunks,
    encode_passages: Encode,
    passages: Chunks,
    *,
    seconds: float,
    intensity_g_per_kwh: float,
) -> Energy:
    """Measure the idle process where that can be told, then a window of queries and one of passages.

    kWh follow from the joules, and CO2 from kWh by the grid's intensity, in gCO2e per kWh.
    """
    idle_w = idle_power_w(tracker, seconds * IDLE_SHARE)

    def side(encode: Encode, chunks: Chunks) -> SideEnergy:
        energy = window(tracker, encode, chunks, seconds=seconds, idle_w=idle_w)
        kwh_per_1m = 1000 * energy["j_per_1k"] / J_PER_KWH
        return {**energy, "kwh_per_1m": kwh_per_1m, "co2_g_per_1m": kwh_per_1m * intensity_g_per_kwh}

    return {
        "source": tracker.source,
        "intensity_g_per_kwh": intensity_g_per_kwh,
        "idle_w": idle_w,
        "has_idle": tracker.has_idle,
        "query": side(encode_query, queries),
        "passage": side(encode_passages, passages),
    }
