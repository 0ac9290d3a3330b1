"""What a reader needs to trust or repeat a run, and the sentences that must stand wherever its figures do."""

import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.store.keys import LIBRARIES, installed
from pipeline.values import INSTALLED, PACKAGE, Collection, ParallelText


def provenance(data: ParallelText | None, benchmarks: Iterable[Collection], device_name: str) -> dict[str, Any]:
    """Data, device, library versions, commit and time of a run, as JSON values.

    Args:
        data: the training set; None without training.
        benchmarks: what the run was evaluated on.
        device_name: the processor or GPU that trained and encoded.
    """
    benchmarks = list(benchmarks)
    distributions = sorted({name for names in LIBRARIES.values() for name in names})
    return {
        "data": None
        if data is None
        else dict(data.provenance) | {"name": data.name, "rows": len(data), "languages": [*data.languages]},
        "eval": {benchmark.name: dict(benchmark.provenance) for benchmark in benchmarks},
        "clusters": {benchmark.name: benchmark.cluster_name for benchmark in benchmarks},
        "main_metrics": {benchmark.name: benchmark.main_metric for benchmark in benchmarks},
        "device": device_name,
        "python": platform.python_version(),
        "libraries": {name: version for name in distributions if (version := installed(name))},
        "commit": commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def commit() -> str | None:
    """The commit of the checkout; of an installed wheel, which may lie in someone else's checkout, its version.

    None without git, as in a container.
    """
    if INSTALLED:
        return installed("paretrieve")
    if shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=False).stdout.strip() or None


def notes(
    provenances: Iterable[Mapping[str, Any]], leaks: Iterable[str], *, cost_only: bool, halvings: int
) -> list[str]:
    """Sentences that must stand wherever the run's figures do.

    Args:
        provenances: of the training set and the benchmarks, each with an optional `note`.
        leaks: what the training set shares with each benchmark.
        cost_only: whether the weights are random.
        halvings: how often the tokens per forward pass were halved after running out of memory.
    """
    sentences = [str(source["note"]) for source in provenances if source.get("note")]
    sentences += leaks
    if cost_only:
        sentences.append("Random weights: cost only, no accuracy.")
    if halvings:
        sentences.append(f"Out of memory: forward passes took 1/{2**halvings} of the usual tokens.")
    return list(dict.fromkeys(sentences))
