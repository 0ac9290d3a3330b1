"""What else a sweep says, a sentence each: bias as a third objective, the size saved, size x batches, ways of serving.

As the verdict, it speaks of the sweep's first benchmark: of its last setting (the multilingual one, where there is one)
and of the first cost that is known of the winner.
"""

import pandas as pd

from pipeline.analysis.tables import BIAS, Cost
from pipeline.reporting.figure import SETTINGS
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.statistics import needed_size, size_unit
from pipeline.reporting.html.verdict import Winner, front_points, winner

SMALL_LOSS = 0.01  # of mAP, that a cheaper way of serving may cost to be worth a sentence
FEW = 4  # names in one sentence


def findings(material: Material) -> list[str]:
    if not material.scales:
        return []
    benchmark, settings = next(iter(material.scales.items()))
    best = winner(material, benchmark, settings[-1])
    cost = next((cost for cost in material.costs if pd.notna(material.cost(best.variant, cost))), None)
    if cost is None:
        return []
    found = [
        with_bias(material, best, cost),
        size_saved(material, best),
        size_and_batches(material, best, cost),
        ways_of_serving(material, best),
    ]
    return [sentence for sentence in found if sentence]


def name(cost: Cost) -> str:
    return cost.label.split(" (")[0]


def with_bias(material: Material, best: Winner, cost: Cost) -> str | None:
    """Who joins the front once language bias counts."""
    points = front_points(material, best, cost)
    if f"{BIAS}_low" not in points:
        return None
    joined = points[points["on_front_with_bias"] & ~points["on_front"]].sort_values("front_with_bias_probability")
    named = [
        f"{material.label(point['variant'])} ({show.amount(point[BIAS])}, in "
        f"{show.probability(point['front_with_bias_probability'])} of draws)"
        for _, point in joined.iloc[::-1].head(FEW).iterrows()
    ]
    fairest = points.loc[points[BIAS].idxmin()]
    value = show.between(fairest[BIAS], (fairest[f"{BIAS}_low"], fairest[f"{BIAS}_high"]), show.amount)
    said = f"Language bias – the least rank distance is {value}, of {material.label(fairest['variant'])}"
    if not named:
        return f"{said}; as a third objective beside accuracy and {name(cost)} it brings nothing more onto the front."
    more = f" and {len(joined) - FEW} more" if len(joined) > FEW else ""
    third = f"once it counts beside accuracy and {name(cost)}, the front also holds"
    return f"{said}; {third} {show.listed(named)}{more}."


def size_saved(material: Material, best: Winner) -> str | None:
    """With which size the winner's batches reach what each other strategy does at its best."""
    found, strategy = material.found["savings"], material.about(best.variant, "strategy")
    if found.empty:
        return None
    here = (found["benchmark"] == best.benchmark) & (found["setting"] == best.setting)
    lines = found[here & (found["unit"] == size_unit(material)) & (found["other"] == strategy)]
    parts = []
    for other, of_other in lines.groupby("strategy", sort=False):
        reached = [material.accuracy(variant, best.benchmark, best.setting) for variant in of_other["variant"]]
        line = of_other.iloc[reached.index(max(reached))]
        parts.append(
            f"{needed_size(found, line)} {line['unit']} to match {show.amount(line['size'])} with "
            f"{show.strategy_name(str(other))} batches"
        )
    if not parts:
        return None
    return f"Size saved – for equal {SETTINGS[best.setting]}, {strategy} batches need {show.listed(parts)}."


def size_and_batches(material: Material, best: Winner, cost: Cost) -> str | None:
    """Does the lead of the winner's batches over others grow or shrink with size?"""
    found, strategy = material.found["slopes"], material.about(best.variant, "strategy")
    if found.empty:
        return None
    at = (found["benchmark"] == best.benchmark) & (found["setting"] == best.setting) & (found["cost"] == cost.field)
    lines = found[at].set_index("strategy")
    if strategy not in lines.index:
        return None
    parts = []
    for pair, line in lines.iterrows():
        first, _, second = str(pair).partition(" - ")
        if strategy not in (first, second) or not second:
            continue
        other, sign = (second, 1) if first == strategy else (first, -1)
        low, high = sorted((sign * line["low"], sign * line["high"]))
        more = show.between(sign * line["slope"], (low, high), show.difference)
        trend = "grows with size" if low > 0 else "shrinks with size" if high < 0 else "shows no sure trend"
        parts.append(f"{more} on {show.strategy_name(other)} (its lead {trend})")
    own = lines.loc[strategy]
    gain = show.between(own["slope"], (own["low"], own["high"]), show.difference)
    said = f"Size and batches – a doubling of {name(cost)} brings {strategy} {gain} {SETTINGS[best.setting]}"
    return f"{said}: {show.listed(parts)}." if parts else f"{said}."


def ways_of_serving(material: Material, best: Winner) -> str | None:
    """The most that a way of serving the winner's encoder buys, a cost each, for a small loss."""
    found = material.found["served"]
    if found.empty:
        return None
    here = (found["benchmark"] == best.benchmark) & (found["setting"] == best.setting)
    ways = found[here & (found["trained"] == best.variant)]
    parts = []
    for cost in material.costs:
        worth = ways[(ways["cost"] == cost.field) & (ways["difference"] >= -SMALL_LOSS) & (ways["times_cheaper"] > 1)]
        if worth.empty:
            continue
        trade = worth.loc[worth["times_cheaper"].idxmax()]
        lost = show.between(trade["difference"], (trade["low"], trade["high"]), show.difference)
        parts.append(f"{name(cost)} is {show.amount(trade['times_cheaper'])} times less as {trade['served']} ({lost})")
    label = material.label(best.variant)
    if not parts:
        return None if ways.empty else f"Ways of serving – none makes {label} cheaper for {SMALL_LOSS:g} mAP or less."
    return f"Ways of serving {label}, for {SMALL_LOSS:g} {SETTINGS[best.setting]} at most – {'; '.join(parts)}."
