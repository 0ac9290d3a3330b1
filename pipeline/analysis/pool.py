"""nDCG@10 over the size of the pool: measured up to the sample that was ranked, extrapolated to the full pool.

A pool holds all judged passages and a uniform random sample of N others. Let j judged passages that are not relevant, r
relevant and s sampled ones beat a relevant passage. In a larger pool, where b of the M others that are added beat it,
its rank is 1 + j + r + s + b. nDCG is a sum of gain times discount over relevant passages, so its expectation needs the
distribution of each b alone:

    u | j     ~ Gamma(a + c j, N / t)               the share of the others that beat the passage
    s | j     ~ NegativeBinomial(a + c j, 1 / (1 + t))                     as s | u ~ Poisson(u N)
    b | j, s  ~ NegativeBinomial(a + c j + s, (1 + t) / (1 + t + t M / N)) as b | u ~ Poisson(u M)

This is Fisher's model of unseen species (Efron & Thisted 1976, Biometrika 63): few are seen, as few passages beat. With
c = 1 the judged passages would be like the others. a, c and t are fitted to a language's relevant passages, each
weighted by its gain; an s with which the passage leaves the top 10 is censored. About shares far below 1 / N the sample
says nothing: there the Gamma law is an assumption, whose error the interval does not contain (docs/decisions.md has
what it was on real embeddings).

Intervals are over queries: their clusters are resampled, the same for all sizes and runs, and each draw is fitted anew.

Axes: X draws (the first is the data themselves), Q queries, R relevant passages, S pool sizes, P parameters (logarithms
of a, c and t), V trial values of them, C cases: the distinct (j, r, s).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.differentiate import hessian
from scipy.optimize import minimize
from scipy.special import betainc, gammaln, softmax
from scipy.stats import multivariate_t

from pipeline.analysis.errors import interval

TOP = 10  # of the nDCG
DRAWS = 500  # of the bootstrap
TRIALS = 500  # the importance sampling: draws were at most 0.005 off those fitted one by one
LARGER_POOLS = 8  # extrapolated to, evenly spaced in the logarithm; the last is the full pool
PRIOR_MEAN_P = np.log([0.3, 1, 1])  # of a normal prior; wide: it matters where next to nothing beats
PRIOR_SD_P = np.array([1.5, 1, 5])
COLUMNS = ["benchmark", "system", "model", "strategy", "language", "pool_size", "ndcg_10", "low", "high", "kind"]


def curves(ranks: pd.DataFrame) -> pd.DataFrame:
    """Return nDCG@10 over the size of the pool, for every system, benchmark and language.

    Args:
        ranks: table of `scores.pool_ranks`.

    Returns:
        COLUMNS, one row per pool size: means over seeds with 95 % intervals over queries; `kind` is measured or
        extrapolated. Empty if no benchmark's pools are samples.

    One query, whose relevant passage falls from rank 1 to 3 as the pool grows to its full size:

    >>> ranks = pd.DataFrame({"system": "small", "model": "small", "strategy": "hybrid", "run": "s0", "benchmark": "b",
    ...                       "query_language": "sw", "query_id": "q", "place": 1, "gain": 1.0, "full_size": 200,
    ...                       "pool_size": [100, 200], "rank": [1, 3]})
    >>> curves(ranks)[["pool_size", "ndcg_10", "kind"]].round(3).to_dict("records")  # doctest: +NORMALIZE_WHITESPACE
    [{'pool_size': 100, 'ndcg_10': 1.0, 'kind': 'measured'}, {'pool_size': 200, 'ndcg_10': 0.5, 'kind': 'measured'}]
    """
    frames = []
    keys = ["system", "model", "strategy", "benchmark", "query_language"]
    for (system, model, strategy, benchmark, language), group in ranks.groupby(keys, sort=False) if len(ranks) else ():
        ndcg_SX = sum(curve(of_run) for _, of_run in group.groupby("run")) / group["run"].nunique()
        low, high = interval(ndcg_SX.to_numpy()[:, 1:].T)
        frame = ndcg_SX.index.to_frame(index=False).assign(ndcg_10=ndcg_SX[0].to_numpy(), low=low, high=high)
        frame = frame.assign(system=system, model=model, strategy=strategy, benchmark=benchmark, language=language)
        frames.append(frame[COLUMNS])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def curve(ranks: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Return nDCG@10 [S, X] of one run and language: a row per (pool_size, kind).

    Args:
        ranks: one row per (query_id, place, pool_size), with the `cluster` of the query, if known: the `rank` that
        relevant passage number `place` of the query
            has in this pool, and its `gain`, the share of the ideal DCG that it earns at rank 1. `full_size` is the
            number of passages in the full pool.
        draws: number of bootstrap draws.

    Returns:
        Column 0 is the estimate, the others are its bootstrap draws.

    >>> ranks = pd.DataFrame({"query_id": ["q", "r"] * 2, "place": 1, "gain": 1.0, "full_size": 200,
    ...                       "pool_size": [100, 100, 200, 200], "rank": [1, 1, 1, 3]})
    >>> ndcg_SX = curve(ranks, draws=2)
    >>> ndcg_SX.shape, ndcg_SX[0].to_dict()
    ((2, 3), {(100, 'measured'): 1.0, (200, 'measured'): 0.75})
    """
    rank_RS = ranks.pivot(index=["query_id", "place", "gain"], columns="pool_size", values="rank")
    sizes, full = rank_RS.columns.to_list(), int(ranks["full_size"].iloc[0])
    place_R, gain_R = (rank_RS.index.get_level_values(name).to_numpy() for name in ("place", "gain"))
    query_R, queries = pd.factorize(rank_RS.index.get_level_values("query_id"))
    count = len(queries)
    weight_XQ = resampled(ranks, queries, draws)
    weight_XR = weight_XQ[:, query_R] * gain_R

    ndcg = {(size, "measured"): weight_XR @ discount(rank_RS[size].to_numpy()) / count for size in sizes}
    if sizes[0] < sizes[-1] < full:
        relevant_R = place_R - 1
        judged_R = rank_RS[sizes[0]].to_numpy() - 1 - relevant_R
        sampled_R = (rank_RS[sizes[-1]] - rank_RS[sizes[0]]).to_numpy()
        cases, weight_XC = tabulate(judged_R, relevant_R, sampled_R, weight_XR)
        larger = np.geomspace(sizes[-1], full, LARGER_POOLS + 1).round().astype(int)[1:].tolist()
        growths = [(size - sizes[-1]) / (sizes[-1] - sizes[0]) for size in larger]
        for size, dcg_X in zip(larger, extrapolate(cases, weight_XC, growths), strict=True):
            ndcg[size, "extrapolated"] = dcg_X / count
    return pd.DataFrame(ndcg.values(), pd.MultiIndex.from_tuples(ndcg, names=["pool_size", "kind"]))


def resampled(ranks: pd.DataFrame, queries: pd.Index, draws: int) -> np.ndarray:
    """Return the weights [X, Q] of the queries: 1 in the data themselves, and how often a draw has the query's cluster.

    The weights of a draw are scaled so that they sum to the number of queries.

    >>> ranks = pd.DataFrame({"query_id": ["a", "b", "c"], "cluster": ["page 1", "page 1", "page 2"]})
    >>> np.unique(resampled(ranks, pd.Index(["a", "b", "c"]), draws=20), axis=0).tolist()
    [[0.0, 0.0, 3.0], [1.0, 1.0, 1.0], [1.5, 1.5, 0.0]]
    """
    cluster_of = ranks.drop_duplicates("query_id").set_index("query_id").reindex(queries)
    codes_Q, names = pd.factorize(cluster_of.get("cluster", queries))
    even_G = np.full(len(names), 1 / len(names))
    weight_XQ = np.random.default_rng(0).multinomial(len(names), even_G, draws)[:, codes_Q].astype(float)
    weight_XQ *= len(queries) / weight_XQ.sum(axis=1, keepdims=True)
    return np.vstack([np.ones(len(queries)), weight_XQ])


def discount(rank: np.ndarray) -> np.ndarray:
    """Return the discount of nDCG@10 at each rank: 1 / log2(1 + rank), and 0 past the cutoff.

    >>> discount(np.array([1, 3, 10, 11])).round(3).tolist()
    [1.0, 0.5, 0.289, 0.0]
    """
    return np.where(rank <= TOP, 1 / np.log2(1 + rank), 0)


@dataclass(frozen=True)
class Cases:
    """The distinct counts (j, r, s) of passages that beat a relevant one; s is censored where it leaves the top.

    >>> Cases(judged_C=np.array([0, 3]), relevant_C=np.array([0, 1]), sampled_C=np.array([4, 6])).beaten_C.tolist()
    [4, 10]
    """

    judged_C: np.ndarray
    relevant_C: np.ndarray
    sampled_C: np.ndarray

    @property
    def beaten_C(self) -> np.ndarray:
        """How many passages beat the relevant one."""
        return self.judged_C + self.relevant_C + self.sampled_C


def tabulate(
    judged_R: np.ndarray, relevant_R: np.ndarray, sampled_R: np.ndarray, weight_XR: np.ndarray
) -> tuple[Cases, np.ndarray]:
    """Return the distinct cases, and the summed weight [X, C] of the passages in each.

    Passages that judged and relevant ones alone push out of the top never return, and are left out.

    >>> judged_R, relevant_R, sampled_R = np.array([[0, 0, 2, 12], [0, 0, 0, 0], [3, 3, 40, 0]])
    >>> cases, weight_XC = tabulate(judged_R, relevant_R, sampled_R, np.ones((1, 4)))
    >>> cases.judged_C.tolist(), cases.sampled_C.tolist(), weight_XC.tolist()
    ([0, 2], [3, 8], [[2.0, 1.0]])
    """
    room_R = TOP - judged_R - relevant_R
    near_R = room_R > 0
    counts_3R = np.stack([judged_R, relevant_R, np.minimum(sampled_R, room_R)])[:, near_R]
    counts_3C, case_R = np.unique(counts_3R, axis=1, return_inverse=True)
    weight_XC = np.stack([np.bincount(case_R, weight_R, counts_3C.shape[1]) for weight_R in weight_XR[:, near_R]])
    return Cases(*counts_3C), weight_XC


def extrapolate(cases: Cases, weight_XC: np.ndarray, growths: list[float]) -> list[np.ndarray]:
    """Return the summed gain times discount [X] in pools that have grown by each M / N of `growths`.

    The parameters are averaged over their posterior: importance sampling around its mode for the data themselves, with
    a multivariate t of 5 degrees of freedom as proposal.

    Without growth it is the sum in the sample, here 20 passages at rank 1 and 10 at rank 3:

    >>> cases = Cases(judged_C=np.array([0, 0]), relevant_C=np.array([0, 0]), sampled_C=np.array([0, 2]))
    >>> [float(dcg_X[0].round(1)) for dcg_X in extrapolate(cases, np.array([[20.0, 10.0]]), [0.0, 1.0])]
    [25.0, 22.4]
    """

    def loss(parameters_Px: np.ndarray) -> np.ndarray:
        parameters_xP = np.moveaxis(parameters_Px, 0, -1)
        return -log_likelihood(cases, parameters_xP) @ weight_XC[0] - log_prior(parameters_xP)

    mode_P = minimize(loss, PRIOR_MEAN_P).x
    proposal = multivariate_t(mode_P, 2 * np.linalg.inv(hessian(loss, mode_P, order=2, maxiter=2).ddf), df=5, seed=0)
    trial_VP = proposal.rvs(TRIALS)
    log_weight_V = log_prior(trial_VP) - proposal.logpdf(trial_VP)
    posterior_XV = softmax(weight_XC @ log_likelihood(cases, trial_VP).T + log_weight_V, axis=1)
    return [(weight_XC * (posterior_XV @ expected_discount(cases, trial_VP, m))).sum(axis=1) for m in growths]


def log_prior(parameters_xP: np.ndarray) -> np.ndarray:
    """Return the logarithm [x] of the normal prior's density, up to a constant.

    >>> float(log_prior(PRIOR_MEAN_P + [1.5, 0, 0]))
    -0.5
    """
    return -(((parameters_xP - PRIOR_MEAN_P) / PRIOR_SD_P) ** 2).sum(axis=-1) / 2


def log_likelihood(cases: Cases, parameters_xP: np.ndarray) -> np.ndarray:
    """Return the log probability [x, C] of s given j; of all values from s on where s is censored.

    With a = t = 1 and no judged passage s is geometric: P(s = 2) = 1 / 8.

    >>> cases = Cases(judged_C=np.array([0]), relevant_C=np.array([0]), sampled_C=np.array([2]))
    >>> np.exp(log_likelihood(cases, np.zeros(3))).round(6).tolist()
    [0.125]
    """
    a, c, t = np.exp(np.moveaxis(parameters_xP, -1, 0))[..., None]
    shape_xC, s_C = a + c * cases.judged_C, cases.sampled_C
    choose_xC = gammaln(shape_xC + s_C) - gammaln(shape_xC) - gammaln(s_C + 1)
    log_xC = choose_xC - shape_xC * np.log1p(t) - s_C * np.log1p(1 / t)
    censored_C = cases.beaten_C >= TOP
    tail_xC = betainc(s_C[censored_C], shape_xC[..., censored_C], t / (1 + t))
    log_xC[..., censored_C] = np.log(np.maximum(tail_xC, 1e-300))
    return log_xC


def expected_discount(cases: Cases, parameters_VP: np.ndarray, growth: float) -> np.ndarray:
    """Return the expected discount [V, C] of a passage of each case once the pool has grown by M / N = `growth`.

    It is the sum over b of its probability times the discount at rank 1 + j + r + s + b.

    Without growth the discount at rank 3; in an endless pool the passage is pushed out of the top.

    >>> cases = Cases(judged_C=np.array([0]), relevant_C=np.array([0]), sampled_C=np.array([2]))
    >>> [expected_discount(cases, np.zeros((1, 3)), growth).round(3).tolist() for growth in (0.0, 1e9)]
    [[[0.5]], [[0.0]]]
    """
    a, c, t = np.exp(parameters_VP.T)[..., None]
    shape_VC = a + c * cases.judged_C + cases.sampled_C
    beats = t * growth / (1 + t + t * growth)
    probability_VC = (1 - beats) ** shape_VC
    total_VC = np.zeros_like(shape_VC)
    for b in range(TOP):
        total_VC += probability_VC * discount(1 + cases.beaten_C + b)
        probability_VC = probability_VC * beats * (shape_VC + b) / (b + 1)
    return total_VC
