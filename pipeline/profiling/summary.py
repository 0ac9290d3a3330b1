"""From what the four meters found to one Profile: a number a field, and where each came from."""

from collections.abc import Mapping
from typing import Any

from pipeline.profiling.grade import grade
from pipeline.values import Profile


def summarise(meters: Mapping[str, Mapping[str, Any]], machine: Mapping[str, Any], *, threads: int) -> Profile:
    """`meters` holds what throughput, latency, memory and energy found; `machine` the facts. All goes into details."""
    throughput, latency, memory, energy = (meters[name] for name in ("throughput", "latency", "memory", "energy"))
    graded = grade(meters, threads=threads)
    best, query, passage = throughput["best"], energy["query"], energy["passage"]

    def value(span: str, percentile: str) -> Any:
        found = latency[span][percentile]
        return None if found is None else found["value"]

    return Profile(
        query_latency_p50_ms=value("query", "p50"),
        query_latency_p90_ms=value("query", "p90"),
        query_latency_p95_ms=value("query", "p95"),
        query_latency_p99_ms=value("query", "p99"),
        query_latency_without_tokenisation_p50_ms=value("encode", "p50"),
        end_to_end_latency_p50_ms=value("end_to_end", "p50"),
        end_to_end_latency_p95_ms=value("end_to_end", "p95"),
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
        energy_j_per_1k_queries=query["j_per_1k"],
        energy_j_per_1k_passages=passage["j_per_1k"],
        gross_energy_j_per_1k_queries=query["gross_j_per_1k"],
        gross_energy_j_per_1k_passages=passage["gross_j_per_1k"],
        idle_power_w=energy["idle_w"],
        co2_g_per_1m_queries=query["co2_g_per_1m"],
        co2_g_per_1m_passages=passage["co2_g_per_1m"],
        parameters=memory["parameters"],
        grade_passed=graded["passed"],
        sources=_sources(latency, energy),
        details={"grade": graded, "machine": dict(machine), "threads": threads, **meters},
    )


def _sources(latency: Mapping[str, Any], energy: Mapping[str, Any]) -> dict[str, str]:
    def timed(span: str, percentile: str) -> str:
        missing = latency[span][percentile] is None
        return f"measured: wall clock, {latency['calls']} calls" + (f", too few for a {percentile}" if missing else "")

    spans = {"query_latency": "query", "end_to_end_latency": "end_to_end"}
    given = {"query_latency": ("p50", "p90", "p95", "p99"), "end_to_end_latency": ("p50", "p95")}
    clocked = {f"{name}_{p}_ms": timed(spans[name], p) for name, percentiles in given.items() for p in percentiles}
    joules = dict.fromkeys(
        ["gross_energy_j_per_1k_queries", "gross_energy_j_per_1k_passages", "idle_power_w"],
        f"{energy['source']}; RAM modelled: {energy['ram_w']:.3g} W",
    )
    net = dict.fromkeys(["energy_j_per_1k_queries", "energy_j_per_1k_passages"], energy["source"])
    co2 = (
        f"modelled: energy x {energy['intensity_g_per_kwh']} gCO2e/kWh ({energy['country']}); energy {energy['source']}"
    )
    return (
        clocked
        | joules
        | net
        | {
            "query_latency_without_tokenisation_p50_ms": timed("encode", "p50"),
            "passages_per_s": "measured: wall clock",
            "passage_tokens_per_s": "measured: wall clock",
            "passage_token_budget": "measured: the fastest of those tried",
            "flop_per_s": "modelled: FLOP by formula over measured seconds",
            "flop_share_of_matrix_product": "modelled: FLOP by formula, over a matrix product measured beside it",
            "peak_rss_mib": "measured: VmHWM while encoding, less VmRSS before loading",
            "gpu_peak_allocated_mib": "measured: torch.cuda.max_memory_allocated",
            "gpu_peak_reserved_mib": "measured: torch.cuda.max_memory_reserved",
            "weights_mib": "measured: parameters and buffers",
            "weights_on_disk_mib": "measured: size as safetensors",
            "index_bytes_per_passage": "measured: size of the serialised flat index",
            "co2_g_per_1m_queries": co2,
            "co2_g_per_1m_passages": co2,
            "parameters": "measured: counted",
            "grade_passed": "measured: the checks in details.grade",
        }
    )
