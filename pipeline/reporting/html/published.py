"""The text of published.html: sentences and tables made of the tables of analysis.published.study.

The figure is drawn in the browser (published.js) from JSON in the file.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.analysis.published import costs
from pipeline.analysis.published.models import CLASSES, NOT_TRAINED
from pipeline.analysis.published.scores import BENCHMARKS
from pipeline.analysis.published.size import ALL, GAP
from pipeline.analysis.published.study import BUDGET, COUNTED, EVERYONE, PANELS
from pipeline.analysis.tables import FAILED, PASSED
from pipeline.reporting import figure
from pipeline.reporting.html.show import Table, TableCell, accuracy, amount, between, difference, listed, row
from pipeline.reporting.html.write import HERE, as_json, environment
from pipeline.reporting.looks import looks_of

LABELS = {benchmark.name: benchmark.label for benchmark in BENCHMARKS}
SETTINGS = {**figure.SETTINGS, GAP: "gap (mono less cross)"}
POOLS = {EVERYONE: "of all models", NOT_TRAINED: "of those that say they did not train on MIRACL"}


def render(sweep: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the text of published.html."""
    points = tables["points"]
    scripts = [(HERE / name).read_text(encoding="utf-8") for name in ("report.js", "published.js")]
    template = environment().get_template("published.html")
    return template.render(
        sweep=sweep,
        counts=counts(tables),
        machines=", ".join(sorted(points["machine"].dropna().unique())),
        verdict=[sentence for panel in PANELS if (sentence := choice(tables["choices"], *panel))],
        choices=choices(tables["choices"]),
        findings=findings(tables),
        caveats=caveats(tables),
        fronts=[steps(tables["neighbours"], pool) for pool in POOLS],
        size=[trends(tables["trends"]), ladders(tables["ladders"])],
        gaps=gaps(tables["gaps"]),
        trust=[architectures(tables["architectures"]), held_out(tables["held_out"]), refused(tables["refused"])],
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup("\n".join(scripts)),
        plotly=Markup(get_plotlyjs()),
        data=as_json(payload(points)),
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


def choice(choices: pd.DataFrame, benchmark: str, setting: str) -> str:
    """Return the sentence that chooses a model of all per budget; empty if the benchmark was not read."""
    panel = choices.query("benchmark == @benchmark and setting == @setting and pool == @EVERYONE")
    parts = []
    for best in panel.itertuples():
        part = f"within {best.budget:g} ms {best.model} ({accuracy(best.accuracy)}{modelled(best.source)})"
        if best.cheapest != best.model:
            part += f", from which {best.cheapest} at {amount(best.cheapest_value)} ms cannot be told apart"
        parts.append(part)
    return f"{SETTINGS[setting].capitalize()} search ({LABELS[benchmark]}): {'; '.join(parts)}." if parts else ""


def modelled(source: str) -> str:
    """Return a mark for a cost that was not measured."""
    return ", modelled cost" if str(source).startswith("modelled") else ""


def choices(table: pd.DataFrame) -> Table:
    """Tabulate the most accurate model within each latency, and the cheapest that cannot be told apart from it."""
    rows = [
        row(
            benchmark_label(best.benchmark, best.setting),
            best.pool,
            f"{best.budget:g} ms",
            best.model,
            between(best.accuracy, (best.accuracy_low, best.accuracy_high), accuracy),
            TableCell(f"{amount(best.value)} ms{modelled(best.source)}", "" if best.quality == PASSED else "doubt"),
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


def trends(table: pd.DataFrame) -> Table:
    """Tabulate slopes over active parameters by class of models."""
    rows = [
        row(
            benchmark_label(trend.benchmark, trend.quantity),
            trend.group,
            between(trend.slope, (trend.low, trend.high), difference),
            accuracy(trend.lack_of_fit),
            f"{trend.models}",
            f"{trend.languages}",
        )
        for trend in table.itertuples()
    ]
    columns = ["benchmark", "models", "nDCG@10 per doubling", "lack of fit", "number of models", "languages"]
    return Table("Accuracy per doubling of the active parameters", columns, rows, labels=2)


def ladders(table: pd.DataFrame) -> Table:
    """Tabulate slopes within recipes."""
    rows = [
        row(
            benchmark_label(ladder.benchmark, ladder.quantity),
            ladder.recipe,
            between(ladder.slope, (ladder.low, ladder.high), difference),
            f"{ladder.models}",
            f"{ladder.smallest} to {ladder.largest}",
        )
        for ladder in table.itertuples()
    ]
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
    return Table("Architectures", [*columns, *(cost.label for cost in shown), ""], rows)


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
            "solid": point["quality"] in (PASSED, COUNTED),
            "text": hover(point, labels[point["cost"]]),
        }
        for point in points.to_dict("records")
    ]
    panels = points[["benchmark", "setting"]].drop_duplicates().itertuples(index=False, name=None)
    return {
        "rows": rows,
        "everyone": EVERYONE,
        "pools": [EVERYONE, *CLASSES],
        "panels": [["|".join(panel), benchmark_label(*panel)] for panel in panels],
        "costs": {field: label for field, label in labels.items() if field in set(points["cost"])},
        "looks": {name: {"colour": look.colour, "symbol": look.symbol} for name, look in looks_of(CLASSES).items()},
    }


def hover(point: Mapping[str, Any], label: str) -> str:
    """Write the figures of one point."""
    interval = between(point["accuracy"], (point["accuracy_low"], point["accuracy_high"]), accuracy)
    source = str(point["source"]).split(";")[0]
    architecture = f", {point['architecture']}" if isinstance(point["architecture"], str) else ""
    figures = f"nDCG@10 {interval}<br>{label} {amount(point['value'])}, {source}"
    return f"<b>{point['model']}</b>{architecture}<br>{figures}<br>{point['zero_shot']}"
