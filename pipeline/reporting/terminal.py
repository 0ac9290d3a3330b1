"""What the end of a sweep says on the terminal: the verdict, its cards, where the report lies, and what to do next."""

import math
from collections.abc import Container, Sequence
from pathlib import Path

import pandas as pd

from pipeline.analysis import verdict
from pipeline.analysis.costs import COSTS
from pipeline.analysis.tables import BIAS, main_metric
from pipeline.reporting.figure import SETTINGS
from pipeline.reporting.html.show import amount
from pipeline.reporting.looks import strategy_name
from pipeline.retrieval.metrics import metric


def summary(
    cards: pd.DataFrame, sweep: str, results_dir: Path, notes: Sequence[str] = (), exportable: Container[str] = ()
) -> str:
    """Return the verdict sentence, the table of cards, the path of the report and the commands to go on with.

    Args:
        cards: table of `analysis.verdict.cards`; empty for a sweep without accuracy.
        sweep: its name.
        results_dir: holds the sweep.
        notes: what to bear in mind, such as that the data are an exercise.
        exportable: the runs whose encoder `pipeline.export` can write.

    >>> print(summary(pd.DataFrame(), "costs", Path("/results"), ["an exercise"]))
    This sweep has no accuracy, so it says what systems cost and not which one to prefer.
    Note: an exercise
    <BLANKLINE>
    Report: /results/costs/report.html
    """
    lines = [verdict.sentence(cards), *(f"Note: {note}" for note in [*notes, *verdict.doubts(cards)]), ""]
    if not cards.empty:
        lines += [table(cards), ""]
    lines.append(f"Report: {results_dir.absolute() / sweep / 'report.html'}")
    if not cards.empty:
        lines += [f"Next:   {command}" for command in next_commands(cards, sweep, results_dir, exportable)]
    return "\n".join(lines)


def table(cards: pd.DataFrame) -> str:
    """Format the cards: a line per system, with all the cards that it holds.

    >>> cards = pd.DataFrame({"card": ["most accurate", "best value"], "system": "x", "model": "small",
    ...                       "strategy": "hybrid", "variant": "as trained", "setting": "multi", "metric": "map",
    ...                       "accuracy": 0.5, "low": 0.4, "high": 0.6, "query_latency_p95_ms": 5.0})
    >>> print(table(cards))  # doctest: +NORMALIZE_WHITESPACE
                               model strategy            multi mAP query latency, p95 (ms)
    most accurate, best value  small   hybrid 0.500 [0.400, 0.600]                    5.00
    """
    costs = [cost for cost in COSTS if cost.field in cards]
    rows = {}
    for _, of_system in cards.groupby("system", sort=False):
        card = of_system.iloc[0]
        row = {"model": card["model"], "strategy": strategy_name(card["strategy"]), "variant": card["variant"]}
        row[f"{card['setting']} {metric(card['metric']).label}"] = verdict.accuracy(card)
        rows[", ".join(of_system["card"])] = row | {cost.label: amount(card[cost.field]) for cost in costs}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    if len(set(cards["variant"])) == 1:
        frame = frame.drop(columns="variant")
    return frame.to_string()


def systems_table(systems: pd.DataFrame, benchmark: str | None) -> str:
    """Format the systems as text: accuracies on one benchmark (None: a cost-only sweep), then costs."""
    columns = {"model": "model", "strategy": "strategy", "variant": "variant", "seeds": "seeds"}
    if benchmark:
        main = main_metric(systems, benchmark)
        columns |= {f"metrics.{benchmark}.{setting}.{main}": setting for setting in SETTINGS}
        columns |= {f"metrics.{benchmark}.multi.{BIAS}": metric(BIAS).label}
    columns |= {"profile.query_latency_p95_ms": "p95 ms", "profile.passages_per_s": "passages/s"}
    columns |= {"profile.serving_mib": "MiB", "profile.energy_j_per_1k_queries": "J/1k queries"}
    if systems["variant"].nunique() == 1:
        columns.pop("variant")
    else:
        columns |= {"profile.end_to_end_latency_p95_ms": "with search", "profile.index_bytes_per_passage": "B/passage"}
    named = systems.assign(strategy=systems["strategy"].map(strategy_name))
    table = named[[name for name in columns if name in systems]].rename(columns=columns)
    digits = dict.fromkeys(SETTINGS, 4) | {"MiB": 0}
    formats = {name: f"{{:.{digits.get(name, 1)}f}}".format for name in table.select_dtypes("float")}
    return table.to_string(index=False, formatters=formats, na_rep="-")


def next_commands(cards: pd.DataFrame, sweep: str, results_dir: Path, exportable: Container[str]) -> list[str]:
    """Return commands, ready to paste: ask for a system within a limit, and export the best value if it is exportable.

    The limit is the first cost of that system, rounded up; without a knee, the most accurate system is exported.

    >>> cards = pd.DataFrame({"card": ["most accurate"], "run": ["m-hybrid-s0"], "query_latency_p95_ms": [4.2]})
    >>> commands = next_commands(cards, "articles", Path("results"), {"m-hybrid-s0"})
    >>> commands  # doctest: +NORMALIZE_WHITESPACE
    ['python -m pipeline.recommend articles p95_ms=5', 'python -m pipeline.export m-hybrid-s0 to=my-retriever']
    """
    by_card = cards.set_index("card")
    card = by_card.loc[verdict.BEST_VALUE if verdict.BEST_VALUE in by_card.index else verdict.MOST_ACCURATE]
    known = [cost for cost in COSTS if cost.option and pd.notna(card.get(cost.field))]
    limits = [f" {cost.option}={math.ceil(card[cost.field])}" for cost in known[:1]]
    recommend = f"python -m pipeline.recommend {sweep}{''.join(limits)}{folder_option(results_dir)}"
    return [recommend, *([export_command(card["run"], results_dir)] if card["run"] in exportable else [])]


def export_command(run: str, results_dir: Path) -> str:
    """Return the command that exports a run.

    >>> export_command("m-hybrid-s0", Path("elsewhere"))
    'python -m pipeline.export m-hybrid-s0 to=my-retriever results_dir=elsewhere'
    """
    return f"python -m pipeline.export {run} to=my-retriever{folder_option(results_dir)}"


def folder_option(results_dir: Path) -> str:
    """Return the option that names the results folder; empty for the default one."""
    return "" if str(results_dir) == "results" else f" results_dir={results_dir}"
