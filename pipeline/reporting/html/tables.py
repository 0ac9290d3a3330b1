"""Accuracy and cost by strategy and model, and the quality checks of every profile."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

from pipeline.analysis.tables import PASSED
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Interval, Material, cost_interval
from pipeline.reporting.html.show import Row, Table, TableCell, row
from pipeline.retrieval.metrics import Metric

NOT_RESOLVED = "not resolved"  # how the source of a figure begins that is too small for its meter


class Block(NamedTuple):
    """Rows of a table by model: one value per system."""

    values: pd.Series
    intervals: Mapping[str, Interval | None]
    form: Callable[[float], str]
    metric: Metric

    def best(self, systems: pd.Index) -> float:
        """Return the best value of some systems, in the direction of the metric."""
        values = self.values[systems]
        return values.max() if self.metric.higher_is_better else values.min()

    def entries(self) -> dict[str, TableCell]:
        """Write the value of each system with its interval, which is also drawn on an axis that all share."""
        intervals = [self.intervals.get(str(system)) for system in self.values.index]
        marks = show.marks(list(self.values), intervals)
        return {
            str(system): TableCell(show.between(value, interval, self.form), mark=mark)
            for (system, value), interval, mark in zip(self.values.items(), intervals, marks, strict=True)
        }


def by_model(material: Material, caption: str, blocks: Mapping[str, Block]) -> Table:
    """Tabulate strategy x model; the best value of each model and block is bold."""
    systems, listed = material.systems, material.listed
    positions = {(material.value(name, "model"), material.short_labels[name]): name for name in listed}
    models = [model for model in material.models if model in set(systems.loc[listed, "model"])]
    rows = []
    for name, block in blocks.items():
        best = {model: block.best(group.index) for model, group in systems.groupby("model")}
        by_system = block.entries()
        for strategy in dict.fromkeys(material.short_labels[system] for system in block.values[listed].dropna().index):
            entries = [TableCell(name), TableCell(strategy)]
            for model in models:
                system = positions.get((model, strategy))
                entry = by_system[system] if system else TableCell(show.MISSING)
                is_best = system is not None and block.values[system] == best[model]
                entries.append(entry._replace(kind="best") if is_best else entry)
            rows.append(Row(entries))
    return Table(material.caption(caption, "systems"), ["metric", "batch strategy", *models], rows, labels=2)


def accuracies(material: Material, benchmark: str) -> Table:
    """Tabulate the main metric of a benchmark, one block per setting."""
    blocks = {}
    for setting in material.scales[benchmark]:
        values = material.systems[material.accuracy_column(benchmark, setting)]
        intervals = {name: material.accuracy_intervals.get((name, benchmark, setting)) for name in material.records}
        label = material.accuracy_label(benchmark, setting)
        blocks[label] = Block(values, intervals, show.accuracy, material.metrics[benchmark])
    return by_model(material, f"Accuracy on {benchmark}; bold: best of each model", blocks)


def costs(material: Material) -> Table:
    """Tabulate one column per profile; strategies and indexes of one architecture share it."""
    runs = material.tables["runs"].set_index("name")
    rows = []
    for cost in material.costs:
        entries = [TableCell(cost.label), TableCell(material.origin(cost))]
        for profiled in material.profiles:
            run = runs.loc[profiled.runs[0]]
            text = show.between(run[cost.column], cost_interval(run, cost), show.amount)
            if str(run[cost.source]).startswith(NOT_RESOLVED):
                text = NOT_RESOLVED
            entries.append(TableCell(text, "" if profiled.profile.quality == PASSED else "doubt"))
        rows.append(Row(entries))
    columns = ["cost", "source", *(profiled.label for profiled in material.profiles)]
    return Table("Cost; with a 95 % interval where the meter gives one", columns, rows, labels=2)


def quality_checks(material: Material) -> Table:
    """Tabulate every quality check of every profile."""
    rows = [
        row(
            profiled.label,
            check["name"],
            show.plain(check["value"]),
            check["limit"],
            TableCell("passed", "passed") if check["passed"] else TableCell("failed", "failed"),
        )
        for profiled in material.profiles
        for check in profiled.profile.details["quality"]["checks"]
    ]
    columns = ["profile", "quality check", "value", "limit", "result"]
    return Table("Quality checks of all profiles", columns, rows, labels=2)
