"""A report to look at: three sizes and strategies, hybrid with two seeds; a failed profile, and a failed run."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import records

from pipeline.analysis import money
from pipeline.analysis.analyse import analyse
from pipeline.reporting.html import write as report
from pipeline.store.results import ResultStore, RunState

MONEY = money.Prices("a rack", "imagined", "2026-01-01", 0.4, 0, 0.1, 400), money.Scenario(1000, 1000, 1, 1)
EVIL = "</script><b>ended by SIGKILL</b>"
CHECKS = [{"name": "quiet", "passed": False, "value": {"others_share": 0.31}, "limit": "others at most 5%"}]
ERRORS = {"query_latency_p95_ms": 0.1, "energy_j_per_1k_queries": 0.02}
FAR = {field: math.exp(4.3027 * error) for field, error in ERRORS.items()}  # Student's t with 2 degrees of freedom
BY_LANGUAGE = {"ar": 19.5, "en": 17.25, "th": 21.0}
CONSTANT = "modelled: constant power x time (AMD EPYC 9354, 280 W)"


def add_details(store: ResultStore, record) -> None:
    """Add what the real meters keep beside a profile's figures, and the attraction table."""
    profile = record.profile
    meters = {
        "by_language": [
            {"language": name, "tokens": n, "query_p50_ms": n / 2, "energy_j_per_1k_queries": n}
            for name, n in BY_LANGUAGE.items()
        ],
        "quality": {"passed": profile.quality == "passed", "checks": [] if profile.quality == "passed" else CHECKS},
    }
    shares = {name: [2.0, 0.5, 0.5] for name in records.LANGUAGES}
    table = pd.DataFrame({"query_language": records.LANGUAGES} | shares)
    store.save_frame(store.run_dir(record.name), "attraction-facts", table)
    changed = {"relative_errors": ERRORS, "rounds": 3, "details": profile.details | meters}
    store.save(replace(record, profile=replace(profile, **changed)))


def toy(root: Path) -> tuple[ResultStore, dict[str, pd.DataFrame], Path]:
    """Write the sweep, its csv files and report.html, with one cost-only run."""
    store = ResultStore(root)
    for record in records.add_sweep(store, seeds=1):
        add_details(store, record)
    for layers in (3, 6, 12):
        add_details(
            store,
            records.add_run(store, "toy", layers, "hybrid", seed=1, quality="failed" if layers == 6 else "passed"),
        )
    for sampler in records.GAIN:
        add_details(store, records.add_run(store, "toy", 6, sampler, quality="failed"))
    records.add_run(store, "toy", 24, "none", cost_only=True)
    store.add_to_manifest("toy", RunState("dead", "failed", {}, 1.0, EVIL))
    tables = analyse(store, "toy", *MONEY)
    folder = store.sweep_dir("toy")
    for stem, table in tables.items():
        table.to_csv(folder / f"{stem}.csv", index=False)
    report.write(store, "toy", tables, folder / "report.html")
    return store, tables, folder / "report.html"


def with_constant_power(tables):
    """The tables of a sweep whose energy no meter read."""
    points, column = tables["pareto"], "profile.sources.energy_j_per_1k_queries"
    systems = tables["systems"].assign(**{column: CONSTANT})
    of_energy = points["cost"] == "energy_j_per_1k_queries"
    return tables | {"systems": systems, "pareto": points.assign(source=points["source"].where(~of_energy, CONSTANT))}


def data_of(path: Path):
    """The JSON in a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def unpacked(columns) -> pd.DataFrame:
    """A table that payload.packed packed."""
    lists = {name: c if isinstance(c, list) else [c["of"][place] for place in c["at"]] for name, c in columns.items()}
    return pd.DataFrame(lists)
