"""The power that energy is modelled from where no counter measures it: a processor's published TDP, per thread.

`processors.yaml` lists processors with their sources. `tracker` multiplies the power by the CPU time of the process.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

UNKNOWN_W = 4.0  # per thread, of a processor that is not listed: codecarbon's value as well


class Power(NamedTuple):
    """Watts of one busy thread, and where they come from."""

    w_per_thread: float
    source: str


@cache
def table() -> tuple[dict[str, str | float], ...]:
    """Return the listed processors."""
    return tuple(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))


def power(model: str) -> Power:
    """Return the modelled power of a processor, by what it calls itself.

    >>> power("AMD EPYC 7763 64-Core Processor").source
    'AMD EPYC 7763 64-Core Processor, TDP 280 W for 128 threads (https://techgage.com/article/amd-epyc-milan-launch-performance/)'
    >>> power("Intel(R) Xeon(R) Processor").source
    'unknown processor (Intel(R) Xeon(R) Processor), 4 W per thread'
    """
    for processor in table():
        if re.search(rf"\b{processor['name']}\b", model):
            tdp_w, threads = float(processor["tdp_w"]), int(processor["threads"])
            return Power(tdp_w / threads, f"{model}, TDP {tdp_w:g} W for {threads} threads ({processor['source']})")
    return Power(UNKNOWN_W, f"unknown processor ({model}), {UNKNOWN_W:g} W per thread")
