"""How reports and lists grow with the runs of a sweep: seconds of processor time and peak memory, sweep by sweep.

`make bench ARGS=scale` writes synthetic sweeps (sweeps.py) to a temporary folder and runs the commands on them. Time is
that of the processor, which other work on the machine changes least.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.bench import sweeps
from pipeline.store.results import ResultStore

SIZES = ((100, 1), (333, 3), (1000, 1))  # systems, seeds
COMMANDS = {
    "report": ["pipeline.report", "sweep"],
    "status": ["pipeline.status", "sweep"],
    "recommend": ["pipeline.recommend", "sweep", "p95_ms=20"],
}


def table() -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| command | systems x seeds | processor seconds | ms per run | peak memory (MiB) |",
        "|---|---|---|---|---|",
    ]
    for systems, seeds in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sweeps.write(ResultStore(folder), "sweep", systems, seeds)
            for name, (module, *arguments) in COMMANDS.items():
                seconds, peak_mib = measured([module, *arguments, f"results_dir={folder}"])
                columns = [name, f"{systems:,} x {seeds}", f"{seconds:.1f}"]
                columns += [f"{1000 * seconds / (systems * seeds):.1f}", f"{peak_mib:.0f}"]
                lines.append(f"| {' | '.join(columns)} |")
    return lines


def measured(command: list[str]) -> tuple[float, float]:
    """Return the processor time in seconds and the peak memory in MiB of a module run as a process."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
