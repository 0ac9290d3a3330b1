"""What a way of serving a trained encoder buys, and what it loses against the same encoder served as trained."""

import pandas as pd

from pipeline.analysis.bootstrap import interval
from pipeline.analysis.fronts import PANEL, Draws
from pipeline.analysis.tables import AS_TRAINED

COLUMNS = [*PANEL, "model", "strategy", "served", "variant", "trained", "value", "accuracy"]


def trades(points: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """Each variant that is served otherwise beside its encoder as trained: `times_cheaper` (below 1: dearer), and the
    paired difference in accuracy with its interval.
    """
    found = []
    for keys, panel in points.groupby(PANEL, sort=False):
        names = zip(panel["variant"], panel["served"], strict=True)
        trained = pd.Series([variant.removesuffix(f" {served}") for variant, served in names], panel.index)
        otherwise = (panel["served"] != AS_TRAINED) & trained.isin(panel["variant"])
        ways, base = panel[otherwise], panel.set_index("variant").loc[trained[otherwise]]
        accuracy_BV = draws[keys[:2]]
        low, high = interval(accuracy_BV[ways["variant"]].to_numpy() - accuracy_BV[base.index].to_numpy())
        bought = {"times_cheaper": base["value"].to_numpy() / ways["value"]}
        lost = {"difference": ways["accuracy"] - base["accuracy"].to_numpy(), "low": low, "high": high}
        found.append(ways.assign(trained=base.index, **bought, **lost)[[*COLUMNS, *bought, *lost]])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
