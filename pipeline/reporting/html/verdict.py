"""The verdict: which batches, which size, at what cost, how sure - three sentences by plain rules - and what to mind.

It speaks of the sweep's first benchmark. Two strategies are told apart where the paired interval of their difference
holds no 0 and its p-value, after Holm's correction, is under 5 %.
"""

from dataclasses import dataclass

import pandas as pd

from pipeline.analysis.bootstrap import DRAWS
from pipeline.analysis.tables import ACCURACY, AS_TRAINED, GRADE, Cost
from pipeline.reporting.figure import SETTINGS
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material

LEVEL = 0.05
FEW_SEEDS = 5
HEADLINE = ("query_latency_p95_ms", "peak_rss_mib", "energy_j_per_1k_queries")  # costs that the verdict names


@dataclass(frozen=True)
class Verdict:
    sentences: list[str]
    caveats: list[str]


@dataclass(frozen=True)
class Winner:
    """The most accurate variant in one setting, as trained, and its paired differences to the others of its model."""

    benchmark: str
    setting: str
    variant: str
    leads: pd.DataFrame  # other, difference, low, high, p_holm; the runner-up first


def verdict(material: Material) -> Verdict:
    if not material.scales:
        sentences = cost_only(material)
    else:
        benchmark, settings = next(iter(material.scales.items()))
        winners = [winner(material, benchmark, setting) for setting in settings]
        sentences = [most_accurate(material, winners), its_cost(material, winners), how_sure(material, winners)]
    return Verdict(sentences, caveats(material))


def winner(material: Material, benchmark: str, setting: str) -> Winner:
    variants = material.variants
    trained = variants[variants["served"] == AS_TRAINED]
    best = str((variants if trained.empty else trained)[f"metrics.{benchmark}.{setting}.{ACCURACY}"].idxmax())
    tests = material.found["tests"].query("benchmark == @benchmark and setting == @setting")
    won = tests[tests["a"] == best].rename(columns={"b": "other"})
    lost = tests[tests["b"] == best].rename(columns={"a": "other", "low": "high", "high": "low"})
    lost = lost.assign(**{column: -lost[column] for column in ("difference", "low", "high")})
    leads = pd.concat([won, lost])[["other", "difference", "low", "high", "p_holm"]]
    return Winner(benchmark, setting, best, leads.sort_values("difference", ignore_index=True))


def told_apart(leads: pd.DataFrame) -> pd.Series:
    return (leads["p_holm"] < LEVEL) & (leads["low"] > 0)


def accuracy(material: Material, variant: str, benchmark: str, setting: str) -> str:
    interval = material.accuracy_intervals.get((variant, benchmark, setting))
    return show.between(material.accuracy(variant, benchmark, setting), interval, show.accuracy)


def cost(material: Material, variant: str, of: Cost) -> str:
    """query latency, p95: 53.3 [50.5, 56.7] ms, measured"""
    name, unit = of.label.removesuffix(")").split(" (")
    value = show.between(material.cost(variant, of), material.cost_interval(variant, of.field), show.amount)
    return f"{name}: {value} {unit}, {material.about(variant, of.source).split(':')[0]}"


def most_accurate(material: Material, winners: list[Winner]) -> str:
    """Which size, and with which batches, setting by setting."""
    models = list(dict.fromkeys(material.about(found.variant, "model") for found in winners))
    parts = []
    for found in winners:
        at = (found.benchmark, found.setting)
        name = material.batches[found.variant] if len(models) == 1 else material.label(found.variant)
        rivals = [
            f"{material.batches[other]}, {accuracy(material, other, *at)}"
            for other in found.leads.loc[~told_apart(found.leads), "other"]
        ]
        tie = f"; cannot be told apart: {'; '.join(rivals)}" if rivals else ""
        overlaps = [f"{material.label(other)}, {accuracy(material, other, *at)}" for other in near(material, found)]
        tie += f"; the interval overlaps that of {'; '.join(overlaps)}" if overlaps else ""
        figure = accuracy(material, found.variant, *at)
        parts.append(f"{name} for {SETTINGS[found.setting]} ({figure}{tie})")
    if len(models) > 1:
        which = "no size is the most accurate everywhere; best are"
    elif len(material.models) == 1:
        which = f"{models[0]} is the only size tried, and its best batches are"
    else:
        which = f"{models[0]} is the most accurate size, and its best batches are"
    return f"On {winners[0].benchmark}, {which} {show.listed(parts)}."


def near(material: Material, found: Winner) -> list[str]:
    """The best of each other size, where its interval and the winner's overlap: no test compares sizes."""
    points = material.found["pareto"]
    here = points[(points["benchmark"] == found.benchmark) & (points["setting"] == found.setting)]
    own = here[here["variant"] == found.variant]
    if own.empty:  # it was not profiled, so it has no interval
        return []
    others = here[here["model"] != own["model"].iloc[0]].sort_values("accuracy").drop_duplicates("model", keep="last")
    return others.loc[others["accuracy_high"] > own["accuracy_low"].iloc[0], "variant"].tolist()


def its_cost(material: Material, winners: list[Winner]) -> str:
    """What the winner of the last setting costs, and what the next cheaper on that front gives for less."""
    last = winners[-1]
    best, model = last.variant, material.about(last.variant, "model")
    costs = [of for of in material.costs if of.field in HEADLINE and pd.notna(material.cost(best, of))]
    if not costs:
        return f"{model} was not profiled: nothing is known of its cost."
    sentence = f"{model} costs – {'; '.join(cost(material, best, of) for of in costs)}"
    main = costs[0]
    points = front_points(material, last, main)
    cheaper = points[points["on_front"] & (points["value"] < material.cost(best, main))]
    if cheaper.empty:
        return f"{sentence} – and nothing cheaper stands on the front."
    other = str(cheaper.sort_values("value")["variant"].iloc[-1])
    reached = [f"{SETTINGS[at.setting]} {accuracy(material, other, at.benchmark, at.setting)}" for at in winners]
    return (
        f"{sentence} – whereas the next cheaper on the front, {material.label(other)} ({cost(material, other, main)}), "
        f"reaches {show.listed(reached)}."
    )


def front_points(material: Material, found: Winner, of: Cost) -> pd.DataFrame:
    points = material.found["pareto"]
    at = (points["benchmark"] == found.benchmark) & (points["setting"] == found.setting) & (points["cost"] == of.field)
    return points[at]


def how_sure(material: Material, winners: list[Winner]) -> str:
    """How often each winner stands on the front, and its lead over the runner-up of its size."""
    chances, leads = [], []
    for found in winners:
        for of in material.costs[:1]:
            points = front_points(material, found, of)
            ways = points[points["variant"].str.startswith(found.variant)].sort_values("front_probability")
            for _, point in ways.tail(1).iterrows():
                served = "" if point["served"] == AS_TRAINED else f", served {point['served']}"
                chances.append(f"{show.probability(point['front_probability'])} ({SETTINGS[found.setting]}{served})")
        if len(found.leads):
            lead = found.leads.iloc[0]
            value = show.between(lead["difference"], (lead["low"], lead["high"]), show.difference)
            against = (
                f"{SETTINGS[found.setting]}, over {material.batches[lead['other']]}, {show.p_value(lead['p_holm'])}"
            )
            leads.append(f"{value} ({against})")
    said = []
    if chances:
        cost_name = material.costs[0].label.split(" (")[0]
        draws = f"of {DRAWS:,} bootstrap draws of the questions"
        said.append(f"{draws}, the most accurate stands on the front against {cost_name} in {show.listed(chances)}")
    if leads:
        said.append(f"its paired lead over the runner-up of its size is {show.listed(leads)}")
        said.append("p is of the questions alone, after Holm's correction")
    return f"How sure – {'; '.join(said) or 'nothing else of its size was tried'}."


def cost_only(material: Material) -> list[str]:
    first = "This sweep has no accuracy: it says what models cost, and nothing on which to prefer."
    costs = [of for of in material.costs if of.field in HEADLINE]
    if not costs:
        return [first, "Nothing was profiled either.", "There is nothing to be sure of."]
    profiled = material.variants[costs[0].column].dropna()
    cheapest, dearest = str(profiled.idxmin()), str(profiled.idxmax())
    figures = {
        variant: f"{material.label(variant)}: "
        + "; ".join(cost(material, variant, of) for of in costs if pd.notna(material.cost(variant, of)))
        for variant in dict.fromkeys((cheapest, dearest))
    }
    second = "Cheapest is " + "; dearest is ".join(figures.values()) + "."
    passed = sum(profiled.profile.grade_passed for profiled in material.profiles)
    return [first, second, f"How sure – {passed} of {len(material.profiles)} profiles passed their grade."]


def caveats(material: Material) -> list[str]:
    """What a reader must know before believing a figure."""
    variants, said = material.variants, []
    if material.scales:
        scored = variants.dropna(subset=[c for c in variants if str(c).startswith("metrics.")], how="all")["seeds"]
        if scored.min() == 1:
            which = "One seed" if scored.max() == 1 else "One seed for some"
            said.append(
                f"{which}: intervals and tests then speak of questions only; another seed may reorder what is close."
            )
        elif scored.min() < FEW_SEEDS:
            said.append(f"{scored.min()} seeds: intervals include them, but so few say little of how seeds differ.")
    doubted = [profiled for profiled in material.profiles if not profiled.profile.grade_passed]
    by_checks: dict[str, list[str]] = {}
    for profiled in doubted:
        failed = profiled.profile.failed_checks
        by_checks.setdefault(f" ({show.listed(failed)})" if failed else "", []).append(profiled.label)
    for why, labels in by_checks.items():
        if len(labels) == 1:
            said.append(f"The profile of {labels[0]} failed its grade{why}: its costs are in doubt and drawn hollow.")
        else:
            said.append(f"{len(labels)} profiles failed their grade{why}: their costs are in doubt and drawn hollow.")
    modelled = [of.label.split(" (")[0] for of in material.costs if "modelled" in material.how(of.source)]
    if modelled:
        said.append(f"Modelled, not measured: {show.listed(modelled)}.")
    machines = variants["machine"].dropna().unique()
    if len(machines) > 1:
        said.append(f"Costs come from {len(machines)} machines ({show.listed(machines)}): compare within one only.")
    unprofiled = int(variants[GRADE].isna().sum()) if GRADE in variants else len(variants)
    if unprofiled and material.costs:
        said.append(f"{unprofiled} of {len(variants)} variants were not profiled and are on no front.")
    if material.failed:
        said.append(f"Cells that failed, and are missing from all figures: {len(material.failed)}.")
    notes = dict.fromkeys(note for record in material.all_records() for note in record.notes)
    return said + list(notes)
