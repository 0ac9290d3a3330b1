"""Trades: what an inference variant of a trained encoder saves, and what it loses, against the encoder as trained.

Axes: B bootstrap draws, S systems.
"""

import pandas as pd

from pipeline.analysis.bootstrap import interval
from pipeline.analysis.fronts import PANEL, Draws
from pipeline.store.records import AS_TRAINED

COLUMNS = [*PANEL, "model", "strategy", "variant", "system", "trained", "value", "accuracy"]


def trades(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Compare each system that is not deployed as trained with the same encoder as trained.

    Args:
        points: table of `tables.points`.
        draws: of the accuracy.

    Returns:
        One row per panel and such system: COLUMNS (`trained`: the system it is compared with), `times_cheaper` (below
        1: more expensive), and `difference` in accuracy, paired, with its 95 % interval `low`, `high`.

    >>> points = pd.DataFrame({"benchmark": "x", "setting": "multi", "cost": "bytes", "model": "m", "strategy": "s",
    ...                        "variant": ["as trained", "SQ8"], "system": ["m-s", "m-s SQ8"],
    ...                        "value": [400.0, 100.0], "accuracy": [0.5, 0.49]})
    >>> draws = {("x", "multi"): pd.DataFrame([[0.4, 0.39], [0.6, 0.59]], columns=["m-s", "m-s SQ8"])}
    >>> trades(points, draws)[["variant", "trained", "times_cheaper", "difference", "low"]].round(3).to_dict("records")
    [{'variant': 'SQ8', 'trained': 'm-s', 'times_cheaper': 4.0, 'difference': -0.01, 'low': -0.01}]
    """
    frames = []
    for keys, panel in points.groupby(PANEL, sort=False):
        names = zip(panel["system"], panel["variant"], strict=True)
        trained = pd.Series([system.removesuffix(f" {variant}") for system, variant in names], panel.index)
        comparable = (panel["variant"] != AS_TRAINED) & trained.isin(panel["system"])
        variants, base = panel[comparable], panel.set_index("system").loc[trained[comparable]]
        accuracy_BS = draws[keys[:2]]
        low, high = interval(accuracy_BS[variants["system"]].to_numpy() - accuracy_BS[base.index].to_numpy())
        saved = {"times_cheaper": base["value"].to_numpy() / variants["value"]}
        lost = {"difference": variants["accuracy"] - base["accuracy"].to_numpy(), "low": low, "high": high}
        frames.append(variants.assign(trained=base.index, **saved, **lost)[[*COLUMNS, *saved, *lost]])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
