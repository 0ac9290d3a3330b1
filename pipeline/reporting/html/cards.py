"""The cards on top of report.html: the systems worth knowing (analysis.verdict), what each costs, how to export it."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from pipeline.analysis.costs import Cost
from pipeline.analysis.tables import FAILED
from pipeline.analysis.verdict import BEST_VALUE, CHEAPEST, MOST_ACCURATE, WORTH_HAVING, headline_costs
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Mark
from pipeline.reporting.terminal import export_command

MEANINGS = {
    MOST_ACCURATE: "the highest {accuracy}",
    BEST_VALUE: "the knee of the Pareto front against {cost}: beyond it, accuracy costs more and more",
    CHEAPEST: f"the cheapest on the Pareto front with at least {100 * WORTH_HAVING:.0f} % of the highest accuracy",
}


class Figure(NamedTuple):
    """A line of a card."""

    label: str
    text: str
    note: str = ""
    mark: Mark | None = None


class Card(NamedTuple):
    """A choice, why it is one, and its figures."""

    title: str
    meaning: str
    figures: Sequence[Figure]
    name: str = ""
    detail: str = ""
    command: str = ""


def cards(material: Material) -> list[Card]:
    """Return a card per system of the table of cards: one that holds two is shown once. Empty without accuracy."""
    table = material.tables.get("cards", pd.DataFrame())
    if table.empty:
        return []
    groups = [rows for _, rows in table.groupby("system", sort=False)]
    firsts = [rows.iloc[0] for rows in groups]
    marks = show.marks([each["accuracy"] for each in firsts], [(each["low"], each["high"]) for each in firsts])
    return [card(material, rows, mark) for rows, mark in zip(groups, marks, strict=True)]


def card(material: Material, rows: pd.DataFrame, mark: Mark | None) -> Card:
    """Return the card of one system.

    Args:
        material: of the sweep.
        rows: those of the table of cards that are about the system.
        mark: its accuracy on the axis that all cards share.
    """
    first, costs = rows.iloc[0], headline_costs(material.systems)
    accuracy = material.accuracy_label(first["benchmark"], first["setting"])
    text = show.between(first["accuracy"], (first["low"], first["high"]), show.accuracy)
    exportable = all(material.store.exportable(record) for record in material.records[first["system"]])
    names = {"accuracy": accuracy, "cost": costs[0].name if costs else ""}
    return Card(
        title=show.listed(rows["card"]),
        meaning=show.listed(MEANINGS[title].format(**names) for title in rows["card"]),
        figures=[Figure(accuracy, text, mark=mark), *(of_cost(material, first["system"], cost) for cost in costs)],
        name=first["model"],
        detail=material.short_labels[first["system"]],
        command=export_command(first["run"], material.store.root) if exportable else "",
    )


def of_cost(material: Material, system: str, cost: Cost) -> Figure:
    """Return the line of a cost: with its unit, whether it was measured or modelled, and if its checks failed."""
    value = material.value(system, cost.column)
    if pd.isna(value):
        return Figure(cost.name, "not measured")
    source = material.value(system, cost.source).split(":")[0]
    note = f"{source}, quality checks failed" if material.quality(system) == FAILED and source == "measured" else source
    return Figure(cost.name, f"{show.amount(value)} {cost.unit}", note)
