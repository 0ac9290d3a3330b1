"""`python -m pipeline.run model=… sampler=…`: Hydra composes a cell; it runs in a fresh child process.

So a crash, an out-of-memory kill or leftover state of one cell cannot touch another, whatever launcher Hydra uses.
Bad input is one sentence and exit code 2; a cell that fails is recorded with its reason, and exits 1.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline import config
from pipeline.results import Cell, ResultStore, fingerprint
from pipeline.values import UserError

GROUPS = ("model", "sampler", "data", "eval", "trainer", "profile")


def child(request: dict[str, Any], threads: int) -> dict[str, Any]:
    """Run pipeline.cell on a request and wait, asleep; return its outcome, or why it died."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    environment |= {"TOKENIZERS_PARALLELISM": "true", "HYDRA_FULL_ERROR": "0"}
    command = [sys.executable, "-m", "pipeline.cell"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            answer, _ = process.communicate(json.dumps(request))
        except BaseException:
            process.terminate()
            raise
    if answer:
        return json.loads(answer)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        hint = " (the out-of-memory killer does this)" if name == "SIGKILL" else ""
        return {"status": "failed", "reason": f"killed by {name}{hint}"}
    return {"status": "failed", "reason": f"the child exited with code {process.returncode} and no outcome"}


def run_cell(cfg: DictConfig, choices: dict[str, str]) -> Cell:
    """Check, look in the store, else run; UserError for bad input, which leaves nothing behind."""
    config.check(cfg)
    settings = config.plain(cfg)
    keys = {stage: fingerprint(inputs) for stage, inputs in config.inputs(settings).items()}
    mark = keys["profile"]  # of the last stage: it follows from everything
    name = f"{choices['model']}-{choices['sampler']}-{choices['data']}-s{cfg.seed}-{mark[:8]}"
    store = ResultStore(cfg.results_dir)
    start_s = time.monotonic()
    if store.finished(name):
        cell = Cell(name, "cached", choices, 0.0)
    else:
        request = {"name": name, "stage_keys": keys, "config": settings, "choices": choices}
        outcome = child(request, cfg.threads)
        if outcome["status"] == "refused":
            raise UserError(outcome["reason"])
        cell = Cell(name, outcome["status"], choices, time.monotonic() - start_s, outcome.get("reason"))
    store.note(cfg.sweep, cell)
    return cell


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def job(cfg: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    chosen = OmegaConf.to_container(hydra_config.runtime.choices)
    choices = {group: str(chosen[group]) for group in GROUPS}
    multirun = hydra_config.mode == RunMode.MULTIRUN
    try:
        cell = run_cell(cfg, choices)
    except UserError as error:
        if not multirun:
            raise
        cell = Cell("-".join(choices.values()), "failed", choices, 0.0, str(error))
        ResultStore(cfg.results_dir).note(cfg.sweep, cell)
    label = f"{hydra_config.job.num + 1}: " if multirun else ""
    reason = f": {cell.reason}" if cell.reason else ""
    print(f"[{label}{cell.name}] {cell.status} in {cell.seconds:.0f} s{reason}", file=sys.stderr, flush=True)
    if not multirun:
        print(Path(cfg.results_dir) / "runs" / cell.name / "record.json")
        if cell.status == "failed":
            sys.exit(1)
    return None


def sentence(error: Exception) -> str:
    """What Hydra and OmegaConf say of bad input, on one line."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    lines = [line.strip() for text in (error, cause) if text for line in str(text).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("object_type", "reference_type")))


def main() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print and exit 1; here bad input is a sentence and exit code 2
    try:
        job()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
