"""From stored tables per query to scores_QC: what all errors of accuracies follow from (errors.py).

Axes: Q queries, C columns (system, seed).
"""

from collections.abc import Mapping

import pandas as pd

from pipeline.analysis.errors import Estimates, estimate
from pipeline.analysis.tables import main_metric, scales
from pipeline.store.results import ResultStore
from pipeline.values import UserError


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
    rows = per_query[per_query["setting"] == setting].dropna(subset=[metric])
    pairs = rows.groupby(["query_language", "passage_language"])[metric]
    share = 1 / (pairs.transform("size") * pairs.ngroups)  # of a row in the macro average
    deviation = (share * (rows[metric] - pairs.transform("mean"))).groupby(rows["query_id"]).sum()
    names = per_query.drop_duplicates("query_id").set_index("query_id")
    queries = pd.MultiIndex.from_arrays(
        [names.get("cluster", names.index), names.index], names=["cluster", "query_id"]
    ).sort_values()
    values = len(queries) * deviation.reindex(queries.get_level_values("query_id"), fill_value=0.0)
    return pairs.mean().mean() + values.set_axis(queries)


def scores(store: ResultStore, runs: pd.DataFrame, metric: str | None = None) -> dict[tuple[str, str], pd.DataFrame]:
    """Return per (benchmark, setting) the scores_QC that all errors follow from: columns (system, seed).

    Args:
        store: holds the runs' per-query tables.
        runs: table of `tables.runs`.
        metric: default: the benchmark's main metric.

    Raises:
        UserError: the runs were not evaluated on the same queries, or do not agree about their clusters.

    >>> from types import SimpleNamespace
    >>> table = pd.DataFrame({"setting": "multi", "query_language": "en", "passage_language": "*",
    ...                       "query_id": ["q1", "q2"], "map": [0.4, 0.6]})
    >>> runs = pd.DataFrame({"name": ["run"], "system": ["small"], "seed": [0], "metrics.b.multi.map": [0.5]})
    >>> scores(SimpleNamespace(per_query=lambda name, benchmark: table), runs)["b", "multi"]["small", 0].to_list()
    [0.4, 0.6]
    """
    columns: dict[tuple[str, str], dict[tuple[str, int], pd.Series]] = {scale: {} for scale in scales(runs, metric)}
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in columns):
        settings = [setting for name, setting in columns if name == benchmark]
        metric_name = metric or main_metric(runs, benchmark)
        for run in runs.dropna(subset=[f"metrics.{benchmark}.{settings[0]}.{metric_name}"]).to_dict("records"):
            per_query = store.per_query(run["name"], benchmark)
            for setting in settings:
                values = query_scores(per_query, setting, metric_name)
                columns[benchmark, setting][run["system"], run["seed"]] = values
    tables = {scale: pd.DataFrame(values) for scale, values in columns.items()}
    for (benchmark, _), scores_QC in tables.items():
        if scores_QC.isna().any(axis=None):
            raise UserError(f"the runs were evaluated on different queries of {benchmark}, so they cannot be compared.")
    return tables


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
