"""The wheel that `pip install .` builds: it holds all that commands read, and they run from any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from command import TINY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PARTS = ("pipeline", "conf", "sweeps")
OFFLINE = ["--no-index", "--no-deps", "--quiet"]


def call(*words, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since setuptools writes beside its sources."""
    source = tmp_path_factory.mktemp("source")
    for name in PARTS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip"]
    call(*pip, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", "dist", ".", cwd=source)
    (built,) = (source / "dist").iterdir()
    return built


def test_the_wheel_holds_every_file(wheel):
    files = {path.relative_to(ROOT) for name in PARTS for path in (ROOT / name).rglob("*") if path.is_file()}
    files = {path for path in files if "__pycache__" not in path.parts}
    expected = {str(path if path.parts[0] == "pipeline" else "pipeline" / path) for path in files}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected


def test_an_installed_wheel_runs_from_any_folder(wheel, tmp_path):
    """In an environment that has the libraries of this one, but not this checkout."""
    call(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python, script = tmp_path / "env/bin/python", tmp_path / "env/bin/paretrieve"
    call(sys.executable, "-m", "pip", "--python", str(python), "install", *OFFLINE, str(wheel), cwd=tmp_path)
    (site,) = (tmp_path / "env/lib").glob("*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # whose own .pth files are not read
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    commands = call(script, cwd=folder)
    assert f"Configs: {site}/pipeline/conf; sweeps for `run --config-dir`: {site}/pipeline/sweeps" in commands
    *_, line = call(python, "-m", "pipeline.run", *TINY, "sampler=none", cwd=folder).splitlines()
    (record,) = (folder / "results/runs").glob("*/record.json")
    assert line == f"record: {record}"
    assert [path.name for path in folder.iterdir()] == ["results"]
    assert '"commit": "0.1.0"' in record.read_text()
