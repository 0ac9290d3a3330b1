"""The border: records are written here by cells, and read here by everything that draws and decides.

    <root>/runs/<run>/record.json              one Record; beside it per_query-<benchmark>.parquet, training.parquet, …
    <root>/stages/<stage>-<key>/               what a stage made, the encoder too; shared by runs of equal inputs
    <root>/profiles/<key>.json                 a Profile, shared by all runs of one architecture on one machine
    <root>/<sweep>/cells/<run>.json            which runs a sweep holds, and how each ended

A file is written under a temporary name, synced and renamed: it is there whole or not at all.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.values import Profile, Record, UserError


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then sync and rename it. OSError leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete it and run the cell again.") from None


@dataclass(frozen=True)
class Cell:
    """How one cell of a sweep ended; `record` is there unless it failed."""

    name: str
    status: Literal["done", "cached", "failed"]
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

    def save(self, record: Record) -> Path:
        path = self.run_dir(record.name) / "record.json"
        write_json(path, asdict(record))
        return path

    def load(self, name: str) -> Record:
        raw = read_json(self.run_dir(name) / "record.json")
        profile = Profile(**raw.pop("profile")) if raw["profile"] else raw.pop("profile")
        return Record(**raw | {"profile": profile, "notes": tuple(raw["notes"])})

    def stage_dir(self, stage: str, key: str) -> Path:
        """Where a stage keeps what it made, for every run with the same inputs; believed once `finish` was called."""
        return self.root / "stages" / f"{stage}-{key}"

    def finish(self, stage: str, key: str, outcome: Mapping[str, Any]) -> None:
        write_json(self.stage_dir(stage, key) / "done.json", outcome)

    def outcome(self, stage: str, key: str) -> dict[str, Any] | None:
        """What `finish` was told; None if the stage has yet to run."""
        path = self.stage_dir(stage, key) / "done.json"
        return read_json(path) if path.exists() else None

    def finished(self, name: str) -> bool:
        return (self.run_dir(name) / "record.json").exists() and self.load(name).status == "done"

    def save_frame(self, folder: Path, stem: str, frame: pd.DataFrame) -> None:
        write_atomically(folder / f"{stem}.parquet", lambda path: frame.to_parquet(path, index=False))

    def copy_frames(self, stage: str, key: str, name: str) -> None:
        """Let a run hold the tables of a stage it shares."""
        for path in sorted(self.stage_dir(stage, key).glob("*.parquet")):
            write_atomically(self.run_dir(name) / path.name, lambda copy, path=path: shutil.copyfile(path, copy))

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
        path = self.root / "profiles" / f"{key}.json"
        return Profile(**read_json(path)) if path.exists() else None

    def save_profile(self, key: str, profile: Profile) -> None:
        write_json(self.root / "profiles" / f"{key}.json", asdict(profile))

    def note(self, sweep: str, cell: Cell) -> None:
        """Put a cell on a sweep's list."""
        entry = {key: value for key, value in asdict(cell).items() if key not in ("name", "record")}
        write_json(self.sweep_dir(sweep) / "cells" / f"{cell.name}.json", entry)

    def cells(self, sweep: str) -> list[Cell]:
        folder = self.sweep_dir(sweep) / "cells"
        if not folder.is_dir():
            known = sorted(path.parent.name for path in self.root.glob("*/cells")) or ["none yet"]
            raise UserError(f"no sweep {sweep} in {self.root}; there are: {', '.join(known)}.")
        cells = []
        for path in sorted(folder.glob("[!.]*.json")):
            entry = read_json(path)
            record = None if entry["status"] == "failed" else self.load(path.stem)
            cells.append(Cell(name=path.stem, record=record, **entry))
        return cells

    def table(self, sweep: str) -> pd.DataFrame:
        """One row a finished cell; columns `metrics.…`, `profile.…` and `profile.sources.…` flatten its record."""
        return pd.DataFrame([row(cell.record) for cell in self.cells(sweep) if cell.record])


def row(record: Record) -> dict[str, Any]:
    """A record flattened: what a table, a plot and W&B show of it."""
    model = record.config["model"]
    flat = {"name": record.name, **record.choices, "seed": record.seed, "family": model["family"]}
    flat |= {"layers": record.provenance["layers"], "notes": " ".join(record.notes)}
    flat |= {f"metrics.{key}": value for key, value in record.metrics.items()}
    if record.profile:
        profile = asdict(record.profile)
        flat |= {f"profile.{key}": value for key, value in profile.items() if key not in ("sources", "details")}
        flat |= {f"profile.sources.{key}": value for key, value in profile["sources"].items()}
    return flat
