"""From stored tables per query to scores_QC: what all errors of accuracies follow from (errors.py).

Axes: R rows of a table per query, Q queries, C columns: runs, (system, seed).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.analysis.errors import Estimates, estimate
from pipeline.analysis.tables import main_metric, scales
from pipeline.store.results import ResultStore
from pipeline.values import UserError

PAIR = ["query_language", "passage_language"]
BLOCK = 64  # runs that are scored at once: 10 MB per metric at 18,000 rows per run


class Block(NamedTuple):
    """The scores of some runs whose tables per query have the same rows.

    `rows` holds the columns of the table that are no scores; `columns`, by metric, the scores [R] of each of the
    `names`.
    """

    names: list[str]
    rows: pa.Table
    columns: dict[str, list[np.ndarray]]

    def values(self, metric: str) -> np.ndarray:
        """Return the scores [R, C] of all runs of the block."""
        return np.stack(self.columns[metric], axis=1)


def blocks(store: ResultStore, names: Sequence[str], benchmark: str, metrics: Sequence[str]) -> Iterator[Block]:
    """Read the tables per query of some runs, each once, and yield them in blocks of at most BLOCK runs."""
    block: Block | None = None
    for name in names:
        table = store.per_query_metrics(name, benchmark, metrics)
        rows = table.drop_columns(list(metrics))
        if block and (len(block.names) == BLOCK or not rows.equals(block.rows)):
            yield block
            block = None
        block = block or Block([], rows, {metric: [] for metric in metrics})
        block.names.append(name)
        for metric in metrics:
            block.columns[metric].append(table[metric].to_numpy())
    if block:
        yield block


def block_scores(rows: pd.DataFrame, values_RC: np.ndarray, setting: str) -> pd.DataFrame:
    """Return `query_scores` [Q, C] of the runs of a block.

    Args:
        rows: of a Block.
        values_RC: one of its metrics.
        setting: mono, cross or multi.
    """
    inside_R = (rows["setting"] == setting).to_numpy(copy=True)
    known_RC = ~np.isnan(values_RC[inside_R])
    if not (known_RC == known_RC[:, :1]).all():  # runs that lack scores of different queries: one by one
        parts = [block_scores(rows, values_RC[:, [place]], setting) for place in range(values_RC.shape[1])]
        return pd.concat(parts, axis="columns", ignore_index=True)
    inside_R[inside_R] = known_RC[:, 0]
    kept, values = rows[inside_R].reset_index(drop=True), pd.DataFrame(values_RC[inside_R])
    by_pair = values.groupby([kept[key] for key in PAIR])
    size_R = kept.groupby(PAIR)["setting"].transform("size")
    means = by_pair.mean()
    share_R = 1 / (size_R * len(means))  # of a row in the macro average
    deviation = (values - by_pair.transform("mean")).mul(share_R, axis=0).groupby(kept["query_id"]).sum()
    names = rows.drop_duplicates("query_id").set_index("query_id")
    queries = pd.MultiIndex.from_arrays(
        [names.get("cluster", names.index), names.index], names=["cluster", "query_id"]
    ).sort_values()
    influence = len(queries) * deviation.reindex(queries.get_level_values("query_id"), fill_value=0.0)
    macro_C = means.apply(lambda column: column.mean())
    return macro_C + influence.set_axis(queries)


def query_scores(per_query: pd.DataFrame, setting: str, metric: str) -> pd.Series:
    """Return one value per query whose plain mean is the macro average over the setting's language pairs.

    If every query is asked in every language, the value is the query's mean over language pairs. Otherwise it is the
    linearisation of the macro average (influence values; Efron & Tibshirani 1993, ch. 21), so that the error of the
    mean of the values is that of the macro average. A query without a score in this setting counts as an average one:
    all tables of a benchmark stay paired.

    Args:
        per_query: one row per (setting, query_language, passage_language, query_id), one column per metric; the column
            `cluster` names the cluster of the query. Without it (older results) every query is a cluster of its own.

    Returns:
        Values [Q] in the metric's unit, indexed by (`cluster`, `query_id`) in sorted order.

    Query b lacks the second language, whose mean is .8, so the macro average is (.4 + .8) / 2 = .6. Query b scores .2
    below the mean of the first language, where it is one of 2 queries, in one of 2 language pairs: it moves the macro
    average by -.2 / 4, and its value is 2 queries times that below .6.

    >>> table = pd.DataFrame(
    ...     [("mono", "en", "en", "a", 0.6), ("mono", "en", "en", "b", 0.2), ("mono", "th", "th", "a", 0.8)],
    ...     columns=["setting", "query_language", "passage_language", "query_id", "map"],
    ... )
    >>> query_scores(table.assign(cluster="page 1"), "mono", "map").round(3).to_dict()
    {('page 1', 'a'): 0.7, ('page 1', 'b'): 0.5}
    """
    keys = [key for key in ("setting", *PAIR, "query_id", "cluster") if key in per_query]
    return block_scores(per_query[keys], per_query[[metric]].to_numpy(float), setting)[0].rename(None)


def scores(
    store: ResultStore, runs: pd.DataFrame, *metrics: str | None, only: tuple[str, str] | None = None
) -> list[dict[tuple[str, str], pd.DataFrame]]:
    """Return, for each metric, per (benchmark, setting) the scores_QC that all errors follow from.

    Each table per query is read once.

    Args:
        store: holds the runs' tables.
        runs: table of `tables.runs`.
        metrics: None: the main metric of each benchmark.
        only: the (benchmark, setting) to read; None: all.

    Returns:
        Tables with the columns (system, seed).

    Raises:
        UserError: the runs were not evaluated on the same queries, or do not agree about their clusters.

    >>> from types import SimpleNamespace
    >>> table = pa.table({"setting": ["multi"] * 2, "query_language": ["en"] * 2, "passage_language": ["*"] * 2,
    ...                   "query_id": ["q1", "q2"], "map": [0.4, 0.6]})
    >>> runs = pd.DataFrame({"name": ["run"], "system": ["small"], "seed": [0], "metrics.b.multi.map": [0.5]})
    >>> store = SimpleNamespace(per_query_metrics=lambda name, benchmark, metrics: table)
    >>> scores(store, runs, None)[0]["b", "multi"]["small", 0].to_list()
    [0.4, 0.6]
    """
    found: list[dict[tuple[str, str], list[pd.DataFrame]]] = [
        {scale: [] for scale in scales(runs, metric) if only in (None, scale)} for metric in metrics
    ]
    for benchmark in dict.fromkeys(benchmark for tables in found for benchmark, _ in tables):
        names = [metric or main_metric(runs, benchmark) for metric in metrics]
        settings = [[setting for name, setting in tables if name == benchmark] for tables in found]
        columns = [
            f"metrics.{benchmark}.{of[0]}.{name}" if of else None for name, of in zip(names, settings, strict=True)
        ]
        has = pd.DataFrame({place: runs[column].notna() for place, column in enumerate(columns) if column})
        for alike, own in runs[has.any(axis=1)].groupby([has[place] for place in has], sort=False):
            scored = [place for place, known in zip(has, alike, strict=True) if known]
            labels = own.set_index("name")[["system", "seed"]]
            for block in blocks(store, list(own["name"]), benchmark, [names[place] for place in scored]):
                rows = block.rows.to_pandas().astype(str)
                columns_C = pd.MultiIndex.from_frame(labels.loc[block.names])
                for place in scored:
                    for setting in settings[place]:
                        scores_QC = block_scores(rows, block.values(names[place]), setting)
                        found[place][benchmark, setting].append(scores_QC.set_axis(columns_C, axis="columns"))
    return [{scale: joined(frames, scale[0], runs) for scale, frames in tables.items()} for tables in found]


def joined(frames: Sequence[pd.DataFrame], benchmark: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all blocks as one table, its columns in the order of the runs; UserError if rows differ."""
    table = pd.concat(frames, axis="columns")
    if table.isna().any(axis=None):
        raise UserError(f"the runs were evaluated on different queries of {benchmark}, so they cannot be compared.")
    order = pd.MultiIndex.from_frame(runs[["system", "seed"]])
    order = order[order.isin(table.columns)]
    # Each column in one piece: so numpy's sums do not depend, in their last bit, on how many runs there are.
    return pd.DataFrame(np.asfortranarray(table[order]), table.index, order.set_names([None, None]))


def estimates(
    scores: Mapping[tuple[str, str], pd.DataFrame], systems: pd.DataFrame
) -> dict[tuple[str, str], Estimates]:
    """Return per (benchmark, setting) the mean accuracies of all systems with their errors.

    Args:
        scores: of `scores`.
        systems: table of `tables.systems`; strategy, model and variant say whose seeds are comparable.

    >>> systems = pd.DataFrame({"system": ["small"], "strategy": "hybrid", "model": "small", "variant": "as trained"})
    >>> of = estimates({("b", "multi"): pd.DataFrame({("small", 0): [0.4, 0.6]})}, systems)
    >>> of["b", "multi"].mean_S.to_dict()
    {'small': 0.5}
    """
    labels = systems.set_index("system")
    return {scale: estimate(scores_QC, labels) for scale, scores_QC in scores.items()}


def pool_ranks(store: ResultStore, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the ranks of all runs in nested pools (retrieval.pools), with the columns run, system, model, strategy.

    Empty if no run was evaluated on a benchmark whose pools are samples.

    >>> from types import SimpleNamespace
    >>> ranks = pd.DataFrame({"benchmark": "miracl", "query_id": ["q1"], "pool_size": [100], "rank": [1]})
    >>> runs = pd.DataFrame({"name": ["run"], "system": ["small"], "model": ["small"], "strategy": ["hybrid"]})
    >>> pool_ranks(SimpleNamespace(pool_ranks=lambda name: [ranks]), runs)[["system", "run", "rank"]].to_dict("records")
    [{'system': 'small', 'run': 'run', 'rank': 1}]
    """
    frames = [
        ranks.assign(run=name, system=system, model=model, strategy=strategy)
        for name, system, model, strategy in runs[["name", "system", "model", "strategy"]].itertuples(index=False)
        for ranks in store.pool_ranks(name)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
