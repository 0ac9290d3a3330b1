"""Who may import whom (docs/design.md), read off the syntax tree: the reader of one module need know no other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "pipeline"
ALLOWED = {  # room -> the rooms it may import, beside itself
    "values": set(),
    "onednn": set(),
    "config": {"values"},
    "store": {"values"},
    "data": {"values"},
    "sampling": {"values"},
    "encoder": {"values", "config", "onednn", "store", "data"},
    "training": {"values", "config", "store", "encoder"},
    "retrieval": {"values", "onednn", "encoder"},
    "profiling": {"values", "config", "onednn", "store", "encoder", "retrieval"},
    "analysis": {"values", "store", "retrieval"},
    "reporting": {"values", "store", "analysis", "retrieval"},
    "launch": {"values", "config", "store", "reporting"},
}
COMMANDS = {"report", "search", "status", "recommend", "export", "published", "profile_model", "run"}
FREE = {"experiment", "bench", *COMMANDS}  # know every room
NO_TORCH = {"values", "config", "store", "launch", "analysis", "reporting", *COMMANDS} - {"profile_model", "export"}
MODULES = sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_design(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    names = imported(path)
    ours = {name.split(".")[1] for name in names if name.startswith("pipeline.")}
    if part not in FREE | {"__init__"}:
        assert ours <= ALLOWED[part] | {part}, f"{part} may import {sorted(ALLOWED[part])}"
    if part in NO_TORCH:
        assert not any(name.split(".")[0] in ("torch", "pytorch_lightning", "transformers") for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text))
