"""Does the error model hold what it promises? Sweeps with a known truth, of the size and with the errors of the study.

A simulated sweep has the study's 7 strategies x 6 models x 3 seeds, scored on 432 queries of 80 paragraphs of 16
articles of unequal size. Queries, paragraphs and articles are harder or easier for all systems, and for each system
more or less so; each seed adds an effect with the standard deviation that this very system showed in the study.
`coverage` counts how often intervals hold the truth, for each kind of pair alone.

`python -m pipeline.analysis.simulation` prints the table of docs/statistics.md (about 10 minutes on one core).
Axes: Q queries, S systems, K seeds.
"""

from collections import defaultdict
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.analysis.errors import Interval, estimate
from pipeline.analysis.winners import winner

# Queries per paragraph of XQuAD-R's 16 test articles: 432 in 80 paragraphs.
PARAGRAPHS = (
    *((14, 16, 17, 12, 15), (9, 10, 5, 3, 3), (5, 5, 5, 5, 3), (5, 5, 5, 5, 4), (5, 4, 5, 5, 4), (10, 10, 6, 5, 5)),
    *((5, 5, 5, 4, 4), (4, 5, 5, 5, 4), (4, 4, 4, 3, 4), (9, 4, 4, 4, 4), (4, 4, 5, 3, 5), (5, 5, 5, 5, 5)),
    *((5, 5, 5, 5, 4), (5, 5, 5, 4, 3), (5, 5, 4, 4, 5), (3, 3, 4, 3, 4)),
)
MODELS = ("l2", "l3", "l4", "l6", "l8", "l12")
# Standard deviations of mAP over three seeds in the study, in thousandths, by strategy and model.
SEED_SD = {
    "cross": {
        "crosslingual": (1.2, 1.5, 1.4, 4.7, 5.1, 1.0),
        "hybrid": (4.2, 4.2, 2.2, 3.2, 3.0, 1.5),
        "hybrid_25": (1.8, 2.2, 0.9, 3.6, 3.0, 1.5),
        "hybrid_75": (4.4, 4.1, 3.1, 3.6, 1.8, 1.1),
        "mixed": (2.1, 2.6, 1.1, 4.3, 5.7, 30.0),
        "monolingual": (2.2, 2.4, 1.4, 3.3, 1.4, 5.0),
        "none": (0.0,) * 6,
    },
    "multi": {
        "crosslingual": (0.4, 0.7, 0.5, 4.8, 4.9, 2.0),
        "hybrid": (1.4, 1.8, 2.3, 7.7, 7.0, 4.9),
        "hybrid_25": (0.9, 2.0, 0.6, 4.6, 3.9, 3.4),
        "hybrid_75": (1.3, 1.1, 5.9, 9.9, 7.1, 4.9),
        "mixed": (0.3, 0.9, 0.8, 3.2, 0.2, 15.8),
        "monolingual": (0.4, 0.9, 0.7, 4.3, 7.7, 8.3),
        "none": (0.0,) * 6,
    },
}
# Standard deviations of a score: of the query, paragraph and article for all systems, and of each system's own.
COMMON_SD = {"article": 0.10, "paragraph": 0.08, "query": 0.25}
OWN_SD = {"article": 0.006, "paragraph": 0.006, "query": 0.025, "run": 0.02}  # run: a query of a single seed
UNTRAINED = 4  # times OWN_SD


def labels() -> pd.DataFrame:
    """Return the labels of the systems, as `errors.estimate` takes them."""
    rows = [(f"{model}-{strategy}", strategy, model) for model in MODELS for strategy in SEED_SD["multi"]]
    return pd.DataFrame(rows, columns=["system", "strategy", "model"]).set_index("system").assign(variant="as trained")


def sweep(setting: str, rng: np.random.Generator, seeds: int = 3) -> pd.DataFrame:
    """Return the scores [Q, (system, seed)] of a sweep in which the true mean of every system is 0.

    >>> sweep("multi", np.random.default_rng(0)).shape
    (432, 126)
    """
    sizes = np.concatenate(PARAGRAPHS)
    paragraph_Q = np.repeat(np.arange(len(sizes)), sizes)
    article_Q = np.repeat(np.arange(len(PARAGRAPHS)), [sum(sizes) for sizes in PARAGRAPHS])
    units = {"article": article_Q, "paragraph": paragraph_Q, "query": np.arange(len(paragraph_Q))}
    table = labels()
    systems = len(table)
    own_S = np.where(table["strategy"] == "none", UNTRAINED, 1)  # an untrained encoder differs more from all others
    score_QS = np.zeros((len(paragraph_Q), systems))
    for name, unit_Q in units.items():
        count = unit_Q.max() + 1
        score_QS += COMMON_SD[name] * rng.standard_normal((count, 1))[unit_Q]
        score_QS += OWN_SD[name] * own_S * rng.standard_normal((count, systems))[unit_Q]
    sd_S = np.array([SEED_SD[setting][s][MODELS.index(m)] / 1000 for s, m in table[["strategy", "model"]].to_numpy()])
    run_QSK = OWN_SD["run"] * rng.standard_normal((len(paragraph_Q), systems, seeds))
    seed_SK = sd_S[:, None] * rng.standard_normal((systems, seeds))
    score_QSK = score_QS[:, :, None] + np.where(sd_S[:, None] > 0, run_QSK + seed_SK, 0)
    index = pd.MultiIndex.from_arrays([article_Q, range(len(article_Q))], names=["cluster", "query_id"])
    columns = pd.MultiIndex.from_product([table.index, range(seeds)])
    return pd.DataFrame(score_QSK.reshape(len(article_Q), -1), index, columns)


def coverage(
    setting: str, sweeps: int, seed: int = 0, pairs: list[tuple[str, str]] | None = None, *, won: bool = True
) -> pd.DataFrame:
    """Return how often the 95 % intervals hold the true value, 0, in simulated sweeps.

    Args:
        setting: of SEED_SD.
        sweeps: their number.
        seed: of the simulation.
        pairs: of strategies, compared at each model; all, without it.
        won: whether the intervals of the winner are computed too, which takes most of the time.

    Returns:
        One row per kind: `kind`, the number of `intervals`, and `held`, the share of them that hold 0; 1 less it is the
        rate of false rejections at p < .05. Kinds are pairs of strategies, the means of single systems, and the winner
        and its lead: with its own interval as if it had not been chosen, and with the simultaneous one.

    >>> coverage("multi", 2, pairs=[("hybrid", "none")], won=False)["intervals"].tolist()
    [12, 84]
    """
    pairs = pairs or list(combinations(SEED_SD[setting], 2))
    rng, table = np.random.default_rng(seed), labels()
    held = defaultdict[str, list[bool]](list)

    def count(kind: str, interval: Interval) -> None:
        held[kind].append(interval.low <= 0 <= interval.high)

    for _ in range(sweeps):
        of = estimate(sweep(setting, rng), table)
        for a, b in pairs:
            for model in MODELS:
                count(f"{a} - {b}", of.difference(f"{model}-{a}", f"{model}-{b}"))
        for system in table.index:
            count("mean of a system", of.interval(system))
        if won:
            best = winner(of, of.draws())
            count("winner, its own interval", of.interval(best["system"]))
            held["winner, simultaneous"].append(best["low"] <= 0 <= best["high"])
            count("lead over the runner-up, its own interval", of.difference(best["system"], best["runner_up"]))
            held["lead over the runner-up, simultaneous"].append(best["lead_low"] <= 0 <= best["lead_high"])
            lead = of.difference(best["system"], best["runner_up"])
            reach = (best["lead_high"] - best["lead"]) / lead.standard_error  # in standard errors, of any pair
            over = of.difference(best["system"], table.index[table.index != best["system"]][0])
            count("lead over a system chosen before, its own interval", over)
            held["lead over a system chosen before, simultaneous"].append(over.value <= reach * over.standard_error)
    rows = [{"kind": kind, "intervals": len(of_kind), "held": np.mean(of_kind)} for kind, of_kind in held.items()]
    return pd.DataFrame(rows)


def main(sweeps: int = 1000) -> None:
    """Print the coverage of every kind in Markdown."""
    tables = {setting: coverage(setting, sweeps).set_index("kind") for setting in SEED_SD}
    print(f"| kind | {' | '.join(tables)} |\n|---|{'---|' * len(tables)}")
    for kind in next(iter(tables.values())).index:
        shares = [f"{100 * of.loc[kind, 'held']:.1f}" for of in tables.values()]
        print(f"| {kind} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
