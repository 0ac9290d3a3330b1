"""What batch strategies are called: the same names in figures, report, terminal and W&B.

Tables hold the words that people type: a file of conf/sampler, with those settings in which the runs of a sweep differ
(`tables.rows`).
"""

import re

UNTRAINED = "none"
NAMES = {UNTRAINED: "no training", "hybrid_25": "hybrid, alpha .25", "hybrid_75": "hybrid, alpha .75"}


def strategy_name(strategy: str) -> str:
    """Name a strategy for readers.

    Args:
        strategy: as in the column `strategy` of the tables.

    >>> [strategy_name(strategy) for strategy in ("mixed", "none", "hybrid_25", "hybrid alpha=0.25")]
    ['mixed', 'no training', 'hybrid, alpha .25', 'hybrid, alpha .25']
    """
    sampler, *settings = re.split(r" (?=\w+=)", strategy)
    named = [re.sub(r"=0(?=\.\d*[1-9])", "=", setting).replace("_", " ").replace("=", " ") for setting in settings]
    return ", ".join([NAMES.get(sampler, sampler), *named])


def batches(strategy: str) -> str:
    """Name the batches of a strategy that trains, as in 'trained with hybrid batches (alpha .25)'.

    >>> batches("hybrid_25"), batches("mixed")
    ('hybrid batches (alpha .25)', 'mixed batches')
    """
    name, _, settings = strategy_name(strategy).partition(", ")
    return f"{name} batches" + (f" ({settings})" if settings else "")
