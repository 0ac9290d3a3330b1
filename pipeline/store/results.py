"""The border between making results and reading them: runs write records here; tables, plots and commands read them.

    <root>/runs/<run>/record.json              one Record; beside it per_query-<benchmark>.parquet, training.parquet, …
    <root>/stages/<stage>-<key>/               what a stage made, shared by all runs of equal cache keys; `done.json`
    <root>/<sweep>/.store/plan.json            the runs that a sweep is to make
    <root>/<sweep>/.store/manifest/<run>.json  how each of them ended
    <root>/locks/                              what is being worked on (locks)

Every file is complete or absent (files). record.json and a stage's done.json hold the checksums of their folder.
"""

import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from pipeline.store import index, locks
from pipeline.store.deployment import with_costs_from
from pipeline.store.files import others, read_again, read_unchanged, read_vouched, write_atomically, write_json
from pipeline.store.frames import PER_QUERY, read_frame, read_table, write_frame
from pipeline.store.hosts import on_one_host
from pipeline.store.mounts import local_locks
from pipeline.store.names import check_run, check_sweep
from pipeline.store.pairs import told_apart
from pipeline.store.records import PACKED, RECORD, Record, from_json, made_by_older, record_path
from pipeline.values import LEXICAL, USE, UserError, alternatives, conforming


@dataclass(frozen=True)
class RunState:
    """How one run of a sweep stands; `record` is set once it is done.

    `profile_s` is the part of `seconds` that went into a profile which further runs of the model share.
    """

    name: str
    status: Literal["done", "cached", "failed", "running", "waiting"]
    choices: Mapping[str, str]
    seconds: float
    reason: str | None = None
    record: Record | None = None
    profile_s: float = 0.0


@dataclass
class Plan:
    """The runs that a sweep is to make, by name with their choices, and the sweep that profiled its models."""

    runs: dict[str, dict[str, str]]
    costs_from: str | None = None


class ResultStore:
    """All reading and writing of a results folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def run_dir(self, name: str) -> Path:
        """The folder of a run; UserError for a name that leads elsewhere."""
        return self.root / "runs" / check_run("run", name)

    def sweep_dir(self, sweep: str) -> Path:
        """The folder of a sweep; UserError for a name that leads elsewhere."""
        return self.root / check_sweep("sweep", sweep)

    def kept_dir(self, sweep: str) -> Path:
        """What the program keeps of a sweep, out of the way of what people read in its folder."""
        return self.sweep_dir(sweep) / ".store"

    def check_writable(self, *, several: bool = False) -> None:
        """UserError if the folder cannot be written, or its locks keep to one machine and `several` are to work in it.

        Where they keep to one machine, a warning says so.
        """
        try:
            with self.lock("any", shared=True):
                pass
        except OSError as error:
            raise UserError(f"results_dir={self.root} cannot be written: {error}.") from error
        if local := local_locks(self.root):
            doubt = f"results_dir={self.root} is on {local}, where a lock does not reach other machines"
            if several:
                raise UserError(f"{doubt}: use a file system that passes flock on, such as NFS without nolock.")
            warn_once(f"warning: {doubt}: let no two machines work in it at a time.")

    def lock(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        """Hold the lock of a run or a stage: nobody else makes it meanwhile."""
        return locks.hold(self.root / "locks" / name, shared=shared)

    def locked(self, name: str) -> bool:
        return locks.held(self.root / "locks" / name)

    def lock_names(self) -> set[str]:
        """What somebody holds, awaits, or left behind when it was killed: all else is not locked."""
        folder = self.root / "locks"
        return set(os.listdir(folder)) if folder.is_dir() else set()

    def machine(self, *, alone: bool) -> AbstractContextManager[None]:
        return locks.machine(self.root / "locks", alone=alone)

    def save(self, record: Record, *, packed: bool = False) -> Path:
        """Write the record of a run, after the tables beside it; `packed` with gzip, for what is kept for long."""
        path = self.run_dir(record.name) / (PACKED if packed else RECORD)
        write_json(path, asdict(record), others(path))
        return path

    def load(self, name: str) -> Record:
        """The record of a run; UserError if it is missing or from an older version."""
        return self.load_vouched(name)[0]

    def load_vouched(self, name: str) -> tuple[Record, dict[str, str]]:
        """What `load` returns, and the checksums of the tables beside it."""
        path = record_path(self.run_dir(name))
        if not path.exists():
            known = sorted(path.parent.name for path in self.root.glob(f"runs/*/{RECORD}*"))
            raise UserError(f"no run {name} in {self.root}: {alternatives(name, known)}")
        raw, vouched = read_vouched(path)
        return from_json(raw, path), vouched

    def finished(self, name: str) -> Record | None:
        """The record of a run that need not run again."""
        path = record_path(self.run_dir(name))
        raw = read_again(path)
        return from_json(raw, path) if raw and raw.get("status") != "failed" else None

    def exportable(self, record: Record) -> bool:
        """Whether `pipeline.export` can write its encoder; an archive, whose records are packed, has no weights."""
        archived = record_path(self.run_dir(record.name)).name == PACKED
        return not archived and record.config["model"].get("weights") not in (LEXICAL, USE)

    def stage_dir(self, stage: str, key: str) -> Path:
        """The folder of a stage's results, shared by all runs with this cache key; valid once `finish` was called."""
        return self.root / "stages" / f"{stage}-{key}"

    def finish(self, stage: str, key: str, outcome: Mapping[str, Any]) -> None:
        """Record the outcome of a stage, with the checksums of all files in its folder."""
        path = self.stage_dir(stage, key) / "done.json"
        write_json(path, outcome, others(path))

    def outcome(self, stage: str, key: str) -> dict[str, Any] | None:
        """What `finish` recorded; None if the stage has not finished, or one of its files is damaged."""
        return read_again(self.stage_dir(stage, key) / "done.json")

    def save_frame(self, folder: Path, stem: str, frame: pd.DataFrame) -> None:
        write_frame(folder / f"{stem}.parquet", frame)

    def copy_frames(self, stage: str, key: str, name: str) -> None:
        """Copy the tables of a shared stage into the folder of a run."""
        for path in sorted(self.stage_dir(stage, key).glob("*.parquet")):
            write_atomically(self.run_dir(name) / path.name, partial(shutil.copyfile, path))

    def per_query(self, name: str, benchmark: str) -> pd.DataFrame:
        """One row per (setting, query language, passage language, query), one column per metric."""
        return read_frame(self.run_dir(name) / f"per_query-{benchmark}.parquet", PER_QUERY)

    def per_query_metrics(self, name: str, benchmark: str, metrics: Sequence[str]) -> pa.Table:
        """Some columns of `per_query`: those that are no metrics, as dictionaries, and the `metrics`."""
        return read_table(self.run_dir(name) / f"per_query-{benchmark}.parquet", metrics)

    def pool_ranks(self, name: str) -> list[pd.DataFrame]:
        """retrieval.scoring.pool_ranks_table of each benchmark whose pools are samples."""
        return [read_frame(path) for path in sorted(self.run_dir(name).glob("pool_ranks-*.parquet"))]

    def attraction(self, name: str, benchmark: str) -> pd.DataFrame | None:
        """retrieval.scoring.attraction_table of a run; None without a multilingual pool."""
        path = self.run_dir(name) / f"attraction-{benchmark}.parquet"
        return read_frame(path, ["query_language"]).set_index("query_language") if path.exists() else None

    def curve(self, name: str) -> pd.DataFrame:
        """step, loss, learning_rate, pairs_per_s; empty for a run without training."""
        path = self.run_dir(name) / "training.parquet"
        return read_frame(path) if path.exists() else pd.DataFrame()

    def plan(self, sweep: str, runs: Mapping[str, Mapping[str, str]], costs_from: str | None = None) -> None:
        """Write down the `runs` of a sweep, by name with their choices, and the sweep that profiled its models."""
        write_json(self.kept_dir(sweep) / "plan.json", {"runs": runs, "costs_from": costs_from})

    def is_planned(self, sweep: str, runs: Mapping[str, Mapping[str, str]], costs_from: str | None) -> bool:
        """Whether this is what `plan` wrote down last."""
        plan = read_again(self.kept_dir(sweep) / "plan.json")
        return plan is not None and (plan["runs"], plan["costs_from"]) == (runs, costs_from)

    def clear(self, sweep: str, keep: Collection[str]) -> None:
        """Remove failed runs, and runs of an earlier definition of the sweep, from its manifest."""
        for path in (self.kept_dir(sweep) / "manifest").glob("*.json"):
            entry = read_again(path)  # None: it is not what we wrote, so it stays; no reader takes it for an entry
            if entry and (path.stem not in keep or entry.get("status") == "failed"):
                path.unlink(missing_ok=True)

    def planned(self, sweep: str) -> dict[str, dict[str, str]]:
        """The runs that a multirun is to make, by name; without a plan, those in the manifest."""
        if plan := self._plan(sweep):
            return plan.runs
        return {name: entry["choices"] for name, entry in self.manifest(sweep).items()}

    def _plan(self, sweep: str) -> "Plan | None":
        return read_unchanged(self.kept_dir(sweep) / "plan.json", lambda raw, path: conforming(Plan, raw, path))

    def costs_from(self, sweep: str) -> str | None:
        """The sweep that profiled the models of this one, if another did."""
        plan = self._plan(sweep)
        return plan.costs_from if plan else None

    def add_to_manifest(self, sweep: str, state: RunState) -> None:
        """Record in the sweep's manifest how a run ended."""
        write_json(self.kept_dir(sweep) / "manifest" / f"{state.name}.json", kept_of(state))

    def manifest(self, sweep: str) -> dict[str, dict[str, Any]]:
        """How the runs of a sweep ended, by name; UserError if there is no such sweep, or an older version made it."""
        folder, kept = self.sweep_dir(sweep), self.kept_dir(sweep)
        if not kept.is_dir() and any((folder / older).is_dir() for older in ("cells", "manifest")):
            raise UserError(made_by_older(folder))
        if not folder.is_dir():
            known = sorted(path.parents[1].name for path in self.root.glob("*/.store/manifest"))
            raise UserError(f"no sweep {sweep} in {self.root}: {alternatives(sweep, known)}")
        if not (kept / "manifest").is_dir():
            return {}
        with os.scandir(kept / "manifest") as files:  # no Path per file: there may be 10,000, listed after each run
            written = [file for file in files if file.name.endswith(".json") and not file.name.startswith(".")]
        entries = {file.name.removesuffix(".json"): read_unchanged(file, entry_of) for file in written}
        return {name: entry for name in sorted(entries) if (entry := entries[name])}

    def runs(self, sweep: str) -> list[RunState]:
        """How the runs of a sweep ended, with `light` records (index). A record without a profile gets that of the same
        model and inference variant in the sweep that the plan names (`costs_from`), which may have run on another
        machine. Costs are those of one host (hosts). Several query encoders of one name are told apart (pairs).

        Raises:
            UserError: what was profiled there differs from what was trained here (store.deployment).
        """
        entries = self.manifest(sweep)
        records = told_apart(self._records(sweep, entries))
        return [RunState(name=name, record=records.get(name), **entry) for name, entry in entries.items()]

    def _records(self, sweep: str, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Record]:
        names = [self.run_dir(name).name for name, entry in entries.items() if entry["status"] != "failed"]
        records = index.read(self.root / "runs", names, self.load_vouched)
        if other := self.costs_from(sweep):
            there = self._records(other, self.manifest(other)).values()
            records = with_costs_from(other, [record for record in there if record.profile], records)
        return on_one_host(records)


@cache
def warn_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def entry_of(raw: Any, path: str) -> dict[str, Any]:
    """Check what a file of the manifest keeps of a run's state, and return it."""
    state = conforming(RunState, {**raw, "name": Path(path).stem, "record": None}, path)
    return kept_of(state)


def kept_of(state: RunState) -> dict[str, Any]:
    """Return what the manifest keeps of a run's state."""
    return {key: value for key, value in vars(state).items() if key not in ("name", "record")}


class ReadOnce(ResultStore):
    """A store that reads the runs of a sweep once, however often they are asked for: for a report."""

    def __init__(self, root: str | Path):
        super().__init__(root)
        self.known: dict[str, list[RunState]] = {}

    def runs(self, sweep: str) -> list[RunState]:
        if sweep not in self.known:
            self.known[sweep] = super().runs(sweep)
        return self.known[sweep]
