"""Make one run: check it, look for it in the store, else have a child process run it, and record how it ended."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.launch import forkserver, live
from pipeline.launch.child import attempt
from pipeline.launch.peers import follow, node_rank
from pipeline.launch.request import Request, unavailable_key
from pipeline.store.results import ResultStore, RunState
from pipeline.store.shards import check_folder
from pipeline.values import UserError, Variant


def perform(request: Request, *, alone: bool) -> RunState:
    """Make a run and add it to its sweep's manifest.

    Args:
        alone: whether it is the only run of this process: then bad input raises UserError, and the child process is a
            fresh one. In a sweep bad input is a failed run, and a fork server makes the child processes.
    """
    if node_rank(request.config.trainer):
        return follow(request)  # the first machine keeps the records
    store = ResultStore(request.config.results_dir)
    try:
        state = make(store, request, alone=alone)
    except (UserError, OSError) as error:  # OSError: the disk is full by now; raised, it would end Hydra's sweep
        if alone and isinstance(error, UserError):
            raise
        state = RunState(request.name, "failed", request.choices, 0.0, str(error))
    record_state(store, request.config.sweep, state, request.run_names[1:])
    return state


def make(store: ResultStore, request: Request, *, alone: bool) -> RunState:
    """Return the state of a run that is finished, or run it; UserError for bad input, which leaves nothing behind."""
    store.check_writable(several=request.config.trainer.num_nodes > 1)
    with store.lock(request.name):  # another process may be making it: then it is finished once the lock is free
        refuse_clash(store, request)
        start_s = time.monotonic()
        if finished(store, request):
            if "WANDB_SWEEP_ID" in os.environ:
                live.log_again(request)
            return RunState(request.name, "cached", request.choices, 0.0)
        if request.config.encode.folder:
            check_folder(request.config.encode.folder)
        fresh = alone or not forkserver.AVAILABLE
        outcome = attempt(request, request.config.time_limit_min, fresh=fresh)
    if outcome["status"] == "refused":
        raise UserError(outcome["reason"])
    seconds = time.monotonic() - start_s
    if outcome["status"] == "done":
        profile_s = min(seconds, shared_profile_s(store, request))  # not what an earlier, killed process spent
        return RunState(request.name, "done", request.choices, seconds, profile_s=profile_s)
    return RunState(request.name, "failed", request.choices, seconds, outcome["reason"])


def shared_profile_s(store: ResultStore, request: Request) -> float:
    """Return the seconds of a finished run that went into profiles which further runs of its model will not need."""
    if not request.config.profile.shared:
        return 0.0
    records = [record for name in request.run_names if (record := store.finished(name))]
    return max((record.stage_s.get("profile", 0.0) for record in records), default=0.0)  # the last counts all of them


def record_finished(store: ResultStore, sweep: str, requests: Sequence[Request]) -> None:
    """Record the planned runs that other sweeps have made, so that the count and the time left know of them."""
    recorded = store.manifest(sweep)
    for request in requests:
        if request.name not in recorded and finished(store, request):
            record_state(store, sweep, RunState(request.name, "cached", request.choices, 0.0), request.run_names[1:])


def finished(store: ResultStore, request: Request) -> bool:
    """Whether nothing of a run is left to do."""
    return all(settled(store, request, variant) for variant in request.config.inference_variants())


def settled(store: ResultStore, request: Request, variant: Variant) -> bool:
    """Whether a variant has its record, or this machine is known to lack what its engine needs."""
    if store.finished(variant.run_name(request.name)):
        return True
    return store.outcome("unavailable", unavailable_key(request.config, variant)) is not None


def refuse_clash(store: ResultStore, request: Request) -> None:
    """Names contain a shortened cache key, so two different runs can collide: UserError if they do."""
    record = store.finished(request.name)
    if record and record.provenance["inputs"] != request.inputs:
        there, here = flatten(record.provenance["inputs"]), flatten(request.inputs)
        differ = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        folder = store.run_dir(record.name)
        raise UserError(f"{folder} is another run, which differs in {', '.join(differ)}: move it away.")


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def record_state(store: ResultStore, sweep: str, state: RunState, variant_names: list[str]) -> None:
    """Record a run and its variants in the sweep's manifest. A full disk is reported but does not stop the sweep."""
    try:
        store.add_to_manifest(sweep, state)
        for name in variant_names:
            if store.finished(name):  # not if its engine is unavailable
                store.add_to_manifest(sweep, replace(state, name=name))
    except OSError as error:
        print(f"error: the manifest of {sweep} cannot be written, {state.name} is missing: {error}", file=sys.stderr)


def log_finished(state: RunState, eta: str = "") -> None:
    """One line on stderr: name, status, seconds, reason, and what the sweep has left."""
    reason, outlook = f": {state.reason}" if state.reason else "", f"; {eta}" if eta else ""
    print(f"[{state.name}] {state.status} in {state.seconds:.0f} s{reason}{outlook}", file=sys.stderr, flush=True)
