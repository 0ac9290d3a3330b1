"""From what the four meters found to one Profile: a number a field, and where each came from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.profiling.quality import grade
from pipeline.profiling.samples import percentiles
from pipeline.values import Profile

Meters = Mapping[str, Mapping[str, Any]]

CLOCKED = {  # field -> span and percentile of the latency meter
    "query_latency_p50_ms": ("query", "p50"),
    "query_latency_p90_ms": ("query", "p90"),
    "query_latency_p95_ms": ("query", "p95"),
    "query_latency_p99_ms": ("query", "p99"),
    "query_latency_without_tokenisation_p50_ms": ("encode", "p50"),
    "query_device_time_p50_ms": ("device", "p50"),
    "end_to_end_latency_p50_ms": ("end_to_end", "p50"),
    "end_to_end_latency_p95_ms": ("end_to_end", "p95"),
}
ENERGY = {  # field -> side and figure of the energy meter
    "energy_j_per_1k_queries": ("query", "j_per_1k"),
    "energy_j_per_1k_passages": ("passage", "j_per_1k"),
    "gross_energy_j_per_1k_queries": ("query", "gross_j_per_1k"),
    "gross_energy_j_per_1k_passages": ("passage", "gross_j_per_1k"),
    "co2_g_per_1m_queries": ("query", "co2_g_per_1m"),
    "co2_g_per_1m_passages": ("passage", "co2_g_per_1m"),
}
OF_AN_INDEX = ("search_latency_p50_ms", "search_latency_p95_ms", "index_build_s", "index_recall_10")


def summarise(meters: Meters, machine: Mapping[str, Any], *, threads: int, made_up_words: bool) -> Profile:
    """`meters` holds what throughput, latency, memory and energy found; `machine` the facts. All goes into details."""
    throughput, memory, energy = meters["throughput"], meters["memory"], meters["energy"]
    latency, best = meters["latency"], throughput["best"]
    graded = grade(meters, threads=threads)
    timed: dict[str, Any] = {
        name: (latency[span] or {}).get(percentile) for name, (span, percentile) in CLOCKED.items()
    }
    spent: dict[str, Any] = {
        name: None if "missing" in energy else energy[side][key] for name, (side, key) in ENERGY.items()
    }
    values: dict[str, Any] = {name: found and found["value"] for name, found in timed.items()}
    return Profile(
        **values,
        passages_per_s=best["passages_per_s"],
        passage_tokens_per_s=best["tokens_per_s"],
        passage_token_budget=best["token_budget"],
        flop_per_s=best["flop_per_s"],
        flop_share_of_matrix_product=throughput["flop_share_of_matrix_product"],
        peak_rss_mib=memory["peak_rss_mib"],
        gpu_peak_allocated_mib=memory["gpu_peak_allocated_mib"],
        gpu_peak_reserved_mib=memory["gpu_peak_reserved_mib"],
        weights_mib=memory["weights_mib"],
        weights_on_disk_mib=memory["weights_on_disk_mib"],
        index_bytes_per_passage=memory["index_bytes_per_passage"],
        **spent,
        idle_power_w=energy.get("idle_w"),
        parameters=memory["parameters"],
        grade_passed=graded["passed"],
        sources=_clocks(latency, made_up_words) | _joules(energy) | _others(memory, made_up_words),
        details={
            "grade": graded,
            "machine": dict(machine),
            "threads": threads,
            "by_language": _by_language(latency, energy),
            **meters,
        },
    )


def with_index(profile: Profile, index: Mapping[str, Any], seed: int) -> Profile:
    """The profile of the same encoder before another index, which the index meter measured; its grade covers both.

    A query's encoding and its search were timed apart: end to end is the distribution of their sum, taken as
    independent, from all pairs of a random pairing.
    """
    encode_ms = np.array(profile.details["latency"]["calls_ms"]["query"])
    search_ms = np.array(index["calls_ms"])
    calls = min(len(encode_ms), len(search_ms))
    rng = np.random.default_rng(seed)
    total_ms = rng.permutation(encode_ms)[:calls] + rng.permutation(search_ms)[:calls]
    total, search = percentiles(total_ms, seed), index["latency_ms"]
    rows = f"{index['passages']} vectors of {index['width']}"
    summed = f"modelled: encoding and search, each measured, added as independent; index {index['factory']}, {rows}"
    timed = f"measured: wall clock, {index['calls']} calls; index {index['factory']}, {rows}"
    values = {
        "end_to_end_latency_p50_ms": (total["p50"], summed),
        "end_to_end_latency_p95_ms": (total["p95"], summed),
        "search_latency_p50_ms": (search["p50"], timed),
        "search_latency_p95_ms": (search["p95"], timed),
    }
    figures = {name: found and found["value"] for name, (found, _) in values.items()}
    figures |= {"index_bytes_per_passage": index["bytes_per_passage"], "index_build_s": index["build_s"]}
    figures |= {"index_recall_10": index["recall"]}
    sources = {name: source for name, (_, source) in values.items()}
    sources |= dict.fromkeys(("index_bytes_per_passage", "index_build_s"), f"measured: {index['factory']}, {rows}")
    sources["index_recall_10"] = f"measured: against exact search; {index['factory']}, {rows}"
    raw = {key: value for key, value in index.items() if key != "calls_ms"}
    meters = {name: profile.details[name] for name in ("throughput", "latency", "memory", "energy")} | {"index": raw}
    graded = grade(meters, threads=profile.details["threads"])
    details = {**profile.details, "index": raw, "grade": graded}
    sources = {**profile.sources, **sources}
    return replace(profile, **figures, grade_passed=graded["passed"], sources=sources, details=details)


def _by_language(latency: Mapping[str, Any], energy: Mapping[str, Any]) -> list[dict[str, Any]]:
    joules = energy.get("query", {}).get("j_per_1k_by_label", {})
    return [
        {
            "language": language,
            "tokens": found["tokens_mean"],
            "query_p50_ms": found["query_p50_ms"],
            "energy_j_per_1k_queries": joules.get(language),
        }
        for language, found in latency["by_language"].items()
    ]


def _tokenised(made_up_words: bool) -> str:
    return ", tokenisation of made-up words" if made_up_words else ""


def _clocks(latency: Mapping[str, Any], made_up_words: bool) -> dict[str, str]:
    unknown = {"device": "no CUDA device", "end_to_end": latency["index_missing"]}

    def source(span: str, percentile: str) -> str:
        if latency[span] is None:
            return f"not measured: {unknown[span]}"
        clock = "CUDA events around the forward pass" if span == "device" else "wall clock"
        words = _tokenised(made_up_words) if span in ("query", "end_to_end") else ""
        few = f", too few for a {percentile}" if latency[span][percentile] is None else ""
        return f"measured: {clock}, {len(latency['calls_ms'][span])} calls{words}{few}"

    return {name: source(*place) for name, place in CLOCKED.items()}


def _joules(energy: Mapping[str, Any]) -> dict[str, str]:
    if missing := energy.get("missing"):
        return dict.fromkeys([*ENERGY, "idle_power_w"], f"not measured: {missing}")
    net = energy["source"]
    gross = f"{net}; RAM modelled: {energy['ram_w']:.3g} W"
    co2 = f"modelled: energy x {energy['intensity_g_per_kwh']} gCO2e/kWh ({energy['country']}); energy {net}"
    kinds = {"j_per_1k": net, "gross_j_per_1k": gross, "co2_g_per_1m": co2}
    return {name: kinds[key] for name, (_, key) in ENERGY.items()} | {"idle_power_w": gross}


def _others(memory: Mapping[str, Any], made_up_words: bool) -> dict[str, str]:
    index, no_gpu = memory["index_missing"], memory["gpu_peak_allocated_mib"] is None
    rate = f"measured: wall clock, median pass{_tokenised(made_up_words)}"
    return {
        "passages_per_s": rate,
        "passage_tokens_per_s": rate,
        "passage_token_budget": "measured: the fastest of those tried",
        "flop_per_s": "modelled: FLOP by formula over measured seconds",
        "flop_share_of_matrix_product": "modelled: FLOP by formula, over a matrix product measured beside it",
        "peak_rss_mib": "measured: VmHWM while encoding, less VmRSS before loading",
        "gpu_peak_allocated_mib": _unless(no_gpu, "torch.cuda.max_memory_allocated"),
        "gpu_peak_reserved_mib": _unless(no_gpu, "torch.cuda.max_memory_reserved"),
        "weights_mib": "measured: parameters and buffers",
        "weights_on_disk_mib": "measured: size as safetensors",
        "index_bytes_per_passage": f"not measured: {index}" if index else "measured: size of the serialised flat index",
        **dict.fromkeys(OF_AN_INDEX, "not measured: no other index than the flat one"),
        "parameters": "measured: counted",
        "grade_passed": "measured: the checks in details.grade",
    }


def _unless(no_gpu: bool, source: str) -> str:
    return "not measured: no CUDA device" if no_gpu else f"measured: {source}"
