"""Kills a real sweep at random moments and finishes it: the table must be that of an undisturbed sweep.

    python tests/kill_trial.py [KILLS]        20 kills took 20 minutes on 2 CPU cores

Prints for each kill what the sweep was doing, and the work that was lost: training steps since the last checkpoint, and
seconds since anything was written. Not collected by pytest.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from command import SMALL, run, start

from pipeline.store.results import ResultStore

STEPS, EVERY = 400, 25
SWEEP = ["-m", *(item for item in SMALL if not item.startswith(("profile", "trainer.steps"))), "sweep=killed"]
SWEEP += ["sampler=none,hybrid", f"trainer.steps={STEPS}", f"trainer.checkpoint_every={EVERY}", "threads=1"]
SWEEP += ["profile.min_calls=20", "profile.min_seconds=0.2", "profile.index_rows=1000", "profile.energy_seconds=1"]
SWEEP += ["profile.token_budgets=[1024]"]


def table(folder: Path) -> list[tuple]:
    """All that must not depend on what happened: no times, and of the profile only that there is one."""
    rows = []
    store = ResultStore(folder / "results")
    for state in store.runs("killed"):
        curve = store.curve(state.name)
        losses = [] if curve.empty else curve["loss"].tolist()
        language_pairs = state.record.training.get("language_pairs")
        rows.append((state.name, state.record.metrics, language_pairs, losses, state.record.profile is not None))
    return rows


def kill(process: subprocess.Popen, everything: bool) -> str:
    """SIGKILL the sweep, with or without its children; return what it had said once all are gone."""
    children = psutil.Process(process.pid).children(recursive=True)
    for victim in [process, *(children if everything else [])]:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    alive = psutil.wait_procs(children, timeout=30)[1]
    assert not alive, f"left behind: {alive}"
    return process.communicate()[1]


def lost(folder: Path, said: str, killed_at_s: float) -> tuple[str, int, float]:
    """What was being done; the training steps, and the seconds since anything was written, that the kill cost."""
    doing = (re.findall(r"^  (\w+) …", said, re.MULTILINE) or ["start"])[-1]
    steps = 0
    if doing == "train":
        seen = max([int(step) for step in re.findall(rf"(\d+)/{STEPS} \[", said)], default=0)
        kept = max([int(path.name[5:]) for path in folder.glob("results/stages/unfinished-*/step-*")], default=seen)
        steps = max(0, seen - kept)
    written_s = [path.stat().st_mtime for path in folder.rglob("*") if path.is_file()]
    return doing, steps, max(0.0, killed_at_s - max(written_s, default=killed_at_s))


def main(kills: int) -> None:
    generator = random.Random(0)
    root = Path(tempfile.mkdtemp(prefix="kill-trial-"))
    folder = root / "undisturbed"
    folder.mkdir()
    start_s = time.monotonic()
    code, _, err = run(*SWEEP, cwd=folder)
    assert code == 0, err
    whole_s, expected = time.monotonic() - start_s, table(folder)
    print(f"undisturbed: {whole_s:.0f} s, {len(expected)} runs", flush=True)
    killed = finished = most_steps = 0
    while killed < kills or folder.name != "undisturbed":
        if folder.name == "undisturbed":
            folder = root / f"sweep-{finished}"
            folder.mkdir()
        process = start(*SWEEP, cwd=folder)
        try:
            _, err = process.communicate(timeout=generator.uniform(1, 0.7 * whole_s) if killed < kills else None)
        except subprocess.TimeoutExpired:
            killed_at_s, everything = time.time(), generator.random() < 0.5
            doing, steps, seconds = lost(folder, kill(process, everything), killed_at_s)
            killed, most_steps = killed + 1, max(most_steps, steps)
            victims = "all processes" if everything else "the sweep"
            print(f"kill {killed:2}: {victims:13} in {doing:8} {steps:2} steps, {seconds:4.0f} s lost", flush=True)
            continue
        assert process.returncode == 0, err
        assert table(folder) == expected
        print(
            f"sweep {finished} is finished after {killed} kills in all: its table is the undisturbed one's", flush=True
        )
        folder, finished = root / "undisturbed", finished + 1
    print(f"{killed} kills, {finished} sweeps, at most {most_steps} training steps lost at once (checkpoints: {EVERY})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
