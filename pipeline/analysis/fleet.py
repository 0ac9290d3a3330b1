"""How many instances of the priced machine a load needs, and what they cost; docs/money.md works an example by hand."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.analysis.load import P99_MS
from pipeline.analysis.money import (
    CAPACITY,
    DAYS_PER_MONTH,
    J_PER_KWH,
    LOADED,
    Prices,
    Scenario,
    fields,
    j_per_1k_queries,
)
from pipeline.values import UserError

HOURS_PER_MONTH = 24 * DAYS_PER_MONTH


@dataclass(frozen=True)
class Load:
    """What a service must carry.

    Attributes:
        qps: queries per second.
        p99_ms: within which latency; None: the limit at which the capacity was measured.
    """

    qps: float
    p99_ms: float | None = None


def fleet(profiles: pd.DataFrame, prices: Prices, scenario: Scenario, qps: float) -> pd.DataFrame:
    """Return the `instances` that carry a load, and the `usd_per_month` of them; NaN without a capacity.

    Args:
        profiles: one row per system, with the columns of `money.bill`.
        prices: of an instance, which is always on.
        scenario: its `utilisation` is the share of the capacity that is used.
        qps: queries per second.

    250 queries per second on instances that carry 200, half of it used, take three: 3 x 730 h x 0.36 USD, and 54.75
    kWh.

    >>> profile = dict(zip(LOADED, (200, 180), strict=True)) | {"idle_power_w": 10}
    >>> prices = Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0.1, g_co2_per_kwh=400)
    >>> scenario = Scenario(9_000_000, queries_per_day=120_000, reencodes_per_year=2, utilisation=0.5)
    >>> fleet(pd.DataFrame([profile]), prices, scenario, 250).round(2).to_dict("records")
    [{'instances': 3.0, 'usd_per_month': 802.09}]
    """
    profiles = profiles.reindex(columns=[*LOADED, "energy_j_per_1k_queries", "idle_power_w"]).astype(float)
    instances = np.ceil(qps / (profiles[CAPACITY] * scenario.utilisation))
    usd = instances * HOURS_PER_MONTH * prices.usd_per_instance_hour
    if prices.usd_per_kwh:
        work_j = qps * HOURS_PER_MONTH * 3600 / 1000 * j_per_1k_queries(profiles)
        idle_j = instances * profiles["idle_power_w"] * HOURS_PER_MONTH * 3600
        usd += (work_j + idle_j) / J_PER_KWH * prices.usd_per_kwh
    return pd.DataFrame({"instances": instances, "usd_per_month": usd})


def with_fleet(systems: pd.DataFrame, prices: Prices, scenario: Scenario, load: Load) -> pd.DataFrame:
    """Return the systems whose capacity is known, with `instances` and `fleet_usd_per_month`.

    Args:
        systems: table of `tables.systems`.

    Raises:
        UserError: no system has a capacity, or it was measured at another limit.
    """
    if f"profile.{CAPACITY}" not in systems or systems[f"profile.{CAPACITY}"].isna().all():
        raise UserError("qps: no run of the sweep has a capacity: python -m pipeline.load sweep=NAME measures it.")
    known = systems.dropna(subset=[f"profile.{CAPACITY}"])
    measured_ms = known[P99_MS].iloc[0]
    if load.p99_ms is not None and load.p99_ms != measured_ms:
        again = f"python -m pipeline.load sweep=NAME p99_ms={load.p99_ms:g}"
        raise UserError(
            f"p99_ms={load.p99_ms:g}: capacity was measured at {measured_ms:g} ms. Measure it again: {again}"
        )
    figures = fleet(fields(known), prices, scenario, load.qps)
    return known.join(figures.rename(columns={"usd_per_month": "fleet_usd_per_month"}))
