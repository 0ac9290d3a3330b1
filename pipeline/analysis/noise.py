"""Measurement noise: how much profiles of one architecture differ, which should cost the same.

With profile=null_check every run is profiled anew; a batch strategy or a seed does not change an architecture.
"""

import pandas as pd

from pipeline.analysis.costs import AXES

ARCHITECTURE = ["family", "layers", "variant", "machine"]


def spread(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the spread of each cost over the profiles of one architecture on one machine.

    Args:
        runs: table of `tables.runs`.

    Returns:
        One row per architecture and cost with two profiles or more: their number `profiles`, the `median`, and the
        distance of the `lowest` and the `highest` from it as a share of it. Runs that share a profile count once. Empty
        if all profiles are shared.

    >>> runs = pd.DataFrame({"family": "e5", "layers": 3, "variant": "as trained", "machine": "a laptop",
    ...                      "profile.serving_mib": [100.0, 90.0, 120.0]})
    >>> spread(runs)[["cost", "profiles", "median", "lowest", "highest"]].round(3).to_dict("records")
    [{'cost': 'serving_mib', 'profiles': 3, 'median': 100.0, 'lowest': -0.1, 'highest': 0.2}]
    """
    costs = [cost for cost in AXES if cost.column in runs]
    rows = []
    for keys, group in runs.groupby(ARCHITECTURE, sort=False):
        measured = group.drop_duplicates([cost.column for cost in costs])
        for cost in costs:
            values = measured[cost.column].dropna().astype(float)
            if len(values) > 1 and (median := values.median()) > 0:
                architecture = dict(zip(ARCHITECTURE, keys, strict=True))
                ends = {"lowest": values.min() / median - 1, "highest": values.max() / median - 1}
                rows.append(architecture | {"cost": cost.field, "profiles": len(values), "median": median} | ends)
    return pd.DataFrame(rows)
