"""W&B's client, tamed: opening and finishing a run within limits of time, and sending what was kept offline.

Without an API key (WANDB_API_KEY or netrc) runs are kept offline; WANDB_MODE overrides. W&B cannot fail a run: an error
is logged as one warning. A run that is logged again, after a crash or with more seeds, resumes under its id. Offline,
W&B cannot resume, so such a run is in several folders, its copies; sent, they are one run again.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.store import locks
from pipeline.store.records import Record
from pipeline.values import UserError

if TYPE_CHECKING:
    import wandb

LOG = logging.getLogger(__name__)
SERVER_TIMEOUT_S = 20
HEADER_BYTES = 7  # with which W&B's files begin
SERVICE_S = 60  # after which W&B's service process is killed
Fill = Callable[["wandb.Run"], int]  # writes an open run and returns its exit code


@dataclass(frozen=True)
class Tracking:
    """conf/tracking, as a record keeps it."""

    wandb: bool
    project: str
    entity: str | None
    dir: str

    @classmethod
    def of(cls, record: Record, results_dir: Path) -> "Tracking":
        """Return the tracking options of a run. W&B's files stay in the results, also where those are moved to."""
        options = dict(record.config["tracking"])
        if options["dir"] == record.config["results_dir"]:
            options["dir"] = str(results_dir)
        return cls(**options)


@dataclass(frozen=True)
class Identity:
    """What W&B knows a run by. Runs of equal `id` are one run, logged again."""

    id: str
    name: str
    job_type: str
    group: str
    config: Mapping[str, Any]


def send(
    tracking: Tracking, identity: Identity, fill: Fill, *, watched_pid: int | None = None, whole: bool = False
) -> None:
    """Open a run, say where it is, write it by `fill` and finish it. Never raises.

    Args:
        watched_pid: process whose load is logged beside that of the machine; None logs neither.
        whole: whether `fill` writes all that earlier copies hold, so that unsent ones can go.
    """
    if not tracking.wandb or os.environ.get("WANDB_MODE") == "disabled":
        return
    try:
        with variables(Path(tracking.dir).resolve()):
            run = opened(tracking, identity, watched_pid)
            exit_code = 1
            with locks.hold(lock(Path(tracking.dir), run.id)):
                try:
                    print(place(run), file=sys.stderr, flush=True)
                    exit_code = fill(run)
                finally:
                    finish(run, exit_code, whole=whole)
    except Exception as error:  # results are saved elsewhere: an error of their copy must not fail the run
        warn(identity, "not logged", error)


def warn(identity: Identity, what: str, error: Exception) -> None:
    """Log an error of W&B on one line."""
    LOG.warning("W&B · %s · %s: %s", identity.name, what, " ".join(str(error).split()))


@contextmanager
def variables(folder: Path) -> Iterator[None]:
    """Set the variables of the environment that W&B reads and the user has not set; without them afterwards.

    Args:
        folder: of W&B's files; else tables are staged in the home folder.
    """
    folders = {f"WANDB_{kind}_DIR": str(folder / "wandb") for kind in ("DATA", "CACHE", "CONFIG")}
    defaults = {"WANDB_SILENT": "true", **folders}
    own = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


def opened(tracking: Tracking, identity: Identity, watched_pid: int | None) -> "wandb.Run":
    """Open a run: as WANDB_MODE says, else online with an API key; offline without one, or if the server is away."""
    folder = Path(tracking.dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    import wandb  # after `variables`

    settings = wandb.Settings(
        console="off",
        disable_git=True,
        x_disable_stats=watched_pid is None,
        init_timeout=SERVER_TIMEOUT_S,
        finish_timeout=3 * SERVER_TIMEOUT_S,
        finish_timeout_raises=True,
    )
    if watched_pid is not None:
        settings.x_stats_pid = watched_pid
    options: dict[str, Any] = {"resume": "allow", "dir": str(folder), "settings": settings, **vars(identity)}
    options |= {"project": tracking.project, "entity": tracking.entity, "mode": os.environ.get("WANDB_MODE")}
    if "WANDB_SWEEP_ID" in os.environ:  # an agent's: it has named project, entity and id
        options = {key: value for key, value in options.items() if key not in ("id", "project", "entity")}
    try:
        options["mode"] = options["mode"] or ("online" if wandb.login(prompt=False) else "offline")
        return wandb.init(**options)
    except Exception as error:
        end_service(wandb.teardown)  # the run would stay open and its id in use
        run = wandb.init(**options | {"mode": "offline"})
        warn(identity, "kept offline", error)
        return run


def place(run: "wandb.Run") -> str:
    """Return a sentence that says where a run is."""
    if not run.offline:
        return f"W&B, online: {run.url}"
    folder = Path(run.settings.sync_dir)
    return f"W&B, offline: {folder} (send it with: python -m pipeline.sync {folder.parents[1]})"


def finish(run: "wandb.Run", exit_code: int, *, whole: bool) -> None:
    """Finish a run. An online run that could not be sent by then becomes an offline copy.

    Unsent copies of a run that was written as a whole, or online, where W&B has the steps of all times, are removed.
    """
    import wandb

    own = Path(run.settings.sync_dir)
    try:
        run.finish(exit_code)
    except Exception as error:
        end_service(wandb.teardown)
        if run.offline:
            raise
        kept = own.rename(own.with_name(f"offline-{own.name}"))
        raise TimeoutError(f"{error} It is kept in {kept}.") from error
    end_service(wandb.teardown)
    if exit_code == 0 and (whole or not run.offline):
        for copy in copies(own.parents[1], run.id):
            if unsent(copy) and copy.parent != own:
                shutil.rmtree(copy.parent)


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


def first_step(run: "wandb.Run") -> int:
    """Return the first step of training that a run has not, of all the times it was logged.

    W&B drops steps that it has, online; offline copies are appended to each other when they are sent.
    """
    if not run.offline:
        return run.starting_step
    own = Path(run.settings.sync_dir)
    earlier = [copy for copy in copies(own.parents[1], run.id) if copy.parent != own]
    return max(map(steps, earlier), default=0)


def steps(copy: Path) -> int:
    """Return how far the steps of an offline copy go; that of a killed run may end anywhere."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(copy)]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return max((entry["history"]["item"]["_step"] + 1 for entry in entries if entry["type"] == "history"), default=0)


def copies(folder: Path, run_id: str = "*") -> list[Path]:
    """List the offline copies, sent or not, that W&B keeps in a folder: of one run, or of all.

    An empty copy, of a run that was killed in its first seconds, cannot be sent and is left out.
    """
    paths = sorted(folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb"))
    return [path for path in paths if path.stat().st_size > HEADER_BYTES]


def unsent(copy: Path) -> bool:
    """Tell whether an offline copy has not been sent: W&B marks those that were."""
    return not copy.with_suffix(".wandb.synced").exists()


def lock(folder: Path, run_id: str) -> Path:
    """Return the lock that is held while a W&B run is written."""
    return folder / "locks" / f"wandb-{run_id}"


def sync(folder: Path) -> None:
    """Send the unsent offline copies of a results folder. W&B sends those of one run in the order they were made.

    Raises:
        UserError: if there is no API key, or the server does not take all of them.
    """
    left_over = [path for path in copies(folder) if unsent(path)]
    waiting = [path for path in left_over if not locks.held(lock(folder, path.stem.removeprefix("run-")))]
    if at_work := len(left_over) - len(waiting):
        print(f"runs at work, to be sent once they have ended: {at_work}")
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


def table(frame: pd.DataFrame) -> "wandb.Table":
    """Convert a frame to a wandb.Table of plain Python values; W&B shows other number types as blank."""
    import wandb

    plain = frame.astype(object).where(frame.notna(), None)
    return wandb.Table(columns=[str(column) for column in plain], data=plain.values.tolist(), allow_mixed_types=True)
