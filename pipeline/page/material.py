"""What the page is made of: a sweep's tables, and the records behind them, gathered once for all sections."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from pipeline.analysis import tables
from pipeline.page.show import strategy_name
from pipeline.report import SETTINGS
from pipeline.results import Cell, ResultStore
from pipeline.values import Profile, Record

Z_95 = 1.96  # standard errors on either side of a mean


class Profiled(NamedTuple):
    """A profile, and the runs that share it."""

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
        served = {variant: records[0].served for variant, records in self.records.items()}
        strategy = self.variants["strategy"].map(strategy_name)
        names = {key: strategy[key] + (f", {way}" if way != "as trained" else "") for key, way in served.items()}
        keys = [(self.about(variant, "model"), name) for variant, name in names.items()]
        return {v: name if keys.count(key) == 1 else v for (v, name), key in zip(names.items(), keys, strict=True)}

    def about(self, variant: str, column: str) -> Any:
        return self.variants.at[variant, column]

    def label(self, variant: str) -> str:
        return f"{self.about(variant, 'model')}, {self.batches[variant]}"

    def accuracy(self, variant: str, benchmark: str, setting: str) -> float:
        return self.about(variant, f"metrics.{benchmark}.{setting}.{tables.ACCURACY}")

    @cached_property
    def accuracy_intervals(self) -> dict[tuple[str, str, str], tuple[float, float]]:
        """By (variant, benchmark, setting); only points of a front have one."""
        points = self.found["pareto"].drop_duplicates(["variant", "benchmark", "setting"])
        if "accuracy_low" not in points:
            return {}
        keys = points[["variant", "benchmark", "setting"]].itertuples(index=False, name=None)
        return dict(zip(keys, zip(points["accuracy_low"], points["accuracy_high"], strict=True), strict=True))

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
        """The distinct profiles; most are shared by all runs of a model."""
        groups: list[tuple[Profile, list[tuple[str, Record]]]] = []
        for variant, records in self.records.items():
            for record in records:
                if record.profile is None:
                    continue
                runs = next((runs for profile, runs in groups if profile == record.profile), None)
                if runs is None:
                    groups.append((record.profile, runs := []))
                runs.append((variant, record))
        models = [runs[0][1].choices["model"] for _, runs in groups]
        return [
            Profiled(
                model if models.count(model) == 1 else "; ".join(f"{self.label(v)}, seed {r.seed}" for v, r in runs),
                [record.name for _, record in runs],
                profile,
            )
            for (profile, runs), model in zip(groups, models, strict=True)
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
