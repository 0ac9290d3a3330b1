"""The sweep's answers as tables: accuracy and cost by strategy and size, and the statistics behind the fronts."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

from pipeline.page import show
from pipeline.page.material import Material, profile_interval
from pipeline.page.show import Cell, Row, Table, row
from pipeline.report import SETTINGS

FURTHER_COSTS = {  # fields of the Profile that no front is drawn over
    "query_latency_p50_ms": "query latency, p50 (ms)",
    "energy_j_per_1k_passages": "energy per 1,000 passages (J)",
    "weights_on_disk_mib": "weights on disk (MiB)",
    "index_bytes_per_passage": "index (bytes a passage)",
    "parameters": "parameters",
}


class Block(NamedTuple):
    """Rows of a table by size: one value a variant."""

    values: pd.Series
    intervals: Mapping[str, tuple[float, float] | None]
    form: Callable[[float], str]
    best: Callable[[pd.Series], float]


def by_size(material: Material, caption: str, blocks: Mapping[str, Block]) -> Table:
    """Strategy x size; the best of each size and block is bold."""
    variants = material.variants
    place = {(material.about(v, "model"), material.batches[v]): v for v in material.records}
    rows = []
    for name, block in blocks.items():
        best = {model: block.best(block.values[group.index]) for model, group in variants.groupby("model")}
        for batches in dict.fromkeys(material.batches[variant] for variant in block.values.dropna().index):
            cells = [Cell(name), Cell(batches)]
            for model in material.models:
                variant = place.get((model, batches))
                value = block.values[variant] if variant else float("nan")
                text = show.between(value, block.intervals.get(variant or ""), block.form)
                cells.append(Cell(text, "best" if value == best[model] else ""))
            rows.append(Row(cells))
    return Table(caption, ["", "batches", *material.models], rows, labels=2)


def accuracies(material: Material, benchmark: str) -> Table:
    blocks = {}
    for setting in material.scales[benchmark]:
        values = material.variants[f"metrics.{benchmark}.{setting}.map"]
        known = {v: material.accuracy_intervals.get((v, benchmark, setting)) for v in material.records}
        blocks[SETTINGS[setting]] = Block(values, known, show.accuracy, pd.Series.max)
    return by_size(material, f"Accuracy on {benchmark}; the best of each size is bold", blocks)


def costs(material: Material) -> Table:
    """A column a profile: strategies of one architecture share it."""
    runs = material.found["runs"].set_index("name")
    named = {cost.field: (cost.label, material.how(cost.source)) for cost in material.costs}
    rows = []
    further = {field: (label, material.how(f"profile.sources.{field}")) for field, label in FURTHER_COSTS.items()}
    for field, (label, how) in (named | further).items():
        values = runs[f"profile.{field}"].astype(float)
        if values.isna().all():
            continue
        cells = [Cell(label), Cell(how)]
        for profiled in material.profiles:
            text = show.between(values[profiled.runs[0]], profile_interval(profiled.profile, field), show.amount)
            cells.append(Cell(text, "" if profiled.profile.grade_passed else "doubt"))
        rows.append(Row(cells))
    columns = ["cost", "", *(profiled.label for profiled in material.profiles)]
    return Table("Cost; intervals where a meter gives one", columns, rows, labels=2)


def panel(found: pd.Series) -> str:
    return "|".join(found[key] for key in ("benchmark", "setting", "cost") if key in found)


def points(material: Material) -> Table:
    rows = []
    for _, point in material.found["pareto"].sort_values("value", kind="stable").iterrows():
        chance = show.probability(point["front_probability"])
        doubt = "" if point["grade_passed"] else "doubt"
        value = show.between(point["value"], material.cost_interval(point["variant"], point["cost"]), show.amount)
        rows.append(
            row(
                material.label(point["variant"]),
                Cell(value, doubt),
                show.between(point["accuracy"], (point["accuracy_low"], point["accuracy_high"]), show.accuracy),
                Cell(chance + (", knee" if point["knee"] else ""), "best" if point["on_front"] else ""),
                panel=panel(point),
            )
        )
    columns = ["encoder", "cost", "accuracy", "on the front in"]
    return Table("All points of the front above, the cheapest first; on the front: bold", columns, rows)


def tests(material: Material) -> Table:
    found = material.found["tests"]
    order = found["model"].map(material.models.index)
    by_model = found.assign(order=order).sort_values(["benchmark", "setting", "order"], kind="stable")
    rows = [
        row(
            test["model"],
            f"{material.batches[test['a']]} − {material.batches[test['b']]}",
            show.between(test["difference"], (test["low"], test["high"]), show.difference),
            show.p_value(test["p_holm"]),
            panel=panel(test),
        )
        for _, test in by_model.iterrows()
    ]
    columns = ["size", "difference of", "accuracy", "after Holm's correction"]
    return Table("Paired tests between strategies of equal size, over questions", columns, rows, labels=2)


def exchange(material: Material) -> Table:
    """A row a variant, a column a strategy that would take its place."""
    rates = material.found["exchange"]
    strategies = list(dict.fromkeys(material.variants["strategy"]))
    rows = []
    for _, of_variant in rates.groupby(["benchmark", "setting", "cost", "variant"], sort=False):
        first = of_variant.iloc[0]
        by_other = {rate["other"]: exchange_rate(rate) for _, rate in of_variant.iterrows()}
        others = [by_other.get(strategy, "") for strategy in strategies]
        rows.append(row(material.label(first["variant"]), *others, panel=panel(first)))
    columns = ["to be as accurate as", *(f"{show.strategy_name(strategy)} batches" for strategy in strategies)]
    return Table("Exchange rates: times its cost that other batches need, interpolated on their front", columns, rows)


def exchange_rate(rate: pd.Series) -> str:
    text = show.between(rate["rate"], (rate["low"], rate["high"]), show.times)
    return text if rate["reached"] in (0, 1) else f"{text}, reached in {show.probability(rate['reached'])}"


def slopes(material: Material) -> Table:
    rows = [
        row(
            line["strategy"],
            show.between(line["slope"], (line["low"], line["high"]), show.difference),
            show.accuracy(line["residual"]),
            panel=panel(line),
        )
        for _, line in material.found["slopes"].iterrows()
    ]
    columns = ["batches", "accuracy a doubling of the cost", "largest residual"]
    return Table("Does size pay more with some batches than with others?", columns, rows)


def volumes(material: Material) -> Table:
    rows = [
        row(
            area["strategy"],
            show.between(area["hypervolume"], (area["low"], area["high"]), show.accuracy),
            panel=panel(area),
        )
        for _, area in material.found["hypervolume"].iterrows()
    ]
    columns = ["batches", "accuracy × decades of cost"]
    return Table("Hypervolume: the area under each front, up to the dearest cost", columns, rows)


STATISTICS = {"pareto": points, "tests": tests, "exchange": exchange, "slopes": slopes, "hypervolume": volumes}


def statistics(material: Material) -> list[Table]:
    """Those that the sweep is large enough for."""
    held = [make for name, make in STATISTICS.items() if name in material.found and not material.found[name].empty]
    return [make(material) for make in held]


def grades(material: Material) -> Table:
    rows = [
        row(
            profiled.label,
            check["name"],
            show.plain(check["value"]),
            check["limit"],
            Cell("passed", "passed") if check["passed"] else Cell("failed", "failed"),
        )
        for profiled in material.profiles
        for check in profiled.profile.details["grade"]["checks"]
    ]
    columns = ["profile", "check", "found", "limit", "grade"]
    return Table("Every check of every profile", columns, rows, labels=2)
