"""The border: records are written here by cells, and read here by everything that draws and decides.

    <root>/runs/<run>/record.json              one Record; beside it per_query-<benchmark>.parquet, training.parquet, …
    <root>/stages/<stage>-<key>/               what a stage made, the encoder too; shared by runs of equal inputs
    <root>/profiles/<key>.json                 a Profile, shared by all runs of one architecture on one machine
    <root>/<sweep>/plan.json                   which runs a sweep is to make
    <root>/<sweep>/cells/<run>.json            how each of them ended
    <root>/locks/                              what is being worked on (locks)

Every file is there whole or not at all (files). record.json and a stage's done.json vouch for the rest of their folder.
"""

import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.store import locks
from pipeline.store.files import digest, others, read_again, read_json, write_atomically, write_json
from pipeline.values import Profile, Record, UserError

OF_WEIGHTS = {"weights", "revision", "freeze_word_embeddings"}  # keys of a model that do not move its cost


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits: enough to name a thing by."""
    return digest(value)[:16]


@dataclass(frozen=True)
class Cell:
    """How one cell of a sweep stands; `record` is there once it is done."""

    name: str
    status: Literal["done", "cached", "failed", "running", "waiting"]
    choices: Mapping[str, str]
    seconds: float
    reason: str | None = None
    record: Record | None = None


class ResultStore:
    def __init__(self, root: str | Path):
        self.root = Path(root)

    def run_dir(self, name: str) -> Path:
        return self.root / "runs" / name

    def sweep_dir(self, sweep: str) -> Path:
        return self.root / sweep

    def check_writable(self) -> None:
        try:
            with self.lock("any", shared=True):
                pass
        except OSError as error:
            raise UserError(f"results_dir={self.root} cannot be written: {error}.") from error

    def lock(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        """Nobody else makes this run, or works in this stage's folder, while it is held."""
        return locks.hold(self.root / "locks" / name, shared=shared)

    def locked(self, name: str) -> bool:
        return locks.held(self.root / "locks" / name)

    def machine(self, *, alone: bool) -> AbstractContextManager[None]:
        return locks.machine(self.root / "locks", alone=alone)

    def save(self, record: Record) -> Path:
        path = self.run_dir(record.name) / "record.json"
        write_json(path, asdict(record), others(path))
        return path

    def load(self, name: str) -> Record:
        return as_record(read_json(self.run_dir(name) / "record.json"))

    def finished(self, name: str) -> Record | None:
        """The record of a run that need not run again."""
        raw = read_again(self.run_dir(name) / "record.json")
        return as_record(raw) if raw and raw["status"] == "done" else None

    def stage_dir(self, stage: str, key: str) -> Path:
        """Where a stage keeps what it made, for every run with the same inputs; believed once `finish` was called."""
        return self.root / "stages" / f"{stage}-{key}"

    def finish(self, stage: str, key: str, outcome: Mapping[str, Any]) -> None:
        path = self.stage_dir(stage, key) / "done.json"
        write_json(path, outcome, others(path))

    def outcome(self, stage: str, key: str) -> dict[str, Any] | None:
        """What `finish` was told; None if the stage has yet to run, or to run again because a file of it is damaged."""
        return read_again(self.stage_dir(stage, key) / "done.json")

    def save_frame(self, folder: Path, stem: str, frame: pd.DataFrame) -> None:
        write_atomically(folder / f"{stem}.parquet", lambda path: frame.to_parquet(path, index=False))

    def copy_frames(self, stage: str, key: str, name: str) -> None:
        """Let a run hold the tables of a stage it shares."""
        for path in sorted(self.stage_dir(stage, key).glob("*.parquet")):
            write_atomically(self.run_dir(name) / path.name, partial(shutil.copyfile, path))

    def per_query(self, name: str, benchmark: str) -> pd.DataFrame:
        """One row a (setting, query language, passage language, query), one column a metric."""
        return pd.read_parquet(self.run_dir(name) / f"per_query-{benchmark}.parquet")

    def pool_ranks(self, name: str) -> list[pd.DataFrame]:
        """What pools.ranks made of each benchmark whose pools are samples."""
        return [pd.read_parquet(path) for path in sorted(self.run_dir(name).glob("pool_ranks-*.parquet"))]

    def curve(self, name: str) -> pd.DataFrame:
        """step, loss, learning_rate, pairs_per_s; empty for a run that did not train."""
        path = self.run_dir(name) / "training.parquet"
        return pd.read_parquet(path) if path.exists() else pd.DataFrame()

    def profile(self, key: str) -> Profile | None:
        raw = read_again(self.root / "profiles" / f"{key}.json")
        return Profile(**raw) if raw else None

    def save_profile(self, key: str, profile: Profile) -> None:
        write_json(self.root / "profiles" / f"{key}.json", asdict(profile))

    def plan(self, sweep: str, runs: Mapping[str, Mapping[str, str]], costs_from: str | None = None) -> None:
        """Which `runs` a sweep is to make, by name with their choices; and which sweep knows what their models cost."""
        write_json(self.sweep_dir(sweep) / "plan.json", {"runs": runs, "costs_from": costs_from})

    def clear(self, sweep: str, keep: Collection[str]) -> None:
        """Take off a sweep's list what failed, and what an earlier definition of it made; what was done stays."""
        for path in (self.sweep_dir(sweep) / "cells").glob("*.json"):
            entry = read_again(path) if path.stem in keep else None
            if entry is None or entry["status"] == "failed":
                path.unlink(missing_ok=True)

    def planned(self, sweep: str) -> dict[str, dict[str, str]]:
        """The runs that a multirun is to make, by name; those noted, where there was none."""
        raw = read_again(self.sweep_dir(sweep) / "plan.json")
        return raw["runs"] if raw else {name: entry["choices"] for name, entry in self.notes(sweep).items()}

    def note(self, sweep: str, cell: Cell) -> None:
        """Put a cell on a sweep's list."""
        entry = {key: value for key, value in asdict(cell).items() if key not in ("name", "record")}
        write_json(self.sweep_dir(sweep) / "cells" / f"{cell.name}.json", entry)

    def notes(self, sweep: str) -> dict[str, dict[str, Any]]:
        """How the cells on a sweep's list ended, by name."""
        folder = self.sweep_dir(sweep)
        if not folder.is_dir():
            known = sorted(path.parent.name for path in self.root.glob("*/cells")) or ["none yet"]
            raise UserError(f"no sweep {sweep} in {self.root}; there are: {', '.join(known)}.")
        paths = sorted((folder / "cells").glob("[!.]*.json"), key=lambda path: path.stem)
        return {path.stem: entry for path in paths if (entry := read_again(path))}

    def cells(self, sweep: str) -> list[Cell]:
        """How a sweep's cells ended. A record without a profile has that of the same model, served in the same way, in
        the sweep that the plan names for it, which may have run on another machine."""
        plan = read_again(self.sweep_dir(sweep) / "plan.json") or {}
        known: dict[str, Profile] = {}
        if other := plan.get("costs_from"):
            known = {served_model(cell.record): cell.record.profile for cell in self.cells(other)
                     if cell.record and cell.record.profile}  # fmt: skip

        def record(name: str) -> Record:
            made = self.load(name)
            return made if made.profile else replace(made, profile=known.get(served_model(made)))

        return [
            Cell(name=name, record=None if entry["status"] == "failed" else record(name), **entry)
            for name, entry in self.notes(sweep).items()
        ]


def served_model(record: Record) -> str:
    """What a cost follows from, on one machine: the model without its weights' values, and how it is served."""
    model = {key: value for key, value in record.config["model"].items() if key not in OF_WEIGHTS}
    return fingerprint([model, record.served])


def as_record(raw: dict[str, Any]) -> Record:
    profile = Profile(**raw["profile"]) if raw["profile"] else None
    return Record(**raw | {"profile": profile, "notes": tuple(raw["notes"])})


def row(record: Record) -> dict[str, Any]:
    """A record flattened: what a table, a plot and W&B show of it."""
    model = record.config["model"]
    flat = {"name": record.name, **record.choices, "seed": record.seed, "family": model["family"]}
    flat |= {"layers": record.provenance["layers"], "served": record.served, "notes": " ".join(record.notes)}
    flat |= {f"metrics.{key}": value for key, value in record.metrics.items()}
    if record.profile:
        flat |= {f"profile.{key}": value for key, value in figures(asdict(record.profile)).items()}
    return flat


def figures(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile flattened: its figures, then `sources.…` of each; without the details."""
    flat = {key: value for key, value in profile.items() if key not in ("sources", "details")}
    return flat | {f"sources.{key}": source for key, source in profile["sources"].items()}
