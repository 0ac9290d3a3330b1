"""What depends on language: the matrix of query by passage language, the bias, and the cost of a query."""

from functools import reduce
from typing import Any

import pandas as pd

from pipeline.analysis.tables import ACCURACY, BIAS
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Cell, Row, Table, amount
from pipeline.reporting.html.tables import Block, by_size
from pipeline.values import Profile


def plain_matrix(frame: pd.DataFrame, languages: list[str]) -> list[list[float | None]]:
    """Rows and columns in the order of `languages`; None where a pair was not measured."""
    ordered = frame.reindex(index=languages, columns=languages).astype(object)
    return ordered.where(ordered.notna(), None).to_numpy().tolist()


def seed_mean(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return reduce(pd.DataFrame.add, frames) / len(frames)


def matrices(material: Material) -> dict[str, dict[str, Any]]:
    """By benchmark with a cross-lingual setting: its languages, and by variant mAP (mono on the diagonal, cross
    elsewhere; row: query language) and, where there is a multilingual pool, attraction (metrics.language_attraction).
    """
    found: dict[str, dict[str, Any]] = {}
    for benchmark, settings in material.scales.items():
        if "cross" not in settings:
            continue
        table: dict[str, dict[str, pd.DataFrame]] = {"mAP": {}, "attraction": {}}
        for variant, records in evaluated(material, benchmark).items():
            pairs = [material.store.per_query(record.name, benchmark).query("setting != 'multi'") for record in records]
            keys = ["query_language", "passage_language"]
            maps = [rows.groupby(keys, sort=False)[ACCURACY].mean().unstack(sort=False) for rows in pairs]
            table["mAP"][variant] = seed_mean(maps)
            paths = [material.store.run_dir(record.name) / f"attraction-{benchmark}.parquet" for record in records]
            if all(path.exists() for path in paths):  # runs before it was kept have none
                shares = [pd.read_parquet(path).set_index("query_language") for path in paths]
                table["attraction"][variant] = seed_mean(shares)
        languages = sorted(next(iter(table["mAP"].values())).index)
        plain = {kind: {v: plain_matrix(frame, languages) for v, frame in by.items()} for kind, by in table.items()}
        found[benchmark] = {"languages": languages} | plain
    return found


def evaluated(material: Material, benchmark: str) -> dict[str, list]:
    """The runs of each variant that has figures on a benchmark, the most accurate in its last setting first."""
    column = f"metrics.{benchmark}.{material.scales[benchmark][-1]}.{ACCURACY}"
    scored = material.variants[column].dropna().sort_values(ascending=False, kind="stable").index
    return {variant: material.records[variant] for variant in scored}


def bias(material: Material, benchmark: str) -> Table | None:
    """Rank distance by strategy and size, with its intervals; None without a multilingual pool."""
    column = f"metrics.{benchmark}.multi.{BIAS}"
    if column not in material.variants:
        return None
    intervals = {variant: material.bias_intervals.get((variant, benchmark)) for variant in material.records}
    blocks = {"rank distance": Block(material.variants[column], intervals, amount, pd.Series.min)}
    return by_size(material, f"Language bias on {benchmark}: lower is better, the lowest of each size bold", blocks)


COSTS = {  # as they are called, and in a profile's details["by_language"]
    "tokens": "tokens",
    "query latency, p50 (ms)": "query_p50_ms",
    "energy per 1,000 queries (J)": "energy_j_per_1k_queries",
}


def by_language(profile: Profile, field: str) -> dict[str, float]:
    rows = profile.details.get("by_language", [])
    return {row["language"]: row[field] for row in rows if row[field] is not None}


def costs(material: Material) -> Table | None:
    """A row a figure and profile, a column a language; None where no meter looked at languages."""
    found = {
        (figure, profiled.label): values
        for figure, field in COSTS.items()
        for profiled in material.profiles
        if (values := by_language(profiled.profile, field))
    }
    if not found:
        return None
    names = sorted(set().union(*found.values()))
    rows = []
    for (figure, label), values in found.items():
        top = max(values.values())
        bars = [Cell(amount(values[name]), "bar", max(values[name] / top, 0.0)) for name in names]
        rows.append(Row([Cell(figure), Cell(label), *bars]))
    return Table(
        "What a query costs in each language; bars: share of the row's dearest", ["", "", *names], rows, labels=2
    )
