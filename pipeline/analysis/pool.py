"""nDCG@10 over the size of the pool: measured up to the sample that was ranked, extrapolated from there to the full.

A pool holds all judged passages and a uniform random sample of N others. Let j judged passages that are not relevant, r
relevant and s sampled ones beat a relevant passage. In a larger pool, where b of the M others that are added beat it,
its rank is 1 + j + r + s + b. nDCG is a sum of gain times discount over relevant passages, so its expectation needs the
distribution of each b alone:

    u | j     ~ Gamma(a + c j, N / t)               the share of the others that beat the passage
    s | j     ~ NegativeBinomial(a + c j, 1 / (1 + t))                     as s | u ~ Poisson(u N)
    b | j, s  ~ NegativeBinomial(a + c j + s, (1 + t) / (1 + t + t M / N)) as b | u ~ Poisson(u M)

This is Fisher's model of unseen species (Efron & Thisted 1976, Biometrika 63): few are seen, as few passages beat. With
c = 1 the judged passages would be like the others. a, c and t are fitted to a language's relevant passages, each with
its gain for a weight; an s that leaves the top 10 counts as that, whatever its size. Of shares far below 1 / N the
sample says nothing: there the Gamma law is an assumption, whose error the interval does not hold (docs/decisions.md
has what it was on real embeddings).

Intervals are over topics: these are drawn anew, the same for all sizes and runs, and each draw is fitted anew.

Axes: X draws (the first is the data themselves), Q topics, R relevant passages, S pool sizes, P parameters (logarithms
of a, c and t), V trial values of them, C cells: the distinct (j, r, s) there are.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.differentiate import hessian
from scipy.optimize import minimize
from scipy.special import betainc, gammaln, softmax
from scipy.stats import multivariate_t

from pipeline.analysis.bootstrap import interval
from pipeline.store.results import ResultStore

TOP = 10  # of the nDCG
DRAWS = 500  # of the bootstrap
TRIALS = 500  # the importance sampling: draws were at most 0.005 off those fitted one by one
LARGER_POOLS = 8  # extrapolated to, evenly spaced in the logarithm; the last is the full pool
PRIOR_MEAN_P = np.log([0.3, 1, 1])  # of a normal prior; wide: it speaks where next to nothing beats
PRIOR_SD_P = np.array([1.5, 1, 5])
COLUMNS = ["benchmark", "variant", "model", "strategy", "language", "pool_size", "ndcg_10", "low", "high", "kind"]


def curves(store: ResultStore, runs: pd.DataFrame) -> pd.DataFrame:
    """A row a (benchmark, variant, language, pool size) whose pool is a sample: means over seeds, 95 % intervals.

    `kind` is measured or extrapolated. Empty if no run has such a benchmark.
    """
    rows = []
    for (variant, model, strategy), group in runs.groupby(["variant", "model", "strategy"], sort=False):
        about = {"variant": variant, "model": model, "strategy": strategy}
        found = [ranks.assign(run=run) for run in group["name"] for ranks in store.pool_ranks(run)]
        ranks = pd.concat(found) if found else pd.DataFrame(columns=["benchmark", "query_language"])
        for (benchmark, language), own in ranks.groupby(["benchmark", "query_language"], sort=False):
            drawn_SX = sum(curve(of_run) for _, of_run in own.groupby("run")) / own["run"].nunique()
            low, high = interval(drawn_SX.to_numpy()[:, 1:].T)
            sizes = drawn_SX.index.to_frame(index=False)
            frame = sizes.assign(ndcg_10=drawn_SX[0].to_numpy(), low=low, high=high, **about)
            rows.append(frame.assign(benchmark=benchmark, language=language)[COLUMNS])
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=COLUMNS)


def curve(ranks: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """One run and language [S, X]: rows (pool_size, kind), column 0 the estimate, the others its bootstrap draws.

    `ranks` has a row a (query_id, place, pool_size): the `rank` that the topic's relevant passage number `place` has in
    this pool, and its `gain`: the share of the ideal DCG that it earns at rank 1. `full_size` is that of the full pool.
    """
    rank_RS = ranks.pivot(index=["query_id", "place", "gain"], columns="pool_size", values="rank")
    sizes, full = rank_RS.columns.to_list(), int(ranks["full_size"].iloc[0])
    place_R, gain_R = (rank_RS.index.get_level_values(name).to_numpy() for name in ("place", "gain"))
    topic_R, topics = pd.factorize(rank_RS.index.get_level_values("query_id"))
    count = len(topics)
    drawn_XQ = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), draws)
    weight_XR = np.vstack([np.ones(count), drawn_XQ])[:, topic_R] * gain_R

    found = {(size, "measured"): weight_XR @ discount(rank_RS[size].to_numpy()) / count for size in sizes}
    if sizes[0] < sizes[-1] < full:
        relevant_R = place_R - 1
        judged_R = rank_RS[sizes[0]].to_numpy() - 1 - relevant_R
        sampled_R = (rank_RS[sizes[-1]] - rank_RS[sizes[0]]).to_numpy()
        cells, weight_XC = tabulate(judged_R, relevant_R, sampled_R, weight_XR)
        larger = np.geomspace(sizes[-1], full, LARGER_POOLS + 1).round().astype(int)[1:].tolist()
        growths = [(size - sizes[-1]) / (sizes[-1] - sizes[0]) for size in larger]
        for size, value_X in zip(larger, extrapolate(cells, weight_XC, growths), strict=True):
            found[size, "extrapolated"] = value_X / count
    return pd.DataFrame(found.values(), pd.MultiIndex.from_tuples(found, names=["pool_size", "kind"]))


def discount(rank: np.ndarray) -> np.ndarray:
    return np.where(rank <= TOP, 1 / np.log2(1 + rank), 0)


@dataclass(frozen=True)
class Cells:
    """How many beat a relevant passage, each distinct case once; s is cut where the passage leaves the top."""

    judged_C: np.ndarray
    relevant_C: np.ndarray
    sampled_C: np.ndarray

    @property
    def beaten_C(self) -> np.ndarray:
        return self.judged_C + self.relevant_C + self.sampled_C


def tabulate(
    judged_R: np.ndarray, relevant_R: np.ndarray, sampled_R: np.ndarray, weight_XR: np.ndarray
) -> tuple[Cells, np.ndarray]:
    """The cells, and the weight [X, C] of the passages in each. Passages already out of the judged top never return."""
    room_R = TOP - judged_R - relevant_R
    near_R = room_R > 0
    counts_3R = np.stack([judged_R, relevant_R, np.minimum(sampled_R, room_R)])[:, near_R]
    counts_3C, cell_R = np.unique(counts_3R, axis=1, return_inverse=True)
    weight_XC = np.stack([np.bincount(cell_R, weight_R, counts_3C.shape[1]) for weight_R in weight_XR[:, near_R]])
    return Cells(*counts_3C), weight_XC


def extrapolate(cells: Cells, weight_XC: np.ndarray, growths: list[float]) -> list[np.ndarray]:
    """Summed DCG share of each draw [X] in pools grown by M / N = `growths`.

    The parameters are averaged over their posterior: importance sampling around its mode for the data themselves.
    """

    def loss(parameters_Px: np.ndarray) -> np.ndarray:
        parameters_xP = np.moveaxis(parameters_Px, 0, -1)
        return -log_likelihood(cells, parameters_xP) @ weight_XC[0] - log_prior(parameters_xP)

    mode_P = minimize(loss, PRIOR_MEAN_P).x
    proposal = multivariate_t(mode_P, 2 * np.linalg.inv(hessian(loss, mode_P, order=2, maxiter=2).ddf), df=5, seed=0)
    trial_VP = proposal.rvs(TRIALS)
    log_weight_V = log_prior(trial_VP) - proposal.logpdf(trial_VP)
    posterior_XV = softmax(weight_XC @ log_likelihood(cells, trial_VP).T + log_weight_V, axis=1)
    return [(weight_XC * (posterior_XV @ expected_discount(cells, trial_VP, m))).sum(axis=1) for m in growths]


def log_prior(parameters_xP: np.ndarray) -> np.ndarray:
    return -(((parameters_xP - PRIOR_MEAN_P) / PRIOR_SD_P) ** 2).sum(axis=-1) / 2


def log_likelihood(cells: Cells, parameters_xP: np.ndarray) -> np.ndarray:
    """Of s given j [x, C]; where s is cut, of all from there on."""
    a, c, t = np.exp(np.moveaxis(parameters_xP, -1, 0))[..., None]
    shape_xC, s_C = a + c * cells.judged_C, cells.sampled_C
    choose_xC = gammaln(shape_xC + s_C) - gammaln(shape_xC) - gammaln(s_C + 1)
    log_xC = choose_xC - shape_xC * np.log1p(t) - s_C * np.log1p(1 / t)
    cut_C = cells.beaten_C >= TOP
    log_xC[..., cut_C] = np.log(np.maximum(betainc(s_C[cut_C], shape_xC[..., cut_C], t / (1 + t)), 1e-300))
    return log_xC


def expected_discount(cells: Cells, parameters_VP: np.ndarray, growth: float) -> np.ndarray:
    """Of a passage in each cell [V, C] once the pool has grown: the sum over b of probability times discount."""
    a, c, t = np.exp(parameters_VP.T)[..., None]
    shape_VC = a + c * cells.judged_C + cells.sampled_C
    beats = t * growth / (1 + t + t * growth)
    probability_VC = (1 - beats) ** shape_VC
    total_VC = np.zeros_like(shape_VC)
    for b in range(TOP):
        total_VC += probability_VC * discount(1 + cells.beaten_C + b)
        probability_VC = probability_VC * beats * (shape_VC + b) / (b + 1)
    return total_VC
