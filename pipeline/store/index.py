"""The records of a results folder in one file, for readers of many runs: <root>/runs/.index.parquet.

Reading a record takes 2.5 ms, and 10,000 take half a minute; from the index it takes a sixth of that. It is never a
source of truth: an entry counts while inode, size and time of its record.json are those that were read, and whatever is
missing, damaged or of another version is read from the folders again. Delete it at will.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store.files import check_vouched, write_atomically
from pipeline.store.records import SCHEMA, Record, from_json, record_path

NAME = ".index.parquet"
VERSION = {b"pipeline": f"records of schema {SCHEMA}, index 1".encode()}
MANY = 200  # records that have to be read again before they are worth an index
READ = {"machine", "threads", "quality", "by_language"}  # of a profile's details; raw values are half a record


class Entry(NamedTuple):
    """What the index keeps of a run: the state of its record.json, the checksums in it, and the record, as JSON."""

    inode: int
    size: int
    time_ns: int
    files: str
    record: str

    @property
    def state(self) -> tuple[int, int, int]:
        return self.inode, self.size, self.time_ns


def read(runs: Path, names: list[str], load: Callable[[str], tuple[Record, Mapping[str, str]]]) -> dict[str, Record]:
    """Return `light` records by name, from the index where it has them.

    Args:
        runs: the folder of all runs.
        names: of the runs to read.
        load: reads and checks the record of a run, with the checksums of the files beside it.

    Raises:
        Damaged: a file beside a record is not what was written.
    """
    known, records, new = _read(runs / NAME), dict[str, Record](), dict[str, Entry]()
    for name in names:
        path = record_path(runs / name)
        stat = path.stat() if path.exists() else None
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat else None
        entry = known.get(name)
        if entry and entry.state == state:
            check_vouched(path, json.loads(entry.files))
            records[name] = from_json(json.loads(entry.record), path)
            continue
        record, files = load(name)
        records[name] = light(record)
        if state:
            new[name] = Entry(*state, json.dumps(files), json.dumps(asdict(records[name])))
    if len(new) >= MANY:
        _write(runs, {name: entry for name, entry in (known | new).items() if (runs / name).is_dir()})
    return records


def light(record: Record) -> Record:
    """Return a record without what no reader of a sweep needs: raw values of the profile, hashes of the code.

    >>> light(Record("run", "0a1b", "done", {}, {}, seed=0, provenance={"inputs": {}, "layers": 3})).provenance
    {'layers': 3}
    """
    provenance = {key: value for key, value in record.provenance.items() if key != "inputs"}
    profile = record.profile
    if profile:
        profile = replace(profile, details={key: value for key, value in profile.details.items() if key in READ})
    return replace(record, provenance=provenance, profile=profile)


def _read(path: Path) -> dict[str, Entry]:
    """Return the entries by run; none if the file is missing, damaged or of another version."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if (file.schema_arrow.metadata or {}).items() != VERSION.items():
                return {}
            columns: dict[str, list[Any]] = file.read().to_pydict()
        return {name: Entry(*values) for name, *values in zip(*columns.values(), strict=True)}
    except (OSError, ValueError, TypeError):
        return {}


def _write(runs: Path, entries: Mapping[str, Entry]) -> None:
    """Write the index; a folder that cannot be written goes without."""
    columns = dict(zip(Entry._fields, zip(*entries.values(), strict=True), strict=True))
    table = pa.table({"run": list(entries), **columns}).replace_schema_metadata(VERSION)
    write = partial(pq.write_table, table, compression="zstd", write_page_checksum=True)
    try:
        write_atomically(runs / NAME, write)
    except OSError:
        return
