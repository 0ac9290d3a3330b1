"""What each architecture costs on this machine: measured with random weights, or modelled from those that were.

A modelled cost is a constant, a part per layer and a part per unit of work, none of them negative, fitted to the
measured architectures of the same precision by relative errors. Work is active parameters times tokens, and for memory
the bytes of all weights. Axes: N architectures, F terms of the fit.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from pipeline.analysis import money, tables
from pipeline.analysis.costs import MS_PER_S, Cost, cost
from pipeline.analysis.published.models import BYTES, architectures
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import UserError

ACTIVE = Cost("active_parameters", "active parameters", exact=True)
DOLLARS = ("usd_per_1m_queries", "usd_per_month")
AXES = (
    *(cost("query_latency_p95_ms"), cost("ms_per_passage"), cost("peak_rss_mib"), cost("energy_j_per_1k_queries")),
    *(cost("index_bytes_per_passage"), *map(cost, DOLLARS), ACTIVE, cost("parameters")),
)
WORK = {  # cost that is modelled -> what it grows with
    "query_latency_p50_ms": "query_work",
    "query_latency_p95_ms": "query_work",
    "ms_per_passage": "passage_work",
    "energy_j_per_1k_queries": "query_work",
    "energy_j_per_1k_passages": "passage_work",
    "peak_rss_mib": "weights_mib",
}
LEAST = 5  # architectures of one precision, to model others
MIB = 2**20


class Fit(NamedTuple):
    """A modelled cost: its terms (per process, layer and unit of work), and its error on held-out architectures."""

    terms_F: np.ndarray
    relative_error: float  # root mean square of log(predicted / measured), each architecture predicted from the others
    predicted_N: np.ndarray  # of the measured architectures, each from the others


def measured(store: ResultStore, sweep: str) -> pd.DataFrame:
    """Return one row per architecture that a sweep profiled with random weights, in the columns of tables.rows.

    Returns:
        Added are `architecture`, and `query_tokens` and `passage_tokens`: means over the profiled texts.

    Raises:
        UserError: the sweep does not exist, has no such profile, or profiled another architecture under a known name.
    """
    records = [run.record for run in store.runs(sweep) if run.record and run.record.profile]
    records = [record for record in records if record.config["model"]["weights"] == "random"]
    if not records:
        raise UserError(f"sweep {sweep} in {store.root} has no finished run with a profile of random weights.")
    runs = tables.rows(records)
    runs[["query_tokens", "passage_tokens"]] = [_tokens(record) for record in records]
    runs = runs.drop(columns="layers").rename(columns={"architecture": "machine_architecture"})
    runs = runs.assign(architecture=runs["model"])
    runs = runs.sort_values("time").drop_duplicates("architecture", keep="last")
    counted = architectures().set_index("architecture")["parameters"]
    for run in runs.to_dict("records"):
        count = counted.get(run["architecture"], run["profile.parameters"])
        if count != run["profile.parameters"]:
            raise UserError(
                f"sweep {sweep} profiled {run['architecture']} with {run['profile.parameters']:,} parameters, but "
                f"architectures.csv counts {count:,}: run the sweep again."
            )
    return runs.reset_index(drop=True)


def _tokens(record: Record) -> tuple[float, float]:
    assert record.profile
    queries = [entry["tokens"] for entry in record.profile.details["by_language"]]
    return float(np.mean(queries)), record.profile.passage_tokens_per_s / record.profile.passages_per_s


def of_architectures(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the costs of all known architectures, and how far the modelled ones are off where they were measured.

    Args:
        runs: table of `measured`.

    Returns:
        One row per architecture: the columns of models.architectures and of tables.rows, with sources that begin with
        "measured" or "modelled"; NaN where too few architectures of a precision were measured. And one row per cost
        and measured architecture: `measured`, `predicted` from the others, their `ratio`, and `largest_held_out`, the
        same ratio where the fit saw only architectures of under a quarter of its work (NaN where those are too few).
    """
    table = architectures().merge(runs, on="architecture", how="left")
    for tokens in ("query_tokens", "passage_tokens"):
        table[tokens] = table[tokens].fillna(table.groupby("precision")[tokens].transform("median"))
    table["query_work"] = table["active_parameters"] * table["query_tokens"]
    table["passage_work"] = table["active_parameters"] * table["passage_tokens"]
    table["weights_mib"] = table["parameters"] * table["precision"].map(BYTES) / MIB
    held_out = []
    for name, work in WORK.items():
        entry = cost(name)
        table[entry.column] = pd.to_numeric(table[entry.column])
        for precision, group in table.groupby("precision"):
            known = group[group[entry.column].notna()]
            if len(known) < LEAST:
                continue
            terms_NF, cost_N = design(known, work), known[entry.column].to_numpy(float)
            fitted = fit(terms_NF, cost_N)
            held_out.append(_held_out(known, entry, work, fitted))
            others = group.index[group[entry.column].isna()]
            table.loc[others, entry.column] = design(table.loc[others], work) @ fitted.terms_F
            table.loc[others, entry.error] = fitted.relative_error
            table.loc[others, entry.source] = (
                f"modelled: {len(known)} architectures in {precision}, each off by {fitted.relative_error:.0%} (root "
                "mean square) when predicted from the others"
            )
    table["profile.idle_power_w"] = table["profile.idle_power_w"].fillna(table["profile.idle_power_w"].median())
    table["profile.passages_per_s"] = MS_PER_S / table["profile.ms_per_passage"]
    table["profile.quality"] = table["profile.quality"].fillna(tables.NOT_MEASURED)
    return table, pd.concat(held_out, ignore_index=True) if held_out else pd.DataFrame()


def design(architectures: pd.DataFrame, work: str) -> np.ndarray:
    """Return the terms [N, F] of the fit: one, layers (of what takes time), and work."""
    layers = architectures["layers"] * (work != "weights_mib")
    return np.column_stack([np.ones(len(architectures)), layers, architectures[work]]).astype(float)


def fit(terms_NF: np.ndarray, cost_N: np.ndarray) -> Fit:
    """Fit costs as a sum of terms that are not negative, by relative least squares.

    >>> terms_NF = np.array([[1.0, layers, work] for layers, work in ((0, 0), (6, 5), (12, 9), (12, 40), (24, 90))])
    >>> fit(terms_NF, terms_NF @ [3.0, 0.5, 2.0]).terms_F.round(6).tolist()
    [3.0, 0.5, 2.0]
    """

    def terms(keep: np.ndarray) -> np.ndarray:
        scale_F = terms_NF[keep].max(axis=0)
        scale_F = np.where(scale_F > 0, scale_F, 1)
        weighted_NF = terms_NF[keep] / scale_F / cost_N[keep, None]
        return nnls(weighted_NF, np.ones(keep.sum()))[0] / scale_F

    everything = np.ones(len(cost_N), dtype=bool)
    predicted_N = np.array([terms_NF[n] @ terms(np.arange(len(cost_N)) != n) for n in range(len(cost_N))])
    error = float(np.sqrt(np.mean(np.log(predicted_N / cost_N) ** 2)))
    return Fit(terms(everything), error, predicted_N)


def _held_out(known: pd.DataFrame, entry: Cost, work: str, fitted: Fit) -> pd.DataFrame:
    cost_N, terms_NF = known[entry.column].to_numpy(float), design(known, work)
    small_N = known[work].to_numpy() < known[work].max() / 4
    ratio_N = np.full(len(known), np.nan)
    if small_N.sum() >= LEAST:
        ratio_N = np.where(small_N, np.nan, terms_NF @ fit(terms_NF[small_N], cost_N[small_N]).terms_F / cost_N)
    frame = known[["architecture", "precision", "active_parameters"]].assign(cost=entry.field, measured=cost_N)
    ratios = {"ratio": fitted.predicted_N / cost_N, "largest_held_out": ratio_N}
    return frame.assign(predicted=fitted.predicted_N, **ratios)


def of_models(
    models: pd.DataFrame, costs: pd.DataFrame, prices: money.Prices, scenario: money.Scenario
) -> pd.DataFrame:
    """Return the published models with the costs of their architectures, bytes per passage and dollars.

    Args:
        models: table of models.with_architectures.
        costs: table of `of_architectures`.
    """
    shared = [name for name in costs if name.startswith("profile.")]
    shared += ["architecture", "machine", "machine_architecture", "gpu"]
    table = models.merge(costs[shared], on="architecture", how="left")
    table["profile.index_bytes_per_passage"] = table["width"] * BYTES["float32"]
    table["profile.sources.index_bytes_per_passage"] = "counted: 4 bytes per dimension"
    table["profile.active_parameters"] = table["active_parameters"]
    table["profile.parameters"] = table["parameters"]
    for field in ("active_parameters", "parameters"):
        table[f"profile.sources.{field}"] = "counted"
    of_encoder = table["architecture"]  # money reads that of the machine
    priced = money.priced(table.assign(architecture=table["machine_architecture"]), prices, scenario)
    return priced.assign(architecture=of_encoder)
