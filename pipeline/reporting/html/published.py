"""The text of published.html: sentences and tables made of the tables of analysis.published.study.

The figure is drawn in the browser (published.js) from JSON in the file.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.analysis.published import costs
from pipeline.analysis.published.models import CLASSES, NOT_TRAINED
from pipeline.analysis.published.scores import BENCHMARKS
from pipeline.analysis.published.size import ALL, GAP
from pipeline.analysis.published.study import BUDGET, EVERYONE, PANELS
from pipeline.analysis.tables import FAILED, PASSED
from pipeline.reporting import figure
from pipeline.reporting.html import show
from pipeline.reporting.html.cards import Card, Figure
from pipeline.reporting.html.payload import packed
from pipeline.reporting.html.show import Row, Table, TableCell, accuracy, amount, between, difference, listed, row
from pipeline.reporting.html.write import page
from pipeline.reporting.looks import looks_of

LABELS = {benchmark.name: benchmark.label for benchmark in BENCHMARKS}
SETTINGS = {**figure.SETTINGS, GAP: "gap (mono less cross)"}
POOLS = {EVERYONE: "of all models", NOT_TRAINED: "of those that say they did not train on MIRACL"}
TYPICAL = 100.0  # of BUDGET, in the first sentence
SCRIPTS = ["page.js", "plot.js", "published.js"]
SECTIONS = {  # in the order in which people ask: id -> title, what the folded section holds
    "deploy": ("What to deploy", "the choice within every latency, caveats, steps up the fronts"),
    "sizes": ("Size", "what a doubling buys, monolingual against cross-lingual search"),
    "trust": ("Costs and refusals", "architectures, modelled against measured cost, results left out"),
}


def render(sweep: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the text of published.html."""
    points = tables["points"]
    return page(
        "published.html",
        SCRIPTS,
        payload(points),
        sections=SECTIONS,
        sweep=sweep,
        counts=counts(tables),
        machines=", ".join(sorted(points["machine"].dropna().unique())),
        cards=[card for panel in PANELS if (card := card_of(tables["choices"], *panel))],
        sentence=sentence(tables["choices"]),
        choices=choices(tables["choices"]),
        findings=findings(tables),
        caveats=caveats(tables),
        fronts=[steps(tables["neighbours"], pool) for pool in POOLS],
        size=[trends(tables["trends"]), ladders(tables["ladders"])],
        gaps=gaps(tables["gaps"]),
        trust=[architectures(tables["architectures"]), held_out(tables["held_out"]), refused(tables["refused"])],
    )


def counts(tables: Mapping[str, pd.DataFrame]) -> str:
    """Say how many models and architectures are shown, and how many of these were measured."""
    points, known = tables["points"], tables["architectures"]
    with_cost = points[points["cost"] == BUDGET.field]["model"].nunique()
    measured = int(known[BUDGET.source].fillna("").str.startswith("measured").sum())
    return f"{with_cost} models of {len(known)} architectures, {measured} of them measured"


def benchmark_label(benchmark: str, setting: str) -> str:
    """Name a benchmark and setting for readers."""
    return f"{LABELS[benchmark]}, {SETTINGS[setting]}"


def of_all(choices: pd.DataFrame, benchmark: str, setting: str) -> pd.DataFrame:
    """Return the choices among all models on one benchmark, by budget."""
    return choices.query("benchmark == @benchmark and setting == @setting and pool == @EVERYONE")


def sentence(choices: pd.DataFrame) -> str:
    """Return the verdict: the most accurate model within TYPICAL, for each setting."""
    parts = []
    for benchmark, setting in PANELS[:2]:
        within = of_all(choices, benchmark, setting).query("budget <= @TYPICAL")
        if len(within):
            best = within.iloc[-1]
            parts.append(f"{best['model']} for {SETTINGS[setting]} search (nDCG@10 {accuracy(best['accuracy'])})")
    if not parts:
        return f"No public encoder was found within {TYPICAL:g} ms ({BUDGET.name})."
    return f"Within {TYPICAL:g} ms ({BUDGET.name}), the most accurate public encoder is {listed(parts)}."


def card_of(choices: pd.DataFrame, benchmark: str, setting: str) -> Card | None:
    """Return the card of a benchmark: the most accurate model within each latency; None if it was not read."""
    panel = of_all(choices, benchmark, setting)
    if panel.empty:
        return None
    marks = show.marks(list(panel["accuracy"]), list(zip(panel["accuracy_low"], panel["accuracy_high"], strict=True)))
    figures = []
    for best, mark in zip(panel.itertuples(), marks, strict=True):
        value = between(best.accuracy, (best.accuracy_low, best.accuracy_high), accuracy)
        note = f"{value} at {cost_of(best)}"
        if best.cheapest != best.model:
            note += f"; not told apart: {best.cheapest}, {amount(best.cheapest_value)} ms"
        figures.append(Figure(f"within {best.budget:g} ms", best.model, note, mark))
    return Card(f"{SETTINGS[setting]} search", f"{LABELS[benchmark]}, nDCG@10", figures)


def cost_of(best: Any) -> str:
    """Write the latency of a chosen model, and whether it was measured or modelled."""
    return f"{amount(best.value)} ms, {str(best.source).split(':')[0]}"


def choices(table: pd.DataFrame) -> Table:
    """Tabulate the most accurate model within each latency, and the cheapest that cannot be told apart from it."""
    marks: dict[Any, show.Mark | None] = {}
    for _, panel in table.groupby(["benchmark", "setting"]):
        ends = list(zip(panel["accuracy_low"], panel["accuracy_high"], strict=True))
        marks |= dict(zip(panel.index, show.marks(list(panel["accuracy"]), ends), strict=True))
    rows = [
        row(
            benchmark_label(best.benchmark, best.setting),
            best.pool,
            f"{best.budget:g} ms",
            best.model,
            TableCell(
                between(best.accuracy, (best.accuracy_low, best.accuracy_high), accuracy), mark=marks[best.Index]
            ),
            TableCell(cost_of(best), "" if best.quality == PASSED else "doubt"),
            f"{best.cheapest}, {amount(best.cheapest_value)} ms" if best.cheapest != best.model else "none",
        )
        for best in table.itertuples()
    ]
    columns = ["benchmark", "models", "within", "most accurate", "nDCG@10", BUDGET.name, "cheaper, not told apart"]
    return Table("The most accurate encoder within a latency", columns, rows, labels=2)


def findings(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say what a doubling of the active parameters buys, within recipes and over all, and what it does to the gap."""
    sentences, within = [], tables["within_recipes"]
    for trend in tables["trends"].itertuples():
        if trend.group != ALL:
            continue
        what = f"{benchmark_label(trend.benchmark, trend.quantity)}: a doubling of the active parameters changes it by "
        over_all = between(trend.slope, (trend.low, trend.high), difference)
        lack = f"lack of fit {accuracy(trend.lack_of_fit)}"
        sentence = f"{what}{over_all} over {trend.models} multilingual models ({lack})"
        if not within.empty:
            same = within[(within["benchmark"] == trend.benchmark) & (within["quantity"] == trend.quantity)]
            for mean in same.itertuples():
                own = between(mean.slope, (mean.low, mean.high), difference)
                sentence += f", and by {own} within a recipe (mean of {mean.recipes})"
        sentences.append(f"{sentence}.")
    return sentences


def caveats(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say what the figures leave open."""
    known, held = tables["architectures"], tables["held_out"]
    sentences = []
    failed = known.loc[known["profile.quality"] == FAILED, "architecture"]
    if len(failed):
        sentences.append(f"The profiles of {listed(failed)} failed the quality checks.")
    if not held.empty:
        large = held[held["cost"] == BUDGET.field].dropna(subset="largest_held_out")
        if len(large):
            low, high = large["largest_held_out"].min(), large["largest_held_out"].max()
            sentences.append(
                f"Modelled {BUDGET.name}: predicted from architectures of under a quarter of the work, the "
                f"{len(large)} larger ones come out at {amount(low)} to {amount(high)} times what was measured."
            )
    sentences.append(
        "Intervals speak of other languages, not of other queries or other trainings; models may have trained on the "
        "benchmarks in ways that they do not say, and only MIRACL's training data is told apart."
    )
    return sentences


def steps(neighbours: pd.DataFrame, pool: str) -> Table:
    """Tabulate the steps of the fronts that PANELS draw against latency, memory and active parameters."""
    rows = []
    fields = (costs.AXES[0], costs.AXES[2], costs.ACTIVE)
    chosen = neighbours[neighbours["pool"] == pool]
    for cost in fields:
        for benchmark, setting in PANELS:
            of_front = chosen.query("benchmark == @benchmark and setting == @setting and cost == @cost.field")
            for step in of_front.itertuples():
                gain = between(step.gain, (step.low, step.high), difference)
                told = "yes" if step.told_apart else TableCell("no", "doubt")
                label = benchmark_label(benchmark, setting)
                rows.append(row(cost.name, label, step.below, step.model, amount(step.times), gain, told))
    columns = ["cost", "benchmark", "from", "to", "times the cost", "nDCG@10", "told apart"]
    return Table(f"Steps up the fronts {POOLS[pool]}", columns, rows, labels=2)


def slope(line: Any, of: str, *more: str) -> Row:
    """Write a row about a slope over active parameters: of a class of models or of a recipe."""
    value = between(line.slope, (line.low, line.high), difference)
    return row(benchmark_label(line.benchmark, line.quantity), of, value, str(line.models), *more)


def trends(table: pd.DataFrame) -> Table:
    """Tabulate slopes over active parameters by class of models."""
    rows = [slope(line, line.group, str(line.languages), accuracy(line.lack_of_fit)) for line in table.itertuples()]
    columns = ["benchmark", "models", "nDCG@10 per doubling", "number of models", "languages", "lack of fit"]
    return Table("Accuracy per doubling of the active parameters", columns, rows, labels=2)


def ladders(table: pd.DataFrame) -> Table:
    """Tabulate slopes within recipes."""
    rows = [slope(line, line.recipe, f"{line.smallest} to {line.largest}") for line in table.itertuples()]
    columns = ["benchmark", "recipe", "nDCG@10 per doubling", "sizes", "from, to"]
    return Table("The sizes of one recipe", columns, rows, labels=2)


def gaps(table: pd.DataFrame) -> Table:
    """Tabulate the gap between monolingual and cross-lingual accuracy; the most accurate across languages first."""
    ordered = table.sort_values(["benchmark", "cross"], ascending=[True, False]) if len(table) else table
    rows = [
        row(
            LABELS[gap.benchmark],
            gap.model,
            accuracy(gap.mono),
            accuracy(gap.cross),
            between(gap.gap, (gap.low, gap.high), difference),
        )
        for gap in ordered.itertuples()
    ]
    columns = ["benchmark", "model", "monolingual", "cross-lingual", "gap"]
    return Table("Monolingual and cross-lingual accuracy", columns, rows, labels=2)


def architectures(table: pd.DataFrame) -> Table:
    """Tabulate the costs of architectures, from the fewest active parameters on; hatched where not measured soundly."""
    shown = [cost for cost in costs.AXES if cost.field in costs.WORK]
    rows = []
    for known in table.sort_values("active_parameters").to_dict("records"):
        kind = "" if known["profile.quality"] == PASSED else "doubt"
        values = [TableCell(amount(known[cost.column]), kind) for cost in shown]
        origin = str(known[BUDGET.source]).split(":")[0] if pd.notna(known[BUDGET.source]) else "not measured"
        sizes = [amount(known["active_parameters"] / 1e6), amount(known["parameters"] / 1e6), known["precision"]]
        rows.append(row(known["architecture"], *sizes, *values, origin))
    columns = ["architecture", "active parameters (M)", "parameters (M)", "precision"]
    return Table("Architectures", [*columns, *(cost.label for cost in shown), "source"], rows)


def held_out(table: pd.DataFrame) -> Table:
    """Tabulate how far modelled costs are off where they were measured: predicted from the others, or the smaller."""
    rows = []
    for (field, precision), group in table.groupby(["cost", "precision"], sort=False) if len(table) else ():
        off, large = group["ratio"], group["largest_held_out"].dropna()
        spread = f"{amount(off.min())} to {amount(off.max())} times"
        beyond = f"{amount(large.min())} to {amount(large.max())} times ({len(large)})" if len(large) else ""
        rows.append(row(costs.cost(field).label, precision, f"{len(group)}", amount(off.median()), spread, beyond))
    columns = ["modelled cost", "precision", "architectures", "median ratio", "all ratios", "the largest, from smaller"]
    return Table("Predicted over measured cost, on architectures that the fit did not see", columns, rows, labels=2)


def refused(table: pd.DataFrame) -> Table:
    """Tabulate what was not used."""
    rows = [row(LABELS[entry.benchmark], entry.what, entry.reason) for entry in table.itertuples()]
    return Table("Published results that were left out", ["benchmark", "what", "reason"], rows)


def payload(points: pd.DataFrame) -> dict[str, Any]:
    """Return all that published.js draws."""
    labels = {cost.field: cost.label for cost in costs.AXES}
    points = points[points["benchmark"].isin(list(LABELS))]
    rows = [
        {key: point[key] for key in ("benchmark", "setting", "cost", "model", "zero_shot", "value", "accuracy")}
        | {
            "recipe": point["recipe"] if isinstance(point["recipe"], str) else None,
            "quality": point["quality"] if isinstance(point["quality"], str) else None,
            "text": hover(point, labels[point["cost"]]),
        }
        for point in points.to_dict("records")
    ]
    panels = points[["benchmark", "setting"]].drop_duplicates().itertuples(index=False, name=None)
    return {
        "rows": packed(pd.DataFrame(rows)),
        "everyone": EVERYONE,
        "pools": [EVERYONE, *CLASSES],
        "panels": [["|".join(panel), benchmark_label(*panel)] for panel in panels],
        "costs": {field: label for field, label in labels.items() if field in set(points["cost"])},
        "looks": {name: look.in_browser for name, look in looks_of(CLASSES).items()},
    }


def hover(point: Mapping[str, Any], label: str) -> str:
    """Write the figures of one point."""
    interval = between(point["accuracy"], (point["accuracy_low"], point["accuracy_high"]), accuracy)
    source = str(point["source"]).split(";")[0]
    architecture = f", {point['architecture']}" if isinstance(point["architecture"], str) else ""
    figures = f"nDCG@10 {interval}<br>{label} {amount(point['value'])}, {source}"
    return f"<b>{point['model']}</b>{architecture}<br>{figures}<br>{point['zero_shot']}"
