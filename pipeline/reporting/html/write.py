"""Writes report.html: one file that works offline, made of the tables of a sweep and the records behind them.

Tables and sentences are made here. The figures are drawn in the browser (report.js) from JSON in the file (payload.py).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from pipeline.reporting.html import evidence, languages, loads, pools, tables
from pipeline.reporting.html.cards import cards
from pipeline.reporting.html.findings import findings
from pipeline.reporting.html.material import Material, gather
from pipeline.reporting.html.payload import as_json, payload
from pipeline.reporting.html.statistics import statistics
from pipeline.reporting.html.verdict import verdict
from pipeline.store.files import write_atomically
from pipeline.store.results import ResultStore

HERE = Path(__file__).parent
SCRIPTS = ["page.js", "plot.js", "front.js", "languages.js", "pools.js", "report.js"]
SECTIONS = {  # in the order in which people ask: id -> title, what the folded section holds
    "deploy": ("What to deploy", "the verdict in detail, caveats, every point of the plot"),
    "sizes": ("Strategy by size", "accuracy and cost of every model, exchange rates, scaling"),
    "languages": ("Language bias and matrices", "query by passage language, rank distance"),
    "language-costs": ("Costs by language", "tokens, latency and energy of a query"),
    "variants": ("Inference variants", "what engines, precisions and indexes save and lose"),
    "load": ("Capacity under load", "queries per second within a limit on p99 latency"),
    "pools": ("The full pool", "accuracy estimated beyond the sampled pool"),
    "statistics": ("Statistics", "winners, paired tests, hypervolume, measurement noise"),
    "trust": ("Provenance and quality checks", "machines, versions, failed runs, all runs"),
    "published": ("Published figures", "from papers, for comparison"),
}


def write(store: ResultStore, sweep: str, tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write report.html from the tables that analysis.analyse returned for a sweep."""
    text = render(gather(store, sweep, tables))
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def render(material: Material) -> str:
    """Return the text of report.html."""
    matrices = languages.matrices(material)
    bias = [table for benchmark in material.scales if (table := languages.bias(material, benchmark))]
    content = {
        "accuracies": [tables.accuracies(material, benchmark) for benchmark in material.scales],
        "costs": tables.costs(material) if material.profiles else None,
        "bias": bias,
        "language_costs": languages.costs(material),
        "load": loads.capacities(material),
        "pools": pools.full(material),
    }
    statistics_of = statistics(material)
    empty = {
        "sizes": not (content["accuracies"] or content["costs"]),
        "languages": not (matrices or bias),
        "language-costs": not content["language_costs"],
        "variants": not statistics_of["variants"],
        "load": not content["load"],
        "pools": not content["pools"],
        "statistics": not statistics_of["statistics"],
    }
    return page(
        "template.html",
        SCRIPTS,
        payload(material, matrices),
        sections={name: texts for name, texts in SECTIONS.items() if not empty.get(name)},
        sweep=material.sweep,
        metrics=material.metrics,
        machines=list(material.systems["machine"].dropna().unique()),
        seeds=sorted({record.seed for record in material.all_records()}),
        verdict=verdict(material),
        cards=cards(material),
        findings=findings(material),
        statistics=statistics_of,
        has_front=not material.tables["pareto"].empty,
        has_attraction=any(of_benchmark.attraction for of_benchmark in matrices.values()),
        has_matrix=bool(matrices),
        quality_checks=tables.quality_checks(material),
        failures=evidence.failures(material),
        published=evidence.published_tables(),
        provenance=evidence.provenance(material),
        runs=evidence.runs(material),
        **content,
    )


def page(template: str, scripts: Sequence[str], data: Mapping[str, Any], **content: Any) -> str:
    """Return the text of a page: a template of this folder with styles, scripts and data inside.

    Args:
        template: its file.
        scripts: files of this folder, in the order in which they run.
        data: what the scripts draw.
        content: what the template shows.
    """
    texts = {name: (HERE / name).read_text(encoding="utf-8") for name in ("report.css", *scripts)}
    vendored = [path.read_text(encoding="utf-8") for path in sorted((HERE / "vendor").glob("*.js"))]
    return (
        environment()
        .get_template(template)
        .render(
            style=Markup(texts["report.css"]),
            vendored=Markup("\n".join(vendored)),
            script=Markup("\n".join(texts[name] for name in scripts)),
            data=as_json(data),
            **content,
        )
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
