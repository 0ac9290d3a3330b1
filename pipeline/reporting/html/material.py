"""What report.html is made of: the tables of a sweep and the records behind them, gathered once for all sections."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.analysis.costs import COSTS, REPEATS_LATENCY, Cost
from pipeline.analysis.draws import cost_bounds
from pipeline.analysis.tables import BIAS, NOT_MEASURED, QUALITY, cluster_name, main_metric, scales
from pipeline.reporting.figure import SETTINGS, over
from pipeline.reporting.looks import strategy_name
from pipeline.retrieval.metrics import Metric, metric
from pipeline.store.keys import cache_key
from pipeline.store.records import AS_TRAINED, Profile, Record
from pipeline.store.results import ResultStore, RunState

Interval = tuple[float, float]
MOST_LISTED = 200  # systems in the tables of a page; the csv files and the plots have all


class Profiled(NamedTuple):
    """A profile of an encoder, and the runs that share it. `profile` is that of the first run."""

    label: str
    runs: list[str]
    profile: Profile


@dataclass(frozen=True)
class Material:
    """`tables` is what analysis.analyse returns; `records` holds the runs of each system, one per seed."""

    store: ResultStore
    sweep: str
    tables: Mapping[str, pd.DataFrame]
    records: Mapping[str, list[Record]]
    failed: list[RunState]

    @cached_property
    def systems(self) -> pd.DataFrame:
        """One row per system, indexed by its name."""
        return self.tables["systems"].set_index("system", drop=False)

    @cached_property
    def scales(self) -> dict[str, list[str]]:
        """The settings of each benchmark; the first benchmark is the main one. Empty without accuracy."""
        settings: dict[str, list[str]] = {}
        for benchmark, setting in scales(self.systems):
            settings.setdefault(benchmark, []).append(setting)
        return {benchmark: sorted(names, key=list(SETTINGS).index) for benchmark, names in settings.items()}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The main metric of each benchmark."""
        return {benchmark: metric(main_metric(self.systems, benchmark)) for benchmark in self.scales}

    @cached_property
    def costs(self) -> list[Cost]:
        """The costs that some system has."""
        systems = self.systems
        return [cost for cost in COSTS if cost.column in systems and systems[cost.column].notna().any()]

    @cached_property
    def axes(self) -> list[Cost]:
        """Those of `costs` that are an axis of the fronts."""
        return [cost for cost in self.costs if cost.axis]

    @cached_property
    def findings_on(self) -> list[Cost]:
        """Those of `axes` on which a sentence may rest: not those that repeat latency."""
        return [cost for cost in self.axes if not self.repeats_latency(cost)]

    def repeats_latency(self, cost: Cost) -> bool:
        """Return whether a cost is modelled as a constant power times time for all systems that have it."""
        sources = self.systems[cost.source].dropna()
        return not sources.empty and bool(sources.str.startswith(REPEATS_LATENCY).all())

    @cached_property
    def models(self) -> list[str]:
        """The models, from the smallest to the largest of each family."""
        return list(dict.fromkeys(self.systems["model"]))

    @cached_property
    def short_labels(self) -> dict[str, str]:
        """What sets each system apart from the other systems of its model: strategy and inference variant."""
        strategy = self.systems["strategy"].map(strategy_name)
        names = {system: strategy[system] + variant_suffix(records[0]) for system, records in self.records.items()}
        keys = [(self.value(system, "model"), name) for system, name in names.items()]
        counts = Counter(keys)
        return {
            system: name if counts[key] == 1 else system
            for (system, name), key in zip(names.items(), keys, strict=True)
        }

    @cached_property
    def listed(self) -> pd.Index:
        """The systems that tables list, in their order: all, or the MOST_LISTED that stand on most fronts, then the
        most accurate."""
        systems = self.systems.index
        if len(systems) <= MOST_LISTED:
            return systems
        points = self.tables["pareto"].groupby("system")[["on_front", "accuracy"]]
        best = points.agg({"on_front": "sum", "accuracy": "max"}) if len(self.tables["pareto"]) else self.systems[[]]
        best = best.reindex(systems).sort_values(list(best), ascending=False, kind="stable").index[:MOST_LISTED]
        return systems[systems.isin(best)]

    def rows_of(self, name: str) -> pd.DataFrame:
        """Return the rows of a table about the systems that are listed."""
        table = self.tables[name]
        return table[table["system"].isin(self.listed)]

    def caption(self, text: str, name: str) -> str:
        """Return the caption of a table that lists systems; it says so if they are not all, and which file has all."""
        if len(self.listed) == len(self.systems):
            return text
        return f"{text}; {len(self.listed)} of {len(self.systems):,} systems, all are in {name}.csv"

    @cached_property
    def columns(self) -> dict[str, dict[str, Any]]:
        """The table of systems by column and system: an entry of a wide table takes pandas a fraction of a
        millisecond, and tables ask for tens of thousands."""
        return {column: self.systems[column].to_dict() for column in self.systems}

    def value(self, system: str, column: str) -> Any:
        """Return an entry of the table of systems."""
        return self.columns[column][system]

    def label(self, system: str) -> str:
        """Name a system for readers: model, strategy and inference variant."""
        return f"{self.value(system, 'model')}, {self.short_labels[system]}"

    def accuracy(self, system: str, benchmark: str, setting: str) -> float:
        """Return the main metric of a benchmark that a system reaches in one setting."""
        return self.value(system, self.accuracy_column(benchmark, setting))

    def accuracy_column(self, benchmark: str, setting: str) -> str:
        """Return the column of the table of systems that holds the main metric."""
        return f"metrics.{benchmark}.{setting}.{self.metrics[benchmark].name}"

    def accuracy_label(self, benchmark: str, setting: str) -> str:
        """Name the main metric of a benchmark in one setting, as in 'multilingual mAP'."""
        return f"{SETTINGS[setting]} {self.metrics[benchmark].label}"

    def over(self, benchmark: str, covers: str) -> str:
        """Say what an interval is over, as in 'articles and seeds'. `covers` is a column of the tables."""
        return over(covers, self.clusters[benchmark])

    @cached_property
    def clusters(self) -> dict[str, str]:
        """What the clusters of each benchmark's queries are."""
        return {benchmark: cluster_name(self.tables["runs"], benchmark) for benchmark in self.scales}

    @cached_property
    def accuracy_intervals(self) -> dict[tuple[str, ...], Interval]:
        """95 % intervals by (system, benchmark, setting)."""
        rows = self.tables["accuracies"].itertuples(index=False) if self.scales else ()
        return {(of.system, of.benchmark, of.setting): (of.low, of.high) for of in rows}

    @cached_property
    def bias_intervals(self) -> dict[tuple[str, ...], Interval]:
        """95 % intervals of the language bias by (system, benchmark)."""
        keys = ["system", "benchmark"]
        points = self.tables["pareto"].drop_duplicates(keys)
        if f"{BIAS}_low" not in points:
            return {}
        bounds = zip(points[f"{BIAS}_low"], points[f"{BIAS}_high"], strict=True)
        return dict(zip(points[keys].itertuples(index=False, name=None), bounds, strict=True))

    def quality(self, system: str) -> str:
        """Say whether the profile of a system passed its quality checks: passed, failed or not measured."""
        return self.value(system, QUALITY) if QUALITY in self.systems else NOT_MEASURED

    def profiled(self, system: str) -> bool:
        """Return whether some run of a system has a profile."""
        return any(record.profile for record in self.records[system])

    @cached_property
    def unlike_settings(self) -> dict[str, list[Any]]:
        """The settings of conf/profile in which the profiles of this sweep differ, with their values."""
        values: dict[str, list[Any]] = {}
        for record in self.all_records():
            settings = record.config.get("profile", {}) if record.profile else {}
            if settings.get("enabled"):  # else the profile is that of another sweep (costs_from)
                for key in settings.keys() - {"enabled", "shared"}:
                    values.setdefault(f"profile.{key}", []).append(settings[key])
        distinct = {key: list({repr(value): value for value in of_key}.values()) for key, of_key in values.items()}
        return {key: distinct[key] for key in sorted(distinct) if len(distinct[key]) > 1}

    def origin(self, cost: Cost) -> str:
        """Say whether a cost is measured or modelled, or both, over all systems."""
        return " and ".join(sorted({source.split(":")[0] for source in self.systems[cost.source].dropna()}))

    def cost_interval(self, system: str, cost: Cost) -> Interval | None:
        """95 % interval of a cost of a system; None if its error is not known."""
        return self.cost_intervals[cost.field].get(system)

    @cached_property
    def cost_intervals(self) -> dict[str, dict[str, Interval]]:
        """By cost and system, for costs whose error is known: a row of the wide table per system would take minutes."""
        intervals: dict[str, dict[str, Interval]] = {}
        for cost in self.costs:
            figures = self.systems.reindex(columns=[cost.column, cost.error, "profile.rounds"])
            known = figures[figures[cost.error].notna() & (figures[cost.error] != 0)].astype(float)
            bounds = np.stack(cost_bounds(*known.to_numpy().T), axis=1).tolist()
            intervals[cost.field] = {str(s): (low, high) for s, (low, high) in zip(known.index, bounds, strict=True)}
        return intervals

    @cached_property
    def profiles(self) -> list[Profiled]:
        """The distinct measurements of encoders.

        Most are shared by all runs of a model, and all by the widths and indexes that read the same embeddings.
        """
        by_encoder: dict[str, list[tuple[str, Record, Profile]]] = {}
        for system, records in self.records.items():
            for record, profile in ((record, record.profile) for record in records if record.profile):
                by_encoder.setdefault(of_encoder(profile), []).append((system, record, profile))
        groups = list(by_encoder.values())
        for group in groups:
            group.sort(key=lambda run: len(variant_suffix(run[1])))  # stable; what differs least from as trained leads
        names = [f"{runs[0][1].choices['model']}{variant_suffix(runs[0][1])}" for runs in groups]
        counts = Counter(names)
        return [
            Profiled(
                name
                if counts[name] == 1
                else "; ".join(f"{self.label(system)}, seed {record.seed}" for system, record, _ in runs),
                [record.name for _, record, _ in runs],
                runs[0][2],
            )
            for runs, name in zip(groups, names, strict=True)
        ]

    def all_records(self) -> Iterator[Record]:
        """Yield the records of all systems."""
        for records in self.records.values():
            yield from records


def gather(store: ResultStore, sweep: str, tables: Mapping[str, pd.DataFrame]) -> Material:
    """Read the records behind the tables that analysis.analyse returned for a sweep."""
    states = store.runs(sweep)
    by_name = {state.name: state.record for state in states if state.record}
    records: dict[str, list[Record]] = {system: [] for system in tables["systems"]["system"]}
    for run in tables["runs"].to_dict("records"):
        records[run["system"]].append(by_name[run["name"]])
    return Material(store, sweep, tables, records, [state for state in states if state.status == "failed"])


def variant_suffix(record: Record) -> str:
    """Name the inference variant of a run, to be put behind another name; empty for as trained."""
    return "" if record.variant == AS_TRAINED else f", {record.variant}"


def of_encoder(profile: Profile) -> str:
    """Return a key that profiles of one encoder with other indexes share, if they failed the same checks."""
    return cache_key([profile.encoder_key, profile.failed_checks] if profile.encoder_key else asdict(profile))


def cost_interval(figures: pd.Series, cost: Cost) -> Interval | None:
    """95 % interval of a cost over the rounds of a profile; None if its error is not known.

    Args:
        figures: a row of the table of runs or systems.
        cost: one of its costs.
    """
    error = figures.get(cost.error)
    if pd.isna(error) or not error:
        return None
    low, high = cost_bounds(np.array([figures[cost.column]]), np.array([error]), np.array([figures["profile.rounds"]]))
    return float(low[0]), float(high[0])
