"""A small sweep written through the real store: simulated scores of 40 questions in 3 languages, costs by layers."""

from itertools import permutations

import numpy as np
import pandas as pd

from pipeline.retrieval.metrics import macro
from pipeline.store.results import Cell, ResultStore, fingerprint
from pipeline.values import Profile, Record

LANGUAGES = ("ar", "en", "th")
GAIN = {"none": (0.0, 0.0, 0.0), "monolingual": (0.04, 0.06, 0.1), "hybrid": (0.04, 0.1, 0.15)}  # mono, cross, multi


def profile(layers: int, graded: bool = True) -> Profile:
    numbers = {name: 1.0 for name, field in Profile.__dataclass_fields__.items() if field.type in (float, int)}
    optional = {name: None for name, field in Profile.__dataclass_fields__.items() if "None" in str(field.type)}
    numbers |= {
        "query_latency_p50_ms": 1.0 * layers + 1.5,
        "query_latency_p95_ms": 1.1 * layers + 1.7,
        "passages_per_s": 400 / layers,
        "peak_rss_mib": 380 + 9.5 * layers,
        "energy_j_per_1k_queries": 31.0 * layers,
        "energy_j_per_1k_passages": 40.0 * layers,
        "idle_power_w": 10.0,
        "index_bytes_per_passage": 1536.0,
        "grade_passed": graded,
    }
    sources = dict.fromkeys(numbers | optional, "measured: wall clock")
    sources["energy_j_per_1k_queries"] = "modelled: TDP of 120 W"
    details = {"machine": {"cpu": "Imaginary 9000", "device": "cpu"}, "grade": {"passed": graded, "checks": []}}
    details["threads"] = 2
    return Profile(**optional | numbers, sources=sources, details=details)


def per_query(layers: int, sampler: str, seed: int, questions: int = 40) -> pd.DataFrame:
    """Scores between 0 and 1 whose expectation grows with layers; a question is as hard for all."""
    difficulty_Q = np.random.default_rng(0).normal(0, 0.15, questions)
    rng = np.random.default_rng([layers, *sampler.encode(), seed])
    pairs = [("mono", a, a) for a in LANGUAGES] + [("multi", a, "*") for a in LANGUAGES]
    pairs += [("cross", a, b) for a, b in permutations(LANGUAGES, 2)]
    frames = []
    for setting, query_language, passage_language in pairs:
        kind = ("mono", "cross", "multi").index(setting)
        mean = (0.6, 0.4, 0.2)[kind] + GAIN[sampler][kind] + 0.05 * np.log2(layers)
        frame = pd.DataFrame({"setting": setting, "query_language": query_language}, index=range(questions))
        frame["passage_language"], frame["query_id"] = passage_language, [f"q{i}" for i in range(questions)]
        frame["map"] = np.clip(mean + difficulty_Q + rng.normal(0, 0.1, questions), 0, 1)
        frame["rank_distance"] = 300.0 - 10 * layers if setting == "multi" else np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def add_run(store: ResultStore, sweep: str, layers: int, sampler: str, seed: int = 0, *, cost_only: bool = False,
            profiled: bool = True, graded: bool = True, architecture: dict | None = None,
            **sampler_settings) -> Record:  # fmt: skip
    model = f"e5-small-l{layers}" if not cost_only else "xlmr-large"
    choices = {"model": model, "sampler": sampler, "data": "toy"}
    config = {
        "model": {"family": "e5-small" if not cost_only else "xlmr", "weights": "random" if cost_only else "packaged"},
        "sampler": {"_target_": sampler} | sampler_settings,
        "seed": seed,
        "threads": 2,
        "sweep": sweep,
        "results_dir": str(store.root),
        "tracking": {"wandb": True, "project": "toy", "entity": None, "dir": str(store.root)},
    }
    config["model"] |= {"layers": layers} | ({"architecture": architecture} if architecture else {})
    settings = "".join(f"-{key}{value}" for key, value in sampler_settings.items())
    name = f"{model}-{sampler}-toy{settings}-s{seed}-abcd"
    metrics = {}
    if not cost_only:
        table = per_query(layers, sampler, seed)
        store.save_frame(store.run_dir(name), "per_query-facts", table)
        metrics = {f"facts.{key}": value for key, value in macro(table).items()}
    if sampler != "none":
        steps = range(5)
        curve = {"step": steps, "loss": [3 / (step + 1) for step in steps], "learning_rate": 3e-5, "pairs_per_s": 20.0}
        store.save_frame(store.run_dir(name), "training", pd.DataFrame(curve))
    record = Record(
        name=name, fingerprint=fingerprint(name), status="done", choices=choices, config=config, seed=seed,
        provenance={"layers": layers, "time": "2026-01-01T00:00:00Z"}, metrics=metrics,
        profile=profile(layers, graded) if profiled else None, stage_s={"train": 12.5}, notes=("an exercise",),
    )  # fmt: skip
    store.save(record)
    store.note(sweep, Cell(name, "done", choices, 20.0))
    return record


def add_sweep(store: ResultStore, sweep: str = "toy", seeds: int = 2) -> list[Record]:
    cells = [(layers, sampler, seed) for layers in (3, 6, 12) for sampler in GAIN for seed in range(seeds)]
    return [add_run(store, sweep, *cell) for cell in cells]
