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
# The kernel counts this process's memory as that of a child until it has loaded Python: so the child looks itself.
RUN = """
import atexit, runpy, sys
from pipeline.profiling.meters.memory import status_mib
atexit.register(lambda: print(status_mib("VmHWM"), file=sys.stderr))
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


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
        [sys.executable, "-c", RUN, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stderr
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.stderr.write(said)
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, float(said.splitlines()[-1])
