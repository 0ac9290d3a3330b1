"""A small sweep written through the real store: simulated scores of 40 queries in 3 languages, costs by layers."""

from itertools import permutations

import numpy as np
import pandas as pd

from pipeline.retrieval.metrics import macro
from pipeline.store.keys import cache_key
from pipeline.store.records import Profile, Record
from pipeline.store.results import ResultStore, RunState

LANGUAGES = ("ar", "en", "th")
GAIN = {"none": (0.0, 0.0, 0.0), "monolingual": (0.04, 0.06, 0.1), "hybrid": (0.04, 0.1, 0.15)}  # mono, cross, multi
TIMED = ("query_latency_p50_ms", "query_latency_p95_ms", "passages_per_s")
TIMED += ("energy_j_per_1k_queries", "energy_j_per_1k_passages", "idle_power_w")
CLUSTERS = 10  # of the queries, from 2 to 6 in each


def profile(layers: int, quality: str = "passed") -> Profile:
    """A profile whose costs grow with layers; every other figure is 1."""
    numbers = {name: 1.0 for name, field in Profile.__dataclass_fields__.items() if field.type in (float, int)}
    optional = {name: None for name, field in Profile.__dataclass_fields__.items() if "None" in str(field.type)}
    numbers |= {
        "query_latency_p50_ms": 1.0 * layers + 1.5,
        "query_latency_p95_ms": 1.1 * layers + 1.7,
        "passages_per_s": 400 / layers,
        "peak_rss_mib": 360 + 9.5 * layers,
        "index_mib": 20.0,
        "serving_mib": 380 + 9.5 * layers,
        "energy_j_per_1k_queries": 31.0 * layers,
        "energy_j_per_1k_passages": 40.0 * layers,
        "idle_power_w": 10.0,
        "index_bytes_per_passage": 1536.0,
        "parameters": 1.0,
        "quality": quality,
        "rounds": 3,
    }
    sources = dict.fromkeys(numbers | optional, "measured: wall clock")
    sources["energy_j_per_1k_queries"] = "modelled: TDP of 120 W"
    machine = {"cpu": "Imaginary 9000", "device": "cpu"}
    details = {"machine": machine, "threads": 2, "quality": {"passed": quality == "passed", "checks": []}}
    errors = dict.fromkeys(TIMED, 0.01) | {"peak_rss_mib": 0.002, "serving_mib": 0.002}
    figures = optional | numbers
    return Profile(
        **figures, sources=sources, details=details, relative_errors=errors, encoder_key=f"encoder of {layers} layers"
    )


def per_query(layers: int, sampler: str, seed: int, queries: int = 40) -> pd.DataFrame:
    """Scores between 0 and 1 whose expectation grows with layers; a query is equally hard for all runs."""
    difficulty_Q = np.random.default_rng(0).normal(0, 0.15, queries)
    rng = np.random.default_rng([layers, *sampler.encode(), seed])
    pairs = [("mono", a, a) for a in LANGUAGES] + [("multi", a, "*") for a in LANGUAGES]
    pairs += [("cross", a, b) for a, b in permutations(LANGUAGES, 2)]
    frames = []
    for setting, query_language, passage_language in pairs:
        kind = ("mono", "cross", "multi").index(setting)
        mean = (0.6, 0.4, 0.2)[kind] + GAIN[sampler][kind] + 0.05 * np.log2(layers)
        frame = pd.DataFrame({"setting": setting, "query_language": query_language}, index=range(queries))
        frame["passage_language"], frame["query_id"] = passage_language, [f"q{i}" for i in range(queries)]
        frame["cluster"] = [f"page {round(i**1.2) % CLUSTERS}" for i in range(queries)]
        frame["map"] = np.clip(mean + difficulty_Q + rng.normal(0, 0.1, queries), 0, 1)
        frame["rank_distance"] = 300.0 - 10 * layers if setting == "multi" else np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def add_run(
    store: ResultStore,
    sweep: str,
    layers: int,
    sampler: str,
    seed: int = 0,
    *,
    cost_only: bool = False,
    profiled: bool = True,
    quality: str = "passed",
    architecture: dict | None = None,
    settings: dict | None = None,
    benchmark: str = "facts",
    kind: str = "truncated",
) -> Record:
    """Save a finished run, with `settings` of its sampler, and record it in the manifest of the sweep."""
    model = f"e5-small-l{layers}" if not cost_only else "xlmr-large"
    choices = {"model": model, "sampler": sampler, "data": "toy"}
    settings = settings or {}
    config = {
        "model": {"family": "e5-small" if not cost_only else "xlmr", "weights": "random" if cost_only else "packaged"},
        "sampler": {"_target_": sampler} | settings,
        "seed": seed,
        "threads": 2,
        "sweep": sweep,
        "results_dir": str(store.root),
        "tracking": {"wandb": True, "project": "toy", "entity": None, "dir": str(store.root)},
    }
    config["model"] |= {"layers": layers} | ({"architecture": architecture} if architecture else {})
    suffix = "".join(f"-{key}{value}" for key, value in settings.items())
    name = f"{model}-{sampler}-toy{suffix}-s{seed}-abcd"
    metrics = {}
    if not cost_only:
        table = per_query(layers, sampler, seed)
        store.save_frame(store.run_dir(name), f"per_query-{benchmark}", table)
        metrics = {f"{benchmark}.{key}": value for key, value in macro(table).items()}
    if sampler != "none":
        steps = range(5)
        curve = {"step": steps, "loss": [3 / (step + 1) for step in steps], "learning_rate": 3e-5, "pairs_per_s": 20.0}
        store.save_frame(store.run_dir(name), "training", pd.DataFrame(curve))
    record = Record(
        name=name,
        cache_key=cache_key(name),
        status="done",
        choices=choices,
        config=config,
        seed=seed,
        provenance={"layers": layers, "kind": kind, "time": "2026-01-01T00:00:00Z", "clusters": {benchmark: "page"}},
        metrics=metrics,
        profile=profile(layers, quality) if profiled else None,
        stage_s={"train": 12.5},
        notes=("an exercise",),
    )
    store.save(record)
    store.add_to_manifest(sweep, RunState(name, "done", choices, 20.0))
    return record


def add_sweep(store: ResultStore, sweep: str = "toy", seeds: int = 2) -> list[Record]:
    """Save 3 sizes x 3 strategies x `seeds`."""
    runs = [(layers, sampler, seed) for layers in (3, 6, 12) for sampler in GAIN for seed in range(seeds)]
    return [add_run(store, sweep, *run) for run in runs]
