"""Runs whose queries another encoder encodes, told apart where names alone do not."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from pipeline.store.records import Record
from pipeline.values import RUN_OF_A_SEED


def told_apart(records: Mapping[str, Record]) -> dict[str, Record]:
    """Return the records; where one run has several query encoders of one name, their variants say which is meant.

    Such encoders differ in seed, steps or text, which are no part of their name: as one system, all but one of them
    would be lost. Their variant gets the seed and the hash that end the name of the query encoder's run.

    >>> made = lambda name: Record(name, "0a1b", "done", {}, {}, 0, {}, variant="queries by q3")
    >>> names = ["l12-s0-00000000+queries-by-q3-s0-0a1b2c3d", "l12-s0-00000000+queries-by-q3-s1-4e5f6a7b"]
    >>> [record.variant for record in told_apart({name: made(name) for name in names}).values()]
    ['queries by q3 s0-0a1b2c3d', 'queries by q3 s1-4e5f6a7b']
    >>> told_apart({names[0]: made(names[0])})[names[0]].variant
    'queries by q3'
    """
    encoders = {name: _query_encoder(name) for name in records}
    runs = {name: (name.partition("+")[0], record.variant) for name, record in records.items()}
    together = defaultdict(set)
    for name, run in runs.items():
        together[run].add(encoders[name])
    return {
        name: replace(record, variant=record.variant + encoders[name]) if len(together[runs[name]]) > 1 else record
        for name, record in records.items()
    }


def _query_encoder(name: str) -> str:
    """Return the seed and the hash that end a pair's name (Variant.run_name), after a space; of other runs nothing."""
    found = re.search(RUN_OF_A_SEED, name.partition("+")[2])
    return found[0].replace("-", " ", 1) if found else ""
