"""What a section of report.html begins with: bias as a third objective, model size saved, scaling, inference variants.

Like the verdict, the sentences cover the first benchmark of the sweep: its last setting (the multilingual one, if there
is one), and the first cost that is known of the winner.
"""

import pandas as pd

from pipeline.analysis.costs import Cost
from pipeline.analysis.tables import BIAS
from pipeline.reporting.html import show
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.statistics import lack_of_fit, needed_size, size_unit
from pipeline.reporting.html.verdict import Winner, front_points, winner

SMALL_LOSS = 0.01  # of accuracy, up to which a cheaper inference variant is worth a sentence
FEW = 4  # names in one sentence


def findings(material: Material) -> dict[str, list[str]]:
    """Write the findings that the sweep is large enough for, by the section of the report that begins with them."""
    sentences: dict[str, list[str | None]] = {"sizes": [], "languages": [], "variants": []}
    if material.scales:
        benchmark, settings = next(iter(material.scales.items()))
        best = winner(material, benchmark, settings[-1])
        cost = next((cost for cost in material.findings_on if pd.notna(material.value(best.system, cost.column))), None)
        if cost:
            sentences["sizes"] = [size_saved(material, best), scaling(material, best, cost)]
            sentences["languages"] = [with_bias(material, best, cost)]
            sentences["variants"] = [variants(material, best)]
    return {section: [sentence for sentence in of if sentence] for section, of in sentences.items()}


def of_winner(table: pd.DataFrame, best: Winner) -> pd.DataFrame:
    """Select the rows of the winner's benchmark and setting."""
    return table[(table["benchmark"] == best.benchmark) & (table["setting"] == best.setting)]


def with_bias(material: Material, best: Winner, cost: Cost) -> str | None:
    """Write which systems join the front if language bias is an objective too."""
    points = front_points(material, best, cost)
    if f"{BIAS}_low" not in points:
        return None
    joined = points[points["on_front_with_bias"] & ~points["on_front"]].sort_values("front_with_bias_probability")
    names = [
        f"{material.label(point['system'])} ({show.amount(point[BIAS])}, in "
        f"{show.probability(point['front_with_bias_probability'])} of draws)"
        for _, point in joined.iloc[::-1].head(FEW).iterrows()
    ]
    fairest = points.loc[points[BIAS].idxmin()]
    value = show.between(fairest[BIAS], (fairest[f"{BIAS}_low"], fairest[f"{BIAS}_high"]), show.amount)
    lowest = f"Language bias: {material.label(fairest['system'])} has the lowest rank distance, {value}."
    third = f"As a third objective beside accuracy and {cost.name}, language bias adds"
    if not names:
        return f"{lowest} {third} no system to the Pareto front."
    if len(joined) > FEW:
        names.append(f"{len(joined) - FEW} more")
    return f"{lowest} {third} to the Pareto front: {show.listed(names)}."


def size_saved(material: Material, best: Winner) -> str | None:
    """Write which size the winner's strategy needs to match the best of each other strategy."""
    savings, strategy = material.tables["savings"], material.value(best.system, "strategy")
    if savings.empty:
        return None
    lines = of_winner(savings, best)
    lines = lines[(lines["unit"] == size_unit(material)) & (lines["other"] == strategy)]
    parts = []
    for other, of_other in lines.groupby("strategy", sort=False):
        reached = [material.accuracy(system, best.benchmark, best.setting) for system in of_other["system"]]
        line = of_other.iloc[reached.index(max(reached))]
        parts.append(
            f"{needed_size(line, line['unit'])} to match {show.amount(line['size'])} with {show.batches(str(other))}"
        )
    if not parts:
        return None
    label = material.accuracy_label(best.benchmark, best.setting)
    return f"Model size: at equal {label}, {show.batches(strategy)} need {show.listed(parts)}."


def scaling(material: Material, best: Winner, cost: Cost) -> str | None:
    """Write whether the lead of the winner's strategy over others grows or shrinks with size."""
    slopes, strategy = material.tables["slopes"], material.value(best.system, "strategy")
    if slopes.empty:
        return None
    lines = of_winner(slopes, best)
    lines = lines[lines["cost"] == cost.field].set_index("strategy")
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
        trend = "grows with size" if low > 0 else "shrinks with size" if high < 0 else "shows no clear trend"
        parts.append(f"{more} compared with {show.batches(other)} (the lead {trend})")
    own = lines.loc[strategy]
    gain = show.between(own["slope"], (own["low"], own["high"]), show.difference)
    label = material.accuracy_label(best.benchmark, best.setting)
    change = f"{label} with {show.batches(strategy)} changes by {gain}"
    sentence = f"Scaling: when {cost.name} doubles, {change}; lack of fit of the line: {lack_of_fit(own)}"
    return f"{sentence}; {show.listed(parts)}." if parts else f"{sentence}."


def variants(material: Material, best: Winner) -> str | None:
    """Write the most that an inference variant of the winner saves on each cost, at a small loss."""
    trades = material.tables["trades"]
    if trades.empty:
        return None
    own = of_winner(trades, best)
    own = own[own["trained"] == best.system]
    parts = []
    for cost in material.findings_on:
        worth = own[(own["cost"] == cost.field) & (own["difference"] >= -SMALL_LOSS) & (own["times_cheaper"] > 1)]
        if worth.empty:
            continue
        trade = worth.loc[worth["times_cheaper"].idxmax()]
        loss = show.between(trade["difference"], (trade["low"], trade["high"]), show.difference)
        parts.append(f"{cost.name} {show.amount(trade['times_cheaper'])} times lower as {trade['variant']} ({loss})")
    name, label = material.label(best.system), material.accuracy_label(best.benchmark, best.setting)
    limit = f"at a loss of at most {SMALL_LOSS:g} {label}"
    if not parts:
        return None if own.empty else f"Inference variants: none makes {name} cheaper {limit}."
    return f"Inference variants of {name}, {limit}: {'; '.join(parts)}."
