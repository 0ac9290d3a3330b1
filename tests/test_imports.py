"""Who may import whom (docs/design.md), read off the syntax tree: the reader of one module need know no other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "pipeline"
ALLOWED = {  # room -> the rooms that it may import, beside itself
    "values": set(),
    "bars": set(),
    "bounds": {"values"},
    "groups": {"values", "bounds"},
    "targets": {"values", "bounds"},
    "config": {"values", "bounds", "groups", "targets"},
    "store": {"values"},
    "data": {"values", "bars"},
    "sampling": {"values"},
    "encoder": {"values", "bars", "groups", "store", "data"},
    "training": {"values", "bars", "groups", "store", "encoder"},
    "retrieval": {"values", "encoder"},
    "profiling": {"values", "bounds", "groups", "store", "encoder", "retrieval"},
    "analysis": {"values", "bounds", "store", "retrieval"},
    "reporting": {"values", "store", "analysis", "retrieval"},
    "serving": {"values", "bounds", "groups", "config", "store", "encoder", "reporting"},
    "capacity": {
        "values",
        "bounds",
        "targets",
        "config",
        "store",
        "encoder",
        "serving",
        "profiling",
        "retrieval",
    },
    "launch": {
        "values",
        "bars",
        "bounds",
        "groups",
        "config",
        "store",
        "encoder",
        "analysis",
        "reporting",
        "retrieval",
        "experiment",
    },
}
COMMANDS = {
    "run",
    "report",
    "archive",
    "search",
    "status",
    "recommend",
    "export",
    "serve",
    "load",
    "published",
    "profile_model",
    "sync",
}
FREE = {"__main__", "experiment", "parts", "systems", "embeddings", "bench", *COMMANDS}  # know every room
MODULES = sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_commands_do_not_wait_for_torch():
    """Nor does their --help; a worker or the work itself imports it."""
    code = "".join(f"import pipeline.{name}, sys; 'torch' in sys.modules and sys.exit('{name}')\n" for name in COMMANDS)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_top_level_holds_commands_and_little_else():
    names = {path.stem for path in ROOT.glob("*.py")}
    shared = {"bars", "bounds", "config", "groups", "experiment", "parts", "systems", "embeddings", "targets", "values"}
    assert names == COMMANDS | {"__init__", "__main__"} | shared


def test_no_module_imports_itself_in_a_circle():
    """By what each module imports when it is loaded; imports inside functions come later."""
    graph = {".".join(("pipeline", *path.relative_to(ROOT).with_suffix("").parts)): at_load(path) for path in MODULES}
    graph = {module.removesuffix(".__init__"): names for module, names in graph.items()}
    seen: set[str] = set()

    def visit(module, above):
        assert module not in above, " -> ".join([*above, module])
        if module not in seen:
            for name in graph[module] & graph.keys():
                visit(name, [*above, module])
            seen.add(module)

    for module in graph:
        visit(module, [])


def at_load(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in [child for child in ast.iter_child_nodes(tree) if isinstance(child, ast.Import | ast.ImportFrom)]:
        names |= (
            {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
            if isinstance(node, ast.ImportFrom)
            else set()
        )
    return names - {"pipeline"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text))
