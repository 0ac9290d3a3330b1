"""The registry of costs: a cost is one entry of COSTS, and every table, figure and command reads it from there.

A cost is a field of the Profile (store.records), the inverse of one, or a figure of analysis.money.
"""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.store.records import Profile

MS_PER_S = 1000


@dataclass(frozen=True)
class Cost:
    """A figure of a deployed encoder that is better when lower.

    `option` and `phrase` make the cost a limit of `pipeline.recommend`; without them no limit can be set on it.

    >>> latency = cost("query_latency_p95_ms")
    >>> latency.label, latency.column, latency.source
    ('query latency, p95 (ms)', 'profile.query_latency_p95_ms', 'profile.sources.query_latency_p95_ms')
    >>> latency.phrase.format(5.25)
    '5.25 ms per query (p95)'
    """

    lower_is_better: ClassVar[bool] = True  # a rate is listed as its inverse, as ms_per_passage is

    field: str
    name: str  # without its unit
    unit: str = ""
    inverse_of: str = ""  # a field of the Profile that is a rate per second: the cost is MS_PER_S / rate
    axis: bool = True  # of the fronts
    drawn: bool = True  # if an axis: in pareto.png, which has no room for all of them
    of_variant: bool = False  # an axis only where encoders are deployed as several inference variants
    headline: bool = False  # in the first sentences of the report
    in_card: bool = False  # in the model card of an exported encoder
    exact: bool = False  # counted, not timed: it has no error
    by_language: str = ""  # its key in the profile's details["by_language"]
    option: str = ""  # key of pipeline.recommend: an upper limit on this cost
    phrase: str = ""  # says a value of this cost in a sentence

    @property
    def label(self) -> str:
        """The name with the unit in parentheses, for axes and tables."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def source_field(self) -> str:
        """The field whose source says whether this cost was measured or modelled."""
        return self.inverse_of or self.field

    @property
    def column(self) -> str:
        """The column of the tables of runs and systems that holds the cost."""
        return f"profile.{self.field}"

    @property
    def source(self) -> str:
        """The column of the tables of runs and systems that says how the cost came about."""
        return f"profile.sources.{self.source_field}"

    @property
    def error(self) -> str:
        """The column of the tables of runs and systems that holds the cost's relative standard error."""
        return f"profile.relative_errors.{self.source_field}"

    def of(self, profile: Profile) -> float | None:
        """Return the cost that a profile holds; None if it was not measured or is no figure of a profile (money)."""
        value = getattr(profile, self.source_field, None)
        return MS_PER_S / value if value and self.inverse_of else value


COSTS = (
    Cost("query_latency_p50_ms", "query latency, p50", "ms", axis=False, in_card=True, by_language="query_p50_ms"),
    Cost(
        "query_latency_p95_ms",
        "query latency, p95",
        "ms",
        headline=True,
        in_card=True,
        option="p95_ms",
        phrase="{:.3g} ms per query (p95)",
    ),
    Cost("ms_per_passage", "time per passage", "ms", inverse_of="passages_per_s", in_card=True),
    Cost("ms_per_query_at_p99", "time per query at capacity", "ms", inverse_of="queries_per_s_at_p99"),
    Cost(
        "serving_mib",
        "memory of the serving process",
        "MiB",
        headline=True,
        in_card=True,
        option="memory_mib",
        phrase="{:.0f} MiB",
    ),
    Cost("peak_rss_mib", "memory without the index", "MiB", axis=False),
    Cost("encoder_rss_mib", "memory that the encoder adds", "MiB", axis=False),
    Cost(
        "gpu_peak_allocated_mib", "peak GPU memory", "MiB", option="gpu_memory_mib", phrase="{:.0f} MiB of GPU memory"
    ),
    Cost(
        "energy_j_per_1k_queries",
        "energy per 1,000 queries",
        "J",
        headline=True,
        in_card=True,
        by_language="energy_j_per_1k_queries",
        option="joules_per_1k",
        phrase="{:.3g} J per 1,000 queries",
    ),
    Cost("energy_j_per_1k_passages", "energy per 1,000 passages", "J", axis=False),
    Cost(
        "end_to_end_latency_p95_ms",
        "query latency with search, p95",
        "ms",
        of_variant=True,
        option="end_to_end_p95_ms",
        phrase="{:.3g} ms per query with search (p95)",
    ),
    Cost(
        "index_bytes_per_passage",
        "index size",
        "bytes per passage",
        of_variant=True,
        exact=True,
        option="index_bytes",
        phrase="{:.0f} bytes per passage in the index",
    ),
    Cost("weights_on_disk_mib", "weights on disk", "MiB", axis=False, exact=True),
    Cost(
        "usd_per_1m_queries",
        "cost per million queries",
        "USD",
        drawn=False,
        option="usd_per_million",
        phrase="{:.3g} $ per million queries",
    ),
    Cost(
        "usd_per_month",
        "cost per month of service",
        "USD",
        drawn=False,
        option="usd_per_month",
        phrase="{:.3g} $ per month",
    ),
    Cost("parameters", "parameters", drawn=False, exact=True),
)
REPEATS_LATENCY = "modelled: constant power x time"  # how the source of such an energy begins
AXES = tuple(cost for cost in COSTS if cost.axis)


def cost(field: str) -> Cost:
    """Return the cost of this field; KeyError if none has it."""
    return {cost.field: cost for cost in COSTS}[field]
