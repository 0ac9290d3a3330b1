"""The most accurate system of each setting, with intervals that allow for its having been chosen by the same scores.

Whoever is picked as the best of many is partly lucky. The interval is the winner's part of a simultaneous one over all
candidates (projection; Andrews, Kitagawa & McCloskey 2024, "Inference on winners"): it holds whatever the choice.
Axes: B draws, S systems.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pipeline.analysis.errors import LEVEL, Estimates, Interval
from pipeline.analysis.fronts import Accuracies, Draws

MOST_IN_PAIRS = 200  # candidates whose pairs are all drawn: 19,900 differences in 2,000 draws
COLUMNS = ["benchmark", "setting", "variant", "candidates", "system", "accuracy", "low", "high", "runner_up", "lead"]
COLUMNS += ["lead_low", "lead_high", "covers"]


def winners(accuracies: Accuracies, draws: Draws) -> pd.DataFrame:
    """Return the most accurate system per benchmark, setting and inference variant, and its lead.

    Returns:
        COLUMNS: `accuracy` with `low` and `high`, and the `lead` over the `runner_up` with `lead_low` and `lead_high`:
        95 % intervals, simultaneous over the `candidates` and over all pairs of them. `variant` "all" has every system
        as a candidate; the others follow. Without a second candidate there is no lead.

    >>> from pipeline.analysis.errors import estimate
    >>> scores = np.random.default_rng(0).normal(0.5, 0.1, (100, 1)) + [[0.0, 0.1, 0.2]]
    >>> of = estimate(pd.DataFrame(scores, columns=pd.MultiIndex.from_product([list("xyz"), [0]])))
    >>> table = winners({("b", "multi"): of}, {("b", "multi"): of.draws()})
    >>> table[["system", "runner_up", "lead", "candidates"]].round(3).to_dict("records")[0]
    {'system': 'z', 'runner_up': 'y', 'lead': 0.1, 'candidates': 3}
    """
    rows = []
    for scale, of in accuracies.items():
        variants = of.labels["variant"].unique()
        groups = {"all": of.labels.index} | {v: of.labels.index[of.labels["variant"] == v] for v in variants}
        known: dict[frozenset[str], dict[str, Any]] = {}  # "all" and the only variant are the same candidates
        for variant, systems in groups.items():
            candidates = frozenset(systems)
            if candidates not in known:
                known[candidates] = winner(of, draws[scale][systems])
            row = known[candidates]
            rows.append(dict(zip(("benchmark", "setting"), scale, strict=True)) | {"variant": variant} | row)
    return pd.DataFrame(rows, columns=COLUMNS)


def winner(of: Estimates, draws_BS: pd.DataFrame) -> dict[str, Any]:
    """Return the winner among the systems of `draws_BS`, as the further columns of `winners`.

    >>> from pipeline.analysis.errors import estimate
    >>> of = estimate(pd.DataFrame({("x", 0): [0.4, 0.5, 0.6]}))
    >>> winner(of, of.draws())["candidates"]
    1
    """
    systems = draws_BS.columns
    mean_S = of.mean_S[systems]
    best = mean_S.idxmax()
    low, high = chosen_interval(of, draws_BS, best)
    row: dict[str, Any] = {"candidates": len(systems), "system": best, "accuracy": mean_S[best]}
    row |= {"low": low, "high": high, "covers": of.covers(best), "runner_up": None}
    if len(systems) > 1:
        second = mean_S.drop(best).idxmax()
        lead = of.difference(best, second)
        reach = critical_of_lead(of, draws_BS, lead) * lead.standard_error
        row |= {
            "runner_up": second,
            "lead": lead.value,
            "lead_low": lead.value - reach,
            "lead_high": lead.value + reach,
        }
    return row


def chosen_interval(of: Estimates, draws_BS: pd.DataFrame, best: str) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy of `best`, which was chosen as the best of the systems of `draws_BS`.

    >>> from pipeline.analysis.errors import estimate
    >>> of = estimate(pd.DataFrame({("x", 0): [0.5, 0.5], ("y", 0): [0.6, 0.6]}))
    >>> chosen_interval(of, of.draws(), "y")
    (0.6, 0.6)
    """
    systems = draws_BS.columns
    mean_S = of.mean_S[systems]
    error_S = np.array([of.intervals[system].standard_error for system in systems])
    reach = critical(draws_BS.to_numpy() - mean_S.to_numpy(), error_S) * error_S[systems.get_loc(best)]
    return float(mean_S[best] - reach), float(mean_S[best] + reach)


def critical(error_BC: np.ndarray, standard_error_C: np.ndarray) -> float:
    """Return how many standard errors hold all columns at once in 95 % of the draws.

    One column of normal draws needs 1.96, a hundred independent ones 3.48.

    >>> normal_BC = np.random.default_rng(0).standard_normal((20_000, 100))
    >>> round(critical(normal_BC[:, :1], np.ones(1))), round(critical(normal_BC, np.ones(100)), 1)
    (2, 3.5)
    """
    known_C = standard_error_C > 0
    if not known_C.any():
        return 0.0
    return float(np.quantile(np.abs(error_BC[:, known_C] / standard_error_C[known_C]).max(axis=1), LEVEL))


def critical_of_lead(of: Estimates, draws_BS: pd.DataFrame, lead: Interval) -> float:
    """Return how many standard errors hold the lead of the best over the second, simultaneously over all pairs.

    Of more than MOST_IN_PAIRS candidates there are too many pairs to draw: the bound is Bonferroni's, which is wider.

    >>> from pipeline.analysis.errors import estimate
    >>> scores = np.random.default_rng(0).normal(0, 1, (1000, 3))
    >>> of = estimate(pd.DataFrame(scores, columns=pd.MultiIndex.from_product([list("xyz"), [0]])))
    >>> round(critical_of_lead(of, of.draws(size=20_000), of.difference("x", "y")), 1)
    2.3
    """
    candidates = draws_BS.shape[1]
    if candidates <= MOST_IN_PAIRS:
        return critical_of_pairs(of, draws_BS)
    return float(stdtrit(lead.degrees, 1 - (1 - LEVEL) / (candidates * (candidates - 1))))


def critical_of_pairs(of: Estimates, draws_BS: pd.DataFrame) -> float:
    """Return how many standard errors hold the differences of all pairs of systems at once in 95 % of the draws.

    >>> from pipeline.analysis.errors import estimate
    >>> scores = np.random.default_rng(0).normal(0, 1, (1000, 3))
    >>> of = estimate(pd.DataFrame(scores, columns=pd.MultiIndex.from_product([list("xyz"), [0]])))
    >>> round(critical_of_pairs(of, of.draws(size=20_000)), 1)  # Tukey's range for three means, 3.3 / sqrt(2)
    2.3
    """
    error_BS = (draws_BS - of.mean_S[draws_BS.columns]).to_numpy()
    worst_B = np.zeros(len(error_BS))
    for place, system in enumerate(draws_BS.columns[:-1]):
        variance_C = of.difference_variances(system, draws_BS.columns[place + 1 :])
        known_C = variance_C > 0
        if known_C.any():
            apart_BC = np.abs(error_BS[:, place, None] - error_BS[:, place + 1 :])[:, known_C]
            worst_B = np.maximum(worst_B, (apart_BC / np.sqrt(variance_C[known_C])).max(axis=1))
    return float(np.quantile(worst_B, LEVEL))
