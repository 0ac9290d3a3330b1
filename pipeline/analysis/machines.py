"""The machine behind a profile, as tables name it: `machine` for readers, `architecture` and `gpu` for price sheets."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.store.progress import counted
from pipeline.store.records import Record

COLUMNS = ["machine", "architecture", "gpu"]


def machines(records: Sequence[Record]) -> pd.DataFrame:
    """Return COLUMNS, a row per record, None without a profile: the run itself may have been on another machine.

    >>> machines([Record("run", "0a1b", "done", {}, {}, seed=0, provenance={})]).values.tolist()
    [[None, None, None]]
    """
    return pd.DataFrame([_machine(record) for record in records], columns=COLUMNS, dtype=object)


def _machine(record: Record) -> tuple[str | None, str | None, str | None]:
    if record.profile is None:
        return None, None, None
    facts, threads = record.profile.details["machine"], record.profile.details["threads"]
    gpu = facts["gpu"] if facts["device"] == "cuda" else None
    return gpu or f"{facts['cpu']}, {counted(threads, 'thread')}", architecture(facts), gpu


def architecture(facts: Mapping[str, Any]) -> str | None:
    """Return the architecture in the facts of a machine (profiling.machine), x86_64 or arm64; None if they do not tell.

    >>> architecture({"architecture": "aarch64"}), architecture({"cpu_vector_instructions": "AVX512"}), architecture({})
    ('arm64', 'x86_64', None)
    """
    named = facts.get("architecture") or ""
    if named or not str(facts.get("cpu_vector_instructions")).startswith("AVX"):
        return {"aarch64": "arm64", "AMD64": "x86_64", "": None}.get(named, named)
    return "x86_64"
