"""Dollars and CO2 of a profile, given a price sheet and a scenario; docs/money.md works every formula by hand.

They are columns of the table of runs: they follow from records, so no run is repeated for a new price.
"""

from dataclasses import dataclass

import pandas as pd

from pipeline.bounds import amount, check_numbers, share

DAYS_PER_MONTH = 365 / 12
J_PER_KWH = 3.6e6
BYTES_PER_GB = 1e9
UNLIKE = "not the profiled machine"  # in the source of a figure whose price sheet is of another kind of machine
PROFILED = ["query_latency_p50_ms", "passages_per_s", "index_bytes_per_passage"]  # fields of the Profile
PROFILED += ["energy_j_per_1k_queries", "energy_j_per_1k_passages", "idle_power_w"]
CAPACITY = "queries_per_s_at_p99"  # of a load result, where a run has one
CAPACITY_J = "energy_j_per_1k_queries_at_p99"  # at that rate
LOADED = [CAPACITY, CAPACITY_J]
TIME = "time of a query: "  # in the source of a figure that follows from it, before the field that it comes from
OF_QUERIES = ("usd_per_1m_queries", "usd_per_month", "kg_co2_per_month")  # figures that follow from the time of a query


@dataclass  # not frozen: OmegaConf would let neither a yaml nor the command line fill it
class Prices:
    """A price sheet (conf/prices): an instance like the machine that was profiled. UserError for impossible values.

    If the price of the hour includes power, `usd_per_kwh` is 0. `architecture` (x86_64 or arm64) and `gpu` are compared
    with the profiled machine; an empty architecture is not.

    >>> str(Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0.1, g_co2_per_kwh=400))
    'a rack (2026-01-01): 0.36 USD/h, power at 0.25 USD/kWh'
    """

    name: str
    source: str
    date: str
    usd_per_instance_hour: float = amount()
    usd_per_kwh: float = amount()
    usd_per_gb_month: float = amount()  # of what holds the index
    g_co2_per_kwh: float = amount()
    architecture: str = ""
    gpu: str = ""

    def __post_init__(self) -> None:
        check_numbers(self, "prices")

    def __str__(self) -> str:
        power = f"at {self.usd_per_kwh:g} USD/kWh" if self.usd_per_kwh else "within the hour"
        return f"{self.name} ({self.date}): {self.usd_per_instance_hour:g} USD/h, power {power}"


def unlike(prices: Prices, architecture: str | None, gpu: str | None) -> str | None:
    """Say in what the machine of a price sheet is unlike the profiled one; None if it is alike, as far as is known.

    >>> sheet = {"usd_per_instance_hour": 0.1, "usd_per_kwh": 0, "usd_per_gb_month": 0.1, "g_co2_per_kwh": 400}
    >>> graviton = Prices("m7g.large", "a page", "2026-01-01", **sheet, architecture="arm64")
    >>> unlike(graviton, "x86_64", None), unlike(graviton, "arm64", None)
    ('priced as arm64, profiled on x86_64', None)
    >>> unlike(graviton, "arm64", "NVIDIA H200")
    'priced with no GPU, profiled with NVIDIA H200'
    """
    if (gpu or prices.gpu) and not (gpu and prices.gpu and prices.gpu in gpu):
        return f"priced with {prices.gpu or 'no GPU'}, profiled with {gpu or 'no GPU'}"
    if architecture and prices.architecture and architecture != prices.architecture:
        return f"priced as {prices.architecture}, profiled on {architecture}"
    return None


@dataclass
class Scenario:
    """The load that is priced (conf/scenario). UserError for impossible values.

    `utilisation` is the share of the hours paid for queries in which one is answered.

    >>> str(Scenario(9_000_000, queries_per_day=120_000, reencodes_per_year=2, utilisation=0.5))
    '120,000 queries per day at utilisation 0.5, 9,000,000 passages encoded 2 times per year'
    """

    corpus_passages: int = amount()
    queries_per_day: float = amount()
    reencodes_per_year: float = amount()
    utilisation: float = share()

    def __post_init__(self) -> None:
        check_numbers(self, "scenario")

    def __str__(self) -> str:
        demand = f"{self.queries_per_day:,g} queries per day at utilisation {self.utilisation:g}"
        return f"{demand}, {self.corpus_passages:,} passages encoded {self.reencodes_per_year:g} times per year"


def fields(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns `profile.FIELD` of a table of runs under the names of the fields.

    >>> fields(pd.DataFrame({"parameters": [1], "profile.parameters": [2]})).to_dict("list")
    {'parameters': [2]}
    """
    return runs.filter(regex=r"^profile\.").rename(columns=lambda column: column.removeprefix("profile."))


def bill(profiles: pd.DataFrame, prices: Prices, scenario: Scenario) -> pd.DataFrame:
    """Return what each profile costs: dollars and kg of CO2, per million queries, per month and to encode the corpus.

    Args:
        profiles: one row per profile, with the columns PROFILED and, where some have a load result, LOADED; NaN where a
            figure was not measured.

    Returns:
        One row per profile; units are in the names of the columns. NaN where a figure that counts is missing.

    18 ms per query are 5 h of work per million queries, so 10 h are paid at half utilisation: 10 x 0.36 USD. The work
    takes 360 kJ, and 10 h of 10 W idle another 360 kJ: 0.2 kWh, or 0.05 USD.

    >>> profile = {"query_latency_p50_ms": 18, "passages_per_s": 50, "index_bytes_per_passage": 1536,
    ...            "energy_j_per_1k_queries": 360, "energy_j_per_1k_passages": 200, "idle_power_w": 10}
    >>> prices = Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0.1, g_co2_per_kwh=400)
    >>> scenario = Scenario(9_000_000, queries_per_day=120_000, reencodes_per_year=2, utilisation=0.5)
    >>> bill(pd.DataFrame([profile]), prices, scenario)["usd_per_1m_queries"].round(2).tolist()
    [3.65]

    At a capacity of 200 queries per second the same million takes 5,000 s, or 2.78 h at half utilisation. In batches
    they take 180 J per thousand.

    >>> profile |= {CAPACITY: 200, CAPACITY_J: 180}
    >>> bill(pd.DataFrame([profile]), prices, scenario)["usd_per_1m_queries"].round(4).tolist()
    [1.0194]
    """
    profiles = profiles.reindex(columns=[*PROFILED, *LOADED]).astype(float)

    def spend(hours: pd.Series, work_j: pd.Series) -> tuple[pd.Series, pd.Series]:
        """Return USD and kg CO2: every paid hour draws the idle power, and work adds its own energy."""
        kwh = (work_j + profiles["idle_power_w"] * hours * 3600) / J_PER_KWH
        usd = hours * prices.usd_per_instance_hour
        if prices.usd_per_kwh:  # else the energy need not be known
            usd += kwh * prices.usd_per_kwh
        return usd, kwh * prices.g_co2_per_kwh / 1000

    passages = scenario.corpus_passages
    s_per_query = (1 / profiles[CAPACITY]).fillna(profiles["query_latency_p50_ms"] / 1000)
    hours_per_1m_queries = 1e6 * s_per_query / 3600 / scenario.utilisation
    hours_to_encode = passages / profiles["passages_per_s"] / 3600
    usd_per_1m_queries, kg_per_1m_queries = spend(hours_per_1m_queries, 1000 * j_per_1k_queries(profiles))
    usd_to_encode, kg_to_encode = spend(hours_to_encode, passages / 1000 * profiles["energy_j_per_1k_passages"])
    usd_per_month_index = passages * profiles["index_bytes_per_passage"] / BYTES_PER_GB * prices.usd_per_gb_month
    millions = scenario.queries_per_day * DAYS_PER_MONTH / 1e6  # of queries per month
    encodings = scenario.reencodes_per_year / 12  # per month
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


def j_per_1k_queries(profiles: pd.DataFrame) -> pd.Series:
    """Return the energy of queries: at the capacity where a load was measured, else of one at a time."""
    return profiles[CAPACITY_J].fillna(profiles["energy_j_per_1k_queries"])


def priced(runs: pd.DataFrame, prices: Prices, scenario: Scenario) -> pd.DataFrame:
    """Return the table of runs with the columns of `bill` and their sources; unchanged if no run has a profile.

    The sources say so if the sheet is not of the kind of machine that was profiled (columns `architecture`, `gpu`).

    >>> runs = pd.DataFrame({"name": ["a run without a profile"]})
    >>> prices = Prices("a rack", "an invoice", "2026-01-01", 0.36, 0.25, usd_per_gb_month=0.1, g_co2_per_kwh=400)
    >>> priced(runs, prices, Scenario(9_000_000, 120_000, 2, 0.5)).columns.tolist()
    ['name']
    >>> profiled = runs.assign(**{f"profile.{field}": 1.0 for field in PROFILED})
    >>> priced(profiled, prices, Scenario(9_000_000, 120_000, 2, 0.5))["profile.sources.usd_per_month"].item()[:45]
    'modelled: a rack (2026-01-01): 0.36 USD/h, po'
    """
    if "profile.query_latency_p50_ms" not in runs:
        return runs
    profiles = fields(runs)
    figures = bill(profiles, prices, scenario)
    errors = relative_errors(profiles, prices, scenario)
    machines = runs.reindex(columns=["architecture", "gpu"]).astype(object)
    machines = machines.where(machines.notna(), None)
    doubts = [unlike(prices, *machine) for machine in machines.itertuples(index=False)]
    source = f"modelled: {prices}; {scenario}"
    ends = pd.Series([f"; {UNLIKE}: {doubt}" if doubt else "" for doubt in doubts], runs.index)
    measured = profiles.reindex(columns=[CAPACITY])[CAPACITY].notna()
    times = pd.Series(f"; {TIME}query_latency_p50_ms", runs.index).mask(measured, f"; {TIME}{CAPACITY}")

    def source_of(figure: pd.Series) -> pd.Series:
        text = source + times + ends if figure.name in OF_QUERIES else source + ends
        return text.where(figure.notna()).astype(object)

    sources = figures.apply(source_of)
    columns = [figures.add_prefix("profile."), errors.add_prefix("profile.relative_errors.")]
    return runs.join([*columns, sources.add_prefix("profile.sources.")])


def relative_errors(profiles: pd.DataFrame, prices: Prices, scenario: Scenario) -> pd.DataFrame:
    """Return the relative standard errors of the figures of `bill`, from those of the profiles (delta method).

    The errors of the fields are taken as independent. NaN where no field that counts has a known error.

    Half of these dollars are for power: an error of .02 in the energy is .01 of them.

    >>> profile = {"energy_j_per_1k_queries": 3600, "passages_per_s": 1, "query_latency_p50_ms": 3600}
    >>> profile = pd.DataFrame([dict.fromkeys(PROFILED, 0) | profile])
    >>> profile["relative_errors.energy_j_per_1k_queries"] = 0.02
    >>> prices = Prices("a rack", "an invoice", "2026-01-01", 0.001, 1.0, usd_per_gb_month=0, g_co2_per_kwh=400)
    >>> relative_errors(profile, prices, Scenario(0, 1, 0, 1))["usd_per_1m_queries"].round(3).tolist()
    [0.01]
    """
    base, step = bill(profiles, prices, scenario), 1e-4
    square = pd.DataFrame(0.0, base.index, base.columns)
    known = pd.DataFrame(False, base.index, base.columns)
    for field in [*PROFILED, *LOADED]:
        if f"relative_errors.{field}" in profiles:
            changed = bill(profiles.assign(**{field: profiles[field].astype(float) * (1 + step)}), prices, scenario)
            elasticity = (changed / base - 1) / step
            error = pd.to_numeric(profiles[f"relative_errors.{field}"])
            square += (elasticity.mul(error, axis=0) ** 2).fillna(0)
            known |= (elasticity.abs() > step).mul(error.notna(), axis=0)
    return (square**0.5).where(known)
