"""From the results of the meters to one Profile: a value per field with its error, and where each came from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.profiling import meter
from pipeline.profiling.meter import Figure, Job
from pipeline.profiling.meters.energy import FIELDS as ENERGY
from pipeline.profiling.quality import check_quality, verdict
from pipeline.profiling.samples import Rounds, percentiles, relative_error
from pipeline.store.records import Profile

INDEX_FIELDS = ("search_latency_p50_ms", "search_latency_p95_ms", "index_build_s", "index_recall_10")
OF_PASSAGES = {  # the fields that an encoder of passages alone determines
    *("passages_per_s", "passage_tokens_per_s", "passage_token_budget", "flop_per_s", "flop_share_of_matrix_product"),
    *("energy_j_per_1k_passages", "gross_energy_j_per_1k_passages", "co2_g_per_1m_passages"),
}
RESOLVED = 2.0  # standard errors that an energy must lie above zero, to be told from nothing
NO_CORPUS = "not measured: no corpus"
MIB = 2**20

Results = Mapping[str, Mapping[str, Any]]  # of the meters of one round, by name


def summarize(
    rounds: Sequence[Results], again: Mapping[str, Any] | None, machine: Mapping[str, object], job: Job
) -> Profile:
    """Return the Profile.

    Args:
        rounds: results of the meters; all go into `details`.
        again: of a last latency meter after all rounds, `first_ms` and `again_ms`.
        machine: the facts of the machine.
        job: that was measured.
    """
    no_index = dict.fromkeys(INDEX_FIELDS, Figure(None, "not measured: no other index than the flat one"))
    by_round = []
    for results in rounds:
        figures = dict(no_index)
        for name, result in results.items():
            figures |= meter.find(name).figures(result, job)
        by_round.append(figures)
    combined, sources = combine(by_round)
    quality = check_quality(rounds, combined, again, threads=job.threads)
    return Profile(
        **fields(combined),
        quality=verdict(quality),
        rounds=len(rounds),
        sources=sources
        | {"quality": "measured: the checks in details.quality"}
        | dict.fromkeys(("index_mib", "serving_mib"), NO_CORPUS),
        details={
            "quality": quality,
            "machine": dict(machine),
            "threads": job.threads,
            "by_language": _by_language(rounds),
            "rounds": {name: list(figure.values) for name, figure in combined.items() if figure.value is not None},
            **rounds[0],
            "further_rounds": list(rounds[1:]),
            "again": again,
        },
        relative_errors=errors(combined),
        encoder_key=job.key,
    )


def combine(by_round: Sequence[Mapping[str, Figure]]) -> tuple[dict[str, Rounds], dict[str, str]]:
    """Return each figure over the rounds, and its source."""
    combined: dict[str, Rounds] = {}
    sources: dict[str, str] = {}
    for name, first in by_round[0].items():
        figures = [one[name] for one in by_round]
        combined[name] = Rounds.of([one.value for one in figures], [one.relative_error for one in figures])
        missing = [one.source for one in figures if one.value is None]
        sources[name] = missing[0] if missing else first.source
        if name in ENERGY and not missing and not resolved(combined[name]):
            seen = f"{combined[name].value:.3g}, relative standard error {combined[name].error:.0%}"
            sources[name] = f"not resolved: {seen}; {first.source}"
            combined[name] = Rounds(None, None, combined[name].values)
        elif len(set(combined[name].values)) > 1 and not missing:
            sources[name] += f"; median of {len(by_round)} rounds"
    return combined, sources


def resolved(figure: Rounds) -> bool:
    """Return whether the meter can tell an energy from nothing.

    >>> [resolved(Rounds(value, error, [value])) for value, error in ((1.0, 0.4), (1.0, 0.6), (-1.1, 0.1), (1.0, None))]
    [True, False, False, True]
    """
    return figure.value is not None and figure.value > 0 and RESOLVED * figure.error < 1


def fields(combined: Mapping[str, Rounds]) -> dict[str, Any]:
    """Return the values of the Profile's fields; counts stay whole numbers."""
    whole = {name for name, field in Profile.__dataclass_fields__.items() if field.type in (int, int | None)}
    return {
        name: int(figure.value) if name in whole and figure.value is not None else figure.value
        for name, figure in combined.items()
    }


def errors(combined: Mapping[str, Rounds]) -> dict[str, float]:
    """Return the relative errors of the figures that have one."""
    return {
        name: figure.relative_error
        for name, figure in combined.items()
        if figure.value is not None and figure.relative_error is not None
    }


def with_index(profile: Profile, indexes: Sequence[Mapping[str, Any]], seed: int) -> Profile:
    """Return the profile of the same encoder with another index, whose quality checks cover both.

    The encoding of a query and its search were timed apart. End to end is the distribution of their sum, taken as
    independent, from all pairs of a random pairing.

    Args:
        profile: of the encoder with the flat index.
        indexes: the results of the index meter for this index, by round, each with its `watch` and `threads`.
        seed: of the pairing and the bootstrap.
    """
    meters = meter.names()
    rounds = [{name: profile.details[name] for name in meters}, *profile.details["further_rounds"]]
    by_round = [
        _index_figures(rounds[number % len(rounds)]["latency"], index, seed) for number, index in enumerate(indexes)
    ]
    combined, sources = combine(by_round)
    known = {
        name: Rounds(getattr(profile, name), profile.relative_errors.get(name), values)
        for name, values in profile.details["rounds"].items()
    }
    summaries = [{key: value for key, value in index.items() if key != "calls_ms"} for index in indexes]
    both = [one | {"index": summaries[min(number, len(summaries) - 1)]} for number, one in enumerate(rounds)]
    quality = check_quality(both, known | combined, profile.details["again"], threads=profile.details["threads"])
    return replace(
        profile,
        **fields(combined),
        quality=verdict(quality),
        sources={**profile.sources, **sources},
        details={
            **profile.details,
            "index": summaries[0],
            "further_indexes": summaries[1:],
            "quality": quality,
            "rounds": profile.details["rounds"] | {name: list(figure.values) for name, figure in combined.items()},
        },
        relative_errors={**profile.relative_errors, **errors(combined)},
    )


def _index_figures(latency: Mapping[str, Any], index: Mapping[str, Any], seed: int) -> dict[str, Figure]:
    """Return the figures of one round: of the index itself, and end to end."""
    encode_ms, search_ms = np.array(latency["calls_ms"]["query"]), np.array(index["calls_ms"])
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
    return {
        field: Figure(estimate["value"], source, relative_error(estimate)) if estimate else Figure(None, source)
        for field, (estimate, source) in estimates.items()
    } | {
        "index_bytes_per_passage": Figure(index["bytes_per_passage"], f"measured: {name}"),
        "index_build_s": Figure(index["build_s"], f"measured: {name}"),
        "index_recall_10": Figure(index["recall"], f"measured: against exact search; {name}"),
    }


def with_query_encoder(passages: Profile, queries: Profile) -> Profile:
    """Return the profile of two encoders: one encodes the passages, the other the queries, in the process that serves.

    Args:
        passages: of the encoder of passages.
        queries: of the encoder of queries, which serves: latency, memory, size and energy of a query are its own.
    """
    kept = {name: getattr(passages, name) for name in OF_PASSAGES}
    checks = [check for profile in (queries, passages) for check in profile.details["quality"]["checks"]]
    sources = {name: f"{passages.sources[name]}; by the encoder of passages" for name in OF_PASSAGES}
    of_passages = {name: error for name, error in passages.relative_errors.items() if name in OF_PASSAGES}
    of_queries = {name: error for name, error in queries.relative_errors.items() if name not in OF_PASSAGES}
    return replace(
        queries,
        **kept,
        quality="failed" if "failed" in (queries.quality, passages.quality) else "passed",
        sources={**queries.sources, **sources},
        relative_errors={**of_queries, **of_passages},
        details={
            **queries.details,
            "quality": {**queries.details["quality"], "checks": checks},
            "of_passages": passages.encoder_key,
        },
        encoder_key=f"{passages.encoder_key}-{queries.encoder_key}",
    )


def with_corpus(profile: Profile, passages: int) -> Profile:
    """Return the profile with its index over a benchmark's passages, all languages together, and the memory of both."""
    per_passage = profile.index_bytes_per_passage
    if per_passage is None:
        source = profile.sources["index_bytes_per_passage"]
        return replace(profile, sources={**profile.sources, "index_mib": source, "serving_mib": source})
    index_mib = per_passage * passages / MIB
    serving_mib = profile.peak_rss_mib + index_mib
    errors = dict(profile.relative_errors)
    if "peak_rss_mib" in errors:  # the bytes of an index are counted
        errors["serving_mib"] = errors["peak_rss_mib"] * profile.peak_rss_mib / serving_mib
    source = f"modelled: index_bytes_per_passage x {passages:,} passages"
    sources = {"index_mib": source, "serving_mib": "measured: peak_rss_mib, with index_mib added"}
    return replace(
        profile,
        index_mib=index_mib,
        serving_mib=serving_mib,
        relative_errors=errors,
        sources={**profile.sources, **sources},
    )


def _by_language(rounds: Sequence[Results]) -> list[dict[str, object]]:
    """Return tokens, latency and energy of a query per language: medians over the rounds."""

    def median(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else None

    joules = [one["energy"].get("query", {}).get("j_per_1k_by_label", {}) for one in rounds]
    return [
        {
            "language": language,
            "tokens": queries["tokens_mean"],
            "query_p50_ms": median([one["latency"]["by_language"][language]["query_p50_ms"] for one in rounds]),
            "energy_j_per_1k_queries": median([one.get(language) for one in joules]),
        }
        for language, queries in rounds[0]["latency"]["by_language"].items()
    ]
