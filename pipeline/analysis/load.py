"""Load results beside a sweep's runs: the capacity as a column of the table of runs, and latency against rate.

A load result belongs to a run (`python -m pipeline.load`). Runs that share its profile and inference variant share its
capacity too, as they share every cost.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from pipeline.analysis.costs import COSTS, MS_PER_S
from pipeline.analysis.money import CAPACITY, CAPACITY_J, LOADED
from pipeline.store import capacity
from pipeline.store.capacity import Capacity
from pipeline.store.progress import counted
from pipeline.store.results import ResultStore
from pipeline.values import UserError

P99_MS = "load.p99_ms"  # column: the limit at which the capacity was measured
FIGURES = [f"profile.{CAPACITY}", f"profile.relative_errors.{CAPACITY}", f"profile.{CAPACITY_J}", P99_MS]
SOURCES = [f"profile.sources.{field}" for field in LOADED]
SAME = ("p99_ms", "index_rows")  # settings that must agree within a sweep
CURVE = ["system", "model", "strategy", "variant", "rate_per_s", "p50_ms", "p99_ms", "refused", "valid"]
CURVE += ["queries_per_s_at_p99", "limit_ms", "failed_checks"]


def results(store: ResultStore, runs: pd.DataFrame) -> dict[tuple[str, str], Capacity]:
    """Return the load results of a sweep's runs, by encoder key and inference variant.

    Raises:
        UserError: two of them were measured with different limits or sizes of the index.
    """
    if "profile.encoder_key" not in runs:
        return {}
    known: dict[tuple[str, str], Capacity] = {}
    first: Capacity | None = None
    for name, *key in runs[["name", "profile.encoder_key", "variant"]].dropna().itertuples(index=False):
        result = capacity.read(store.root, name)
        if not result:
            continue
        first = first or result
        for setting in SAME:
            one, other = first.settings[setting], result.settings[setting]
            if one != other:
                says = f"load results of {first.name} and {result.name} have {setting}={one:g} and {other:g}"
                raise UserError(f"{says}: they cannot be compared. Measure one of them again.")
        known.setdefault((key[0], key[1]), result)
    return known


def with_capacity(runs: pd.DataFrame, store: ResultStore) -> pd.DataFrame:
    """Return the table of runs with FIGURES and SOURCES; unchanged if no load was measured.

    A capacity of another machine than the profile's is left out, and its source says so.
    """
    known = results(store, runs)
    if not known:
        return runs
    of_runs = runs[["profile.encoder_key", "variant", "machine"]].itertuples(index=False)
    rows = [columns_of(known.get((key, variant)), machine) for key, variant, machine in of_runs]
    added = pd.DataFrame(rows, runs.index, [*FIGURES, *SOURCES]).astype(dict.fromkeys(FIGURES, float))
    table = runs.join(added)
    inverse = {cost.column: MS_PER_S / table[f"profile.{CAPACITY}"] for cost in COSTS if cost.inverse_of == CAPACITY}
    return table.assign(**inverse)


def columns_of(result: Capacity | None, machine: str) -> dict[str, object]:
    """Return FIGURES and SOURCES, as far as they are known, of a profile that was measured on `machine`."""
    if result is None:
        return {}
    elsewhere = machine_of(result) != machine
    says: dict[str, object] = {f"profile.sources.{CAPACITY}": source(result, machine if elsewhere else None)}
    if elsewhere or result.queries_per_s_at_p99 is None:
        return says
    values = (result.queries_per_s_at_p99, relative_error(result), result.energy_j_per_1k_queries, result.p99_ms)
    return says | dict(zip(FIGURES, values, strict=True)) | {f"profile.sources.{CAPACITY_J}": result.energy_source}


def relative_error(result: Capacity) -> float:
    """Return the relative standard error of the mean over rounds; NaN for one round."""
    rates = [rate for rate in result.rounds if rate]
    return float(np.std(rates, ddof=1) / len(rates) ** 0.5 / np.median(rates)) if len(rates) > 1 else np.nan


def machine_of(result: Capacity) -> str:
    """Return the machine of a load result, as the tables name that of a profile (analysis.machines)."""
    facts = result.machine
    gpu = facts.get("gpu") if facts["device"] == "cuda" else None
    return str(gpu or f"{facts['cpu']}, {counted(facts['threads'], 'thread')}")


def source(result: Capacity, profiled_on: str | None) -> str:
    """Return how a capacity came about.

    Args:
        profiled_on: the machine of the profile, if it is another one.
    """
    if profiled_on:
        return f"not measured: the load was put on {machine_of(result)}, the profile is of {profiled_on}"
    if result.queries_per_s_at_p99 is None:
        return f"not measured: no rate holds a p99 of {result.p99_ms:g} ms"
    searched = f"with a search of {result.index}" if result.index else "the encoder alone"
    rules = "" if result.by_the_rules else ", in tests shorter than MLPerf's"
    failed = f"; failed quality checks: {', '.join(result.failed_checks)}" if result.failed_checks else ""
    return f"measured: LoadGen Server, p99 of {result.p99_ms:g} ms, {searched}{rules}; on run {result.name}{failed}"


def curves(store: ResultStore, runs: pd.DataFrame) -> pd.DataFrame:
    """Return CURVE, one row per system and rate that was tried, the lowest first; empty if no load was measured."""
    return pd.DataFrame(_rows(results(store, runs), runs), columns=CURVE)


def _rows(known: Mapping[tuple[str, str], Capacity], runs: pd.DataFrame) -> Iterator[dict[str, object]]:
    for result in known.values():
        run = runs[runs["name"] == result.name].iloc[0]
        for test in result.server_tests():
            labels = {name: run[name] for name in ("system", "model", "strategy", "variant")}
            figures = {name: getattr(test, name) for name in ("rate_per_s", "p50_ms", "p99_ms", "refused", "valid")}
            figures |= {CAPACITY: result.queries_per_s_at_p99, "limit_ms": result.p99_ms}
            yield labels | figures | {"failed_checks": ", ".join(result.failed_checks)}
