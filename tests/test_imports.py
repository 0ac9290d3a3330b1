"""Who may import whom (docs/design.md), read off the syntax tree: the reader of one module need know no other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "pipeline"
LEAF = {"values"}
ALLOWED = {  # the first part of a module's path -> the parts it may import
    "values": set(),
    "config": LEAF,
    "data": LEAF | {"data"},
    "sampling": LEAF | {"sampling"},
    "packaged": LEAF,
    "encoder": LEAF | {"packaged", "files"},
    "onednn": set(),
    "retrieval": LEAF | {"onednn"},
    "indexes": LEAF | {"retrieval"},
    "metrics": LEAF,
    "pools": LEAF | {"retrieval", "metrics"},
    "profiling": LEAF | {"onednn", "profiling"},
    "commands": LEAF,
    "files": LEAF,
    "locks": set(),
    "results": LEAF | {"files", "locks"},
    "status": LEAF | {"commands", "results"},
    "encoding": LEAF | {"encoder"},
    "serving": LEAF | {"encoder", "onednn"},
    "evaluation": LEAF | {"encoder", "encoding", "retrieval", "indexes", "metrics", "pools"},
    "provenance": LEAF | {"encoder", "data"},
    "export": LEAF | {"commands", "encoder", "results"},
    "losses": LEAF,
    "checkpoints": LEAF | {"files"},
    "negatives": LEAF | {"encoder", "encoding", "losses", "files"},
    "adapters": LEAF | {"encoder"},
    "contrastive": LEAF | {"encoder", "encoding", "losses", "negatives", "checkpoints"},
    "training": LEAF | {"encoder", "negatives", "adapters", "contrastive", "checkpoints"},
    "analysis": LEAF | {"results", "analysis"},
    "report": LEAF | {"analysis", "results"},
    "tracking": LEAF | {"commands", "analysis", "results"},
    "page": LEAF | {"analysis", "results", "report", "page"},
    "aggregate": LEAF | {"commands", "analysis", "results", "report", "tracking", "page"},
    "published": LEAF | {"commands", "files", "analysis", "results", "report"},
    "recommend": LEAF | {"commands", "analysis", "results", "aggregate"},
    "sweep": LEAF | {"commands", "config", "results", "aggregate", "run", "status"},
    "search": LEAF | {"commands", "files", "results", "analysis", "aggregate", "run", "sweep"},
    "run": LEAF | {"commands", "config", "results", "status"},
}
NO_TORCH = {"values", "config", "commands", "files", "locks", "results", "status", "sweep", "search", "run"}
NO_TORCH |= {"analysis", "report", "page", "tracking", "aggregate", "published", "recommend"}
FREE = {"start", "cell", "profile", "meter", "bench"}  # entries of processes that know every part
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
        assert ours <= ALLOWED[part], f"{part} may import {sorted(ALLOWED[part])}"
    if part in NO_TORCH:
        assert not any(name.split(".")[0] in ("torch", "pytorch_lightning", "transformers") for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text))
