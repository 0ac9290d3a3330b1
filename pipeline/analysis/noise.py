"""The noise of the instrument: what profiles of one architecture differ by, which should cost the same.

With profile=null_check every cell is measured anew, and a batch strategy or a seed does not change an architecture.
"""

import pandas as pd

from pipeline.analysis.tables import COSTS

ARCHITECTURE = ["family", "layers", "served", "machine"]


def spread(runs: pd.DataFrame) -> pd.DataFrame:
    """A row an architecture and cost that was measured more than once: how often, the median, and the distance of the
    highest and the lowest from it as a share of it. A profile that runs share counts once; no row if all are shared.
    """
    fields = [cost for cost in COSTS if cost.column in runs]
    found = []
    for keys, group in runs.groupby(ARCHITECTURE, sort=False):
        measured = group.drop_duplicates([cost.column for cost in fields])
        for cost in fields:
            values = measured[cost.column].dropna().astype(float)
            if len(values) > 1 and (middle := values.median()) > 0:
                about = dict(zip(ARCHITECTURE, keys, strict=True))
                ends = {"lowest": values.min() / middle - 1, "highest": values.max() / middle - 1}
                found.append(about | {"cost": cost.field, "profiles": len(values), "median": middle} | ends)
    return pd.DataFrame(found)
