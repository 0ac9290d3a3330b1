"""The verdict in detail: the best strategy of each setting, the next cheaper system, how sure; short, then caveats.

It covers the first benchmark of the sweep. Two strategies count as different if the p-value of their difference, after
Holm's correction, is below 5 %, which is when its interval, at the same correction, excludes 0. The interval of a
winner allows for its having been chosen as the most accurate of several systems (analysis.winners).
"""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from pipeline.analysis import verdict as rule
from pipeline.analysis.costs import Cost
from pipeline.analysis.errors import DRAWS
from pipeline.analysis.money import TIME, UNLIKE
from pipeline.analysis.tables import FAILED, NOT_MEASURED, PASSED
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material
from pipeline.store.records import AS_TRAINED

LEVEL = 0.05
FEW_SEEDS = 5
DRAWN, ONLY_ACCURACIES = "costs and accuracies", "the accuracies (the profiles say nothing of errors of costs)"


@dataclass(frozen=True)
class Verdict:
    """The verdict: a warning if the data are a toy, one sentence (analysis.verdict), details, what to bear in mind."""

    warning: str
    sentence: str
    details: list[str]
    caveats: list[str]


@dataclass(frozen=True)
class Winner:
    """The most accurate system in one setting, as trained, and its paired differences to the others of its model."""

    benchmark: str
    setting: str
    system: str
    leads: pd.DataFrame  # other, difference, holm_low, holm_high, p_holm; the runner-up first
    chosen: pd.Series  # of the table `winners`: accuracy, low, high, candidates, …


def verdict(material: Material) -> Verdict:
    """Write the verdict on a sweep."""
    if not material.scales:
        details = cost_only(material)
    else:
        benchmark, settings = next(iter(material.scales.items()))
        winners = [winner(material, benchmark, setting) for setting in settings]
        details = [best_strategy(material, each) for each in winners]
        details += [*how_sure(material, winners[-1]), next_cheaper(material, winners[-1])]
    cards = material.tables.get("cards", pd.DataFrame())
    return Verdict(rule.warning(material.scales), rule.sentence(cards), details, caveats(material))


def winner(material: Material, benchmark: str, setting: str) -> Winner:
    """Find the most accurate system in one setting of a benchmark, as trained if some system is."""
    table = material.tables["winners"].query("benchmark == @benchmark and setting == @setting").set_index("variant")
    chosen = table.loc[AS_TRAINED if AS_TRAINED in table.index else "all"]
    best = str(chosen["system"])
    tests = material.tables["tests"].query("benchmark == @benchmark and setting == @setting")
    won = tests[tests["a"] == best].rename(columns={"b": "other"})
    lost = tests[tests["b"] == best].rename(columns={"a": "other", "holm_low": "holm_high", "holm_high": "holm_low"})
    lost = lost.assign(**{column: -lost[column] for column in ("difference", "holm_low", "holm_high")})
    leads = pd.concat([won, lost])[["other", "difference", "holm_low", "holm_high", "p_holm"]]
    return Winner(benchmark, setting, best, leads.sort_values("difference", ignore_index=True), chosen)


def significant(leads: pd.DataFrame) -> pd.Series:
    """Tell which leads count as a difference."""
    return (leads["p_holm"] < LEVEL) & (leads["difference"] > 0)


def accuracy(material: Material, system: str, benchmark: str, setting: str) -> str:
    """Write the accuracy of a system with its interval."""
    interval = material.accuracy_intervals.get((system, benchmark, setting))
    return show.between(material.accuracy(system, benchmark, setting), interval, show.accuracy)


def cost_in_words(material: Material, system: str, cost: Cost) -> str:
    """Write a cost of a system, as in 'query latency, p95 = 53.3 [50.5, 56.7] ms, measured'."""
    value = show.between(material.value(system, cost.column), material.cost_interval(system, cost), show.amount)
    amount = f"{value} {cost.unit}" if cost.unit else value
    return f"{cost.name} = {amount}, {material.value(system, cost.source).split(':')[0]}"


def headline_costs(material: Material) -> list[Cost]:
    """Return the costs that the verdict names: not those that repeat latency."""
    return [cost for cost in material.costs if cost.headline and not material.repeats_latency(cost)]


def best_strategy(material: Material, best: Winner) -> str:
    """Name the best system in one setting, and those that are not significantly worse or whose intervals overlap."""
    label = material.accuracy_label(best.benchmark, best.setting)
    text = f"On {best.benchmark}, {material.label(best.system)} has the highest {label}."
    if ties := [material.short_labels[other] for other in best.leads.loc[~significant(best.leads), "other"]]:
        text += f" It is not significantly better than {show.listed(ties)}."
    if overlapping := overlaps(material, best):
        nearest, *others = overlapping
        more = f" and those of {len(others)} further models" if others else ""
        text += f" Its interval overlaps that of {material.label(nearest)}{more}."
    return text


def overlaps(material: Material, best: Winner) -> list[str]:
    """List the best system of each other model whose interval overlaps the winner's, the most accurate first.

    No test compares models.
    """
    table = material.tables["accuracies"]
    panel = table[(table["benchmark"] == best.benchmark) & (table["setting"] == best.setting)]
    panel = panel.assign(model=[material.value(system, "model") for system in panel["system"]])
    others = panel[panel["model"] != material.value(best.system, "model")].sort_values("accuracy", ascending=False)
    others = others.drop_duplicates("model")
    return others.loc[others["high"] > best.chosen["low"], "system"].tolist()


def next_cheaper(material: Material, best: Winner) -> str:
    """Write what the next cheaper system on the front of a winner reaches, at its first known cost."""
    costs = [cost for cost in headline_costs(material) if pd.notna(material.value(best.system, cost.column))]
    if not costs:
        return f"{material.value(best.system, 'model')} was not profiled, so its cost is unknown."
    points = front_points(material, best, costs[0])
    cheaper = points[points["on_front"] & (points["value"] < material.value(best.system, costs[0].column))]
    if cheaper.empty:
        return "No cheaper system is on the Pareto front."
    other = str(cheaper.sort_values("value")["system"].iloc[-1])
    reached = accuracy(material, other, best.benchmark, best.setting)
    label = material.accuracy_label(best.benchmark, best.setting)
    return (
        f"The next cheaper system on the Pareto front is {material.label(other)}: {label} {reached}, "
        f"{cost_in_words(material, other, costs[0])}."
    )


def front_points(material: Material, best: Winner, cost: Cost) -> pd.DataFrame:
    """Return the points of the winner's benchmark and setting over one cost."""
    points = material.tables["pareto"]
    scale = (points["benchmark"] == best.benchmark) & (points["setting"] == best.setting)
    return points[scale & (points["cost"] == cost.field)]


def how_sure(material: Material, best: Winner) -> list[str]:
    """Write how often a winner is on the front, its lead over the runner-up of its model, and what intervals are."""
    sentences = []
    for cost in material.axes[:1]:
        points = front_points(material, best, cost)
        variants = points[points["system"].str.startswith(best.system)].sort_values("front_probability")
        for _, point in variants.tail(1).iterrows():
            variant = "" if point["variant"] == AS_TRAINED else f" ({point['variant']})"
            drawn = DRAWN if points["cost_drawn"].any() else ONLY_ACCURACIES
            share = f"{show.probability(point['front_probability'])} of {DRAWS:,} draws of {drawn}"
            front = f"on the Pareto front against {cost.name}"
            sentences.append(f"{material.label(best.system)}{variant} is {front} in {share}.")
    if best.leads.empty:
        return [*sentences, "No other system of its model was tried."]
    lead = best.leads.iloc[0]
    value = show.between(lead["difference"], (lead["holm_low"], lead["holm_high"]), show.difference)
    other = material.short_labels[lead["other"]]
    sentences.append(f"Its lead over {other}, the runner-up of its model, is {value}, {show.p_value(lead['p_holm'])}.")
    basis = f"Intervals and p-values are over {material.over(best.benchmark, best.chosen['covers'])}"
    sentences.append(
        f"{basis}, with Holm's correction; the intervals of the winners allow for their having been chosen."
    )
    return sentences


def cost_only(material: Material) -> list[str]:
    """Write the paragraphs of a sweep without accuracy."""
    paragraphs = ["This sweep has no accuracy figures. It says what models cost, not which one to prefer."]
    costs = headline_costs(material)
    if not costs:
        return [*paragraphs, "No system was profiled either."]
    profiled = material.systems[costs[0].column].dropna()
    named = {"Cheapest": str(profiled.idxmin()), "Most expensive": str(profiled.idxmax())}
    if len(set(named.values())) == 1:
        named.pop("Most expensive")
    sentences = []
    for which, system in named.items():
        figures = [
            cost_in_words(material, system, cost) for cost in costs if pd.notna(material.value(system, cost.column))
        ]
        sentences.append(f"{which}: {material.label(system)} ({'; '.join(figures)}).")
    return [*paragraphs, " ".join(sentences), f"Confidence: quality checks, by system: {states(material)}."]


def states(material: Material) -> str:
    """Count the systems by the quality of their profile, as in '5 passed, 1 failed and 2 not measured'."""
    counts = Counter(material.quality(system) for system in material.systems.index)
    return show.listed(f"{counts[state]} {state}" for state in (PASSED, FAILED, NOT_MEASURED) if counts[state])


def caveats(material: Material) -> list[str]:
    """List what a reader must know before believing a figure."""
    systems, sentences = material.systems, []
    if material.scales:
        scored = systems.dropna(subset=[c for c in systems if str(c).startswith("metrics.")], how="all")["seeds"]
        if scored.min() == 1:
            which = "One seed" if scored.max() == 1 else "One seed for some systems"
            sentences.append(
                f"{which}: intervals and tests cover the sampling of queries only. "
                "Another seed may reorder systems that are close."
            )
        elif scored.min() < FEW_SEEDS:
            sentences.append(
                f"{scored.min()} seeds: the intervals include them, but so few estimate their variance poorly."
            )
    sentences += doubts_of_profiles(material)
    repeating = [cost.name for cost in material.costs if material.repeats_latency(cost)]
    if repeating:
        sentences.append(f"Modelled as a constant power times time, which repeats latency: {show.listed(repeating)}.")
    modelled = [cost.name for cost in material.costs if "modelled" in material.origin(cost)]
    if modelled := [name for name in modelled if name not in repeating]:
        sentences.append(f"Modelled, not measured: {show.listed(modelled)}.")
    if len(times := times_of_queries(material)) > 1:
        sentences.append(
            f"Dollars and CO2 of queries come from different figures ({show.listed(times)}): compare only within "
            "one. python -m pipeline.load sweep=NAME measures the capacity of the other systems."
        )
    for doubt in priced_as_another(material):
        sentences.append(f"The price sheet is of another kind of machine than the profiled one: {doubt}.")
    machines = systems["machine"].dropna().unique()
    if len(machines) > 1:
        sentences.append(
            f"Costs come from {len(machines)} machines ({show.listed(machines)}): compare within one only."
        )
    if material.failed:
        sentences.append(f"Failed runs, missing from all figures: {len(material.failed)}.")
    notes = dict.fromkeys(note for record in material.all_records() for note in record.notes)
    return sentences + list(notes)


def price_sources(material: Material) -> list[str]:
    """List how the dollars of queries came about."""
    return list(material.systems.get("profile.sources.usd_per_1m_queries", pd.Series(dtype=object)).dropna().unique())


def priced_as_another(material: Material) -> list[str]:
    """List in what the machine of the price sheet is unlike a profiled one."""
    parts = (source.partition(f"{UNLIKE}: ") for source in price_sources(material))
    return list(dict.fromkeys(doubt for _, unlike, doubt in parts if unlike))


def times_of_queries(material: Material) -> list[str]:
    """List the fields that the time of a query was taken from, for its price."""
    return sorted({source.partition(TIME)[2].split(";")[0] for source in price_sources(material)})


def doubts_of_profiles(material: Material) -> list[str]:
    """List the profiles that failed their quality checks, how many systems have which quality, and unlike settings."""
    sentences = []
    by_checks: dict[str, list[str]] = {}
    for profiled in material.profiles:
        if profiled.profile.quality == FAILED:
            failed = profiled.profile.failed_checks
            by_checks.setdefault(f" ({show.listed(failed)})" if failed else "", []).append(profiled.label)
    for checks, labels in by_checks.items():
        profiles = f"The profile of {labels[0]}" if len(labels) == 1 else f"{len(labels)} profiles"
        costs = "its costs are" if len(labels) == 1 else "their costs are"
        sentences.append(f"{profiles} failed the quality checks{checks}: {costs} doubtful and shown as hollow markers.")
    if material.costs and any(material.quality(system) != PASSED for system in material.systems.index):
        sentences.append(f"Quality checks, by system: {states(material)}.")
        if unprofiled := [system for system in material.systems.index if not material.profiled(system)]:
            all_systems = f"{len(unprofiled)} of {len(material.systems)} systems"
            sentences.append(f"{all_systems} were not profiled and are on no Pareto front.")
    for key, values in material.unlike_settings.items():
        sentences.append(f"Profiles differ in {key} ({show.listed(map(show.plain, values))}): compare equal ones only.")
    return sentences
