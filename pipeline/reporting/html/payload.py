"""The JSON that report.js draws, with the numbers of the csv files to six digits.

Tables are packed by column, and a text that recurs is written once: 1,000 systems have 12,000 points.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.analysis.costs import COSTS
from pipeline.analysis.tables import BIAS, BIAS_LABEL
from pipeline.reporting.figure import repeating
from pipeline.reporting.html import evidence, pools
from pipeline.reporting.html.languages import Matrices
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import accuracy, amount, between, probability
from pipeline.reporting.labels import named_by
from pipeline.reporting.looks import looks_of, strategy_name
from pipeline.retrieval.metrics import metric

POINT = ["benchmark", "setting", "cost", "system", "model", "strategy", "kind", "quality"]
POINT += ["value", "value_low", "value_high", "cost_drawn", "source", "accuracy", "accuracy_low"]
POINT += ["accuracy_high", "on_front", "on_front_with_bias", BIAS]


def payload(material: Material, matrices: Mapping[str, Matrices]) -> dict[str, Any]:
    """Return all that report.js draws, as JSON values."""
    points = material.tables["pareto"]
    lines = figures(material)
    sizes = dict(zip(points["system"], points[named_by(points)].astype(str), strict=True)) if len(points) else {}
    return {
        "points": packed(with_chances(points)),
        "fits": packed(material.tables.get("fits", pd.DataFrame())),
        "pools": packed(pools.curves(material)),
        "pool_metric": pools.NDCG.label,
        "repeats_latency": sorted(repeating(points)),
        "costs": {cost.field: cost.label for cost in COSTS} | {BIAS: BIAS_LABEL},
        "settings": {
            benchmark: {setting: material.accuracy_label(benchmark, setting) for setting in settings}
            for benchmark, settings in material.scales.items()
        },
        "looks": {
            strategy: {"name": strategy_name(strategy)} | look.in_browser
            for column in ("strategy", "kind")
            for strategy, look in looks_of(material.systems[column].unique()).items()
        },
        "figures": lines,
        "systems": {
            system: {
                "label": material.label(system),
                "size": sizes.get(system),  # None: it has no point
                "variant": material.records[system][0].variant,
                "figures": list(values(material, system, lines)),
            }
            for system in material.systems.index
        },
        "published": evidence.overlay(material),
        "matrices": {benchmark: of_benchmark._asdict() for benchmark, of_benchmark in matrices.items()},
    }


def with_chances(points: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the points that are drawn, and in how many draws each is on the Pareto front, in words."""
    if points.empty:
        return points
    drawn = points[[column for column in POINT if column in points]]
    texts = {"chance": "front_probability", "chance_with_bias": "front_with_bias_probability"}
    chances = {name: points[column].map(probability) for name, column in texts.items() if column in points}
    return drawn.assign(source=points["source"].str.split(":").str[0], **chances)


def figures(material: Material) -> dict[str, str]:
    """Name the lines of figures that a system may have: by 'benchmark|setting', field of a cost, or word."""
    lines = {"seeds": "seeds", "layers": "layers"}
    for benchmark, settings in material.scales.items():
        for setting in settings:
            lines[f"{benchmark}|{setting}"] = f"{material.accuracy_label(benchmark, setting)}, {benchmark}"
        if f"metrics.{benchmark}.multi.{BIAS}" in material.systems:
            lines[f"{benchmark}|{BIAS}"] = f"{metric(BIAS).label}, {benchmark}"
    return lines | {cost.field: cost.label for cost in material.axes} | {"quality": "quality checks"}


def values(material: Material, system: str, lines: Mapping[str, str]) -> list[str | None]:
    """Write the figures of one system in the order of `lines`; None for what it lacks."""
    row = material.systems.loc[system]
    texts = {"seeds": str(row["seeds"]), "layers": str(row["layers"]), "quality": material.quality(system)}
    for benchmark, settings in material.scales.items():
        for setting in settings:
            interval = material.accuracy_intervals.get((system, benchmark, setting))
            texts[f"{benchmark}|{setting}"] = between(material.accuracy(system, benchmark, setting), interval, accuracy)
        bias = row.get(f"metrics.{benchmark}.multi.{BIAS}")
        texts[f"{benchmark}|{BIAS}"] = between(bias, material.bias_intervals.get((system, benchmark)), amount)
    for cost in material.axes:
        if pd.notna(row[cost.column]):
            value = between(row[cost.column], material.cost_interval(system, cost), amount)
            texts[cost.field] = f"{value}, {row[cost.source].split(':')[0]}"
    return [texts.get(key) for key in lines]


def packed(table: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of a table as JSON: numbers to six digits; texts as their distinct values and the places.

    >>> packed(pd.DataFrame({"model": ["small", "small"], "value": [1.23456789, None]}))
    {'model': {'of': ['small'], 'at': [0, 0]}, 'value': [1.23457, None]}
    """
    return {str(name): packed_column(table[name]) for name in table}


def packed_column(column: pd.Series) -> Any:
    """Return one column as JSON."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_integer_dtype(column):
        return column.tolist()
    if pd.api.types.is_float_dtype(column):
        return [float(f"{value:.6g}") if np.isfinite(value) else None for value in column]
    places, distinct = pd.factorize(column)
    return {"of": distinct.tolist(), "at": places.tolist()}


def as_json(value: Any) -> Markup:
    """Serialise for a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
