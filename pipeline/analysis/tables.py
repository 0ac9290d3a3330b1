"""From a sweep's records to tidy tables: one row a run, then one row a variant (the same cell, all its seeds)."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipeline.analysis.bootstrap import query_scores
from pipeline.store.results import ResultStore, fingerprint, row
from pipeline.values import Record, Serving, UserError

AS_TRAINED = Serving().label
ACCURACY = "map"  # the metric of the fronts
BIAS = "rank_distance"  # language bias, in the multilingual pool: the third objective, lower is better
BIAS_LABEL = "language bias (rank distance)"
GRADE = "profile.grade_passed"
MANY = 7  # values of a sampler's setting that are compared as strategies: a plot has as many colours
# Config keys in which runs of one variant differ.
NOT_OF_A_VARIANT = {"seed", "sweep", "costs_from", "results_dir", "tracking", "variants"}


@dataclass(frozen=True)
class Cost:
    """A column of the runs' table that is better when lower: the axis of a front."""

    field: str
    label: str
    source_field: str  # the figure that it comes from, and that is measured or modelled
    of_serving: bool = False  # differs only where encoders are served in several ways
    drawn: bool = True  # in pareto.png, which has no room for all

    @property
    def column(self) -> str:
        return f"profile.{self.field}"

    @property
    def source(self) -> str:
        return f"profile.sources.{self.source_field}"


COSTS = (
    Cost("query_latency_p95_ms", "query latency, p95 (ms)", "query_latency_p95_ms"),
    Cost("ms_per_passage", "time per passage (ms)", "passages_per_s"),
    Cost("peak_rss_mib", "peak memory (MiB)", "peak_rss_mib"),
    Cost("gpu_peak_allocated_mib", "peak GPU memory (MiB)", "gpu_peak_allocated_mib"),
    Cost("energy_j_per_1k_queries", "energy per 1,000 queries (J)", "energy_j_per_1k_queries"),
    Cost("end_to_end_latency_p95_ms", "query with its search, p95 (ms)", "end_to_end_latency_p95_ms", of_serving=True),
    Cost("index_bytes_per_passage", "index (bytes a passage)", "index_bytes_per_passage", of_serving=True),
    Cost(
        "usd_per_1m_queries", "a million queries (USD)", "usd_per_1m_queries", drawn=False
    ),  # this and the next: analysis/money
    Cost("usd_per_month", "a month of service (USD)", "usd_per_month", drawn=False),
    Cost("parameters", "parameters", "parameters", drawn=False),
)

POINT_COLUMNS = ["benchmark", "setting", "cost", "variant", "model", "strategy", "served", "family", "layers"]
POINT_COLUMNS += ["seeds", "machine", "grade_passed", "value", "source", "accuracy", BIAS]


def runs(store: ResultStore, sweep: str) -> pd.DataFrame:
    """One row a finished run. Of runs that differ in the code's version only, the newest counts.

    UserError if the sweep has no finished run.
    """
    records = [cell.record for cell in store.cells(sweep) if cell.record]
    if not records:
        raise UserError(f"sweep {sweep} in {store.root} has no finished run.")
    newest = rows(records).sort_values("time", kind="stable").drop_duplicates(["variant", "seed"], keep="last")
    return newest.sort_values(["family", "layers", "strategy", "served", "variant", "seed"], ignore_index=True)


def rows(records: list[Record]) -> pd.DataFrame:
    """Each record flattened, with the columns that group runs and the costs that derive from it."""
    table = pd.DataFrame([row(record) for record in records])
    table["strategy"] = strategies(records)
    table["variant"] = [variant(record) for record in records]
    table["machine"] = [machine(record) for record in records]
    table["time"] = [record.provenance["time"] for record in records]
    if "profile.passages_per_s" in table:
        table["profile.ms_per_passage"] = 1000 / table["profile.passages_per_s"]
    return table


def machine(record: Record) -> str | None:
    """The processor that a profile speaks of."""
    if record.profile is None:
        return None
    details = record.profile.details  # the run itself may have been on another machine
    facts = details["machine"]
    return facts["gpu"] if facts["device"] == "cuda" else f"{facts['cpu']}, {details['threads']} threads"


def variant(record: Record) -> str:
    """A name for the run without its seed: runs that differ in nothing else share it."""
    settings = {key: value for key, value in record.config.items() if key not in NOT_OF_A_VARIANT}
    name = "-".join([*(record.choices[group] for group in ("model", "sampler", "data")), fingerprint(settings)[:6]])
    return name if record.served == AS_TRAINED else f"{name} {record.served}"


def strategies(records: list[Record]) -> list[str]:
    """The sampler of each record, with those of its settings in which the records of this sampler differ.

    A setting with many values (a search drew them) makes no strategies: they are points of one.
    """
    seen: Mapping[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        for key, value in record.config["sampler"].items():
            seen[record.choices["sampler"], key].add(str(value))
    names = []
    for record in records:
        sampler = record.choices["sampler"]
        differing = {
            key: value for key, value in record.config["sampler"].items() if 1 < len(seen[sampler, key]) <= MANY
        }
        names.append(" ".join([sampler, *(f"{key}={value}" for key, value in differing.items())]))
    return names


def variants(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a variant: numbers are means over its seeds, `seeds` says how many; graded well if every seed is."""
    groups = runs.groupby("variant", sort=False)
    numbers = [c for c in runs.select_dtypes("number") if c.startswith(("metrics.", "profile."))]
    words = [c for c in runs if c not in {*numbers, "name", "seed", "variant"}]
    table = groups[words].first().join(groups[numbers].mean()).assign(seeds=groups.size())
    if GRADE in runs:
        table[GRADE] = groups[GRADE].all()
    return table.reset_index()


def scales(table: pd.DataFrame, metric: str = ACCURACY) -> list[tuple[str, str]]:
    """The (benchmark, setting) pairs that have a metric, in the order of the records."""
    columns = [c.removeprefix("metrics.").rsplit(".", 2) for c in table if c.startswith("metrics.")]
    return [(benchmark, setting) for benchmark, setting, name in columns if name == metric]


def scale(runs: pd.DataFrame, accuracy: str, asked_by: str) -> tuple[str, str, str]:
    """Benchmark, setting and metric of `accuracy`: [BENCHMARK.]SETTING.METRIC, by default of the first benchmark."""
    known = [column.removeprefix("metrics.") for column in runs if column.startswith("metrics.")]
    found = [name for name in known if name == accuracy or name.endswith(f".{accuracy}")]
    if not found:
        raise UserError(f"{asked_by} {accuracy}: this sweep has {', '.join(known) or 'no accuracy'}.")
    benchmark, setting, metric = found[0].rsplit(".", 2)
    return benchmark, setting, metric


def points(variants: pd.DataFrame) -> pd.DataFrame:
    """Long form: one row a (benchmark, setting, cost, variant) that has both numbers; a cost-only cell has none.

    Where there is a multilingual pool its language bias is a cost too, in which profiles have no part. A cost of 0 or
    less (energy lost in the idle baseline's noise) is no cost and has no place on a logarithmic axis.
    """
    one_serving = variants["served"].nunique() == 1
    costs = [cost for cost in COSTS if cost.column in variants and not (cost.of_serving and one_serving)]
    frames = []
    for benchmark, setting in scales(variants):
        accuracy = variants[f"metrics.{benchmark}.{setting}.{ACCURACY}"]
        bias = variants.get(f"metrics.{benchmark}.multi.{BIAS}", pd.Series(float("nan"), variants.index))
        axes = {cost.field: (variants[cost.column], variants[cost.source], variants[GRADE]) for cost in costs}
        axes[BIAS] = bias, "measured: mean over questions", True
        for field, (value, source, graded) in axes.items():
            about = {"benchmark": benchmark, "setting": setting, "cost": field, "accuracy": accuracy, BIAS: bias}
            about |= {"value": pd.to_numeric(value), "source": source, "grade_passed": graded}
            frame = variants.assign(**about)[POINT_COLUMNS]
            frames.append(frame[frame["accuracy"].notna() & (frame["value"] > 0)])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=POINT_COLUMNS)


def scores(store: ResultStore, runs: pd.DataFrame, metric: str = ACCURACY) -> dict[tuple[str, str], pd.DataFrame]:
    """For each (benchmark, setting) what the bootstrap draws from: a row a question, a column a (variant, seed).

    UserError where the runs were not evaluated on the same questions.
    """
    columns: dict[tuple[str, str], dict[tuple[str, int], pd.Series]] = {scale: {} for scale in scales(runs, metric)}
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in columns):
        settings = [setting for name, setting in columns if name == benchmark]
        for run in runs.dropna(subset=[f"metrics.{benchmark}.{settings[0]}.{metric}"]).to_dict("records"):
            per_query = store.per_query(run["name"], benchmark)
            for setting in settings:
                values = query_scores(per_query, setting, metric)
                columns[benchmark, setting][run["variant"], run["seed"]] = values
    found = {scale: pd.DataFrame(values) for scale, values in columns.items()}
    for (benchmark, _), table in found.items():
        if table.isna().any(axis=None):
            raise UserError(f"the runs of this sweep answered different questions of {benchmark}: do not compare them.")
    return found
