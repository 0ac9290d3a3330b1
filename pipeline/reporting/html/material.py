"""What the page is made of: a sweep's tables, and the records behind them, gathered once for all sections."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from pipeline.analysis import tables
from pipeline.reporting.figure import SETTINGS
from pipeline.reporting.html.show import strategy_name
from pipeline.store.results import Cell, ResultStore
from pipeline.values import Profile, Record

Z_95 = 1.96  # standard errors on either side of a mean
OF_INDEX = ("end_to_end_", "search_", "index_")  # fields of a Profile that vary where its encoder does not


class Profiled(NamedTuple):
    """A profile of an encoder, and the runs that share what was measured; that of the first is shown."""

    label: str
    runs: list[str]
    profile: Profile


@dataclass(frozen=True)
class Material:
    """`found` is what aggregate.analyse returns, `records` holds the runs of each variant, seed by seed."""

    store: ResultStore
    sweep: str
    found: Mapping[str, pd.DataFrame]
    records: Mapping[str, list[Record]]
    failed: list[Cell]

    @cached_property
    def variants(self) -> pd.DataFrame:
        """One row a variant, by its name."""
        return self.found["variants"].set_index("variant", drop=False)

    @cached_property
    def scales(self) -> dict[str, list[str]]:
        """Settings by benchmark; the first benchmark is the main one. Empty where there is no accuracy."""
        found: dict[str, list[str]] = {}
        for benchmark, setting in tables.scales(self.variants):
            found.setdefault(benchmark, []).append(setting)
        return {benchmark: sorted(settings, key=list(SETTINGS).index) for benchmark, settings in found.items()}

    @cached_property
    def costs(self) -> list[tables.Cost]:
        """The costs that some variant has."""
        variants = self.variants
        return [cost for cost in tables.COSTS if cost.column in variants and variants[cost.column].notna().any()]

    @cached_property
    def models(self) -> list[str]:
        """From the smallest to the largest of each family."""
        return list(dict.fromkeys(self.variants["model"]))

    @cached_property
    def batches(self) -> dict[str, str]:
        """By variant, what sets it apart from others of its model."""
        strategy = self.variants["strategy"].map(strategy_name)
        names = {variant: strategy[variant] + way(records[0]) for variant, records in self.records.items()}
        keys = [(self.about(variant, "model"), name) for variant, name in names.items()]
        return {v: name if keys.count(key) == 1 else v for (v, name), key in zip(names.items(), keys, strict=True)}

    def about(self, variant: str, column: str) -> Any:
        return self.variants.at[variant, column]

    def label(self, variant: str) -> str:
        return f"{self.about(variant, 'model')}, {self.batches[variant]}"

    def accuracy(self, variant: str, benchmark: str, setting: str) -> float:
        return self.about(variant, f"metrics.{benchmark}.{setting}.{tables.ACCURACY}")

    @cached_property
    def accuracy_intervals(self) -> dict[tuple[str, ...], tuple[float, float]]:
        """By (variant, benchmark, setting); only points of a front have one."""
        return self.intervals("accuracy", ["variant", "benchmark", "setting"])

    @cached_property
    def bias_intervals(self) -> dict[tuple[str, ...], tuple[float, float]]:
        """By (variant, benchmark)."""
        return self.intervals(tables.BIAS, ["variant", "benchmark"])

    def intervals(self, name: str, keys: list[str]) -> dict[tuple[str, ...], tuple[float, float]]:
        points = self.found["pareto"].drop_duplicates(keys)
        if f"{name}_low" not in points:
            return {}
        bounds = zip(points[f"{name}_low"], points[f"{name}_high"], strict=True)
        return dict(zip(points[keys].itertuples(index=False, name=None), bounds, strict=True))

    def cost(self, variant: str, cost: tables.Cost) -> float:
        return self.about(variant, cost.column)

    def how(self, source_column: str) -> str:
        """measured, or modelled, or both: of all variants."""
        return " and ".join(sorted({source.split(":")[0] for source in self.variants[source_column].dropna()}))

    def cost_interval(self, variant: str, field: str) -> tuple[float, float] | None:
        """95 %: of a latency over its calls, of an energy over its passes. None for a single reading, and for seeds
        that were profiled apart."""
        first, *others = (record.profile for record in self.records[variant])
        return profile_interval(first, field) if first and all(profile == first for profile in others) else None

    @cached_property
    def profiles(self) -> list[Profiled]:
        """The distinct measurements of an encoder; most are shared by all runs of a model, and all by the widths and
        indexes that read the same embeddings."""
        groups: list[list[tuple[str, Record, Profile]]] = []
        for variant, records in self.records.items():
            for record, profile in ((record, record.profile) for record in records if record.profile):
                same = (group for group in groups if of_encoder(group[0][2]) == of_encoder(profile))
                group = next(same, None)
                if group is None:
                    groups.append(group := [])
                group.append((variant, record, profile))
        for group in groups:
            group.sort(key=lambda run: len(way(run[1])))  # stable; what differs least from as trained leads
        names = [f"{runs[0][1].choices['model']}{way(runs[0][1])}" for runs in groups]
        return [
            Profiled(
                name if names.count(name) == 1 else "; ".join(f"{self.label(v)}, seed {r.seed}" for v, r, _ in runs),
                [record.name for _, record, _ in runs],
                runs[0][2],
            )
            for runs, name in zip(groups, names, strict=True)
        ]

    def all_records(self) -> Iterator[Record]:
        for records in self.records.values():
            yield from records


def gather(store: ResultStore, sweep: str, found: Mapping[str, pd.DataFrame]) -> Material:
    cells = store.cells(sweep)
    by_name = {cell.name: cell.record for cell in cells if cell.record}
    records: dict[str, list[Record]] = {variant: [] for variant in found["variants"]["variant"]}
    for run in found["runs"].to_dict("records"):
        records[run["variant"]].append(by_name[run["name"]])
    return Material(store, sweep, found, records, [cell for cell in cells if cell.status == "failed"])


def way(record: Record) -> str:
    """Of serving, to be put behind a name; nothing for as trained."""
    return "" if record.served == tables.AS_TRAINED else f", {record.served}"


def of_encoder(profile: Profile) -> dict[str, Any]:
    """What the meters found of a run's encoder, whatever index its embeddings go to."""
    figures = {key: value for key, value in vars(profile).items() if not key.startswith(OF_INDEX)}
    details = {key: value for key, value in profile.details.items() if key != "index"}
    return figures | {"details": details, "sources": None}


def profile_interval(profile: Profile, field: str) -> tuple[float, float] | None:
    """Of a field of the Profile; None where its meter keeps no interval."""
    value, details = getattr(profile, field, None), profile.details
    span, _, percentile = field.removesuffix("_ms").rpartition("_latency_")
    if span and (found := (details.get("latency", {}).get(span) or {}).get(percentile)):
        return found["low"], found["high"]
    energy, _, texts = field.partition("_j_per_1k_")
    side = {"queries": "query", "passages": "passage"}.get(texts, "")
    if energy == "energy" and (error := details.get("energy", {}).get(side, {}).get("relative_error")) is not None:
        return value * (1 - Z_95 * error), value * (1 + Z_95 * error)
    return None
