"""What depends on language: the matrix of query by passage language, language bias, and the cost of a query."""

from collections.abc import Sequence
from functools import reduce
from math import isnan
from typing import NamedTuple

import pandas as pd

from pipeline.analysis.scores import PAIR, blocks
from pipeline.analysis.tables import BIAS
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Row, Table, TableCell, amount
from pipeline.reporting.html.tables import Block, by_model
from pipeline.retrieval.metrics import Metric, metric
from pipeline.store.records import Profile, Record
from pipeline.store.results import ResultStore

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
        main, runs = material.metrics[benchmark], evaluated(material, benchmark)
        scored = [record.name for records in runs.values() for record in records]
        by_run = language_matrices(material.store, scored, benchmark, main)
        accuracy, attraction = {}, {}
        for system, records in runs.items():
            names = [record.name for record in records]
            accuracy[system] = seed_mean([by_run[name] for name in names])
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


def language_matrices(
    store: ResultStore, names: Sequence[str], benchmark: str, main: Metric
) -> dict[str, pd.DataFrame]:
    """Return retrieval.metrics.language_matrix of each run; runs with the same queries are grouped together."""
    by_run: dict[str, pd.DataFrame] = {}
    for block in blocks(store, names, benchmark, [main.name]):
        pairs = block.rows.select(PAIR).to_pandas().astype(str)
        inside = block.rows["setting"].to_numpy() != "multi"
        scores = pd.DataFrame(block.values(main.name)[inside], columns=block.names)
        means = scores.groupby([pairs.loc[inside, key].to_numpy() for key in PAIR], sort=False).mean()
        means = means.rename_axis(index=PAIR)
        by_run |= {name: means[name].unstack(sort=False) for name in block.names}
    return by_run


def seed_mean(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Average matrices of equal shape."""
    return reduce(pd.DataFrame.add, frames) / len(frames)


def values(matrix: pd.DataFrame, languages: list[str]) -> Values:
    """List a matrix, to five decimals, with rows and columns in the order of `languages`."""
    ordered = matrix.reindex(index=languages, columns=languages).to_numpy().round(5).tolist()
    return [[None if isnan(value) else value for value in line] for line in ordered]


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
