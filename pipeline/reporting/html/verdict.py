"""The verdict: which strategy, which model, at what cost, how sure; three paragraphs by plain rules, then caveats.

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
from pipeline.analysis.money import UNLIKE
from pipeline.analysis.tables import FAILED, NOT_MEASURED, PASSED
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material
from pipeline.store.records import AS_TRAINED

LEVEL = 0.05
FEW_SEEDS = 5
DRAWN, ONLY_ACCURACIES = "costs and accuracies", "the accuracies (the profiles say nothing of errors of costs)"


@dataclass(frozen=True)
class Verdict:
    """The verdict in a sentence (analysis.verdict), the paragraphs about it, and what to bear in mind."""

    sentence: str
    paragraphs: list[str]
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
        paragraphs = cost_only(material)
    else:
        benchmark, settings = next(iter(material.scales.items()))
        winners = [winner(material, benchmark, setting) for setting in settings]
        paragraphs = [most_accurate(material, winners), its_cost(material, winners), how_sure(material, winners)]
    cards = material.tables.get("cards", pd.DataFrame())
    return Verdict(rule.sentence(cards), paragraphs, caveats(material))


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


def most_accurate(material: Material, winners: list[Winner]) -> str:
    """Name the best model, and the best strategy in each setting."""
    models = list(dict.fromkeys(material.value(best.system, "model") for best in winners))
    parts = []
    for best in winners:
        scale = (best.benchmark, best.setting)
        name = material.short_labels[best.system] if len(models) == 1 else material.label(best.system)
        ties = best.leads.loc[~significant(best.leads), "other"]
        notes = [show.between(best.chosen["accuracy"], (best.chosen["low"], best.chosen["high"]), show.accuracy)]
        if len(ties):
            named = (f"{material.short_labels[other]}, {accuracy(material, other, *scale)}" for other in ties)
            notes.append(f"not significantly better than {'; '.join(named)}")
        if overlapping := overlaps(material, best):
            nearest, *others = overlapping
            more = f" and those of {len(others)} further models" if others else ""
            leading = f"{material.label(nearest)}, {accuracy(material, nearest, *scale)}"
            notes.append(f"the interval overlaps that of {leading}{more}")
        parts.append(f"{name} for {material.accuracy_label(*scale)} ({'; '.join(notes)})")
    if len(models) > 1:
        summary = "no model is the most accurate in every setting. The best systems are"
    elif len(material.models) == 1:
        summary = f"{models[0]} is the only model tried. The best batch strategies are"
    else:
        summary = f"{models[0]} is the most accurate model. The best batch strategies are"
    return f"On {winners[0].benchmark}, {summary} {show.listed(parts)}."


def overlaps(material: Material, best: Winner) -> list[str]:
    """List the best system of each other model whose interval overlaps the winner's, the most accurate first.

    No test compares models.
    """
    points = material.tables["pareto"]
    panel = points[(points["benchmark"] == best.benchmark) & (points["setting"] == best.setting)]
    others = panel[panel["model"] != material.value(best.system, "model")].sort_values("accuracy", ascending=False)
    others = others.drop_duplicates("model")
    return others.loc[others["accuracy_high"] > best.chosen["low"], "system"].tolist()


def its_cost(material: Material, winners: list[Winner]) -> str:
    """Write what the last winner costs, and what the next cheaper system on its front reaches."""
    last = winners[-1]
    best, model = last.system, material.value(last.system, "model")
    costs = [cost for cost in headline_costs(material) if pd.notna(material.value(best, cost.column))]
    if not costs:
        return f"{model} was not profiled, so its cost is unknown."
    sentence = f"Costs of {model}: {'; '.join(cost_in_words(material, best, cost) for cost in costs)}."
    main = costs[0]
    points = front_points(material, last, main)
    cheaper = points[points["on_front"] & (points["value"] < material.value(best, main.column))]
    if cheaper.empty:
        return f"{sentence} No cheaper system is on the Pareto front."
    other = str(cheaper.sort_values("value")["system"].iloc[-1])
    reached = [
        f"{material.accuracy_label(each.benchmark, each.setting)} "
        f"{accuracy(material, other, each.benchmark, each.setting)}"
        for each in winners
    ]
    return (
        f"{sentence} The next cheaper system on the Pareto front is {material.label(other)} "
        f"({cost_in_words(material, other, main)}). It reaches {show.listed(reached)}."
    )


def front_points(material: Material, best: Winner, cost: Cost) -> pd.DataFrame:
    """Return the points of the winner's benchmark and setting over one cost."""
    points = material.tables["pareto"]
    scale = (points["benchmark"] == best.benchmark) & (points["setting"] == best.setting)
    return points[scale & (points["cost"] == cost.field)]


def how_sure(material: Material, winners: list[Winner]) -> str:
    """Write how often each winner is on the front, and its lead over the runner-up of its model."""
    chances, leads, drawn = [], [], False
    for best in winners:
        label = material.accuracy_label(best.benchmark, best.setting)
        for cost in material.axes[:1]:
            points = front_points(material, best, cost)
            drawn = drawn or bool(points["cost_drawn"].any())
            variants = points[points["system"].str.startswith(best.system)].sort_values("front_probability")
            for _, point in variants.tail(1).iterrows():
                variant = "" if point["variant"] == AS_TRAINED else f", {point['variant']}"
                chances.append(f"{show.probability(point['front_probability'])} ({label}{variant})")
        if len(best.leads):
            lead = best.leads.iloc[0]
            value = show.between(lead["difference"], (lead["holm_low"], lead["holm_high"]), show.difference)
            other = material.short_labels[lead["other"]]
            leads.append(f"{value} ({label}, over {other}, {show.p_value(lead['p_holm'])})")
    sentences = []
    if chances:
        share = f"{show.listed(chances)} of {DRAWS:,} draws of {DRAWN if drawn else ONLY_ACCURACIES}"
        sentences.append(
            f"the most accurate system is on the Pareto front against {material.axes[0].name}, in {share}."
        )
    if leads:
        sentences.append(f"The winner's lead over the runner-up of its model is {show.listed(leads)}.")
    if not sentences:
        return "Confidence: no other system of its model was tried."
    covers = max((best.chosen["covers"] for best in winners), key=len)
    basis = f"Intervals and p-values are over {material.over(winners[0].benchmark, covers)}, with Holm's correction;"
    return f"Confidence: {' '.join(sentences)} {basis} the intervals of the winners allow for their having been chosen."


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


def priced_as_another(material: Material) -> list[str]:
    """List in what the machine of the price sheet is unlike a profiled one."""
    sources = material.systems.get("profile.sources.usd_per_1m_queries", pd.Series(dtype=object)).dropna().unique()
    return [doubt for _, unlike, doubt in (source.partition(f"{UNLIKE}: ") for source in sources) if unlike]


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
