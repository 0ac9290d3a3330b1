"""`python -m pipeline.recommend --sweep NAME --accuracy multi.map --p95-ms 20`: what should I deploy?

Reads a sweep's records: the most accurate cell within the limits, the runner-up, what a looser limit would bring, and
how sure it all is. Answers in sentences; bad input is one sentence and exit code 2.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipeline import report as aggregate
from pipeline.analysis import bootstrap, money, tables
from pipeline.launch.commands import refusing
from pipeline.store.results import ResultStore
from pipeline.values import UserError


@dataclass(frozen=True)
class Limit:
    """One limit that can be asked for, on a cost of the variants' table."""

    flag: str
    field: str
    text: str  # with the value in braces

    @property
    def argument(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def cost(self) -> tables.Cost:
        return next(cost for cost in tables.COSTS if cost.field == self.field)

    @property
    def column(self) -> str:
        return self.cost.column


LIMITS = (
    Limit("--p95-ms", "query_latency_p95_ms", "{:.3g} ms a query (p95)"),
    Limit("--end-to-end-p95-ms", "end_to_end_latency_p95_ms", "{:.3g} ms a query with its search (p95)"),
    Limit("--memory-mib", "peak_rss_mib", "{:.0f} MiB"),
    Limit("--gpu-memory-mib", "gpu_peak_allocated_mib", "{:.0f} MiB of GPU memory"),
    Limit("--index-bytes", "index_bytes_per_passage", "{:.0f} bytes a passage in the index"),
    Limit("--joules-per-1k", "energy_j_per_1k_queries", "{:.3g} J per 1,000 queries"),
    Limit("--usd-per-million", "usd_per_1m_queries", "{:.3g} $ per million queries"),
    Limit("--usd-per-month", "usd_per_month", "{:.3g} $ a month"),
)


def answer(
    table: pd.DataFrame, draws_BV: pd.DataFrame, accuracy: str, asked: Mapping[Limit, float], name: str
) -> list[str]:
    """The sentences. `table` has one row a variant, indexed by it; `accuracy` is its column, `name` how to call it."""
    table = table.dropna(subset=[accuracy]).sort_values(accuracy, ascending=False)
    fits = pd.DataFrame({limit: table[limit.column] <= value for limit, value in asked.items()}, index=table.index)
    fitting = table[fits.all(axis=1)]
    if fitting.empty:
        return [nothing(table, fits, asked)]
    best = fitting.iloc[0]
    low, high = bootstrap.interval(draws_BV[[best.name]])
    said = [
        f"Deploy {called(best)}: {name} {best[accuracy]:.3f} [{low[0]:.3f}, {high[0]:.3f}] at {costs(best, asked)}."
    ]
    wins = (draws_BV[fitting.index].to_numpy().argmax(axis=1) == 0).mean()
    if len(fitting) > 1:
        second = fitting.iloc[1]
        said.append(f"Runner-up: {called(second)}, {versus(second, best, draws_BV)}, at {costs(second, asked)}.")
        said.append(f"It is the best of the {len(fitting)} that fit in {wins:.0%} of the bootstrap's draws.")
    else:
        said.append("Nothing else fits.")
    said += [text for limit in asked if (text := looser(table, fits, limit, best, accuracy, draws_BV))]
    return said + doubts(best, asked)


def nothing(table: pd.DataFrame, fits: pd.DataFrame, asked: Mapping[Limit, float]) -> str:
    """Which limit binds: the one without which something fits, or the most that any one excludes."""
    alone = {limit: fits.drop(columns=limit).all(axis=1) for limit in asked}
    binding = [limit for limit, others in alone.items() if others.any()]
    if not binding:
        limit = min(asked, key=lambda limit: fits[limit].sum())
        return f"Nothing fits, whichever limit is dropped; {limit.flag} excludes the most: {cheapest(table, limit)}."
    said = "; ".join(f"{limit.flag} binds: {cheapest(table[alone[limit]], limit)}" for limit in binding)
    return f"Nothing fits. {said}."


def cheapest(table: pd.DataFrame, limit: Limit) -> str:
    if table[limit.column].isna().all():
        return "no cell has that figure"
    row = table.loc[table[limit.column].idxmin()]
    return f"the least is {limit.text.format(row[limit.column])}, by {called(row)}"


def looser(
    table: pd.DataFrame, fits: pd.DataFrame, limit: Limit, best: pd.Series, accuracy: str, draws_BV: pd.DataFrame
) -> str | None:
    """What the smallest step beyond one limit would buy, the others standing; None if nothing better lies beyond."""
    others = fits.drop(columns=limit).all(axis=1)
    better = table[others & (table[accuracy] > best[accuracy])].dropna(subset=[limit.column])
    if better.empty:
        return None
    next_best = better.loc[better[limit.column].idxmin()]
    return (
        f"With {limit.text.format(next_best[limit.column])}: {called(next_best)}, {versus(next_best, best, draws_BV)}."
    )


def versus(row: pd.Series, best: pd.Series, draws_BV: pd.DataFrame) -> str:
    """The paired difference to the best, with its interval; whether it can be told apart."""
    difference_B = (draws_BV[row.name] - draws_BV[best.name]).to_numpy()
    low, high = bootstrap.interval(difference_B)
    doubt = ", which the questions cannot tell apart" if low <= 0 <= high else ""
    return f"{difference_B.mean():+.3f} [{low:+.3f}, {high:+.3f}]{doubt}"


def called(row: pd.Series) -> str:
    served = "" if row["served"] == "as trained" else f", served {row['served']}"
    return f"{row['model']} with {row['strategy']} batches{served}"


def costs(row: pd.Series, asked: Mapping[Limit, float]) -> str:
    """The costs that were asked about; without any, all that are known."""
    shown = asked or [limit for limit in LIMITS if limit.column in row and pd.notna(row[limit.column])]
    return ", ".join(limit.text.format(row[limit.column]) for limit in shown) or "a cost that was not measured"


def doubts(best: pd.Series, asked: Mapping[Limit, float]) -> list[str]:
    said = []
    if best["seeds"] == 1:
        said.append("One seed: the intervals speak of the questions only.")
    if not best.get(tables.GRADE, True):
        said.append("The profile failed its grade: measure it again on a quiet machine before you rely on its costs.")
    modelled = [limit.field for limit in asked if str(best.get(limit.cost.source)).startswith("modelled")]
    if modelled:
        said.append(f"Modelled, not measured: {', '.join(modelled)}.")
    return said


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.recommend", description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", default="default", help="of results_dir (default: default)")
    parser.add_argument("--results-dir", default="results")
    parser.add_argument(
        "--accuracy", default="multi.map", metavar="[BENCHMARK.]SETTING.METRIC",
        help="what to maximise: multi.map, cross.ndcg_10, xquad_r.mono.recall_10, … (default: multi.map)",
    )  # fmt: skip
    for group in ("prices", "scenario"):
        parser.add_argument(
            f"--{group}", metavar="NAME", help=f"a file of conf/{group} (default: that of conf/report.yaml)"
        )
    for limit in LIMITS:
        parser.add_argument(limit.flag, type=float, metavar="MOST", help=f"at most {limit.text.format(0).lstrip('0 ')}")
    return parser.parse_args(arguments)


def recommend(wishes: argparse.Namespace) -> list[str]:
    store = ResultStore(wishes.results_dir)
    prices = [f"{group}={value}" for group in ("prices", "scenario") if (value := getattr(wishes, group))]
    report = aggregate.wishes(wishes.results_dir, wishes.sweep, *prices)
    runs = money.priced(tables.runs(store, wishes.sweep), report.prices, report.scenario)
    benchmark, setting, metric = tables.scale(runs, wishes.accuracy, "--accuracy")
    column = f"metrics.{benchmark}.{setting}.{metric}"
    table = tables.variants(runs).set_index("variant")
    asked = {limit: value for limit in LIMITS if (value := getattr(wishes, limit.argument)) is not None}
    if missing := [limit.flag for limit in asked if limit.column not in table]:
        raise UserError(f"{missing[0]}: no cell of sweep {wishes.sweep} has that figure.")
    scores = tables.scores(store, runs.dropna(subset=[column]), metric)[benchmark, setting]
    return answer(table, bootstrap.draws(scores), column, asked, f"{benchmark} {setting} {metric}")


def main() -> None:
    with refusing():
        print("\n".join(recommend(parse(sys.argv[1:]))))


if __name__ == "__main__":
    main()
