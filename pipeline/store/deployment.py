"""Costs from another sweep (`costs_from`): the profile there of what a run here would be deployed as, or a refusal.

One trains where GPUs are and serves elsewhere. So the device on which a run was trained and evaluated does not count,
nor its number of threads, nor the settings of a profile that was switched off; everything else that determines a cost
does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.store.keys import FILES
from pipeline.store.records import Record
from pipeline.values import UserError

OF_WEIGHTS = {
    "weights",
    "revision",
    "freeze_word_embeddings",
    "kept_layers",
    "distill",
}  # keys of a model that do not change its cost
NOT_MEASURED_WITH = {"enabled", "shared"}  # keys of conf/profile that do not change a measurement
PLURAL = {"threads", "texts"}


def with_costs_from(sweep: str, there: Sequence[Record], records: Mapping[str, Record]) -> dict[str, Record]:
    """Return the records, those without a profile with that of the same model and inference variant in another sweep.

    Args:
        sweep: the other sweep, to be named in an error.
        there: its profiled runs.
        records: of this sweep, by name. A model that the other sweep lacks stays without a profile.

    Raises:
        UserError: the other sweep has the model with another architecture, length or texts; it has several profiles of
            it; or profiles of this sweep would be of unlike devices, numbers of threads or settings.
    """
    profiled = {name: record for name, record in records.items() if record.profile}
    sources = {name: source(sweep, there, record) for name, record in records.items() if name not in profiled}
    taken = {name: origin for name, origin in sources.items() if origin}
    check_alike(sweep, [*profiled.values(), *taken.values()])
    added = {name: replace(records[name], profile=origin.profile) for name, origin in taken.items()}
    return {name: added.get(name, record) for name, record in records.items()}


def source(sweep: str, there: Sequence[Record], run: Record) -> Record | None:
    """Return the run of another sweep whose profile says what a run costs; None if it has no such model."""
    named = f"{run.choices.get('model')}, {run.variant}"
    variants = [record for record in there if record.variant == run.variant]
    equal = [record for record in variants if model_of(record) == model_of(run)]
    candidates = equal or [record for record in variants if record.choices.get("model") == run.choices.get("model")]
    if not candidates:
        return None
    here = determinants(run)
    unlike = [differences(determinants(record), here) for record in candidates]
    matching = [record for record, differing in zip(candidates, unlike, strict=True) if not differing]
    if not matching:
        key, values = next(iter(unlike[0].items()))
        raise UserError(f"costs_from={sweep}: {key} {verb(key)}: {values[0]} there, {values[1]} here ({named}).")
    check_alike(sweep, matching)
    distinct = [record for n, record in enumerate(matching) if record.profile not in [m.profile for m in matching[:n]]]
    if len(distinct) > 1:
        raise UserError(
            f"costs_from={sweep}: it has {len(distinct)} profiles of {named}; name a sweep with profile.shared=true."
        )
    return matching[0]


def determinants(record: Record) -> dict[str, Any]:
    """Return what determines a cost beside machine and settings, flat: the model, and the texts that are profiled."""
    config = record.config
    model = {f"model.{key}": value for key, value in model_of(record).items()}
    benchmark, node = next(iter(config.get("eval", {}).items()), (None, {}))
    facts = record.provenance.get("eval", {}).get(benchmark, {})
    texts = {key: value for key, value in {**facts, **node}.items() if key not in {*FILES, "note"}}
    named = {f"eval.{benchmark}.{key}": value for key, value in texts.items()}
    return model | {"texts": benchmark} | named


def model_of(record: Record) -> dict[str, Any]:
    """Return the keys of the model's config that change its cost."""
    return {key: value for key, value in record.config["model"].items() if key not in OF_WEIGHTS}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the entries that differ, with both values."""
    keys = dict.fromkeys([*there, *here])
    return {key: (there.get(key), here.get(key)) for key in keys if there.get(key) != here.get(key)}


def check_alike(sweep: str, records: Sequence[Record]) -> None:
    """Raise a UserError if profiles were taken on different kinds of device, with different threads or settings."""
    first: dict[str, tuple[Any, str]] = {}
    for record in records:
        for key, value in settings_of(record).items():
            other, name = first.setdefault(key, (value, record.name))
            if other != value:
                raise UserError(f"costs_from={sweep}: {key} {verb(key)}: {other} in {name}, {value} in {record.name}.")


def settings_of(record: Record) -> dict[str, Any]:
    """Return how the profile of a run was taken."""
    assert record.profile
    details, settings = record.profile.details, record.config.get("profile", {})
    measured_with = {f"profile.{key}": value for key, value in settings.items() if key not in NOT_MEASURED_WITH}
    return {"device": details["machine"]["device"], "threads": details["threads"]} | measured_with


def verb(key: str) -> str:
    return "differ" if key in PLURAL else "differs"
