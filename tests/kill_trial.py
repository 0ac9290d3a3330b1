"""Sends signals to real sweeps at random moments and finishes them: the tables must be those of an undisturbed sweep.

    python tests/kill_trial.py [SIGNALS]      60 by default, 6 per sweep

Every kind of signal goes to every kind of target equally often, in random order. A sweep that a signal ended is started
again by the same command, until its signals are spent and it ends with exit code 0. Then nothing may be left of it: no
process, no lock, no temporary file. Not collected by pytest.
"""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

import psutil
from command import SMALL, descendants, is_of, is_server, makes_a_run, start

from pipeline.store.locks import held
from pipeline.store.results import ResultStore

SWEEP = ["-m", *(item for item in SMALL if not item.startswith(("profile", "trainer.steps"))), "sweep=trial"]
SWEEP += ["sampler=none,hybrid", "trainer.steps=40", "trainer.checkpoint_every=5", "threads=1"]
SWEEP += ["profile.min_calls=20", "profile.min_seconds=0.2", "profile.index_rows=1000", "profile.energy_seconds=1"]
SWEEP += ["profile.token_budgets=[1024]", "profile.rounds=1"]
# Python reads this as it starts. Shards so small that the sweep's benchmark has several.
SHARDS = "from pipeline.encoder import encoding\nencoding.CHUNK, encoding.SHARD = 32, 64\n"
ENDING = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
TARGETS = ("command", "fork server", "worker", "worker with a shard", "process group", "helper", "everything")
PER_SWEEP = 6
LONGEST_S = 10  # from a signal until all is gone


def table(folder: Path) -> list[tuple]:
    """All that must not depend on what happened: no times, and of the profile only that there is one."""
    rows = []
    store = ResultStore(folder / "results")
    for state in store.runs("trial"):
        curve = store.curve(state.name)
        losses = [] if curve.empty else curve["loss"].tolist()
        language_pairs = state.record.training.get("language_pairs")
        rows.append((state.name, state.record.metrics, language_pairs, losses, state.record.profile is not None))
    return rows


def victims(command: psutil.Process, target: str, folder: Path) -> list[psutil.Process]:
    """The processes that a signal goes to; none while there is no such process."""
    children = command.children(recursive=True)
    (worker, *_) = descendants(command, makes_a_run) or [None]
    if target == "command":
        return [command]
    if target == "fork server":
        return descendants(command, is_server)
    if target == "everything":
        return [command, *children]
    if worker is None:
        return []
    if target == "process group":
        return [child for child in children if os.getpgid(child.pid) == worker.pid]
    if target == "helper":
        return descendants(command, lambda process: is_of(process, "profiling.worker"))[:1]
    if target == "worker with a shard" and not list(folder.glob("results/stages/encode-*/*/*.npy")):
        return []
    return [worker]


def send(number: int, processes: list[psutil.Process], pause_s: float) -> None:
    """Send a signal; SIGSTOP is followed by SIGCONT."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    if number == signal.SIGSTOP:
        time.sleep(pause_s)
        send(signal.SIGCONT, processes, 0)


def disturb(
    process: subprocess.Popen, folder: Path, number: int, target: str, moment: random.Random
) -> tuple[str, list[psutil.Process]] | None:
    """Send a signal at a random moment.

    Returns:
        The stage at which the sweep was, and the processes that it had; None if it ended before the moment came.
    """
    command, not_before_s = psutil.Process(process.pid), time.monotonic() + moment.uniform(1, 20)
    while process.poll() is None:
        if time.monotonic() >= not_before_s:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                children = command.children(recursive=True)
                if processes := victims(command, target, folder):
                    said = (folder / "said").read_text()
                    send(number, processes, moment.uniform(0.5, 3))
                    return (re.findall(r"^  (\w+) …", said, re.MULTILINE) or ["start"])[-1], children
        time.sleep(0.02)
    return None


def ended(process: subprocess.Popen, children: list[psutil.Process], number: int, folder: Path) -> float:
    """Seconds until a command that got a signal is gone with all that it had started; it must have said why."""
    start_s = time.monotonic()
    code = process.wait(timeout=60)
    alive = psutil.wait_procs(children, timeout=60)[1]
    assert not alive, f"left behind: {alive}"
    assert code in (128 + number, -number), code  # the latter while the command was being imported
    if code > 0:
        said = (folder / "said").read_text()
        assert said.endswith("ed: run the same command again to resume\n"), said
        assert "Traceback" not in said, said
    seconds = time.monotonic() - start_s
    assert number == signal.SIGKILL or seconds < LONGEST_S, seconds
    return seconds


def check_nothing_is_left(root: Path, folder: Path) -> None:
    """No lock is held, no temporary file or checkpoint is there, and no process works in the folder."""
    results = folder / "results"
    left = [path for path in results.glob("locks/*") if held(path)]
    left += [path for path in results.rglob(".*") if path.name != ".store"]
    left += [*results.glob("stages/encode-*"), *results.glob("stages/unfinished-*")]
    left += [path for path in (root / "temporary").iterdir() if not path.name.startswith("torchinductor_")]  # a cache
    assert not left, left
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            assert Path(process.cwd()) != folder, f"left behind: {process}"


def begin(folder: Path) -> subprocess.Popen:
    with (folder / "said").open("w") as said:
        return start(*SWEEP, cwd=folder, stderr=said)


def sweep(root: Path, folder: Path, signals: list[tuple[int, str]], moment: random.Random) -> list[tuple]:
    """Run a sweep, send it up to PER_SWEEP of the signals, which are taken off the list; return its table."""
    folder.mkdir()
    last = max(0, len(signals) - PER_SWEEP)
    process = begin(folder)
    while True:
        if len(signals) > last and (sent := disturb(process, folder, *signals[-1], moment)):
            number, target = signals.pop()
            outcome = "goes on"
            if target in ("command", "everything") and number != signal.SIGSTOP:
                outcome = f"gone in {ended(process, sent[1], number, folder):.1f} s"
                process = begin(folder)
            name = signal.Signals(number).name + ("/CONT" if number == signal.SIGSTOP else "")
            print(f"{folder.name}: {name:12} to {target:19} in {sent[0]:8} {outcome}", flush=True)
        elif code := process.wait(timeout=900):
            assert code == 1, (folder / "said").read_text()  # a worker was killed
            process = begin(folder)
        else:
            break
    check_nothing_is_left(root, folder)
    return table(folder)


def main(count: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored, also in child processes
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so does nohup
    root = Path(tempfile.mkdtemp(prefix="kill-trial-"))
    for name in ("temporary", "python"):
        (root / name).mkdir()
    (root / "python/sitecustomize.py").write_text(SHARDS)
    os.environ |= {"TMPDIR": str(root / "temporary"), "PYTHONPATH": f"{root / 'python'}:{Path(__file__).parent.parent}"}
    moment, start_s = random.Random(0), time.monotonic()
    expected = sweep(root, root / "undisturbed", [], moment)
    print(f"undisturbed: {time.monotonic() - start_s:.0f} s, {len(expected)} runs", flush=True)
    kinds = list(product((*ENDING, signal.SIGSTOP), TARGETS))
    signals = (kinds * (count // len(kinds) + 1))[:count]
    moment.shuffle(signals)
    sweeps = 0
    while signals:
        found = sweep(root, root / f"sweep-{sweeps}", signals, moment)
        assert found == expected
        sweeps += 1
    print(f"{count} signals, {sweeps} sweeps: identical tables; no process, lock or temporary file is left")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
