"""Writes report.html: one file that works offline, made of a sweep's tables and the records behind them.

`aggregate` calls it last. Figures are drawn in the browser (page.js) from the JSON in the page, whose numbers are those
of the csv; tables and sentences are made here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.analysis.tables import BIAS, BIAS_LABEL, COSTS, GRADE
from pipeline.reporting.figure import SETTINGS, looks_of
from pipeline.reporting.html import evidence, languages, pools, statistics, tables
from pipeline.reporting.html.findings import findings
from pipeline.reporting.html.material import Material, gather
from pipeline.reporting.html.show import accuracy, amount, between, probability, strategy_name
from pipeline.reporting.html.verdict import verdict
from pipeline.store.results import ResultStore, write_atomically

HERE = Path(__file__).parent
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}


def write(store: ResultStore, sweep: str, found: Mapping[str, pd.DataFrame], path: Path) -> None:
    """`found` is what aggregate.analyse returned for the sweep."""
    text = render(gather(store, sweep, found))
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def render(material: Material) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    matrices = languages.matrices(material)
    return environment.get_template("template.html").render(
        sweep=material.sweep,
        benchmarks=list(material.scales),
        machines=list(material.variants["machine"].dropna().unique()),
        seeds=sorted({record.seed for record in material.all_records()}),
        verdict=verdict(material),
        findings=findings(material),
        has_front=not material.found["pareto"].empty,
        has_attraction=any(found["attraction"] for found in matrices.values()),
        has_matrix=bool(matrices),
        accuracies=[tables.accuracies(material, benchmark) for benchmark in material.scales],
        costs=tables.costs(material) if material.profiles else None,
        statistics=statistics.statistics(material),
        bias=[table for benchmark in material.scales if (table := languages.bias(material, benchmark))],
        language_costs=languages.costs(material),
        pools=pools.full(material),
        grades=tables.grades(material),
        failures=evidence.failures(material),
        published=evidence.published_tables(),
        provenance=evidence.provenance(material),
        runs=evidence.runs(material),
        style=Markup((HERE / "page.css").read_text()),
        script=Markup((HERE / "page.js").read_text()),
        plotly=Markup(get_plotlyjs()),
        data=as_json(payload(material, matrices)),
    )


def payload(material: Material, matrices: dict[str, Any]) -> dict[str, Any]:
    """All that page.js draws."""
    points = material.found["pareto"].astype(object)
    chances = points.filter(["front_probability", "front_with_bias_probability"])
    return {
        "points": points.where(points.notna(), None).to_dict("records"),
        "chances": [[probability(share) for share in shares] for shares in chances.to_numpy()],
        "fits": material.found.get("fits", pd.DataFrame()).to_dict("records"),
        "pools": pools.curves(material),
        "costs": {cost.field: cost.label for cost in COSTS} | {BIAS: BIAS_LABEL},
        "settings": SETTINGS,
        "looks": {
            strategy: {"name": strategy_name(strategy), "colour": colour, "symbol": SYMBOLS[marker]}
            for strategy, (colour, marker) in looks_of(material.variants["strategy"].unique()).items()
        },
        "cells": {
            variant: {
                "label": material.label(variant),
                "served": material.records[variant][0].served,
                "numbers": numbers(material, variant),
            }
            for variant in material.variants.index
        },
        "published": evidence.overlay(material),
        "matrices": matrices,
    }


def numbers(material: Material, variant: str) -> list[str]:
    """All figures of one cell in words, a line each."""
    about = material.variants.loc[variant]
    lines = [f"{about['layers']} layers, seeds: {about['seeds']}"]
    for benchmark, settings in material.scales.items():
        for setting in settings:
            known = material.accuracy_intervals.get((variant, benchmark, setting))
            value = between(material.accuracy(variant, benchmark, setting), known, accuracy)
            lines.append(f"{SETTINGS[setting]} {value}, {benchmark}")
        if (column := f"metrics.{benchmark}.multi.{BIAS}") in about:
            lines.append(
                f"rank distance {between(about[column], material.bias_intervals.get((variant, benchmark)), amount)}"
            )
    for cost in material.costs:
        if pd.isna(about[cost.column]):
            continue
        value = between(about[cost.column], material.cost_interval(variant, cost.field), amount)
        lines.append(f"{cost.label} {value}, {about[cost.source].split(':')[0]}")
    if pd.notna(about.get(GRADE)):
        lines.append(f"grade of the profile: {'passed' if about[GRADE] else 'failed'}")
    return lines


def as_json(value: Any) -> Markup:
    """For a script element: no text in it can end the element."""
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))
