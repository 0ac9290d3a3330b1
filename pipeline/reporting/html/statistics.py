"""The statistics behind the fronts as tables; most rows follow the axes of the plot that the reader picks."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pipeline.analysis.costs import cost
from pipeline.analysis.tables import BIAS, PASSED
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Table, TableCell, row
from pipeline.reporting.looks import strategy_name
from pipeline.store.progress import counted
from pipeline.store.records import AS_TRAINED

# A row of a table of analysis, by column: of 25,000 rows, each as a Series would take a minute.
Line = Mapping[Any, Any]


def panel(line: Line) -> str:
    """Return the 'benchmark|setting|cost', or 'benchmark|setting', that a row belongs to."""
    return "|".join(line[key] for key in ("benchmark", "setting", "cost") if key in line)


def points(material: Material) -> Table:
    """Tabulate the points of the fronts."""
    with_bias = bool(material.bias_intervals)
    ordered = material.rows_of("pareto").sort_values("value", kind="stable")
    rows = []
    for _, of_setting in ordered.groupby(["benchmark", "setting"], sort=False):
        ends = list(zip(of_setting["accuracy_low"], of_setting["accuracy_high"], strict=True))
        marks = show.marks(list(of_setting["accuracy"]), ends)
        for point, interval, mark in zip(of_setting.to_dict("records"), ends, marks, strict=True):
            chance = show.probability(point["front_probability"])
            chance_with_bias = show.probability(point["front_with_bias_probability"])
            rows.append(
                row(
                    material.label(point["system"]),
                    TableCell(value_of(material, point), "" if point["quality"] == PASSED else "doubt"),
                    point["source"].split(":")[0],
                    TableCell(show.between(point["accuracy"], interval, show.accuracy), mark=mark),
                    TableCell(chance + (", knee" if point["knee"] else ""), "best" if point["on_front"] else ""),
                    *(
                        [TableCell(chance_with_bias, "best" if point["on_front_with_bias"] else "")]
                        if with_bias
                        else []
                    ),
                    panel=panel(point),
                )
            )
    columns = ["system", "cost", "source", "accuracy", "on the Pareto front in"]
    columns += ["with language bias in"] if with_bias else []
    drawn = "costs and accuracies" if material.tables["pareto"]["cost_drawn"].any() else "accuracies"
    caption = f"All points of the plot, cheapest first; share of draws of {drawn}; bold: on the Pareto front"
    return Table(material.caption(caption, "pareto"), columns, rows)


def value_of(material: Material, point: Line) -> str:
    """Write the cost of a point with interval and unit, or its language bias."""
    if point["cost"] == BIAS:
        return show.between(point["value"], (point[f"{BIAS}_low"], point[f"{BIAS}_high"]), show.amount)
    known = cost(point["cost"])
    return f"{show.between(point['value'], material.cost_interval(point['system'], known), show.amount)} {known.unit}"


def winners(material: Material) -> Table:
    """Tabulate the most accurate system of each setting and inference variant, with its lead over the runner-up."""
    table = material.tables["winners"]
    one_variant = table["variant"].nunique() == 2  # "all" and the only one
    rows = []
    for best in (table[table["variant"] == "all"] if one_variant else table).to_dict("records"):
        lead = show.MISSING
        if pd.notna(best["runner_up"]):
            ends = best["lead_low"], best["lead_high"]
            lead = f"{show.between(best['lead'], ends, show.difference)} over {material.label(best['runner_up'])}"
        rows.append(
            row(
                f"{material.accuracy_label(best['benchmark'], best['setting'])}, {best['benchmark']}",
                best["variant"],
                material.label(best["system"]),
                show.between(best["accuracy"], (best["low"], best["high"]), show.accuracy),
                lead,
                str(best["candidates"]),
            )
        )
    columns = ["accuracy", "inference variant", "most accurate", "value", "lead over the runner-up", "candidates"]
    caption = "The most accurate systems; intervals allow for their having been chosen from all candidates"
    return Table(caption, columns, rows, labels=2)


def tests(material: Material) -> Table:
    """Tabulate the differences between strategies of one model, with interval and p-value of one error model."""
    tests = material.tables["tests"]
    tests = tests[tests["a"].isin(material.listed) & tests["b"].isin(material.listed)]
    order = tests["a"].map(material.systems["model"]).map({name: n for n, name in enumerate(material.models)})
    by_model = tests.assign(order=order).sort_values(["benchmark", "setting", "order"], kind="stable")
    rows = [
        row(
            test["model"],
            f"{material.short_labels[test['a']]} − {material.short_labels[test['b']]}",
            show.between(test["difference"], (test["low"], test["high"]), show.difference),
            show.p_value(test["p"]),
            show.bounds((test["holm_low"], test["holm_high"]), show.difference),
            show.p_value(test["p_holm"]),
            material.over(test["benchmark"], test["covers"]),
            show.amount(test["degrees"]),
            panel=panel(test),
        )
        for test in by_model.to_dict("records")
    ]
    columns = ["model", "difference", "accuracy", "p-value", "Holm-corrected", "p-value", "over", "degrees of freedom"]
    caption = (
        "Differences between strategies of one model: 95 % interval and p-value of one t-test, then both corrected"
    )
    caption = material.caption(f"{caption} for the number of differences", "tests")
    return Table(caption, columns, rows, labels=2)


def exchange(material: Material) -> Table:
    """Tabulate one row per system, one column per strategy that would take its place."""
    strategies = list(dict.fromkeys(material.systems["strategy"]))
    rows = []
    for first, by_other in by_system(material.rows_of("exchange"), exchange_rate):
        others = (by_other.get(strategy, "") for strategy in strategies)
        rows.append(row(material.label(first["system"]), *others, panel=panel(first)))
    columns = ["to match the accuracy of", *(f"with {show.batches(strategy)}" for strategy in strategies)]
    caption = (
        "Exchange rates: cost for equal accuracy, as a multiple of the system's cost, interpolated on the other front"
    )
    return Table(material.caption(caption, "exchange"), columns, rows)


def by_system(table: pd.DataFrame, text: Callable[[Line], str]) -> list[tuple[Line, dict[str, str]]]:
    """Return per panel and system its first row, and by `other` strategy what `text` writes of the row."""
    groups: dict[tuple[str, str], tuple[Line, dict[str, str]]] = {}
    for line in table.to_dict("records"):
        groups.setdefault((panel(line), line["system"]), (line, {}))[1][line["other"]] = text(line)
    return list(groups.values())


def exchange_rate(rate: Line) -> str:
    """Write a row of the exchange rates."""
    return with_chance(clamped(rate, "rate"), rate["reached"])


def clamped(line: Line, column: str) -> str:
    """Write a rate or a size with its interval; 'at most' where already the cheapest system tried is more accurate.

    >>> line = pd.Series({"rate": 1.0, "low": 1.0, "high": 1.2, "clamped": True, "low_clamped": True})
    >>> clamped(line, "rate")
    'at most 1.00 [≤ 1.00, 1.20]'
    """
    value = f"at most {show.times(line[column])}" if line["clamped"] else show.times(line[column])
    if line["low"] == line["high"] == line[column]:
        return value
    low = f"≤ {show.times(line['low'])}" if line["low_clamped"] else show.times(line["low"])
    return f"{value} [{low}, {show.times(line['high'])}]"


def with_chance(text: str, reached: float) -> str:
    """Add the share of draws in which the accuracy is reached, unless it is all or none."""
    return text if reached in (0, 1) else f"{text} (reached in {show.probability(reached)})"


def savings(material: Material) -> Table:
    """Tabulate one row per system, one column per strategy: the size at which it would be as accurate."""
    savings, unit = material.rows_of("savings"), size_unit(material)
    strategies = list(dict.fromkeys(savings["strategy"]))
    rows = []
    for first, by_other in by_system(savings[savings["unit"] == unit], needed_size):
        others = [by_other.get(strategy, "") for strategy in strategies]
        rows.append(row(material.label(first["system"]), show.amount(first["size"]), *others, panel=panel(first)))
    by_strategy = (f"with {show.batches(strategy)}" for strategy in strategies)
    caption = f"Model size at equal accuracy: {unit} needed, interpolated on the front of the other strategy"
    return Table(material.caption(caption, "savings"), ["to match the accuracy of", unit, *by_strategy], rows)


def size_unit(material: Material) -> str:
    """Return the unit of model size. Layers compare encoders of one family only."""
    return "layers" if material.systems["family"].nunique() == 1 else "parameters"


def needed_size(line: Line, unit: str = "") -> str:
    """Write a row of the savings."""
    return with_chance(f"{clamped(line, 'needed')} {unit}".rstrip(), line["reached"])


def slopes(material: Material) -> Table:
    """Tabulate the gain per doubling of the cost, by strategy and between strategies."""
    rows = [
        row(
            " − ".join(map(strategy_name, line["strategy"].split(" - "))),
            show.between(line["slope"], (line["low"], line["high"]), show.difference),
            lack_of_fit(line),
            panel=panel(line),
        )
        for line in material.tables["slopes"].to_dict("records")
    ]
    caption = "Scaling by strategy; a difference above 0: the first strategy gains more from size"
    return Table(caption, ["batch strategy", "accuracy per doubling of the cost", "lack of fit"], rows)


def lack_of_fit(line: Line) -> str:
    """Write how far the points lie from a line beyond their own errors; two points are always on it.

    >>> lack_of_fit(pd.Series({"points": 6, "lack_of_fit": 0.0123}))
    '0.012 (6 sizes)'
    >>> lack_of_fit(pd.Series({"points": 2, "lack_of_fit": float("nan")}))
    'unknown (2 sizes)'
    """
    known = "unknown" if pd.isna(line["lack_of_fit"]) else show.accuracy(line["lack_of_fit"])
    return f"{known} ({line['points']:.0f} sizes)"


def fits(material: Material) -> Table:
    """Tabulate the residuals of the straight lines."""
    rows = [
        row(
            material.label(point["system"]),
            show.accuracy(point["accuracy"]),
            show.between(point["fitted"], (point["low"], point["high"]), show.accuracy),
            show.difference(point["residual"]),
            panel=panel(point),
        )
        for point in material.rows_of("fits").to_dict("records")
    ]
    caption = material.caption("Straight-line fits: residuals of the lines plotted above", "fits")
    return Table(caption, ["system", "accuracy", "on its line", "residual"], rows)


def volumes(material: Material) -> Table:
    """Tabulate the hypervolume of each front."""
    areas = material.tables["hypervolume"]
    with_bias = "hypervolume_with_bias" in areas
    rows = []
    for area in areas.to_dict("records"):
        texts = [show.between(area["hypervolume"], (area["low"], area["high"]), show.accuracy)]
        if with_bias:
            interval = area["with_bias_low"], area["with_bias_high"]
            texts.append(show.between(area["hypervolume_with_bias"], interval, show.accuracy))
        texts.append(show.amount(area["reference"]))
        rows.append(row(strategy_name(area["strategy"]), *texts, panel=panel(area)))
    columns = ["batch strategy", "accuracy × decades of cost"]
    columns += ["× share of the worst bias avoided"] if with_bias else []
    reference = "reference point: accuracy 0 at a cost beyond the highest"
    return Table(f"Hypervolume enclosed by each front; {reference}", [*columns, "reference cost"], rows)


def trades(material: Material) -> Table:
    """Tabulate what each inference variant saves and loses."""
    rows = [
        row(
            material.label(trade["system"]),
            show.amount(trade["times_cheaper"]),
            show.between(trade["difference"], (trade["low"], trade["high"]), show.difference),
            panel=panel(trade),
        )
        for trade in material.rows_of("trades").sort_values("times_cheaper", ascending=False).to_dict("records")
    ]
    columns = ["system", "times cheaper", "difference in accuracy"]
    caption = "Inference variants, compared with the same encoder as trained"
    return Table(material.caption(caption, "trades"), columns, rows)


def noise(material: Material) -> Table:
    """Tabulate how far repeated profiles of one architecture differ."""
    noise = material.tables["noise"]
    variant = (", " + noise["variant"]).where(noise["variant"] != AS_TRAINED, "")
    architecture = noise["family"] + ", " + noise["layers"].map(lambda layers: counted(layers, "layer")) + variant
    rows = [
        row(
            name,
            cost(line["cost"]).label,
            str(line["profiles"]),
            show.amount(line["median"]),
            f"{line['lowest']:+.1%} to {line['highest']:+.1%}".replace("-", "−"),
        )
        for name, line in zip(architecture, noise.to_dict("records"), strict=True)
    ]
    columns = ["encoder", "cost", "profiles", "median", "lowest to highest, relative to the median"]
    return Table("Measurement noise: repeated profiles of one architecture", columns, rows)


SECTIONS = {  # section of the report -> its tables: name of the table of analysis, function
    "deploy": {"pareto": points},
    "sizes": {"exchange": exchange, "savings": savings, "slopes": slopes, "fits": fits},
    "variants": {"trades": trades},
    "statistics": {"winners": winners, "tests": tests, "hypervolume": volumes, "noise": noise},
}


def statistics(material: Material) -> dict[str, list[Table]]:
    """Return the tables that the sweep is large enough for, by section of the report."""
    known = {name for name, table in material.tables.items() if not table.empty}
    return {
        section: [make(material) for name, make in tables.items() if name in known]
        for section, tables in SECTIONS.items()
    }
