"""The archive of a study: finished runs in few bytes, from which the reports of their sweeps are made anew.

An archive is a results folder like any other, so all commands read it. It keeps of a run what a report is made of: the
record with all rounds of its profile, the scores per query of the main metrics and of the language bias, a short
training curve, and the load result. Weights, vectors, rankings and the scores of other metrics stay behind.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from pipeline.analysis.tables import BIAS, MAIN_METRIC
from pipeline.store import capacity
from pipeline.store.frames import KEYS, PER_QUERY, read_frame
from pipeline.store.records import Record, without_folders
from pipeline.store.results import ResultStore, RunState
from pipeline.values import UserError

MOST_STEPS = 200  # points of a training curve that is kept; no table of a report reads it


def archive(source: ResultStore, target: ResultStore, sweep: str) -> list[str]:
    """Copy the finished runs of a sweep to an archive, and return the names of those that it did not have.

    Several results folders may add to one sweep of an archive. Nothing is written if a run is refused.

    Raises:
        UserError: the sweep does not exist or has no finished run; a run is damaged; the archive has another run of
            this name; or it lacks the sweep from which the costs come.
    """
    entries = {name: entry for name, entry in source.manifest(sweep).items() if entry["status"] != "failed"}
    if not entries:
        raise UserError(f"sweep {sweep} in {source.root} has no finished run.")
    costs_from = source.costs_from(sweep)
    if costs_from and not target.sweep_dir(costs_from).is_dir():
        raise UserError(f"the costs of {sweep} come from {costs_from}, which {target.root} lacks: archive it first.")
    new = [record for name in entries if is_new(target, record := source.load(name))]
    recorded = target.manifest(sweep) if target.sweep_dir(sweep).is_dir() else {}
    for record in new:
        copy(source, target, record)
    for name, entry in entries.items():
        if (result := capacity.read(source.root, name)) and not capacity.read(target.root, name):
            capacity.save(target.root, replace(result, settings=without_folders(result.settings)))
        if name not in recorded:
            target.add_to_manifest(sweep, RunState(name, **entry))
    if costs_from:
        runs = {name: entry["choices"] for name, entry in target.manifest(sweep).items()}
        target.plan(sweep, runs, costs_from)
    return [record.name for record in new]


def is_new(target: ResultStore, record: Record) -> bool:
    """Return whether an archive lacks a run; UserError if another run has its name."""
    known = target.finished(record.name)
    if known and known.cache_key != record.cache_key:
        raise UserError(f"{target.run_dir(record.name)} is another run: move it away.")
    return known is None


def copy(source: ResultStore, target: ResultStore, record: Record) -> None:
    """Copy the tables of a run, then its record."""
    for path in sorted(source.run_dir(record.name).glob("*.parquet")):
        frame = kept(read_frame(path), path.stem, record)
        if not frame.empty:
            target.save_frame(target.run_dir(record.name), path.stem, frame)
    target.save(Record(**without_folders(vars(record) | {"config": untracked(record.config)})), packed=True)


def kept(frame: pd.DataFrame, stem: str, record: Record) -> pd.DataFrame:
    """Return what an archive keeps of a table of a run; empty: nothing.

    >>> record = Record("run", "0a1b", "done", {}, {}, 0, {"main_metrics": {"miracl": "ndcg_10"}})
    >>> keys = dict.fromkeys(PER_QUERY, ["x"])
    >>> kept(pd.DataFrame(keys | {"map": 0.5, "ndcg_10": 0.4}), "per_query-miracl", record).columns.tolist()
    ['setting', 'query_language', 'passage_language', 'query_id', 'ndcg_10']
    """
    if {*PER_QUERY} <= {*frame}:
        benchmark = stem.removeprefix("per_query-")
        main = record.provenance.get("main_metrics", {}).get(benchmark, MAIN_METRIC)
        return frame[[name for name in (*KEYS, main, BIAS) if name in frame]]
    return frame.head(0) if stem == "training" and len(frame) > MOST_STEPS else frame


def untracked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run whose report is not logged to W&B again."""
    return {**config, "tracking": {**config["tracking"], "wandb": False}}
