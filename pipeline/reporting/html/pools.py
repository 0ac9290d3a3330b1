"""Benchmarks whose pools are samples: what nDCG@10 would be in the full pool (analysis/pool.py)."""

from typing import Any

import pandas as pd

from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Table, accuracy, between, row


def curves(material: Material) -> list[dict[str, Any]]:
    """What page.js draws: a row a (benchmark, variant, language, pool size), with its figure in words."""
    found = material.found.get("pool_curve")
    if found is None:
        return []
    words = [f"{between(*figure(line), accuracy)} of {line['pool_size']:,} passages" for _, line in found.iterrows()]
    return found.assign(text=words).to_dict("records")


def figure(line: pd.Series) -> tuple[float, tuple[float, float]]:
    return line["ndcg_10"], (line["low"], line["high"])


def full(material: Material) -> Table | None:
    """The largest pool of each language and variant, beside the one that was ranked."""
    found = material.found.get("pool_curve")
    if found is None:
        return None
    rows = []
    for (benchmark, language, variant), curve in found.groupby(["benchmark", "language", "variant"], sort=False):
        ranked, largest = curve[curve["kind"] == "measured"].iloc[-1], curve.iloc[-1]
        both = [(f"{line['pool_size']:,}", between(*figure(line), accuracy)) for line in (ranked, largest)]
        rows.append(row(f"{benchmark}, {language}", material.label(variant), *both[0], *both[1], largest["kind"]))
    columns = ["pool", "encoder", "ranked", "nDCG@10", "full pool", "nDCG@10", ""]
    return Table("nDCG@10 in the pool that was ranked, and in the full one", columns, rows, labels=2)
