"""`python -m pipeline.bench [NAME …]`: run the comparisons and print their table in Markdown.

All of them, without names: then the table is kept as results/reference/bench.md.

Needs XQuAD-R (XQUAD_R_DIR) and the package's test extra, and a machine with nothing else to do.
"""

import sys
from pathlib import Path

import torch

from pipeline.bench import cells, encoding, gpu, growth, instrument, ranking, training
from pipeline.launch.commands import refusing
from pipeline.profiling import machine
from pipeline.profiling.throughput import MATRIX_WIDTH, matrix_product_flop_per_s
from pipeline.store.files import write_atomically
from pipeline.values import UserError

THREADS = 2
ROWS = {
    "bulk": encoding.bulk, "one_query": encoding.one_query, "training": training.steps, "scores": ranking.scores,
    "evaluation": cells.evaluation, "million": ranking.million, "same_work": instrument.same_work,
}  # fmt: skip
BY_NAME = {"gpu": gpu.bulk}  # only where it is asked for
TABLES = {"fixed_cost": cells.fixed_cost, "growth": growth.table, "repeated": instrument.repeated}
REPORT = Path(__file__).parents[2] / "results/reference/bench.md"
TITLE = """# Speed, side by side
`make bench`: ratios of pairs that take turns; above 1 this project is faster.
What was missed, and why: docs/speed.md."""
HEADER = ["work", "against", "at least", "ratio", "min to max", "ours / theirs", "met", "note"]


def main(wanted: list[str]) -> None:
    if unknown := set(wanted) - {*ROWS, *BY_NAME, *TABLES}:
        raise UserError(f"{sorted(unknown)[0]} is no comparison: there are {', '.join([*ROWS, *BY_NAME, *TABLES])}.")
    torch.set_num_threads(THREADS)
    facts = machine.facts("cpu")
    ceilings = ", ".join(
        f"{matrix_product_flop_per_s(dtype, 'cpu') / 1e9:.0f} GFLOP/s {str(dtype).removeprefix('torch.')}"
        for dtype in (torch.float32, torch.bfloat16)
    )
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    say(f"{facts['cpu']}, {THREADS} threads, {facts['cpu_vector_instructions']}, torch {facts['torch']}")
    say(f"\nA matrix product of {MATRIX_WIDTH['cpu']} x {MATRIX_WIDTH['cpu']} beside it: {ceilings}\n")
    say(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, rows in (ROWS | BY_NAME).items():
        if name in (wanted or ROWS):
            for row in rows():
                say(f"| {' | '.join(row.cells())} |")
    for name, table in TABLES.items():
        if not wanted or name in wanted:
            say("")
            for line in table():
                say(line)
    if not wanted:  # a part would not be the table
        text = "\n".join([TITLE, "", *lines, ""])
        write_atomically(REPORT, lambda path: path.write_text(text))


if __name__ == "__main__":
    with refusing():
        main(sys.argv[1:])
