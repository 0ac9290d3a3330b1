"""The W&B run of a sweep: what people look at first. W&B sorts sections by name, so theirs begin with a number."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.analysis.tables import BIAS, main_metric, scales
from pipeline.reporting.wandb.client import Identity, Tracking, first_step, send, table
from pipeline.reporting.wandb.front import draw
from pipeline.retrieval.metrics import language_matrix, metric
from pipeline.store.keys import cache_key
from pipeline.store.results import ResultStore

if TYPE_CHECKING:
    import wandb


def log_report(
    tracking: Tracking, store: ResultStore, sweep: str, tables: Mapping[str, pd.DataFrame], files: Sequence[Path]
) -> None:
    """Log a sweep: its fronts, cards, language matrices, report.html and systems, and an artifact of all files.

    Args:
        tables: what `analysis.analyse` returns.
        files: report.html, figures and csv files.
    """
    systems = tables["systems"]

    def fill(run: "wandb.Run") -> int:
        import wandb

        run.log(panels(store, tables, files), step=first_step(run))
        artifact = wandb.Artifact(re.sub("[^A-Za-z0-9_.-]+", "-", f"{sweep}-report"), type="report")
        for path in files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)
        return 0

    key = cache_key({"sweep": sweep, "systems": sorted(systems["system"])})
    send(tracking, Identity(key, f"{sweep}-report", "report", sweep, {"sweep": sweep}), fill, whole=True)


def panels(store: ResultStore, tables: Mapping[str, pd.DataFrame], files: Sequence[Path]) -> dict[str, Any]:
    """Return the panels by key, in the order in which W&B shows them."""
    import wandb

    systems, points = tables["systems"], tables["pareto"]
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in scales(systems)))
    costs = points[points["cost"] != BIAS]
    fronts = {
        benchmark: wandb.Plotly(draw(own, metric(main_metric(systems, benchmark)).label))
        for benchmark in benchmarks
        if not (own := costs[costs["benchmark"] == benchmark]).empty
    }
    keyed: dict[str, Any] = {f"1_front/{benchmark}": front for benchmark, front in list(fronts.items())[:1]}
    if "cards" in tables:
        cards = tables["cards"]
        keyed["2_cards/cards"] = table(cards)
        for benchmark in benchmarks:
            keyed[f"3_languages/{benchmark}"] = table(
                matrices(store, cards, benchmark, main_metric(systems, benchmark))
            )
    (report,) = [path for path in files if path.name == "report.html"]
    keyed["4_report/report"] = wandb.Html(str(report), inject=False)
    keyed |= {f"5_further_fronts/{benchmark}": front for benchmark, front in list(fronts.items())[1:]}
    return keyed | {"6_systems/systems": table(systems)}


def matrices(store: ResultStore, cards: pd.DataFrame, benchmark: str, main: str) -> pd.DataFrame:
    """Return the language matrix of each card's run, one row per card and query language."""
    frames = {
        card["card"]: language_matrix(store.per_query(card["run"], benchmark), main) for _, card in cards.iterrows()
    }
    return pd.concat(frames, names=["card"]).reset_index()
