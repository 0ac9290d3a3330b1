"""The child process of a run: reads a request (a line of JSON) on stdin, runs the experiment, saves its records.

Answers its outcome (JSON) on stdout; everything else that prints goes to stderr. It ends, with all processes that it
started, when stdin closes: then its parent is dead.
"""

import json
import os
import signal
import sys
import threading
import traceback

from pipeline import experiment
from pipeline.encoder.worker import is_out_of_memory
from pipeline.launch.child import Outcome
from pipeline.launch.live import followed
from pipeline.launch.request import Request
from pipeline.store.records import AS_TRAINED
from pipeline.store.results import ResultStore
from pipeline.store.stage import Log
from pipeline.values import UserError

LONGEST_REASON = 4000  # characters: it has to fit into the pipe


def main() -> None:
    outcome_fd = os.dup(1)
    os.dup2(2, 1)
    if not (line := sys.stdin.readline()):
        return  # the parent is gone already
    request = Request.from_json(line)
    threading.Thread(target=end_with_parent, daemon=True).start()
    with followed(request) as log:
        outcome = perform(request, log)
        log({"outcome": outcome})
    with os.fdopen(outcome_fd, "w") as file:
        json.dump(outcome, file)


def perform(request: Request, log: Log) -> Outcome:
    """Run the experiment and save each record as it is made."""
    store = ResultStore(request.config.results_dir)
    try:
        for record in experiment.run(request, log):
            store.save(record)
            if record.variant == AS_TRAINED:  # the others are rows of the sweep's table
                log({"record": record.name})
    except UserError as error:
        return {"status": "refused", "reason": str(error)[:LONGEST_REASON]}
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        return {"status": "out of memory" if is_out_of_memory(error) else "failed", "reason": reason}
    return {"status": "done"}


def end_with_parent() -> None:
    """Wait until the parent, which holds the other end of stdin, is gone; then end the whole process group."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
