"""How far a sweep is: from its plan, its manifest and the locks of the processes at work."""

from collections import defaultdict
from itertools import chain
from statistics import fmean

from pipeline.store.results import ResultStore, RunState

ENDED = ("done", "cached", "failed")


def states(store: ResultStore, sweep: str) -> list[RunState]:
    """How each planned run stands."""
    manifest, locked = store.manifest(sweep), store.lock_names()

    def state(name: str, choices: dict[str, str]) -> RunState:
        if name in manifest:
            return RunState(name, **manifest[name])
        return RunState(name, "running" if name in locked and store.locked(name) else "waiting", choices, 0.0)

    return [state(name, choices) for name, choices in store.planned(sweep).items()]


def remaining_s(states: list[RunState]) -> float | None:
    """Return the seconds left; None before the first run is done.

    A run takes as long as the finished runs of its model, or of any model, took without their profiles. The first run
    of a model takes a profile longer; the others share it.
    """
    own_s = defaultdict[str, list[float]](list)  # seconds without profiles of the finished runs, by model
    for state in states:
        if state.status == "done":
            own_s[state.choices["model"]].append(state.seconds - state.profile_s)
    if not own_s:
        return None
    mean_s = {model: fmean(seconds) for model, seconds in own_s.items()}
    any_model_s = fmean(chain.from_iterable(own_s.values()))
    profiles_s = [state.profile_s for state in states if state.status == "done" and state.profile_s]
    profile_s = fmean(profiles_s) if profiles_s else 0.0
    profiled = {state.choices["model"] for state in states if state.status in ("done", "cached")}
    left_s = 0.0
    for state in states:
        if state.status not in ENDED:
            model = state.choices["model"]
            left_s += mean_s.get(model, any_model_s) + (0.0 if model in profiled else profile_s)
            profiled.add(model)
    return left_s / (sum(state.status == "running" for state in states) or 1)


def outlook(states: list[RunState]) -> str:
    """12 of 36 runs, about 2.5 h to go"""
    ended = sum(state.status in ENDED for state in states)
    left_s = remaining_s(states)
    eta = "" if left_s is None or ended == len(states) else f", about {duration(left_s)} to go"
    return f"{ended} of {counted(len(states), 'run')}{eta}"


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "layer"), counted(12, "layer")
    ('1 layer', '12 layers')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds > 1.5 * unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def table(states: list[RunState], *, settled: bool = True) -> str:
    """A line per run (with `settled=False` only for those that are not done), then the number of runs by status."""
    width = max((len(state.name) for state in states), default=0)
    lines = [
        f"{state.status:8} {state.name:{width}} {duration(state.seconds):>8}  {state.reason or ''}".rstrip()
        for state in states
        if settled or state.status not in ("done", "cached")
    ]
    counts = {kind: sum(state.status == kind for state in states) for kind in (*ENDED, "running", "waiting")}
    return "\n".join([*lines, ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)])


def describe(store: ResultStore, sweep: str) -> str:
    """The table, the outlook, and whether the sweep runs, is finished or is dead."""
    runs = states(store, sweep)
    if store.locked(f"sweep-{sweep}"):
        condition = "running"
    elif all(state.status in ENDED for state in runs):
        condition = "finished"
    else:
        condition = "dead: its process is gone; run the same command again to resume"
    return f"{table(runs)}\n{sweep}: {outlook(runs)}; {condition}"
