"""`python -m pipeline`: list the commands; with the name of a command, run it as `python -m pipeline.COMMAND` does.

An installed package has the same as a console script, `paretrieve`.
"""

import ast
import os
import sys
from pathlib import Path

from pipeline.launch.commands import refusing
from pipeline.values import CONF, UserError, unknown

COMMANDS = (
    "run",
    "status",
    "report",
    "archive",
    "recommend",
    "export",
    "serve",
    "load",
    "search",
    "profile_model",
    "published",
    "sync",
)


def overview() -> str:
    """Return the list of commands: the first line of each module's docstring, without the usage that it begins with."""
    lines = ["python -m pipeline COMMAND key=value … (COMMAND --help shows an example and all keys)", ""]
    for name in COMMANDS:
        module = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
        first, *_ = (ast.get_docstring(module) or "").splitlines()
        lines.append(f"  {name:15}{first.partition('`: ')[2]}")
    lines += ["", f"Configs: {CONF}; sweeps for `run --config-dir`: {CONF.with_name('sweeps')}"]
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Replace this process by the command that the first word names, or list the commands."""
    if not words or words[0] in ("--help", "-h"):
        print(overview())
        return
    command, *arguments = words
    if command not in COMMANDS:
        raise UserError(unknown("command", command, COMMANDS))
    os.execv(sys.executable, [sys.executable, "-m", f"pipeline.{command}", *arguments])


def console() -> None:
    with refusing():
        main(sys.argv[1:])


if __name__ == "__main__":
    console()
