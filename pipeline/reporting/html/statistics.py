"""The statistics behind the fronts as tables whose rows follow the axes that the reader picks."""

import pandas as pd

from pipeline.analysis.tables import AS_TRAINED, BIAS
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Cell, Table, row


def panel(found: pd.Series) -> str:
    return "|".join(found[key] for key in ("benchmark", "setting", "cost") if key in found)


def points(material: Material) -> Table:
    with_bias = bool(material.bias_intervals)
    rows = []
    for _, point in material.found["pareto"].sort_values("value", kind="stable").iterrows():
        chance = show.probability(point["front_probability"])
        three = show.probability(point["front_with_bias_probability"])
        doubt = "" if point["grade_passed"] else "doubt"
        known = (
            (point[f"{BIAS}_low"], point[f"{BIAS}_high"])
            if point["cost"] == BIAS
            else material.cost_interval(point["variant"], point["cost"])
        )
        rows.append(
            row(
                material.label(point["variant"]),
                Cell(show.between(point["value"], known, show.amount), doubt),
                show.between(point["accuracy"], (point["accuracy_low"], point["accuracy_high"]), show.accuracy),
                Cell(chance + (", knee" if point["knee"] else ""), "best" if point["on_front"] else ""),
                *([Cell(three, "best" if point["on_front_with_bias"] else "")] if with_bias else []),
                panel=panel(point),
            )
        )
    columns = ["encoder", "cost", "accuracy", "on the front in", *(["where bias counts too"] if with_bias else [])]
    return Table("All points of the front above, the cheapest first; on the front: bold", columns, rows)


def tests(material: Material) -> Table:
    found = material.found["tests"]
    order = found["a"].map(lambda variant: material.models.index(material.about(variant, "model")))
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


def savings(material: Material) -> Table:
    """A row a variant, a column a strategy: the size with which it would be as accurate."""
    found = material.found["savings"]
    unit = size_unit(material)
    strategies = list(dict.fromkeys(found["strategy"]))
    rows = []
    for _, of_variant in found[found["unit"] == unit].groupby(["benchmark", "setting", "variant"], sort=False):
        first = of_variant.iloc[0]
        by_other = {line["other"]: needed_size(found, line) for _, line in of_variant.iterrows()}
        others = [by_other.get(strategy, "") for strategy in strategies]
        rows.append(row(material.label(first["variant"]), show.amount(first["size"]), *others, panel=panel(first)))
    columns = ["to be as accurate as", unit, *(f"{show.strategy_name(strategy)} batches" for strategy in strategies)]
    return Table(f"Size at equal accuracy: {unit} that other batches need, interpolated on their front", columns, rows)


def size_unit(material: Material) -> str:
    """Layers compare encoders of one family only."""
    return "layers" if material.variants["family"].nunique() == 1 else "parameters"


def needed_size(found: pd.DataFrame, line: pd.Series) -> str:
    """Of a row of `savings`; where the smallest that was tried is enough, a smaller one may be."""
    same = (found["strategy"] == line["other"]) & (found["unit"] == line["unit"])
    smallest = found.loc[same & (found["benchmark"] == line["benchmark"]), "size"].min()
    if line["high"] <= smallest:
        return f"{show.amount(smallest)} or fewer"
    text = show.between(line["needed"], (line["low"], line["high"]), show.times)
    return text if line["reached"] in (0, 1) else f"{text}, reached in {show.probability(line['reached'])}"


def slopes(material: Material) -> Table:
    rows = [
        row(
            show.strategy_name(line["strategy"].replace(" - ", " − ")),
            show.between(line["slope"], (line["low"], line["high"]), show.difference),
            panel=panel(line),
        )
        for _, line in material.found["slopes"].iterrows()
    ]
    caption = "Does size pay more with some batches than with others? Of a difference: above 0 it does"
    return Table(caption, ["batches", "accuracy a doubling of the cost"], rows)


def fits(material: Material) -> Table:
    rows = [
        row(
            material.label(point["variant"]),
            show.accuracy(point["accuracy"]),
            show.between(point["fitted"], (point["low"], point["high"]), show.accuracy),
            show.difference(point["residual"]),
            panel=panel(point),
        )
        for _, point in material.found["fits"].iterrows()
    ]
    return Table("Residuals of these lines", ["encoder", "accuracy", "on its line", "residual"], rows)


def volumes(material: Material) -> Table:
    areas = material.found["hypervolume"]
    with_bias = "hypervolume_with_bias" in areas
    rows = []
    for _, area in areas.iterrows():
        cells = [show.between(area["hypervolume"], (area["low"], area["high"]), show.accuracy)]
        if with_bias:
            known = (area["with_bias_low"], area["with_bias_high"])
            cells.append(show.between(area["hypervolume_with_bias"], known, show.accuracy))
        rows.append(row(show.strategy_name(area["strategy"]), *cells, panel=panel(area)))
    columns = ["batches", "accuracy × decades of cost", *(["× share of the worst bias avoided"] if with_bias else [])]
    return Table("Hypervolume: what each front encloses, up to the dearest cost", columns, rows)


def served(material: Material) -> Table:
    rows = [
        row(
            material.label(trade["variant"]),
            show.amount(trade["times_cheaper"]),
            show.between(trade["difference"], (trade["low"], trade["high"]), show.difference),
            panel=panel(trade),
        )
        for _, trade in material.found["served"].sort_values("times_cheaper", ascending=False).iterrows()
    ]
    columns = ["encoder, as served", "times cheaper", "accuracy"]
    return Table("What ways of serving buy, against the same encoder as trained", columns, rows)


def noise(material: Material) -> Table:
    named = {cost.field: cost.label for cost in material.costs}
    found = material.found["noise"]
    way = (", " + found["served"]).where(found["served"] != AS_TRAINED, "")
    architecture = found["family"] + ", " + found["layers"].astype(str) + " layers" + way
    rows = [
        row(
            name,
            named[found["cost"]],
            str(found["profiles"]),
            show.amount(found["median"]),
            f"{found['lowest']:+.1%} to {found['highest']:+.1%}".replace("-", "−"),
        )
        for name, (_, found) in zip(architecture, found.iterrows(), strict=True)
        if found["cost"] in named
    ]
    columns = ["encoder", "cost", "profiles", "median", "lowest to highest"]
    return Table("Noise of the instrument: repeated profiles of what costs the same", columns, rows)


STATISTICS = {
    "pareto": points, "served": served, "tests": tests, "exchange": exchange, "savings": savings, "slopes": slopes,
    "fits": fits, "hypervolume": volumes, "noise": noise,
}  # fmt: skip


def statistics(material: Material) -> list[Table]:
    """Those that the sweep is large enough for."""
    held = [make for name, make in STATISTICS.items() if name in material.found and not material.found[name].empty]
    return [make(material) for make in held]
