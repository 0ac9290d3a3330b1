"""Locks between real processes: they exclude, they are shared, nobody is overtaken, and they die with their holder."""

import subprocess
import sys

import pytest

from pipeline.store import locks

HOLD = """
import sys
from pathlib import Path
from pipeline.store import locks
path, how = Path(sys.argv[1]), sys.argv[2]
held = locks.hold(path, shared=how == "shared")
if how in ("alone", "together"):
    held = locks.machine(path, alone=how == "alone")
with held:
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture
def holder():
    """Starts processes that ask for a lock; says whether they have it within a while."""
    processes = []

    def start(path, how):
        command = [sys.executable, "-c", HOLD, str(path), how]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def waits(process):
    return process.stderr.readline().startswith("  waiting for ")


def has_it(process):
    return process.stdout.readline() == "held\n"


def release(process):
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "released\n"


def test_a_lock_excludes_until_it_is_released_and_leaves_no_file(tmp_path, holder):
    path = tmp_path / "locks" / "run"
    assert not locks.held(path)
    first = holder(path, "exclusive")
    assert has_it(first)
    assert locks.held(path)
    second = holder(path, "exclusive")
    assert waits(second)
    release(first)
    assert has_it(second)
    assert locks.held(path)
    release(second)
    assert not locks.held(path)
    assert list(path.parent.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path, holder):
    path = tmp_path / "run"
    first = holder(path, "exclusive")
    assert has_it(first)
    first.kill()
    first.wait()
    assert path.exists()
    assert not locks.held(path)
    assert has_it(holder(path, "exclusive"))


def test_shared_locks_go_together_and_keep_an_exclusive_one_out(tmp_path, holder):
    path = tmp_path / "sweep"
    first, second = holder(path, "shared"), holder(path, "shared")
    assert has_it(first)
    assert has_it(second)
    third = holder(path, "exclusive")
    assert waits(third)
    release(first)
    assert locks.held(path)
    release(second)
    assert has_it(third)


def test_who_waits_to_be_alone_on_the_machine_is_not_overtaken(tmp_path, holder):
    first, second = holder(tmp_path, "together"), holder(tmp_path, "together")
    assert has_it(first)
    assert has_it(second)
    measuring = holder(tmp_path, "alone")
    assert waits(measuring)
    late = holder(tmp_path, "together")
    assert waits(late)
    release(first)
    release(second)
    assert has_it(measuring)
    release(measuring)
    assert has_it(late)


def test_many_processes_never_meet(tmp_path):
    """8 processes add 1 to a number 25 times each, reading and writing it while they hold the lock."""
    count = tmp_path / "count"
    count.write_text("0")
    add = """
import sys, time
from pathlib import Path
from pipeline.store import locks
for _ in range(25):
    with locks.hold(Path(sys.argv[1])):
        count = int(Path(sys.argv[2]).read_text())
        time.sleep(0.001)
        Path(sys.argv[2]).write_text(str(count + 1))
"""
    command = [sys.executable, "-c", add, str(tmp_path / "lock"), str(count)]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(8)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 8
    assert count.read_text() == str(8 * 25)
