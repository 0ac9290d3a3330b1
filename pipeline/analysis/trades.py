"""Trades: what an inference variant of a trained encoder saves, and what it loses, against the encoder as trained.

Both share their seeds, so the error is that of the difference over queries and over seeds
(errors.Estimates.difference).
"""

import numpy as np
import pandas as pd

from pipeline.analysis.draws import costs
from pipeline.analysis.errors import interval
from pipeline.analysis.fronts import PANEL, Accuracies
from pipeline.store.records import AS_TRAINED

COLUMNS = [*PANEL, "model", "strategy", "variant", "system", "trained", "value", "accuracy"]


def trades(points: pd.DataFrame, accuracies: Accuracies) -> pd.DataFrame:
    """Compare each system that is not deployed as trained with the same encoder as trained.

    Args:
        points: table of `tables.points`.
        accuracies: of the systems.

    Returns:
        One row per panel and such system: COLUMNS (`trained`: the system it is compared with), `times_cheaper` (below
        1: more expensive) with its 95 % interval `times_low`, `times_high` over draws of both costs, and `difference`
        in accuracy, paired, with its 95 % interval `low`, `high` and `p`.

    >>> from pipeline.analysis.errors import estimate
    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "bytes", "model": "m", "strategy": "s",
    ...                        "variant": ["as trained", "SQ8"], "system": ["m-s", "m-s SQ8"],
    ...                        "value": [400.0, 100.0], "accuracy": [0.5, 0.49]})
    >>> accuracies = estimate(pd.DataFrame({("m-s", 0): [0.4, 0.6], ("m-s SQ8", 0): [0.39, 0.59]}))
    >>> table = trades(points, {("x", "multi"): accuracies})
    >>> table[["variant", "trained", "times_cheaper", "difference", "low"]].round(3).to_dict("records")
    [{'variant': 'SQ8', 'trained': 'm-s', 'times_cheaper': 4.0, 'difference': -0.01, 'low': -0.01}]
    """
    frames = []
    for keys, panel in points.groupby(PANEL, sort=False):
        names = zip(panel["system"], panel["variant"], strict=True)
        trained = pd.Series([system.removesuffix(f" {variant}") for system, variant in names], panel.index)
        comparable = (panel["variant"] != AS_TRAINED) & trained.isin(panel["system"])
        variants, base = panel[comparable], panel.set_index("system").loc[trained[comparable]]
        of = accuracies[keys[:2]]
        differences = [of.difference(*pair) for pair in zip(variants["system"], base.index, strict=True)]
        involved = panel[panel["system"].isin([*variants["system"], *base.index])]
        cost_BS = pd.DataFrame(costs(involved), columns=involved["system"])
        low, high = interval(cost_BS[base.index].to_numpy() / cost_BS[variants["system"]].to_numpy())
        saved = {"times_cheaper": base["value"].to_numpy() / variants["value"], "times_low": low, "times_high": high}
        columns = ("difference", "low", "high", "p")
        lost = dict(zip(columns, np.array(differences).reshape(-1, 6).T[: len(columns)], strict=True))
        frames.append(variants.assign(trained=base.index, **saved, **lost)[[*COLUMNS, *saved, *lost]])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
