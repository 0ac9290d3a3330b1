"""Weights & Biases: each run, and one aggregate run a sweep. Reads records and tables, after they are safely written.

Without an API key (WANDB_API_KEY or netrc) runs are kept offline; WANDB_MODE overrides. Nothing here can fail a run:
whatever W&B refuses costs one warning, and the run is kept offline. A run that is logged again, after a crash or with
more seeds, goes on under its id. `python -m pipeline.reporting.wandb results` sends the offline runs of a results folder.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.analysis.tables import ACCURACY, scales
from pipeline.launch.commands import arguments, refusing
from pipeline.store.results import ResultStore, fingerprint, row
from pipeline.values import Record, UserError

LOG = logging.getLogger(__name__)
SERVER_TIMEOUT_S = 20
USAGE = (
    "usage: python -m pipeline.reporting.wandb RESULTS; sends the runs that lie offline in the folder RESULTS/wandb to W&B."
)
Fill = Callable[[Any, int], None]  # writes an open run, of which so many offline copies were sent before


def log_run(store: ResultStore, record: Record) -> None:
    """Config, learning curve, metrics and profile of one run, under an id that follows from its fingerprint."""
    flat = row(record)
    numbers = {key: value for key, value in flat.items() if key.startswith(("metrics.", "profile."))}
    curve = store.curve(record.name)
    per_query = {benchmark: store.per_query(record.name, benchmark) for benchmark, _ in scales(pd.DataFrame([flat]))}
    by_language = record.profile.details.get("by_language") if record.profile else None

    def fill(run: Any, sent: int) -> None:
        for point in [] if sent else curve.to_dict("records"):
            step = int(point.pop("step"))
            run.log({f"train/{key}": value for key, value in point.items()}, step=step)
        run.summary.update({key.replace(".", "/"): value for key, value in numbers.items()})
        run.summary.update({f"stage_s/{stage}": seconds for stage, seconds in record.stage_s.items()})
        run.summary.update({"training": dict(record.training), "corpus": dict(record.corpus)})
        for benchmark, scores in per_query.items():
            run.summary[f"languages/{benchmark}"] = table(language_means(scores))
            run.summary[f"matrix/{benchmark}"] = table(matrix(scores))
        if by_language:
            run.summary["profile/by_language"] = table(pd.DataFrame(by_language))

    job = "train" if not curve.empty else "evaluate" if record.metrics else "profile"
    about = {"choices": dict(record.choices), "provenance": dict(record.provenance), "notes": list(record.notes)}
    if record.profile:
        about["machine"] = dict(record.profile.details["machine"])
    config = dict(record.config) | about
    send(record.config["tracking"], fill, id=record.fingerprint, name=record.name, job_type=job,
         group=record.config["sweep"], config=config)  # fmt: skip


def language_means(per_query: pd.DataFrame) -> pd.DataFrame:
    """A row a (setting, query language, passage language), a column a metric."""
    keys = ["setting", "query_language", "passage_language"]
    return per_query.drop(columns="query_id").groupby(keys, sort=False).mean().reset_index()


def matrix(per_query: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with a row a query language and a column a passage language; on the diagonal: monolingual."""
    pairs = per_query[per_query["setting"] != "multi"].groupby(["query_language", "passage_language"], sort=False)
    return pairs[ACCURACY].mean().unstack(sort=False).reset_index()


def log_aggregate(
    tracking: Mapping[str, Any],
    sweep: str,
    found: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Path],
    files: Sequence[Path],
) -> None:
    """One run with the sweep's table, a native scatter for each cost and setting, the figures by benchmark, and an
    artefact of all `files`: report.html and the tables that `found` holds."""
    variants = found["variants"]

    def fill(run: Any, sent: int) -> None:
        import wandb

        panels: dict[str, Any] = {"variants": table(variants)}
        for (benchmark, setting, cost), panel in found["pareto"].groupby(["benchmark", "setting", "cost"], sort=False):
            accuracy = f"{benchmark}_{setting}_{ACCURACY}"
            chosen = table(
                panel.drop(columns=cost, errors="ignore").rename(columns={"value": cost, "accuracy": accuracy})
            )
            scatter = wandb.plot.scatter(chosen, cost, accuracy, title=f"{accuracy} against {cost}")
            panels[f"pareto/{benchmark}/{setting}/{cost}"] = scatter
        for benchmark, path in figures.items():
            panels[f"pareto/{benchmark}/figure"] = wandb.Image(str(path))
        run.log(panels, step=sent or None)
        artefact = wandb.Artifact(re.sub("[^A-Za-z0-9_.-]+", "-", f"{sweep}-report"), type="report")
        for path in files:
            artefact.add_file(str(path))
        run.log_artifact(artefact)

    identity = fingerprint({"sweep": sweep, "variants": sorted(variants["variant"])})
    send(tracking, fill, id=identity, name=f"{sweep}-fronts", job_type="aggregate", group=sweep,
         config={"sweep": sweep})  # fmt: skip


def table(frame: pd.DataFrame) -> Any:
    """A wandb.Table of plain Python values: W&B shows other kinds of number blank."""
    import wandb

    plain = frame.astype(object).where(frame.notna(), None)
    return wandb.Table(columns=[str(column) for column in plain], data=plain.values.tolist(), allow_mixed_types=True)


def send(tracking: Mapping[str, Any], fill: Fill, **identity: Any) -> None:
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


def write(tracking: Mapping[str, Any], fill: Fill, mode: Any, **identity: Any) -> str:
    """Open a run, fill and finish it; returns where it lies. `mode` None: online with a key, else offline.

    Online, the server knows a run that is logged again, and `resume` drops the steps it has. What is sent from offline
    copies is appended instead: so copies that wait are replaced, and after one that was sent no step is told twice.
    """
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
        earlier = [copy for copy in copies(folder) if copy.stem == f"run-{identity['id']}"]
        with wandb.init(
            project=tracking["project"], entity=tracking["entity"], dir=str(folder), mode=mode, resume="allow",
            settings=settings, **identity,
        ) as run:  # fmt: skip
            fill(run, sum(not waits(copy) for copy in earlier) if mode == "offline" else 0)
    finally:
        wandb.teardown()  # its server: after a failure the run would stay open and its id in use
    for copy in earlier:
        if mode in ("online", "offline") and waits(copy) and copy.parent != Path(run.settings.sync_dir):
            shutil.rmtree(copy.parent)
    lies = {"online": run.url, "offline": f"{run.settings.sync_dir} (send it with: wandb sync {run.settings.sync_dir})"}
    return f"W&B, {mode}: {lies.get(mode)}"


def copies(folder: Path) -> list[Path]:
    """The offline runs, waiting or sent, that W&B keeps in a folder."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def waits(copy: Path) -> bool:
    """Whether W&B has yet to be sent an offline run: it marks those that were."""
    return not copy.with_suffix(".wandb.synced").exists()


def sync(folder: Path) -> None:
    """Send the offline runs that wait in a results folder; UserError where that cannot be."""
    waiting = [path for path in copies(folder) if waits(path)]
    if not waiting:
        print(f"no offline run waits in {folder / 'wandb'}")
        return
    import wandb

    try:
        known = wandb.login(prompt=False)
    except Exception as error:  # whatever stands between here and the server
        raise UserError(f"W&B cannot be had, {len(waiting)} runs wait: {error}") from error
    if not known:
        raise UserError(f"no W&B key, {len(waiting)} runs wait: set WANDB_API_KEY, or run wandb login.")
    command = [sys.executable, "-m", "wandb", "sync", *(str(path.parent.resolve()) for path in waiting)]
    subprocess.run(command, cwd=folder, check=False)  # it keeps its own log in ./wandb
    left = sum(map(waits, waiting))
    if left:
        raise UserError(f"{left} of {len(waiting)} runs were not sent.")
    print(f"sent {len(waiting)} runs")


def main() -> None:
    with refusing():
        folder, _ = arguments(USAGE)
        sync(Path(folder))


if __name__ == "__main__":
    main()
