"""`python -m pipeline.status SWEEP [results_dir=results]`: how far a sweep is, whether it runs, is finished or is dead.

Reads the sweep's plan and notes, and the locks of those at work. `run` says as much after a cell, `sweep` at its end.
"""

from statistics import mean

from pipeline.launch.commands import arguments, refusing
from pipeline.store.results import Cell, ResultStore

USAGE = "usage: python -m pipeline.status SWEEP [results_dir=results]; SWEEP is a folder of the results."
ENDED = ("done", "cached", "failed")


def cells(store: ResultStore, sweep: str) -> list[Cell]:
    """How each planned cell stands."""
    notes = store.notes(sweep)

    def stands(name: str, choices: dict[str, str]) -> Cell:
        if name in notes:
            return Cell(name, **notes[name])
        return Cell(name, "running" if store.locked(name) else "waiting", choices, 0.0)

    return [stands(name, choices) for name, choices in store.planned(sweep).items()]


def remaining_s(found: list[Cell]) -> float | None:
    """As long as finished cells took: those of the same model where there are any; None before the first has run."""
    ran = [cell for cell in found if cell.status == "done"]
    if not ran:
        return None

    def expected_s(cell: Cell) -> float:
        alike = [other for other in ran if other.choices["model"] == cell.choices["model"]]
        return mean(other.seconds for other in alike or ran)

    at_once = sum(cell.status == "running" for cell in found) or 1
    return sum(expected_s(cell) for cell in found if cell.status not in ENDED) / at_once


def outlook(found: list[Cell]) -> str:
    """12 of 36 cells, about 2.5 h to go"""
    ended = sum(cell.status in ENDED for cell in found)
    left_s = remaining_s(found)
    time = "" if left_s is None or ended == len(found) else f", about {duration(left_s)} to go"
    return f"{ended} of {len(found)} cells{time}"


def duration(seconds: float) -> str:
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds > 1.5 * unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def table(found: list[Cell]) -> str:
    """A line a cell, then how many there are of each kind."""
    width = max((len(cell.name) for cell in found), default=0)
    lines = [
        f"{cell.status:8} {cell.name:{width}} {duration(cell.seconds):>8}  {cell.reason or ''}".rstrip()
        for cell in found
    ]
    counts = {kind: sum(cell.status == kind for cell in found) for kind in (*ENDED, "running", "waiting")}
    return "\n".join([*lines, ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)])


def describe(store: ResultStore, sweep: str) -> str:
    found = cells(store, sweep)
    if store.locked(f"sweep-{sweep}"):
        state = "running"
    elif all(cell.status in ENDED for cell in found):
        state = "finished"
    else:
        state = "dead: its process is gone, and the command that began it goes on where it stopped"
    return f"{table(found)}\n{sweep}: {outlook(found)}; {state}"


def main() -> None:
    with refusing():
        sweep, given = arguments(USAGE, "results_dir")
        print(describe(ResultStore(given.get("results_dir", "results")), sweep))


if __name__ == "__main__":
    main()
