"""The W&B process of a run (launch.live starts it): follows the run's messages, and logs its record at the end.

Messages are lines of JSON: who the run is, then {"stage": "train"}, points of the curve {"step": 10, "loss": …},
{"record": name} once it is saved, and {"outcome": {"status": "done"}}. Without an outcome the run was killed.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from itertools import chain
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.analysis.tables import main_metric, scales
from pipeline.reporting.looks import strategy_name
from pipeline.reporting.wandb.client import Identity, Tracking, first_step, send, table
from pipeline.retrieval.metrics import SETTING_COLUMNS, language_matrix
from pipeline.store.records import AS_TRAINED, Record, row
from pipeline.store.results import ResultStore

if TYPE_CHECKING:
    import wandb

NICENESS = 10  # once W&B is up, the run comes first


def main() -> None:
    """Follow the run that writes to stdin."""
    with TemporaryDirectory(prefix="wandb-") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder  # W&B leaves folders behind, a few per table
        messages = map(json.loads, sys.stdin)
        follow(next(messages), messages, watched_pid=os.getppid())


def follow(about: Mapping[str, Any], messages: Iterable[Mapping[str, Any]], *, watched_pid: int | None = None) -> None:
    """Log a run to W&B while it sends messages; nothing of a run that is refused before its work begins.

    Args:
        about: W&B `id`, `name`, `job_type`, `choices` and `config` of the run.
        watched_pid: the run's process, to which this one gives way.
    """
    messages = iter(messages)
    begun = next((message for message in messages if message != {"stage": "load"}), None)
    if begun is None or begun.get("outcome", {}).get("status") == "refused":
        return  # bad input is found while data are read, and leaves nothing
    config = about["config"]
    identity = Identity(about["id"], about["name"], about["job_type"], config["sweep"], columns(about))

    def fill(run: "wandb.Run") -> int:
        if watched_pid is not None:
            os.nice(NICENESS)
        store, curve = ResultStore(config["results_dir"]), Curve(run)
        for message in chain([begun], messages):
            match message:
                case {"step": _}:
                    curve.add(message)
                case {"stage": name}:
                    run.summary["stage"] = name
                case {"record": name}:
                    log_record(run, curve, store, store.load(name))
                case {"outcome": {"status": status, **reason}}:
                    run.summary.update({"stage": status, **reason})
                    return int(status != "done")
        return 1

    send(Tracking(**config["tracking"]), identity, fill, watched_pid=watched_pid)


def columns(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the W&B config of a run: flat columns to group and to filter by, then the whole config under `config`."""
    choices, config = about["choices"], about["config"]
    named = {"strategy": strategy_name(choices["sampler"]), "variant": AS_TRAINED, "seed": config["seed"]}
    return {**choices, **named, "family": config["model"]["family"], "config": config}


class Curve:
    """The training curve of an open run. A point that W&B has is not logged again, so it may be added many times."""

    def __init__(self, run: "wandb.Run"):
        self.run, self.next_step = run, first_step(run)

    def add(self, point: Mapping[str, Any]) -> None:
        """Log a point unless its step was logged."""
        step = int(point["step"])
        if step >= self.next_step:
            values = {f"train/{key}": value for key, value in point.items() if key != "step" and pd.notna(value)}
            self.run.log(values, step=step, commit=True)  # else W&B holds it back until the next step
            self.next_step = step + 1


def log_record(run: "wandb.Run", curve: Curve, store: ResultStore, record: Record) -> None:
    """Log what a record adds: metrics, profile, provenance, tables of languages, and a curve that was not seen live."""
    flat = row(record)
    one_row = pd.DataFrame([flat])
    for point in store.curve(record.name).to_dict("records"):
        curve.add(point)
    numbers = {key: value for key, value in flat.items() if key.startswith(("metrics.", "profile."))}
    run.summary.update({key.replace(".", "/"): value for key, value in numbers.items()})
    run.summary.update({f"stage_s/{stage}": seconds for stage, seconds in record.stage_s.items()})
    run.summary.update({"training": dict(record.training), "corpus": dict(record.corpus)})
    for benchmark, _ in scales(one_row):
        scores = store.per_query(record.name, benchmark)
        matrix = language_matrix(scores, main_metric(one_row, benchmark))
        run.summary[f"languages/{benchmark}"] = table(language_means(scores))
        run.summary[f"matrix/{benchmark}"] = table(matrix.reset_index())
    config = {"layers": flat["layers"], "provenance": dict(record.provenance), "notes": list(record.notes)}
    if record.profile:
        config["machine"] = dict(record.profile.details["machine"])
        if by_language := record.profile.details.get("by_language"):
            run.summary["profile/by_language"] = table(pd.DataFrame(by_language))
    run.config.update(config, allow_val_change=True)


def language_means(per_query: pd.DataFrame) -> pd.DataFrame:
    """Average the queries: one row per (setting, query language, passage language), one column per metric."""
    scores = per_query.drop(columns=["query_id", "cluster"], errors="ignore")
    return scores.groupby(SETTING_COLUMNS, sort=False).mean().reset_index()
