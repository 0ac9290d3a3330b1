"""`python -m pipeline.bench [NAME …]`: run the comparisons and print their table in Markdown.

Without names all comparisons run, and the table is saved as results/reference/bench.md.

Needs XQuAD-R (XQUAD_R_DIR), the package's test extra, and a machine with nothing else to do.
"""

import sys
from pathlib import Path

import torch

from pipeline.bench import corpus, encoding, engines, gpu, growth, instrument, ranking, runs, scale, servers, training
from pipeline.launch.commands import refusing
from pipeline.profiling import machine
from pipeline.profiling.meters.ceiling import MATRIX_WIDTH, matrix_product_flop_per_s
from pipeline.store.files import write_atomically
from pipeline.values import UserError, unknown

THREADS = 2
COMPARISONS = {
    "bulk": encoding.bulk,
    "one_query": encoding.one_query,
    "training": training.steps,
    "scores": ranking.scores,
    "evaluation": runs.evaluation,
    "million": ranking.million,
}
TABLES = {
    "engines": engines.table,
    "fixed_cost": runs.fixed_cost,
    "scale": scale.table,
    "growth": growth.table,
    "corpus": corpus.table,
    "instrument": instrument.table,
}
ON_REQUEST = {"gpu": gpu.bulk}  # run only if they are named, as does TABLES_ON_REQUEST
TABLES_ON_REQUEST = {"servers": servers.table}
NAMES = [*COMPARISONS, *ON_REQUEST, *TABLES, *TABLES_ON_REQUEST]
REPORT = Path(__file__).parents[2] / "results/reference/bench.md"
TITLE = """# Speed, side by side
`make bench`: ratios of paired measurements; above 1 this project is faster.
docs/speed.md explains the goals that were missed."""
HEADER = ["work", "against", "goal", "ratio", "min to max", "ours / theirs", "met", "note"]


def main(names: list[str]) -> None:
    """Run the named comparisons, or all of them.

    Raises:
        UserError: for an unknown name, or without XQuAD-R.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(unknown("comparison", name, NAMES))
    torch.set_num_threads(THREADS)
    facts = machine.facts("cpu")
    ceilings = ", ".join(
        f"{matrix_product_flop_per_s(dtype, 'cpu') / 1e9:.0f} GFLOP/s {str(dtype).removeprefix('torch.')}"
        for dtype in (torch.float32, torch.bfloat16)
    )
    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    write(f"{facts['cpu']}, {THREADS} threads, {facts['cpu_vector_instructions']}, torch {facts['torch']}")
    write(f"\nFor reference, a matrix product of {MATRIX_WIDTH['cpu']} x {MATRIX_WIDTH['cpu']}: {ceilings}\n")
    write(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, comparison in (COMPARISONS | ON_REQUEST).items():
        if name in (names or COMPARISONS):
            for row in comparison():
                write(f"| {' | '.join(row.columns())} |")
    for name, table in (TABLES | TABLES_ON_REQUEST).items():
        if name in (names or TABLES):
            write("")
            for line in table():
                write(line)
    if not names:  # some comparisons alone would not be the whole table
        text = "\n".join([TITLE, "", *lines, ""])
        write_atomically(REPORT, lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    with refusing():
        main(sys.argv[1:])
