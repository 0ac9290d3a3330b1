"""`python -m pipeline.bench [NAME …]`: run the comparisons, all or those named, and print their table in Markdown.

Needs XQuAD-R (XQUAD_R_DIR) and the package's test extra, and a machine with nothing else to do.
"""

import sys

import torch

from pipeline.bench import encoding, instrument
from pipeline.commands import refusing
from pipeline.profiling import machine
from pipeline.values import UserError

THREADS = 2
ROWS = {"bulk": encoding.bulk, "one_query": encoding.one_query, "same_work": instrument.same_work}
TABLES = {"repeated": instrument.repeated}
HEADER = ["work", "against", "at least", "ratio", "min to max", "ours / theirs", "met", "note"]


def main(wanted: list[str]) -> None:
    if unknown := set(wanted) - {*ROWS, *TABLES}:
        raise UserError(f"{sorted(unknown)[0]} is no comparison: there are {', '.join([*ROWS, *TABLES])}.")
    torch.set_num_threads(THREADS)
    facts = machine.facts("cpu")
    print(f"{facts['cpu']}, {THREADS} threads, {facts['cpu_vector_instructions']}, torch {facts['torch']}\n")
    for name, table in TABLES.items():
        if not wanted or name in wanted:
            print("\n".join(table()), end="\n\n", flush=True)
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, rows in ROWS.items():
        if not wanted or name in wanted:
            for row in rows():
                print(f"| {' | '.join(row.cells())} |", flush=True)


if __name__ == "__main__":
    with refusing():
        main(sys.argv[1:])
