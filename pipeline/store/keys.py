"""Cache keys: the hash of all that a stage's result follows from. `launch.request` says what that is for each stage.

Code counts by its syntax tree, without docstrings, comments and layout: that of a module and of every module of ours
that it imports, directly or not. Third-party code counts by the version of the libraries that can move a number. Files
and folders named in a config count by their contents.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.store.files import digest

ROOT = Path(__file__).parents[2]
PACKAGE = "pipeline"
FILES = {"path", "weights", "teacher", "lines"}  # config keys that may name a file or a folder: its contents count
# Import name -> distributions that provide it, for every library whose version can change a result. Libraries that only
# move bytes, read configs or show progress are in HARMLESS; a test keeps the two lists complete.
LIBRARIES = {
    "torch": ("torch",), "transformers": ("transformers",), "tokenizers": ("tokenizers",), "numpy": ("numpy",),
    "pytorch_lightning": ("pytorch-lightning",), "peft": ("peft",), "faiss": ("faiss-cpu", "faiss-gpu"),
    "babel": ("babel",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "onnxscript": ("onnxscript",),
    "openvino": ("openvino",), "torchao": ("torchao",), "codecarbon": ("codecarbon",), "scipy": ("scipy",),
    "sentencepiece": ("sentencepiece",), "ir_datasets": ("ir_datasets",),
    "bm25s": ("bm25s",), "icu4py": ("icu4py",), "Stemmer": ("PyStemmer",),
}  # fmt: skip
HARMLESS = {"datasets", "httpx2", "huggingface_hub", "hydra", "omegaconf", "pandas", "pyarrow", "pydantic", "pynvml"}
HARMLESS |= {"fsspec", "onnx", "psutil", "safetensors", "tqdm", "yaml"}


def cache_key(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value, keys sorted."""
    return digest(value)[:16]


def follow(modules: list[str]) -> dict[str, Any]:
    """Code hashes and library versions of all that these modules, or packages, import."""
    ours = [module for module in modules if source(module)]
    names = closure(name for module in ours for name in package(module))
    code = {name: code_hash(name) for name in sorted(names)}
    code |= {module: foreign_hash(module) for module in modules if module not in ours}  # of `allow_targets`
    return {"code": code, "libraries": libraries(names)}


def target_modules(node: Any) -> set[str]:
    """The modules under every `_target_` of a node: pipeline.data.lareqa, …"""
    if not isinstance(node, Mapping):
        return set()
    modules = set().union(*(target_modules(child) for child in node.values()))
    if "_target_" in node:
        modules.add(re.sub(r"\.\w+$", "", node["_target_"]))
    return modules


def libraries(modules: Iterable[str]) -> dict[str, str | None]:
    """Versions of the libraries in LIBRARIES that these modules import; None if not installed."""
    names = set().union(*map(external_imports, modules))
    versions = {name: [installed(each) for each in LIBRARIES[name]] for name in sorted(names & LIBRARIES.keys())}
    return {name: next(filter(None, candidates), None) for name, candidates in versions.items()}


@cache
def installed(distribution: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def closure(modules: Iterable[str]) -> set[str]:
    """These modules of ours, and all modules of ours that they import, directly or not. Others are left out."""
    seen: set[str] = set()
    queue = [name for module in modules for name in with_packages(module) if source(name)]
    while queue:
        module = queue.pop()
        if module not in seen:
            seen.add(module)
            queue += our_imports(module)
    return seen


def with_packages(module: str) -> list[str]:
    """A module and the packages that hold it, whose `__init__` Python runs first."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def source(module: str) -> Path | None:
    """The file of a module of ours."""
    if module.partition(".")[0] != PACKAGE:
        return None
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def package(name: str) -> list[str]:
    """The modules of a package of ours, at any depth; of a module, itself."""
    path = source(name)
    if path is None or path.name != "__init__.py":
        return [name]
    files = sorted(path.parent.rglob("*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


@cache
def tree(module: str) -> ast.Module:
    path = source(module)
    assert path, f"{module} is no module of ours"
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """All dotted names that a module imports anywhere in its code: modules, and what it takes out of them."""
    names: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def our_imports(module: str) -> frozenset[str]:
    """The modules of ours that a module imports, with the packages that hold them."""
    return frozenset(part for name in imports(module) for part in with_packages(name) if source(part))


def external_imports(module: str) -> set[str]:
    """The top-level names of everything else that a module imports."""
    return {name.partition(".")[0] for name in imports(module)} - {PACKAGE}


@cache
def code_hash(module: str) -> str:
    """Hash of a module's syntax tree without docstrings; comments and layout are not part of the tree."""
    code = source(module)
    assert code
    bare = ast.parse(code.read_text(encoding="utf-8"))
    for node in ast.walk(bare):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            head = node.body[:1]
            if head and isinstance(head[0], ast.Expr) and isinstance(head[0].value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    text = code.with_suffix(".yaml")  # data that a module keeps beside itself
    return hashlib.sha256(dump(bare).encode() + (text.read_bytes() if text.is_file() else b"")).hexdigest()[:16]


def dump(code: ast.Module) -> str:
    """Return a syntax tree as Python 3.11 writes it, so that cache keys are the same under newer versions."""
    if sys.version_info < (3, 13):
        text = ast.dump(code)
    else:
        text = ast.dump(code, show_empty=True)
    return text.replace(", type_params=[]", "")


def foreign_hash(module: str) -> str:
    """Hash of all Python files of the package that holds a module which is not ours."""
    spec = find_spec(module.partition(".")[0])
    assert spec, f"{module} has been imported"
    folders = spec.submodule_search_locations
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*.py"))] if folders else [spec.origin]
    return hashlib.sha256("\n".join(tree_hash(Path(str(file))) for file in files).encode()).hexdigest()[:16]


def contents(node: Any) -> Any:
    """A config in which a hash of the contents stands for the path of every file or folder."""
    if not isinstance(node, Mapping):
        return node
    here = {key: Path(value) for key, value in node.items() if key in FILES and value and Path(value).exists()}
    return {key: tree_hash(here[key]) if key in here else contents(value) for key, value in node.items()}


def tree_hash(path: Path) -> str:
    """Hash of a file, or of all files in a folder and their names, but for hidden ones, which other tools keep."""
    if path.is_file():
        return file_hash(path, path.stat().st_size, path.stat().st_mtime_ns)
    names = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return hashlib.sha256("\n".join(f"{name} {tree_hash(path / name)}" for name in shown).encode()).hexdigest()


@cache
def file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file, read once per process unless the file has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
