"""Costs of one sweep come from one host: records of several machines may be made, but not compared, side by side.

When hosts of different hardware share a sweep, each profiles the models of the runs that it makes. On reading, one host
counts; a run that was profiled elsewhere gets the profile of its model there, or none, and a note says so.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pipeline.store.deployment import determinants, settings_of
from pipeline.store.files import digest
from pipeline.store.records import Profile, Record

FACTS = ("cpu", "cpu_family_model_stepping", "cores", "ram_gib", "gpu")  # of profiling.machine, those of the hardware


def on_one_host(records: Mapping[str, Record]) -> dict[str, Record]:
    """Return the records by name, with profiles of one host per device (cpu, cuda).

    It is the host that profiled the models of most runs; of several, the one that profiled most runs itself.
    """
    profiled = {name: record for name, record in records.items() if record.profile}
    changed: dict[str, Record] = {}
    for device in {settings_of(record)["device"] for record in profiled.values()}:
        of_device = {name: record for name, record in profiled.items() if settings_of(record)["device"] == device}
        if len({host(record) for record in of_device.values()}) > 1:
            changed |= _of_most(of_device)
    return {name: changed.get(name, record) for name, record in records.items()}


def _of_most(records: Mapping[str, Record]) -> dict[str, Record]:
    profiles: dict[str, dict[str, Profile]] = {}  # by host and by what determines a cost
    for record in records.values():
        assert record.profile
        profiles.setdefault(host(record), {}).setdefault(encoder(record), record.profile)
    own = Counter(host(record) for record in records.values())
    served = {name: sum(encoder(record) in known for record in records.values()) for name, known in profiles.items()}
    main = max(profiles, key=lambda name: (served[name], own[name]))
    changed = {}
    for name, record in records.items():
        other = host(record)
        if other != main:
            profile = profiles[main].get(encoder(record))
            if profile:
                note = f"Runs that were profiled on {other} are shown at the costs of the same model on {main}."
            else:
                note = f"Costs measured on {other} are left out: those of other models are of {main}."
            changed[name] = replace(record, profile=profile, notes=(*record.notes, note))
    return changed


def host(record: Record) -> str:
    """Name the hardware that profiled a run."""
    assert record.profile
    facts = record.profile.details["machine"]
    name = f"{facts['gpu']}, {facts['cpu']}" if facts.get("gpu") else str(facts["cpu"])
    size = [f"{facts[key]} {unit}" for key, unit in (("cores", "cores"), ("ram_gib", "GiB")) if key in facts]
    return f"{name} ({', '.join(size)}; {digest([facts.get(key) for key in FACTS])[:4]})"


def encoder(record: Record) -> str:
    """Return a key of all that determines the cost of a run beside the host."""
    return digest([determinants(record), record.variant, settings_of(record)])
