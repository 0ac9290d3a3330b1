"""Benchmarks whose pools are samples: the nDCG@10 that analysis.pool estimates for the full pool."""

import pandas as pd

from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Table, accuracy, between, row
from pipeline.retrieval.metrics import metric

NDCG = metric("ndcg_10")


def curves(material: Material) -> pd.DataFrame:
    """Return what report.js draws: one row per (benchmark, system, language, pool size), with its figure in words."""
    curves = material.tables.get("pool_curve")
    if curves is None:
        return pd.DataFrame()
    texts = [f"{in_words(line)} of {line['pool_size']:,} passages" for _, line in curves.iterrows()]
    return curves.assign(text=texts)


def in_words(line: pd.Series) -> str:
    """Write a point of a curve with its interval."""
    return between(line["ndcg_10"], (line["low"], line["high"]), accuracy)


def full(material: Material) -> Table | None:
    """Tabulate the pool that was ranked beside the largest pool, for each language and system."""
    curves = material.tables.get("pool_curve")
    if curves is None:
        return None
    rows = []
    for (benchmark, language, system), curve in curves.groupby(["benchmark", "language", "system"], sort=False):
        ranked, largest = curve[curve["kind"] == "measured"].iloc[-1], curve.iloc[-1]
        texts = [text for line in (ranked, largest) for text in (f"{line['pool_size']:,}", in_words(line))]
        rows.append(row(f"{benchmark}, {language}", material.label(system), *texts, largest["kind"]))
    columns = ["benchmark", "system", "ranked pool", NDCG.label, "full pool", f"{NDCG.label} there", "source"]
    caption = f"{NDCG.label} in the pool that was ranked, and in the full pool; pool sizes in passages"
    return Table(caption, columns, rows, labels=2)
