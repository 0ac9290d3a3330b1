"""The verdict on a sweep, in one sentence and in three cards, by the one rule that terminal and `recommend` follow.

The rule reads one panel of the fronts: the first benchmark, its last setting (multilingual, if there is one), its main
metric, and the first headline cost that was measured. Tables are those of `analysis.tables`.
"""

from collections.abc import Iterable
from typing import get_args

import pandas as pd

from pipeline.analysis import tables
from pipeline.analysis.costs import COSTS, REPEATS_LATENCY, Cost
from pipeline.analysis.errors import Estimates
from pipeline.analysis.strategies import UNTRAINED, batches
from pipeline.analysis.tables import Scale
from pipeline.analysis.winners import chosen_interval
from pipeline.retrieval.metrics import metric
from pipeline.store.records import AS_TRAINED, Record
from pipeline.values import Setting

MOST_ACCURATE, BEST_VALUE, CHEAPEST = "most accurate", "best value", "cheapest worth having"
WORTH_HAVING = 0.8  # share of the highest accuracy that the cheapest system worth having reaches at least
DOUBT = "The profile failed its quality checks: measure it again on a quiet machine before relying on it."
COSTS_IN_CARD = 2
TOYS = ("worldfacts",)  # generated benchmarks: they show how a sweep works and are no evidence


def main_scale(table: pd.DataFrame) -> Scale | None:
    """Return what the verdict compares: benchmark, setting and metric; None for a sweep without accuracy.

    >>> main_scale(pd.DataFrame({"metrics.b.multi.map": [0.4], "metrics.b.mono.map": [0.5], "metrics.c.mono.map": 0.6}))
    Scale(benchmark='b', setting='multi', metric='map')
    """
    known = tables.scales(table)
    if not known:
        return None
    benchmark = known[0][0]
    setting = max((setting for name, setting in known if name == benchmark), key=get_args(Setting).index)
    return Scale(benchmark, setting, tables.main_metric(table, benchmark))


def warning(benchmarks: Iterable[str]) -> str:
    """Return the sentence that must stand above a verdict that rests on generated data; empty for real data.

    >>> warning(["worldfacts"])
    'Toy data: worldfacts is generated from a table of facts. Do not choose a model for deployment by it.'
    >>> warning(["xquad_r"])
    ''
    """
    toys = [benchmark for benchmark in benchmarks if benchmark in TOYS]
    if not toys:
        return ""
    return f"Toy data: {toys[0]} is generated from a table of facts. Do not choose a model for deployment by it."


def headline_costs(systems: pd.DataFrame) -> list[Cost]:
    """Return the costs that a card shows: the first headline costs that some system has and that do not repeat latency.

    >>> systems = pd.DataFrame({"profile.serving_mib": [99.0], "profile.sources.serving_mib": ["measured: VmHWM"]})
    >>> [cost.field for cost in headline_costs(systems)]
    ['serving_mib']
    """

    def known(cost: Cost) -> bool:
        if cost.column not in systems or systems[cost.column].isna().all():
            return False
        return not systems[cost.source].dropna().str.startswith(REPEATS_LATENCY).all()

    return [cost for cost in COSTS if cost.headline and known(cost)][:COSTS_IN_CARD]


def ranked(systems: pd.DataFrame, column: str, *, higher_is_better: bool = True) -> pd.DataFrame:
    """Return the systems that have a figure, the best first; of equally good ones the cheapest first.

    >>> ranked(pd.DataFrame({"accuracy": [0.4, None, 0.5]}, index=["x", "y", "z"]), "accuracy").index.tolist()
    ['z', 'x']
    """
    costs = [cost.column for cost in headline_costs(systems)[:1]]
    order = [not higher_is_better, *(True for _ in costs)]
    return systems.dropna(subset=[column]).sort_values([column, *costs], ascending=order, kind="stable")


def run_of(runs: pd.DataFrame, system: str) -> str:
    """Return the run that stands for a system where one has to be exported: that of its lowest seed.

    >>> run_of(pd.DataFrame({"name": ["b", "a"], "system": ["x", "x"], "seed": [1, 0]}), "x")
    'a'
    """
    return str(runs[runs["system"] == system].sort_values("seed")["name"].iloc[0])


def cards(
    runs: pd.DataFrame, systems: pd.DataFrame, points: pd.DataFrame, of: Estimates, draws_BS: pd.DataFrame
) -> pd.DataFrame:
    """Return the systems worth knowing, one row per card.

    Args:
        runs: the table of runs, which has accuracy.
        systems: the table of systems.
        points: the table of `fronts.mark`; may be empty.
        of: the accuracies on the `main_scale`, with their errors.
        draws_BS: the draws of `of`.

    Returns:
        Up to three rows; `card` is MOST_ACCURATE, BEST_VALUE (the knee of the Pareto front; a front of fewer than three
        points has none) or CHEAPEST (on the Pareto front, with at least WORTH_HAVING of the highest accuracy). The
        other columns: system, model, strategy, variant, `run` (to export), benchmark, setting, metric, accuracy with
        `low` and `high` (95 % interval; that of the most accurate system allows for its having been chosen), and one
        column per cost of `headline_costs` in that cost's unit, and `quality`: passed, failed or not measured. A sweep
        without profiles has the first row only.
    """
    scale, costs = main_scale(systems), headline_costs(systems)
    assert scale, "the sweep has accuracy"
    table = systems.set_index("system", drop=False).rename_axis(index=None)
    best = ranked(table, scale.column).iloc[0]
    chosen = {MOST_ACCURATE: best["system"]}
    if costs and not points.empty:
        panel = (points["benchmark"] == scale.benchmark) & (points["setting"] == scale.setting)
        front = points[panel & (points["cost"] == costs[0].field) & points["on_front"]].sort_values("value")
        if front["knee"].any():
            chosen[BEST_VALUE] = front.loc[front["knee"], "system"].iloc[0]
        worth = front.loc[front["accuracy"] >= WORTH_HAVING * best[scale.column], "system"]
        if not worth.empty:
            chosen[CHEAPEST] = worth.iloc[0]
    rows = []
    for card, system in chosen.items():
        row, interval = table.loc[system], of.interval(system)
        low, high = chosen_interval(of, draws_BS, system) if system == best["system"] else (interval.low, interval.high)
        labels = {label: row[label] for label in ("system", "model", "strategy", "variant")}
        figures = {"accuracy": interval.value, "low": low, "high": high}
        figures |= {cost.field: row[cost.column] for cost in costs} | {"quality": row.get(tables.QUALITY)}
        rows.append({"card": card, **labels, "run": run_of(runs, system), **scale._asdict(), **figures})
    return pd.DataFrame(rows)


def sentence(cards: pd.DataFrame) -> str:
    """Return the verdict: the most accurate system, and the one that gives the best value if that is another.

    Args:
        cards: table of `cards`; empty for a sweep without accuracy.

    >>> table = pd.DataFrame({"card": [MOST_ACCURATE, BEST_VALUE], "system": ["x", "y"], "model": ["large", "small"],
    ...                       "strategy": "hybrid", "variant": "as trained", "benchmark": "b", "setting": "multi",
    ...                       "metric": "map", "accuracy": [0.6, 0.5], "low": [0.5, 0.4], "high": [0.7, 0.6],
    ...                       "query_latency_p95_ms": [9.0, 5.0]})
    >>> sentence(table).split("; ")  # doctest: +NORMALIZE_WHITESPACE
    ['The most accurate system on b is large with hybrid batches: multi mAP 0.600 [0.500, 0.700] at 9 ms per query
    (p95)', 'the best value is small with hybrid batches: 0.500 at 5 ms per query (p95).']
    """
    if cards.empty:
        return "This sweep has no accuracy, so it says what systems cost and not which one to prefer."
    best, *others = [row for _, row in cards.iterrows()]
    figure = f"{best['setting']} {metric(best['metric']).label} {accuracy(best)}{at_cost(best)}"
    text = f"The most accurate system on {best['benchmark']} is {name(best)}: {figure}"
    others = [other for other in others if other["system"] != best["system"]]
    if others:
        other = others[0]
        text += f"; the {other['card']} is {name(other)}: {other['accuracy']:.3f}{at_cost(other)}"
    return f"{text}."


def doubts(rows: pd.DataFrame) -> list[str]:
    """Return what to bear in mind about the costs of these cards: nothing if their profiles passed.

    >>> doubts(pd.DataFrame({"quality": ["passed", "failed"]}))
    ['The profile failed its quality checks: measure it again on a quiet machine before relying on it.']
    """
    return [DOUBT] if (rows.get("quality", pd.Series()) == tables.FAILED).any() else []


def name(row: pd.Series) -> str:
    """Name a system in a sentence, as in 'small with hybrid batches, inference variant SQ8'.

    >>> name(pd.Series({"model": "small", "strategy": "none", "variant": "as trained"}))
    'untrained small'
    """
    variant = "" if row["variant"] == AS_TRAINED else f", inference variant {row['variant']}"
    if row["strategy"] == UNTRAINED:
        return f"untrained {row['model']}{variant}"
    return f"{row['model']} with {batches(row['strategy'])}{variant}"


def accuracy(row: pd.Series) -> str:
    """Write the accuracy of a card with its interval.

    >>> accuracy(pd.Series({"accuracy": 0.5, "low": 0.4, "high": 0.6}))
    '0.500 [0.400, 0.600]'
    """
    return f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def at_cost(row: pd.Series) -> str:
    """Write the first cost of a card; nothing if it was not measured.

    >>> at_cost(pd.Series({"query_latency_p95_ms": 5.0}))
    ' at 5 ms per query (p95)'
    """
    known = [cost for cost in COSTS if cost.headline and pd.notna(row.get(cost.field))]
    return f" at {known[0].phrase.format(row[known[0].field])}" if known else ""


def of_run(record: Record) -> list[str]:
    """Return what one run reached: a line per benchmark with its main metric, then a line with its costs.

    >>> record = Record("small-s0", "0a1b", "done", {"model": "small", "sampler": "hybrid", "data": "xquad"},
    ...                 {"model": {"family": "e5"}, "sampler": {}}, seed=0, provenance={"layers": 3, "time": "2026"},
    ...                 metrics={"xquad_r.mono.map": 0.5, "xquad_r.multi.map": 0.25})
    >>> of_run(record)
    ['xquad_r, mAP: mono 0.500, multi 0.250', 'costs: not measured']
    """
    table = tables.rows([record])
    lines = []
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in tables.scales(table)):
        main = tables.main_metric(table, benchmark)
        settings = [setting for name, setting in tables.scales(table) if name == benchmark]
        figures = [f"{s} {record.metrics[f'{benchmark}.{s}.{main}']:.3f}" for s in get_args(Setting) if s in settings]
        lines.append(f"{benchmark}, {metric(main).label}: {', '.join(figures)}")
    values = table.iloc[0]
    known = [cost for cost in COSTS if cost.headline and pd.notna(values.get(cost.column))]
    costs = ", ".join(cost.phrase.format(values[cost.column]) for cost in known) or "not measured"
    return [*(lines or ["accuracy: none, since random weights are not scored"]), f"costs: {costs}"]
