"""What `make` makes of the Python and the .venv that it finds, and the list of its targets."""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*words, cwd):
    return subprocess.run(["make", *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path):
    """A folder with the Makefile and a whole environment, but for the packages in it."""
    (tmp_path / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    venv.create(tmp_path / ".venv", symlinks=True)
    (tmp_path / ".venv/ready").write_text("cpu\n")
    return tmp_path


@pytest.mark.parametrize("python", ["no-such-python", "false"], ids=["missing", "another version"])
def test_make_says_which_python_it_needs_before_it_writes(folder, python):
    shutil.rmtree(folder / ".venv")
    ran = make("sweep", f"PYTHON={python}", cwd=folder)
    first, *_ = ran.stderr.splitlines()
    assert first == (
        f"make: this needs Python 3.11, 3.12 or 3.13, and found none as {python}. "
        "Install one, or name it: make PYTHON=/path/to/python3.13 sweep"
    )
    assert ran.returncode == 2
    assert not (folder / ".venv").exists()


def other_python(folder):
    """A Python of another version, as far as make sees."""
    python = folder / "python"
    python.write_text("#!/bin/sh\necho 3.99\n")
    python.chmod(0o755)
    return [f"PYTHON={python}"]


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (lambda folder: [], False),
        (lambda folder: [f"PYTHON={sys.executable}", "FAISS=cpu"], False),
        (lambda folder: (folder / ".venv/ready").unlink() or [], True),
        (lambda folder: (folder / ".venv/installing").touch() or [], True),
        (lambda folder: (folder / ".venv/bin/python").unlink() or [], True),
        (other_python, True),
        (lambda folder: ["FAISS=gpu"], True),
        (lambda folder: (folder / ".venv/ready").write_text("gpu\n") and [], False),
    ],
    ids=["whole", "named", "not finished", "interrupted", "broken", "other python", "other faiss", "gpu stays"],
)
def test_an_environment_is_made_anew_unless_it_is_whole_and_as_asked(folder, change, anew):
    ran = make("-n", ".venv/ready", *change(folder), cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert ("venv --clear" in ran.stdout) == anew
    assert ("pip install" in ran.stdout) == anew


def test_a_failed_installation_changes_nothing_and_a_killed_one_is_marked(folder):
    pip = folder / ".venv/bin/pip"
    for ending, left in (("exit 1", False), ("kill -9 $PPID", True)):
        pip.write_text(f"#!/bin/sh\n{ending}\n")
        pip.chmod(0o755)
        assert make(".venv/ready-test", cwd=folder).returncode == 2
        assert (folder / ".venv/installing").exists() == left
        assert not (folder / ".venv/ready-test").exists()


def test_help_lists_every_target(folder):
    (phony,) = re.findall(r"^\.PHONY: (help .*)", MAKEFILE, re.M)
    listed = make("help", cwd=folder).stdout
    assert re.findall(r"^make ([a-z-]+) +\S", listed, re.M) == phony.split()
