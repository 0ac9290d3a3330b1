"""Weights & Biases: a W&B run for each of our runs, and one per sweep with its report. Reads records and tables only.

Without an API key (WANDB_API_KEY or netrc) runs are kept offline; WANDB_MODE overrides. W&B cannot fail a run: an error
is logged as one warning, and the run is kept offline. A run that is logged again, after a crash or with more seeds,
resumes under its id. `python -m pipeline.reporting.wandb results` sends the offline runs of a results folder.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.analysis.tables import main_metric, scales
from pipeline.retrieval.metrics import SETTING_COLUMNS, language_matrix
from pipeline.store.keys import cache_key
from pipeline.store.records import Record, row
from pipeline.store.results import ResultStore
from pipeline.values import UserError

if TYPE_CHECKING:
    import wandb

LOG = logging.getLogger(__name__)
SERVER_TIMEOUT_S = 20
SERVICE_S = 60  # after which W&B's service process is killed
USAGE = "usage: python -m pipeline.reporting.wandb RESULTS; sends the offline runs in the folder RESULTS/wandb to W&B."
Fill = Callable[["wandb.Run", int], None]  # writes an open run; the number of its offline copies sent before


@dataclass(frozen=True)
class Tracking:
    """conf/tracking, as a record keeps it."""

    wandb: bool
    project: str
    entity: str | None
    dir: str

    @classmethod
    def of(cls, record: Record) -> "Tracking":
        """Return the tracking options of a run."""
        return cls(**record.config["tracking"])


@dataclass(frozen=True)
class Identity:
    """What W&B knows a run by. Runs of equal `id` are one run, logged again."""

    id: str
    name: str
    job_type: str
    group: str
    config: Mapping[str, Any]


def log_run(store: ResultStore, record: Record) -> None:
    """Log the config, learning curve, metrics and profile of one run. Its W&B id is its cache key."""
    flat = row(record)
    numbers = {key: value for key, value in flat.items() if key.startswith(("metrics.", "profile."))}
    curve = store.curve(record.name)
    one_row = pd.DataFrame([flat])
    per_query = {benchmark: store.per_query(record.name, benchmark) for benchmark, _ in scales(one_row)}
    by_language = record.profile.details.get("by_language") if record.profile else None

    def fill(run: "wandb.Run", sent: int) -> None:
        for point in [] if sent else curve.to_dict("records"):
            step = int(point.pop("step"))
            run.log({f"train/{key}": value for key, value in point.items()}, step=step)
        run.summary.update({key.replace(".", "/"): value for key, value in numbers.items()})
        run.summary.update({f"stage_s/{stage}": seconds for stage, seconds in record.stage_s.items()})
        run.summary.update({"training": dict(record.training), "corpus": dict(record.corpus)})
        for benchmark, scores in per_query.items():
            matrix = language_matrix(scores, main_metric(one_row, benchmark))
            run.summary[f"languages/{benchmark}"] = table(language_means(scores))
            run.summary[f"matrix/{benchmark}"] = table(matrix.reset_index())
        if by_language:
            run.summary["profile/by_language"] = table(pd.DataFrame(by_language))

    config = dict(record.config) | {
        "choices": dict(record.choices),
        "variant": record.variant,
        "provenance": dict(record.provenance),
        "notes": list(record.notes),
    }
    if record.profile:
        config["machine"] = dict(record.profile.details["machine"])
    job_type = "train" if not curve.empty else "evaluate" if record.metrics else "profile"
    send(Tracking.of(record), Identity(record.cache_key, record.name, job_type, record.config["sweep"], config), fill)


def language_means(per_query: pd.DataFrame) -> pd.DataFrame:
    """Average the queries: one row per (setting, query language, passage language), one column per metric."""
    scores = per_query.drop(columns=["query_id", "cluster"], errors="ignore")
    return scores.groupby(SETTING_COLUMNS, sort=False).mean().reset_index()


def log_report(
    tracking: Tracking,
    sweep: str,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Path],
    files: Sequence[Path],
) -> None:
    """Log one run per sweep: the table of systems, a native scatter plot for each cost and setting, the figures by
    benchmark, and an artifact of all `files` (report.html and the csv files of `tables`)."""
    systems = tables["systems"]

    def fill(run: "wandb.Run", sent: int) -> None:
        import wandb

        panels: dict[str, Any] = {"systems": table(systems)}
        for (benchmark, setting, cost), panel in tables["pareto"].groupby(["benchmark", "setting", "cost"], sort=False):
            accuracy = f"{benchmark}_{setting}_{main_metric(systems, benchmark)}"
            points = panel.drop(columns=cost, errors="ignore").rename(columns={"value": cost, "accuracy": accuracy})
            scatter = wandb.plot.scatter(table(points), cost, accuracy, title=f"{accuracy} against {cost}")
            panels[f"pareto/{benchmark}/{setting}/{cost}"] = scatter
        for benchmark, path in figures.items():
            panels[f"pareto/{benchmark}/figure"] = wandb.Image(str(path))
        run.log(panels, step=sent or None)
        artifact = wandb.Artifact(re.sub("[^A-Za-z0-9_.-]+", "-", f"{sweep}-report"), type="report")
        for path in files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)

    key = cache_key({"sweep": sweep, "systems": sorted(systems["system"])})
    send(tracking, Identity(key, f"{sweep}-report", "report", sweep, {"sweep": sweep}), fill)


def table(frame: pd.DataFrame) -> "wandb.Table":
    """Convert a frame to a wandb.Table of plain Python values; W&B shows other number types as blank."""
    import wandb

    plain = frame.astype(object).where(frame.notna(), None)
    return wandb.Table(columns=[str(column) for column in plain], data=plain.values.tolist(), allow_mixed_types=True)


def send(tracking: Tracking, identity: Identity, fill: Fill) -> None:
    """Write a run by `fill`, offline if the server cannot be reached, and print where it is. Never raises."""
    if not tracking.wandb:
        return
    warned = ""
    for mode in dict.fromkeys((os.environ.get("WANDB_MODE"), "offline")):
        try:
            print(write(tracking, identity, fill, mode), file=sys.stderr)
            return
        except Exception as error:  # the record is already saved: an error of its copy must not fail the run
            if str(error) != warned:
                LOG.warning("W&B · %s · not logged: %s", identity.name, " ".join(str(error).split()))
            warned = str(error)


def end_service(teardown: Callable[[], None]) -> None:
    """End W&B's service process, which waits for its server without a limit: past a minute it is killed.

    What it has not sent stays in the run's folder.
    """
    import psutil

    ending = Thread(target=teardown, daemon=True)
    ending.start()
    ending.join(SERVICE_S)
    if ending.is_alive():
        for child in psutil.Process().children():
            if child.name().startswith("wandb-core"):
                child.kill()
        ending.join(SERVICE_S)


def write(tracking: Tracking, identity: Identity, fill: Fill, mode: str | None) -> str:
    """Open a run, fill and finish it.

    Online, the server knows a run that is logged again, and `resume` drops the steps that it has. Offline copies are
    appended when they are sent. So unsent copies are replaced, and after a copy was sent no step is logged again.

    Args:
        mode: of wandb.init; None is online with an API key, else offline.

    Returns:
        A sentence that says where the run is.
    """
    folder = Path(tracking.dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    for kind in ("DATA", "CACHE", "CONFIG"):  # else tables are staged in the home folder
        os.environ.setdefault(f"WANDB_{kind}_DIR", str(folder / "wandb"))
    import wandb  # after the environment is set

    settings = wandb.Settings(
        console="off",
        disable_git=True,
        x_disable_stats=True,
        init_timeout=SERVER_TIMEOUT_S,
        finish_timeout=3 * SERVER_TIMEOUT_S,
        finish_timeout_raises=True,
    )
    try:
        mode = mode or ("online" if wandb.login(prompt=False) else "offline")
        where: dict[str, Any] = {"mode": mode, "project": tracking.project, "entity": tracking.entity}
        earlier = [copy for copy in copies(folder) if copy.stem == f"run-{identity.id}"]
        with wandb.init(resume="allow", dir=str(folder), settings=settings, **where, **vars(identity)) as run:
            fill(run, sum(not unsent(copy) for copy in earlier) if mode == "offline" else 0)
    finally:
        end_service(wandb.teardown)  # after a failure the run would stay open and its id in use
    own = Path(run.settings.sync_dir)
    for copy in earlier:
        if mode in ("online", "offline") and unsent(copy) and copy.parent != own:
            shutil.rmtree(copy.parent)
    places = {"online": run.url, "offline": f"{own} (send it with: wandb sync {own})"}
    return f"W&B, {mode}: {places.get(mode, 'nothing is kept')}"


def copies(folder: Path) -> list[Path]:
    """List the offline runs, sent or not, that W&B keeps in a folder."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def unsent(copy: Path) -> bool:
    """Tell whether an offline run has not been sent: W&B marks those that were."""
    return not copy.with_suffix(".wandb.synced").exists()


def sync(folder: Path) -> None:
    """Send the unsent offline runs of a results folder.

    Raises:
        UserError: if there is no API key, or the server does not take all of them.
    """
    waiting = [path for path in copies(folder) if unsent(path)]
    if not waiting:
        print(f"no unsent runs in {folder / 'wandb'}")
        return
    import wandb

    try:
        has_key = wandb.login(prompt=False)
    except Exception as error:  # of the network, a proxy, the server
        raise UserError(f"W&B cannot be reached, unsent runs: {len(waiting)}. {error}") from error
    if not has_key:
        raise UserError(f"no W&B API key, unsent runs: {len(waiting)}. Set WANDB_API_KEY, or run wandb login.")
    command = [sys.executable, "-m", "wandb", "sync", *(str(path.parent.resolve()) for path in waiting)]
    subprocess.run(command, cwd=folder, check=False)  # it keeps its own log in ./wandb
    left = sum(map(unsent, waiting))
    if left:
        raise UserError(f"{left} of {len(waiting)} runs were not sent: see the messages of wandb sync above.")
    print(f"runs sent: {len(waiting)}")


def main() -> None:
    """Run `sync` on the folder that the command line names; bad input is one sentence and exit code 2."""
    try:
        if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
            raise UserError(USAGE)
        sync(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
