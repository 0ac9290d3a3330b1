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
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import hydra
from hydra.conf import RuntimeConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pipeline import config, status
from pipeline.launch.commands import refusing, resumable
from pipeline.store.results import Cell, ResultStore, fingerprint
from pipeline.values import UserError

GROUPS = ("model", "sampler", "data", "eval", "trainer", "profile")
HALVINGS = 2  # of 1,024 tokens leave 256, which is one passage of the greatest length: less would not need less memory


def chosen(runtime: RuntimeConf) -> dict[str, str]:
    """The options of the groups that a record tells; of a list of them, several benchmarks say, Hydra keeps no note."""
    return {group: str(runtime.choices[group]) if group in runtime.choices else "several" for group in GROUPS}


def request(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """What the child is told. The name, of the run as trained, follows from all that its last stage follows from."""
    settings = config.plain(cfg)
    inputs = config.inputs(settings)
    keys = {stage: fingerprint(of_stage) for stage, of_stage in inputs.items()}
    last = list(keys)[-1]
    name = f"{choices['model']}-{choices['sampler']}-{choices['data']}-s{cfg.seed}-{keys[last][:8]}"
    return {"name": name, "stage_keys": keys, "inputs": inputs[last], "config": settings, "choices": choices}


def names(asked: Mapping[str, Any]) -> list[str]:
    """Of all runs that a request makes: as trained, then each further way of serving."""
    return [serving.run(asked["name"]) for serving in config.servings(asked["config"])]


def child(asked: Mapping[str, Any], time_limit_min: float | None) -> dict[str, Any]:
    """Run pipeline.cell on a request and wait, asleep; return its outcome, or why it died."""
    environment = os.environ | {"OMP_NUM_THREADS": str(asked["config"]["threads"]), "OMP_WAIT_POLICY": "passive"}
    environment |= {"TOKENIZERS_PARALLELISM": "true", "HYDRA_FULL_ERROR": "0"}
    line = f"{json.dumps(asked)}\n".encode()
    command, pipe = [sys.executable, "-m", "pipeline.launch.start", "experiment"], subprocess.PIPE
    # A process group of its own: Ctrl-C reaches this process alone, and one signal ends the child and its children.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True, process_group=0) as process:
        assert process.stdin
        assert process.stdout
        try:
            with suppress(BrokenPipeError):  # it is dead already
                os.write(process.stdin.fileno(), line)  # and left open: by its end the child knows that we are gone
            process.wait(60 * time_limit_min if time_limit_min else None)
        except subprocess.TimeoutExpired:
            return {"status": "failed", "reason": f"took longer than time_limit_min={time_limit_min:g}"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        answer = process.stdout.read()
    if answer:
        return json.loads(answer)
    if process.returncode == -signal.SIGKILL:
        return {"status": "out of memory", "reason": "killed by SIGKILL (the out-of-memory killer does this)"}
    if process.returncode < 0:
        return {"status": "failed", "reason": f"killed by {signal.Signals(-process.returncode).name}"}
    return {"status": "failed", "reason": f"the child exited with code {process.returncode} and no outcome"}


def attempt(asked: Mapping[str, Any], time_limit_min: float | None) -> dict[str, Any]:
    """Run the child; for want of memory again, with half as many tokens going through the encoder at once."""
    for halvings in range(HALVINGS + 1):
        outcome = child({**asked, "halvings": halvings}, time_limit_min)
        if outcome["status"] != "out of memory":
            break
        print(f"  {asked['name']}: {outcome['reason']}", file=sys.stderr, flush=True)
    return outcome


def run_cell(cfg: DictConfig, asked: Mapping[str, Any]) -> Cell:
    """Check, look in the store, else run; UserError for bad input, which leaves nothing behind."""
    config.check(cfg)
    store, choices = ResultStore(cfg.results_dir), asked["choices"]
    store.check_writable()
    with store.lock(asked["name"]):  # another process may be at it: then it is done when the lock is had
        refuse_clash(store, asked)
        start_s = time.monotonic()
        if all(store.finished(name) for name in names(asked)):
            return Cell(asked["name"], "cached", choices, 0.0)
        outcome = attempt(asked, cfg.time_limit_min)
    if outcome["status"] == "refused":
        raise UserError(outcome["reason"])
    seconds = time.monotonic() - start_s
    if outcome["status"] == "done":
        return Cell(asked["name"], "done", choices, seconds)
    return Cell(asked["name"], "failed", choices, seconds, outcome["reason"])


def refuse_clash(store: ResultStore, asked: Mapping[str, Any]) -> None:
    """A name holds the beginning of a fingerprint only: it may be that of a run with other inputs."""
    record = store.finished(asked["name"])
    if record and record.provenance["inputs"] != asked["inputs"]:
        there, here = flat(record.provenance["inputs"]), flat(asked["inputs"])
        differ = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        folder = store.run_dir(record.name)
        raise UserError(f"{folder} is another run, which differs in {', '.join(differ)}: move it away.")


def flat(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def record(store: ResultStore, sweep: str, cell: Cell, further: list[str]) -> None:
    """Put a cell, and the further runs it made, on the sweep's list; a full disk does not end the sweep."""
    try:
        store.note(sweep, cell)
        for name in further:
            if store.finished(name):  # not if the engine is not installed
                store.note(sweep, replace(cell, name=name))
    except OSError as error:
        print(f"error: how {cell.name} ended cannot be written: {error}", file=sys.stderr)


def perform(cfg: DictConfig, asked: Mapping[str, Any], *, alone: bool) -> Cell:
    """Run a cell and put it on its sweep's list. Bad input: UserError, or, if it is not `alone`, a failed cell."""
    try:
        cell = run_cell(cfg, asked)
    except (UserError, OSError) as error:  # OSError: a disk that is full by now; raised, it would end Hydra's sweep
        if alone and isinstance(error, UserError):
            raise
        cell = Cell(asked["name"], "failed", asked["choices"], 0.0, str(error))
    record(ResultStore(cfg.results_dir), cfg.sweep, cell, names(asked)[1:])
    return cell


def tell(cell: Cell, ahead: str = "") -> None:
    said = [f"[{cell.name}] {cell.status} in {cell.seconds:.0f} s", *([cell.reason] if cell.reason else [])]
    print("; ".join([": ".join(said), *([ahead] if ahead else [])]), file=sys.stderr, flush=True)


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def job(cfg: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    alone = hydra_config.mode != RunMode.MULTIRUN
    store = ResultStore(cfg.results_dir)
    with refusing() if alone else nullcontext():  # Hydra would name the overrides before the sentence
        cell = perform(cfg, request(cfg, chosen(hydra_config.runtime)), alone=alone)
    tell(cell, "" if alone else status.outlook(status.cells(store, cfg.sweep)))
    if alone:
        print(store.run_dir(cell.name) / "record.json")
        if cell.status == "failed":
            sys.exit(1)


def main() -> None:
    with resumable(), refusing():
        job()


if __name__ == "__main__":
    main()
