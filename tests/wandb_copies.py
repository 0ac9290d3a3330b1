"""What W&B's offline copies hold, read with W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

OWN = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")


def read_back(folder: Path) -> list[dict]:
    """Config, summary, history, system metrics, exit code and files of each copy, the oldest first."""
    runs = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_ctime_ns):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        run = {"history": [], "stats": [], "summary": {}, "config": {}, "exit_code": None, "folder": path.parent}
        for entry in map(json.loads, lines):
            kind = entry["type"]
            if kind == "run":
                run |= entry["run"] | {"config": dict(entry["run"]["config"]["update"])}
            elif kind == "config":
                run["config"] |= entry["config"]["update"]
            elif kind == "history":
                run["history"].append(entry["history"]["item"])
            elif kind == "stats":
                run["stats"].append(entry["stats"]["item"])
            elif kind == "exit":
                run["exit_code"] = entry["exit"].get("exit_code", 0)
            elif kind == "summary":
                # a table in the summary is nested, a logged one is flat
                update = pd.json_normalize(entry["summary"]["update"])
                run["summary"] |= update.iloc[0].to_dict()
        runs.append(run)
    return runs


def file_of(run: dict, key: str) -> Path:
    """The file of a table, a figure or a page, which waits beside the run to be sent."""
    return run["folder"] / "files" / run["summary"][f"{key}.path"]


def table_of(run: dict, key: str) -> pd.DataFrame:
    raw = json.loads(file_of(run, key).read_text())
    return pd.DataFrame(raw["data"], columns=raw["columns"])
