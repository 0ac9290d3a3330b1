"""Writes report.html: one file that works offline, made of the tables of a sweep and the records behind them.

Tables and sentences are made here. The figures are drawn in the browser (report.js) from JSON in the file, which holds
the numbers of the csv files.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.analysis.costs import COSTS
from pipeline.analysis.tables import BIAS, BIAS_LABEL
from pipeline.reporting.figure import repeating
from pipeline.reporting.html import evidence, languages, pools, statistics, tables
from pipeline.reporting.html.findings import findings
from pipeline.reporting.html.languages import Matrices
from pipeline.reporting.html.material import Material, gather
from pipeline.reporting.html.show import accuracy, amount, between, probability
from pipeline.reporting.html.verdict import verdict
from pipeline.reporting.looks import looks_of, strategy_name
from pipeline.retrieval.metrics import metric
from pipeline.store.files import write_atomically
from pipeline.store.progress import counted
from pipeline.store.results import ResultStore

HERE = Path(__file__).parent


def write(store: ResultStore, sweep: str, tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write report.html from the tables that analysis.analyse returned for a sweep."""
    text = render(gather(store, sweep, tables))
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def render(material: Material) -> str:
    """Return the text of report.html."""
    matrices = languages.matrices(material)
    template = environment().get_template("template.html")
    return template.render(
        sweep=material.sweep,
        metrics=material.metrics,
        machines=list(material.systems["machine"].dropna().unique()),
        seeds=sorted({record.seed for record in material.all_records()}),
        verdict=verdict(material),
        findings=findings(material),
        has_front=not material.tables["pareto"].empty,
        has_attraction=any(of_benchmark.attraction for of_benchmark in matrices.values()),
        has_matrix=bool(matrices),
        accuracies=[tables.accuracies(material, benchmark) for benchmark in material.scales],
        costs=tables.costs(material) if material.profiles else None,
        statistics=statistics.statistics(material),
        bias=[table for benchmark in material.scales if (table := languages.bias(material, benchmark))],
        language_costs=languages.costs(material),
        pools=pools.full(material),
        quality_checks=tables.quality_checks(material),
        failures=evidence.failures(material),
        published=evidence.published_tables(),
        provenance=evidence.provenance(material),
        runs=evidence.runs(material),
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        data=as_json(payload(material, matrices)),
    )


def environment() -> jinja2.Environment:
    """Return the templates of this folder."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def payload(material: Material, matrices: Mapping[str, Matrices]) -> dict[str, Any]:
    """Return all that report.js draws, as JSON values."""
    points = material.tables["pareto"].astype(object)
    chances = points.filter(["front_probability", "front_with_bias_probability"])
    return {
        "points": points.where(points.notna(), None).to_dict("records"),
        "chances": [[probability(share) for share in shares] for shares in chances.to_numpy()],
        "fits": material.tables.get("fits", pd.DataFrame()).to_dict("records"),
        "pools": pools.curves(material),
        "pool_metric": pools.NDCG.label,
        "repeats_latency": sorted(repeating(points)),
        "costs": {cost.field: cost.label for cost in COSTS} | {BIAS: BIAS_LABEL},
        "settings": {
            benchmark: {setting: material.accuracy_label(benchmark, setting) for setting in settings}
            for benchmark, settings in material.scales.items()
        },
        "looks": {
            strategy: {"name": strategy_name(strategy), "colour": look.colour, "symbol": look.symbol}
            for strategy, look in looks_of(material.systems["strategy"].unique()).items()
        },
        "systems": {
            system: {
                "label": material.label(system),
                "variant": material.records[system][0].variant,
                "numbers": numbers(material, system),
            }
            for system in material.systems.index
        },
        "published": evidence.overlay(material),
        "matrices": {benchmark: of_benchmark._asdict() for benchmark, of_benchmark in matrices.items()},
    }


def numbers(material: Material, system: str) -> list[str]:
    """Write all figures of one system, one line each."""
    values = material.systems.loc[system]
    lines = [f"{counted(values['layers'], 'layer')}, seeds: {values['seeds']}"]
    for benchmark, settings in material.scales.items():
        for setting in settings:
            interval = material.accuracy_intervals.get((system, benchmark, setting))
            value = between(material.accuracy(system, benchmark, setting), interval, accuracy)
            lines.append(f"{material.accuracy_label(benchmark, setting)} {value}, {benchmark}")
        if (column := f"metrics.{benchmark}.multi.{BIAS}") in values:
            interval = material.bias_intervals.get((system, benchmark))
            lines.append(f"{metric(BIAS).label} {between(values[column], interval, amount)}")
    for cost in material.axes:
        if pd.notna(values[cost.column]):
            value = between(values[cost.column], material.cost_interval(system, cost), amount)
            lines.append(f"{cost.label} {value}, {values[cost.source].split(':')[0]}")
    lines.append(f"quality checks: {material.quality(system)}")
    return lines


def as_json(value: Any) -> Markup:
    """Serialise for a script element: no text in it can end the element."""
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))
