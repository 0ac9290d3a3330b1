"""What depends on language: the matrix of query by passage language, language bias, and the cost of a query."""

from functools import reduce
from typing import NamedTuple

import pandas as pd

from pipeline.analysis.tables import BIAS
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Row, Table, TableCell, amount
from pipeline.reporting.html.tables import Block, by_model
from pipeline.retrieval.metrics import language_matrix, metric
from pipeline.store.records import Profile, Record

Values = list[list[float | None]]  # row: query language, column: passage language; None: not measured


class Matrices(NamedTuple):
    """The language matrices of one benchmark, by system.

    `accuracy` holds the main metric: mono on the diagonal, cross elsewhere. `attraction`
    (retrieval.metrics.language_attraction) is empty without a multilingual pool.
    """

    languages: list[str]
    metric: str  # label of the main metric
    accuracy: dict[str, Values]
    attraction: dict[str, Values]


def matrices(material: Material) -> dict[str, Matrices]:
    """Return the language matrices, means over seeds, of each benchmark with a cross-lingual setting."""
    by_benchmark = {}
    for benchmark, settings in material.scales.items():
        if "cross" not in settings:
            continue
        main = material.metrics[benchmark]
        accuracy, attraction = {}, {}
        for system, records in evaluated(material, benchmark).items():
            names = [record.name for record in records]
            tables = [material.store.per_query(name, benchmark) for name in names]
            accuracy[system] = seed_mean([language_matrix(table, main.name) for table in tables])
            shares = [share for name in names if (share := material.store.attraction(name, benchmark)) is not None]
            if len(shares) == len(names):
                attraction[system] = seed_mean(shares)
        languages = sorted(next(iter(accuracy.values())).index)
        by_benchmark[benchmark] = Matrices(
            languages,
            main.label,
            {system: values(frame, languages) for system, frame in accuracy.items()},
            {system: values(frame, languages) for system, frame in attraction.items()},
        )
    return by_benchmark


def seed_mean(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Average matrices of equal shape."""
    return reduce(pd.DataFrame.add, frames) / len(frames)


def values(matrix: pd.DataFrame, languages: list[str]) -> Values:
    """List a matrix, to five decimals, with rows and columns in the order of `languages`."""
    ordered = matrix.reindex(index=languages, columns=languages).round(5).astype(object)
    return ordered.where(ordered.notna(), None).to_numpy().tolist()


def evaluated(material: Material, benchmark: str) -> dict[str, list[Record]]:
    """Return the runs of each system that has figures on a benchmark, the most accurate in its last setting first."""
    column = material.accuracy_column(benchmark, material.scales[benchmark][-1])
    scored = material.systems[column].dropna().sort_values(ascending=False, kind="stable").index
    return {system: material.records[system] for system in scored}


def bias(material: Material, benchmark: str) -> Table | None:
    """Tabulate language bias by strategy and model, with its intervals; None without a multilingual pool."""
    column = f"metrics.{benchmark}.multi.{BIAS}"
    if column not in material.systems:
        return None
    intervals = {system: material.bias_intervals.get((system, benchmark)) for system in material.records}
    block = Block(material.systems[column], intervals, amount, metric(BIAS))
    caption = f"Language bias on {benchmark}; lower is better; bold: best of each model"
    return by_model(material, caption, {metric(BIAS).label: block})


def by_language(profile: Profile, key: str) -> dict[str, float]:
    """Return a figure of a query (a key of the details `by_language`) for each language that has it."""
    rows = profile.details.get("by_language", [])
    return {row["language"]: row[key] for row in rows if row[key] is not None}


def costs(material: Material) -> Table | None:
    """Tabulate one row per figure and profile, one column per language; None if no meter measured languages."""
    labels = {"tokens": "tokens per query, counted"}
    labels |= {
        cost.by_language: f"{cost.label}, {material.origin(cost)}" for cost in material.costs if cost.by_language
    }
    figures = {
        (label, profiled.label): figure
        for key, label in labels.items()
        for profiled in material.profiles
        if (figure := by_language(profiled.profile, key))
    }
    if not figures:
        return None
    names = sorted(set().union(*figures.values()))
    rows = []
    for (label, profile), figure in figures.items():
        highest = max(figure.values())
        bars = [TableCell(amount(figure[name]), "bar", max(figure[name] / highest, 0.0)) for name in names]
        rows.append(Row([TableCell(label), TableCell(profile), *bars]))
    caption = "Cost of a query by language; bars: share of the highest value in the row"
    return Table(caption, ["cost", "profile", *names], rows, labels=2)
