"""Accuracy and cost by strategy and size, and the grade of every profile."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

from pipeline.reporting.figure import SETTINGS
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material, profile_interval
from pipeline.reporting.html.show import Cell, Row, Table, row

FURTHER_COSTS = {  # fields of the Profile that no front is drawn over
    "query_latency_p50_ms": "query latency, p50 (ms)",
    "energy_j_per_1k_passages": "energy per 1,000 passages (J)",
    "weights_on_disk_mib": "weights on disk (MiB)",
    "index_bytes_per_passage": "index (bytes a passage)",
}


class Block(NamedTuple):
    """Rows of a table by size: one value a variant."""

    values: pd.Series
    intervals: Mapping[str, tuple[float, float] | None]
    form: Callable[[float], str]
    best: Callable[[pd.Series], float]


def by_size(material: Material, caption: str, blocks: Mapping[str, Block]) -> Table:
    """Strategy x size; the best of each size and block is bold."""
    variants = material.variants
    place = {(material.about(v, "model"), material.batches[v]): v for v in material.records}
    rows = []
    for name, block in blocks.items():
        best = {model: block.best(block.values[group.index]) for model, group in variants.groupby("model")}
        for batches in dict.fromkeys(material.batches[variant] for variant in block.values.dropna().index):
            cells = [Cell(name), Cell(batches)]
            for model in material.models:
                variant = place.get((model, batches))
                value = block.values[variant] if variant else float("nan")
                text = show.between(value, block.intervals.get(variant or ""), block.form)
                cells.append(Cell(text, "best" if value == best[model] else ""))
            rows.append(Row(cells))
    return Table(caption, ["", "batches", *material.models], rows, labels=2)


def accuracies(material: Material, benchmark: str) -> Table:
    blocks = {}
    for setting in material.scales[benchmark]:
        values = material.variants[f"metrics.{benchmark}.{setting}.map"]
        known = {v: material.accuracy_intervals.get((v, benchmark, setting)) for v in material.records}
        blocks[SETTINGS[setting]] = Block(values, known, show.accuracy, pd.Series.max)
    return by_size(material, f"Accuracy on {benchmark}; the best of each size is bold", blocks)


def costs(material: Material) -> Table:
    """A column a profile: strategies of one architecture share it, and so do the indexes that its embeddings go to."""
    runs = material.found["runs"].set_index("name")
    named = {cost.field: (cost.label, material.how(cost.source)) for cost in material.costs}
    rows = []
    further = {field: (label, material.how(f"profile.sources.{field}")) for field, label in FURTHER_COSTS.items()}
    for field, (label, how) in (named | further).items():
        values = runs[f"profile.{field}"].astype(float)
        if values.isna().all():
            continue
        cells = [Cell(label), Cell(how)]
        for profiled in material.profiles:
            text = show.between(values[profiled.runs[0]], profile_interval(profiled.profile, field), show.amount)
            cells.append(Cell(text, "" if profiled.profile.grade_passed else "doubt"))
        rows.append(Row(cells))
    columns = ["cost", "", *(profiled.label for profiled in material.profiles)]
    return Table("Cost; intervals where a meter gives one", columns, rows, labels=2)


def grades(material: Material) -> Table:
    rows = [
        row(
            profiled.label,
            check["name"],
            show.plain(check["value"]),
            check["limit"],
            Cell("passed", "passed") if check["passed"] else Cell("failed", "failed"),
        )
        for profiled in material.profiles
        for check in profiled.profile.details["grade"]["checks"]
    ]
    columns = ["profile", "check", "found", "limit", "grade"]
    return Table("Every check of every profile", columns, rows, labels=2)
