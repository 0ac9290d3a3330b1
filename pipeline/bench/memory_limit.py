"""Is the memory of a profile true? Serve the encoder in a control group whose limit is a little above it, or below.

A control group counts the pages of a file (a library, mapped weights) for the group that read them first, and gives
them up before it kills a process. So the limit here is on what lies between: the share of the figure, less the pages of
files in it. Needs Linux and the right to make a control group.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.profiling.measure import start
from pipeline.profiling.meter import Job

GROUPS = Path("/sys/fs/cgroup")
# Versions 1 and 2 of control groups: folder of the memory controller, and the files that limit it. Swap counts as well,
# else it would be a way out.
VERSIONS = (
    (GROUPS / "memory", ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), ()),
    (GROUPS, ("memory.max",), ("memory.swap.max",)),
)
MIB = 2**20


@contextmanager
def limited(limit_mib: float) -> Iterator[Path | None]:
    """Yield a new control group with this limit; None where this process may not make one."""
    group = None
    for folder, limits, zero in VERSIONS:
        try:
            made = folder / f"pipeline-{os.getpid()}"
            made.mkdir()
        except OSError:
            continue
        try:
            for name in limits:
                with suppress(FileNotFoundError):
                    (made / name).write_text(str(int(limit_mib * MIB)))
            for name in zero:
                (made / name).write_text("0")
            if (made / limits[0]).exists():
                group = made
                break
        except OSError:
            pass
        made.rmdir()
    try:
        yield group
    finally:
        if group:
            group.rmdir()


def serves_within(job: Job, limit_mib: float) -> bool | None:
    """Return whether a fresh process loads and serves the encoder within a limit; None if no limit can be set.

    Raises:
        RuntimeError: if it fails otherwise than by being killed for memory.
    """
    with limited(limit_mib) as group:
        if not group:
            return None
        process = start("memory", job, subprocess.PIPE, group)
        _, log = process.communicate(job.to_json())
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the encoder failed under a limit of {limit_mib:.0f} MiB: {log.strip()[-300:]}")
    return process.returncode == 0


def trial(job: Job, peak_mib: float, file_mib: float) -> dict[float, bool | None]:
    """Return whether the encoder can be served with 10 % more than `peak_mib`, and with 10 % less.

    Args:
        peak_mib: the profile's peak_rss_mib.
        file_mib: pages of files in it, the memory meter's file_rss_mib.
    """
    return {share: serves_within(job, share * peak_mib - file_mib) for share in (1.1, 0.9)}


def can_limit() -> bool:
    """Return whether this process may make a control group."""
    with limited(64) as group:
        return group is not None
