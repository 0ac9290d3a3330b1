"""Synthetic sweeps of any size in the format of the store: what scale.py measures reports, lists and commands on.

Every run is a copy of a committed record, whose size is that of real ones, with simulated ranks of one relevant passage
per query. Axes: P language pairs, Q queries.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.retrieval.metrics import macro
from pipeline.store.keys import cache_key
from pipeline.store.records import Record
from pipeline.store.results import ResultStore, RunState

REFERENCE = Path(__file__).parents[2] / "results/reference"
TEMPLATE = "e5-small-l3-hybrid-worldfacts-s0-ee16a198"
BENCHMARK = "worldfacts"
LANGUAGES = ("ar", "de", "en", "ru", "th", "zh")
STRATEGIES = ("none", "monolingual", "crosslingual", "english", "mixed", "hybrid", "hybrid_25")
QUERIES = 432  # in 16 clusters, as in the test articles of XQuAD-R
CLUSTERS = 16
SECONDS = 60.0  # that a run took, according to the manifest


def write(store: ResultStore, sweep: str, systems: int, seeds: int, *, one_model: bool = False) -> None:
    """Write a finished sweep.

    Args:
        store: where to.
        sweep: its name.
        systems: models x strategies.
        seeds: runs per system.
        one_model: whether all systems are of one model and one batch strategy, as in a search.
    """
    template = ResultStore(REFERENCE).load(TEMPLATE)
    plan = {}
    for model, strategy, number in grid(systems, one_model=one_model):
        for seed in range(seeds):
            run = record(template, sweep, model, strategy, number, seed)
            scores = per_query(number, seed)
            store.save_frame(store.run_dir(run.name), f"per_query-{BENCHMARK}", scores)
            metrics = {f"{BENCHMARK}.{name}": value for name, value in macro(scores).items()}
            store.save(replace(run, metrics=metrics))
            store.add_to_manifest(sweep, RunState(run.name, "done", run.choices, SECONDS))
            plan[run.name] = run.choices
    store.plan(sweep, plan)


def grid(systems: int, *, one_model: bool) -> Iterator[tuple[str, str, int]]:
    """Yield model, strategy and number of each system.

    >>> list(grid(2, one_model=False))
    [('e5-small-l1', 'none', 0), ('e5-small-l1', 'monolingual', 1)]
    """
    for number in range(systems):
        model, strategy = divmod(number, len(STRATEGIES))
        names = ("e5-small-l3", "hybrid") if one_model else (f"e5-small-l{model + 1}", STRATEGIES[strategy])
        yield *names, number


def record(template: Record, sweep: str, model: str, strategy: str, number: int, seed: int) -> Record:
    """Return the record of a run, without metrics. Its profile is that of its model, with costs by layers."""
    layers = int(model.rpartition("l")[2])
    config: dict[str, Any] = dict(template.config) | {"seed": seed, "sweep": sweep}
    config["model"] = config["model"] | {"layers": layers}
    config["sampler"] = {"_target_": strategy}
    config["trainer"] = config["trainer"] | {"learning_rate": 1e-6 * (number + 1)}
    config["tracking"] = config["tracking"] | {"wandb": False}
    assert template.profile
    costs = {
        name: getattr(template.profile, name) * (layers + 2) / 5 for name in ("query_latency_p50_ms", "serving_mib")
    }
    costs["query_latency_p95_ms"] = 1.2 * costs["query_latency_p50_ms"]
    costs["passages_per_s"] = template.profile.passages_per_s * 5 / (layers + 2)
    name = f"{model}-{strategy}-{BENCHMARK}-s{seed}-{number:08x}"
    return replace(
        template,
        name=name,
        cache_key=cache_key(name),
        choices=dict(template.choices) | {"model": model, "sampler": strategy},
        config=config,
        seed=seed,
        provenance=dict(template.provenance) | {"layers": layers},
        profile=replace(template.profile, **costs, encoder_key=f"encoder of {layers} layers"),
    )


def per_query(number: int, seed: int, queries: int = QUERIES) -> pd.DataFrame:
    """Return the scores of a run; a query is equally hard for all runs, and no two systems are equally good."""
    rng = np.random.default_rng([number, seed])
    pairs = [("mono", a, a) for a in LANGUAGES] + [("cross", a, b) for a, b in permutations(LANGUAGES, 2)]
    pairs += [("multi", a, "*") for a in LANGUAGES]
    setting, query_language, passage_language = (np.repeat(column, queries) for column in zip(*pairs, strict=True))
    hardness_Q = np.random.default_rng(0).normal(size=queries)
    skill = 0.2 * np.random.default_rng(number).normal() + 0.05 * rng.normal()
    chance_PQ = 1 / (1 + np.exp(hardness_Q - skill + rng.normal(0, 0.5, (len(pairs), queries))))
    rank = rng.geometric(np.clip(chance_PQ, 0.02, 1)).ravel()
    multi = setting == "multi"
    return pd.DataFrame(
        {
            "setting": setting,
            "query_language": query_language,
            "passage_language": passage_language,
            "query_id": np.tile([f"q{n}" for n in range(queries)], len(pairs)),
            "cluster": np.tile([f"article {n % CLUSTERS}" for n in range(queries)], len(pairs)),
            "map": 1 / rank,
            "map_20": np.where(rank <= 20, 1 / rank, 0),
            **{f"r_{k}": (rank <= k).astype(float) for k in (1, 10, 100)},
            "mrr": 1 / rank,
            "ndcg_10": np.where(rank <= 10, 1 / np.log2(1 + rank), 0),
            "rank_distance": np.where(multi, 5.0 * rank, np.nan),
            "own_share_10": np.where(multi, 1 / (1 + rank), np.nan),
            "best_other_rank": np.where(multi, rank + 1.0, np.nan),
            "worst_rank": np.where(multi, 6.0 * rank, np.nan),
            "language_preference": np.where(multi, rank == 1, np.nan),
        }
    )
