"""Weights & Biases: each run, and one aggregate run a sweep. Reads records and tables, after they are safely written.

Without an API key (WANDB_API_KEY or netrc) runs are kept offline; WANDB_MODE overrides. Nothing here can fail a run:
whatever W&B refuses costs one warning, and the run is kept offline.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.analysis.tables import ACCURACY
from pipeline.results import ResultStore, fingerprint, row
from pipeline.values import Record

LOG = logging.getLogger(__name__)
SERVER_TIMEOUT_S = 20


def log_run(store: ResultStore, record: Record) -> None:
    """Config, learning curve, metrics and profile of one run, under an id that follows from its fingerprint."""
    numbers = {key: value for key, value in row(record).items() if key.startswith(("metrics.", "profile."))}
    curve = store.curve(record.name)

    def fill(run: Any) -> None:
        for point in curve.to_dict("records"):
            step = int(point.pop("step"))
            run.log({f"train/{key}": value for key, value in point.items()}, step=step)
        run.summary.update({key.replace(".", "/"): value for key, value in numbers.items()})
        run.summary.update({f"stage_s/{stage}": seconds for stage, seconds in record.stage_s.items()})

    job = "train" if not curve.empty else "evaluate" if record.metrics else "profile"
    about = {"choices": dict(record.choices), "provenance": dict(record.provenance), "notes": list(record.notes)}
    config = dict(record.config) | about
    send(record.config["tracking"], fill, id=record.fingerprint, name=record.name, job_type=job,
         group=record.config["sweep"], config=config)  # fmt: skip


def log_aggregate(
    tracking: Mapping[str, Any], sweep: str, variants: pd.DataFrame, points: pd.DataFrame, figures: Mapping[str, Path]
) -> None:
    """One run with the sweep's table, a native scatter for each cost and setting, and the figures by benchmark."""

    def fill(run: Any) -> None:
        import wandb

        panels: dict[str, Any] = {"variants": table(variants)}
        for (benchmark, setting, cost), panel in points.groupby(["benchmark", "setting", "cost"], sort=False):
            accuracy = f"{benchmark}_{setting}_{ACCURACY}"
            chosen = table(panel.rename(columns={"value": cost, "accuracy": accuracy}))
            scatter = wandb.plot.scatter(chosen, cost, accuracy, title=f"{accuracy} against {cost}")
            panels[f"pareto/{benchmark}/{setting}/{cost}"] = scatter
        for benchmark, path in figures.items():
            panels[f"pareto/{benchmark}/figure"] = wandb.Image(str(path))
        run.log(panels)

    identity = fingerprint({"sweep": sweep, "variants": sorted(variants["variant"])})
    send(tracking, fill, id=identity, name=f"{sweep}-fronts", job_type="aggregate", group=sweep,
         config={"sweep": sweep})  # fmt: skip


def table(frame: pd.DataFrame) -> Any:
    """A wandb.Table of plain Python values: W&B shows other kinds of number blank."""
    import wandb

    plain = frame.astype(object).where(frame.notna(), None)
    return wandb.Table(columns=[str(column) for column in plain], data=plain.values.tolist(), allow_mixed_types=True)


def send(tracking: Mapping[str, Any], fill: Callable[[Any], None], **identity: Any) -> None:
    """Let `fill` write a run, offline if the server is not to be had, and say where it lies. Raises no Exception."""
    if not tracking["wandb"]:
        return
    complaint = ""
    for mode in dict.fromkeys((os.environ.get("WANDB_MODE"), "offline")):
        try:
            print(write(tracking, fill, mode, **identity), file=sys.stderr)
            return
        except Exception as error:  # the record is safe: what happens to its copy must not matter
            if str(error) != complaint:
                LOG.warning("W&B did not take %s: %s", identity["name"], " ".join(str(error).split()))
            complaint = str(error)


def write(tracking: Mapping[str, Any], fill: Callable[[Any], None], mode: str | None, **identity: Any) -> str:
    """Open a run, fill and finish it; returns where it lies. `mode` None: online with a key, else offline."""
    folder = Path(tracking["dir"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    for kind in ("DATA", "CACHE", "CONFIG"):  # else tables are staged in the home folder
        os.environ.setdefault(f"WANDB_{kind}_DIR", str(folder / "wandb"))
    import wandb  # after the environment is set

    settings = wandb.Settings(
        console="off", disable_git=True, x_disable_stats=True, init_timeout=SERVER_TIMEOUT_S,
        finish_timeout=3 * SERVER_TIMEOUT_S, finish_timeout_raises=True,
    )  # fmt: skip
    try:
        mode = mode or ("online" if wandb.login(prompt=False) else "offline")
        with wandb.init(
            project=tracking["project"], entity=tracking["entity"], dir=str(folder), mode=mode, resume="allow",
            settings=settings, **identity,
        ) as run:  # fmt: skip
            fill(run)
    except Exception:
        wandb.teardown()  # else the run stays open and its id in use
        raise
    lies = {"online": run.url, "offline": f"{run.settings.sync_dir} (send it with: wandb sync {run.settings.sync_dir})"}
    return f"W&B, {mode}: {lies.get(mode)}"
