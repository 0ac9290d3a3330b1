"""From the results of the meters to one Profile: a value per field, and where each came from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.profiling import meter
from pipeline.profiling.meter import Figure, Job
from pipeline.profiling.quality import check_quality
from pipeline.profiling.samples import percentiles
from pipeline.store.records import Profile

INDEX_FIELDS = ("search_latency_p50_ms", "search_latency_p95_ms", "index_build_s", "index_recall_10")


def summarize(results: Mapping[str, Mapping[str, Any]], machine: Mapping[str, object], job: Job) -> Profile:
    """Return the Profile.

    Args:
        results: of the meters, by name; all go into `details`.
        machine: the facts of the machine.
        job: that was measured.
    """
    quality = check_quality(results, threads=job.threads)
    figures = dict.fromkeys(INDEX_FIELDS, Figure(None, "not measured: no other index than the flat one"))
    for name, result in results.items():
        figures |= meter.find(name).figures(result, job)
    values: dict[str, Any] = {field: figure.value for field, figure in figures.items()}
    sources = {field: figure.source for field, figure in figures.items()}
    return Profile(
        **values,
        quality_passed=quality["passed"],
        sources=sources | {"quality_passed": "measured: the checks in details.quality"},
        details={
            "quality": quality,
            "machine": dict(machine),
            "threads": job.threads,
            "by_language": _by_language(results["latency"], results["energy"]),
            **results,
        },
    )


def with_index(profile: Profile, index: Mapping[str, Any], seed: int) -> Profile:
    """Return the profile of the same encoder with another index, whose quality checks cover both.

    The encoding of a query and its search were timed apart. End to end is the distribution of their sum, taken as
    independent, from all pairs of a random pairing.

    Args:
        profile: of the encoder with the flat index.
        index: one of the results of the index meter, with its `watch` and `threads`.
        seed: of the pairing and the bootstrap.
    """
    encode_ms = np.array(profile.details["latency"]["calls_ms"]["query"])
    search_ms = np.array(index["calls_ms"])
    calls = min(len(encode_ms), len(search_ms))
    rng = np.random.default_rng(seed)
    total_ms = rng.permutation(encode_ms)[:calls] + rng.permutation(search_ms)[:calls]
    total, search = percentiles(total_ms, seed), index["latency_ms"]
    name = f"{index['factory']}, {index['passages']} vectors of {index['width']}"
    summed = f"modelled: encoding and search, each measured, added as independent; index {name}"
    timed = f"measured: wall clock, {index['calls']} calls; index {name}"
    estimates = {
        "end_to_end_latency_p50_ms": (total["p50"], summed),
        "end_to_end_latency_p95_ms": (total["p95"], summed),
        "search_latency_p50_ms": (search["p50"], timed),
        "search_latency_p95_ms": (search["p95"], timed),
    }
    figures = {
        field: Figure(estimate["value"] if estimate else None, source)
        for field, (estimate, source) in estimates.items()
    } | {
        "index_bytes_per_passage": Figure(index["bytes_per_passage"], f"measured: {name}"),
        "index_build_s": Figure(index["build_s"], f"measured: {name}"),
        "index_recall_10": Figure(index["recall"], f"measured: against exact search; {name}"),
    }
    values: dict[str, Any] = {field: figure.value for field, figure in figures.items()}
    sources = {field: figure.source for field, figure in figures.items()}
    summary = {key: value for key, value in index.items() if key != "calls_ms"}
    results = {key: profile.details[key] for key in meter.names()} | {"index": summary}
    quality = check_quality(results, threads=profile.details["threads"])
    return replace(
        profile,
        **values,
        quality_passed=quality["passed"],
        sources={**profile.sources, **sources},
        details={**profile.details, "index": summary, "quality": quality},
    )


def _by_language(latency: Mapping[str, Any], energy: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return tokens, latency and energy of a query per language."""
    joules = energy.get("query", {}).get("j_per_1k_by_label", {})
    return [
        {
            "language": language,
            "tokens": queries["tokens_mean"],
            "query_p50_ms": queries["query_p50_ms"],
            "energy_j_per_1k_queries": joules.get(language),
        }
        for language, queries in latency["by_language"].items()
    ]
