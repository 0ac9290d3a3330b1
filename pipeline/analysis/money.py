"""Dollars and CO2 of a profile, given a price sheet and a scenario; docs/money.md works every formula by hand.

`aggregate` adds them to the runs' table: they follow from records, so a new price runs no cell again.
"""

import math
from dataclasses import dataclass

import pandas as pd

from pipeline.values import UserError

DAYS_PER_MONTH = 365 / 12
J_PER_KWH = 3.6e6
BYTES_PER_GB = 1e9
PROFILED = ["query_latency_p50_ms", "passages_per_s", "index_bytes_per_passage"]
PROFILED += ["energy_j_per_1k_queries", "energy_j_per_1k_passages", "idle_power_w"]


def require_amount(key: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise UserError(f"{key}={value}: it must be finite and not negative.")


@dataclass  # not frozen: OmegaConf would let neither a yaml nor the command line fill it
class Prices:
    """conf/prices: an instance like the machine that was profiled. Power that the hour contains costs 0 a kWh."""

    name: str
    source: str
    date: str
    usd_per_instance_hour: float
    usd_per_kwh: float
    usd_per_gb_month: float  # of what holds the index
    g_co2_per_kwh: float

    def __post_init__(self) -> None:
        for key in ("usd_per_instance_hour", "usd_per_kwh", "usd_per_gb_month", "g_co2_per_kwh"):
            require_amount(f"prices.{key}", getattr(self, key))

    def __str__(self) -> str:
        power = f"at {self.usd_per_kwh:g} USD/kWh" if self.usd_per_kwh else "within the hour"
        return f"{self.name} ({self.date}): {self.usd_per_instance_hour:g} USD/h, power {power}"


@dataclass
class Scenario:
    """conf/scenario: what is to be served. `utilisation`: the share of the hours paid for queries that answers any."""

    corpus_passages: int
    queries_per_day: float
    reencodes_per_year: float
    utilisation: float

    def __post_init__(self) -> None:
        for key in ("corpus_passages", "queries_per_day", "reencodes_per_year"):
            require_amount(f"scenario.{key}", getattr(self, key))
        if not 0 < self.utilisation <= 1:
            raise UserError(f"scenario.utilisation={self.utilisation}: it must lie in (0, 1].")

    def __str__(self) -> str:
        demand = f"{self.queries_per_day:,g} queries a day at utilisation {self.utilisation:g}"
        return f"{demand}, {self.corpus_passages:,} passages encoded {self.reencodes_per_year:g} times a year"


def bill(profiles: pd.DataFrame, prices: Prices, scenario: Scenario) -> pd.DataFrame:
    """One row a profile, whose columns are named as in values.Profile; NaN where a figure that counts is missing."""
    profiles = profiles[PROFILED].astype(float)

    def spend(hours: pd.Series, work_j: pd.Series) -> tuple[pd.Series, pd.Series]:
        """USD and kg CO2: every paid hour draws the idle power, and work adds its own energy."""
        kwh = (work_j + profiles["idle_power_w"] * hours * 3600) / J_PER_KWH
        usd = hours * prices.usd_per_instance_hour
        if prices.usd_per_kwh:  # else the energy need not be known
            usd += kwh * prices.usd_per_kwh
        return usd, kwh * prices.g_co2_per_kwh / 1000

    passages = scenario.corpus_passages
    hours_per_1m_queries = 1e6 * profiles["query_latency_p50_ms"] / 1000 / 3600 / scenario.utilisation
    hours_to_encode = passages / profiles["passages_per_s"] / 3600
    usd_per_1m_queries, kg_per_1m_queries = spend(hours_per_1m_queries, 1000 * profiles["energy_j_per_1k_queries"])
    usd_to_encode, kg_to_encode = spend(hours_to_encode, passages / 1000 * profiles["energy_j_per_1k_passages"])
    usd_per_month_index = passages * profiles["index_bytes_per_passage"] / BYTES_PER_GB * prices.usd_per_gb_month
    millions = scenario.queries_per_day * DAYS_PER_MONTH / 1e6  # of queries a month
    encodings = scenario.reencodes_per_year / 12  # a month
    return pd.DataFrame(
        {
            "usd_per_1m_queries": usd_per_1m_queries,
            "usd_to_encode_corpus": usd_to_encode,
            "usd_per_month_index": usd_per_month_index,
            "usd_per_month": millions * usd_per_1m_queries + usd_per_month_index + encodings * usd_to_encode,
            "kg_co2_to_encode_corpus": kg_to_encode,
            "kg_co2_per_month": millions * kg_per_1m_queries + encodings * kg_to_encode,
        }
    )


def priced(runs: pd.DataFrame, prices: Prices, scenario: Scenario) -> pd.DataFrame:
    """The runs' table with the columns of `bill` and their sources; as it was where no run has a profile."""
    if "profile.query_latency_p50_ms" not in runs:
        return runs
    figures = bill(runs.rename(columns=lambda column: column.removeprefix("profile.")), prices, scenario)
    sources = figures.astype(object).where(figures.isna(), f"modelled: {prices}; {scenario}")
    return runs.join(figures.add_prefix("profile.")).join(sources.add_prefix("profile.sources."))
