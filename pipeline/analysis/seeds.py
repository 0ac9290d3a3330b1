"""Seed variances of systems, moderated: two or three seeds of one system say next to nothing about their variance.

A variance is shrunk towards what the other systems of the sweep let one expect of it, and gains their degrees of
freedom (Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression"). How much one
system says about another is estimated, not assumed: the logarithm of a variance is a mean, an effect of the batch
strategy, an effect of the model and a deviation of the system's own, each normal. Pooling all systems, or all of a
strategy, are its limits. docs/statistics.md argues the choice.

Axes: E systems, K seeds, G clusters of queries, C combinations of the standard deviations of the three effects.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import digamma, fdtrc, polygamma, softmax  # scipy.stats would take 0.3 s to import

EFFECT_SD = (0.1, 0.5, 1.0, 1.8)  # of the logarithm of a variance: tried for strategy, model and system alike
MEAN_VARIANCE = 100.0  # of the prior of the mean logarithm: flat
UNKNOWN = 1e6  # variance of the logarithm of a variance that was not observed


class SeedPart(NamedTuple):
    """What seeds add to the error of a mean: `variance`, and `uncertain`, the weight of its degrees of freedom.

    `uncertain` is the moderated variance over the number of seeds. `variance` is smaller by the part that is noise of
    single queries, which the variance over queries already holds.
    """

    variance: float
    uncertain: float
    degrees: float


NO_SEEDS = SeedPart(0.0, 0.0, 0.0)


def moderate(table: pd.DataFrame) -> pd.DataFrame:
    """Return the seed variances of comparable systems, moderated.

    A system's prior comes from the other systems alone: e = log s² - digamma(d / 2) + log(d / 2) estimates log σ²,
    and predicting it from the others gives a mean and a variance. The prior variance s0² is the exponential of the
    mean; its degrees of freedom d0 are those of a chi² whose logarithm has that variance. With the system's own s² it
    makes (d0 s0² + d s²) / (d0 + d), with d0 + d degrees of freedom. If s² lies in the upper quarter of what the prior
    predicts (p < 1/4), only the share 4 p of d0 counts: a system whose training is unstable is not drawn to the stable
    ones (Phipson et al. 2016, "Robust hyperparameter estimation protects against hypervariable genes").

    Args:
        table: one row per system; `variance` between seeds and its `degrees`, 0 where there is a single seed; the
            labels `strategy` and `model`.

    Returns:
        The columns `variance` and `degrees`, moderated; NaN and 0 where no system tells.

    Variances alike support each other; one that has nothing in common with the others stays what it is.

    >>> table = pd.DataFrame({"variance": [1.0, 2.0, 0.5, 1.0, 2.0, 0.5, 1.0, 400.0], "degrees": 2})
    >>> moderate(table.assign(strategy="hybrid", model=list("abcdefgh"))).round(1).tail(2).to_dict("records")
    [{'variance': 2.2, 'degrees': 3.2}, {'variance': 374.5, 'degrees': 2.1}]
    """
    variance_E, degrees_E = table["variance"].to_numpy(float), table["degrees"].to_numpy(float)
    observed_E = degrees_E > 0
    if not observed_E.any():
        return pd.DataFrame({"variance": np.nan, "degrees": 0.0}, index=table.index)
    half_E = np.where(observed_E, degrees_E, 2) / 2
    log_E = np.log(variance_E, where=observed_E, out=np.zeros(len(table))) - digamma(half_E) + np.log(half_E)
    centre = log_E[observed_E].mean()
    noise_E = np.where(observed_E, polygamma(1, half_E), UNKNOWN)
    mean_E, spread_E = predict(np.where(observed_E, log_E - centre, 0), noise_E, table["strategy"], table["model"])
    prior_E, prior_degrees_E = np.exp(centre + mean_E), 2 * trigamma_inverse(spread_E)
    above_E = fdtrc(np.maximum(degrees_E, 1), prior_degrees_E, variance_E / prior_E)
    prior_degrees_E *= np.where(observed_E, np.minimum(1, 4 * above_E), 1)
    prior_degrees_E *= observed_E.sum() > observed_E  # a system that is the only one to tell has no prior
    total_E = prior_degrees_E + degrees_E
    squares_E = prior_degrees_E * prior_E + np.where(observed_E, degrees_E * variance_E, 0)
    return pd.DataFrame({"variance": squares_E / total_E, "degrees": total_E}, index=table.index)


def predict(
    log_E: np.ndarray, noise_E: np.ndarray, strategy: pd.Series, model: pd.Series
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [E] and variance [E] of each system's log σ², given the others' observed logarithms and noise.

    Two others, at 0 and 2 with little noise, and nothing known of the third:

    >>> one = pd.Series(["a", "a", "a"])
    >>> mean_E, variance_E = predict(np.array([0.0, 2.0, 0.0]), np.array([0.1, 0.1, UNKNOWN]), one, one)
    >>> round(mean_E[2]), variance_E[2] > 1
    (1, np.True_)
    """
    same_EE = [np.equal.outer(codes, codes) for codes in (pd.factorize(strategy)[0], pd.factorize(model)[0])]
    same_3EE = np.array([*same_EE, np.eye(len(log_E))], float)
    weight_C3 = np.square(list(product(EFFECT_SD, repeat=3)))
    precision_CE, weighted_CE = np.empty((2, len(weight_C3), len(log_E)))
    log_determinant_C = np.empty(len(weight_C3))
    for c, weight_3 in enumerate(weight_C3):  # one at a time: 1,000 systems would take gigabytes
        covariance_EE = MEAN_VARIANCE + np.einsum("i,ijk->jk", weight_3, same_3EE) + np.diag(noise_E)
        inverse_EE = np.linalg.inv(covariance_EE)
        precision_CE[c], weighted_CE[c] = np.diagonal(inverse_EE), inverse_EE @ log_E
        log_determinant_C[c] = np.linalg.slogdet(covariance_EE)[1]
    mean_CE, variance_CE = log_E - weighted_CE / precision_CE, 1 / precision_CE - noise_E
    log_likelihood_C = -(log_determinant_C + weighted_CE @ log_E) / 2
    share_C = softmax(log_likelihood_C)
    mean_E = share_C @ mean_CE
    return mean_E, np.maximum(share_C @ (variance_CE + (mean_CE - mean_E) ** 2), 1e-6)


def trigamma_inverse(value: np.ndarray) -> np.ndarray:
    """Return x where trigamma(x) is the value, by Newton's method on 1 / trigamma (Smyth 2004, appendix).

    >>> polygamma(1, trigamma_inverse(np.array([0.01, 1.0, 30.0]))).round(6).tolist()
    [0.01, 1.0, 30.0]
    """
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, x)
        x = x + trigamma * (1 - trigamma / value) / polygamma(2, x)
    return x


def seed_parts(runs: dict[str, tuple[np.ndarray, np.ndarray]], labels: pd.DataFrame) -> dict[str, SeedPart]:
    """Return what seeds add to the error of each mean, from comparable systems.

    Args:
        runs: by system, the means [K] of its seeds and the shares [G, K] of the clusters in their errors.
        labels: `strategy` and `model` of each system.

    Returns:
        NO_SEEDS for a system that no seed changes, and where no system has several seeds.

    Queries that all score alike leave the seeds alone: means of .1 and .3 have the variance .02.

    >>> labels = pd.DataFrame({"strategy": "hybrid", "model": ["small"]}, index=["a"])
    >>> part = seed_parts({"a": (np.array([0.1, 0.3]), np.zeros((5, 2)))}, labels)["a"]
    >>> [round(number, 3) for number in part]
    [0.01, 0.01, 1.0]
    """
    counts = {name: len(mean_K) for name, (mean_K, _) in runs.items()}
    fixed = {name for name, (mean_K, _) in runs.items() if len(mean_K) > 1 and np.ptp(mean_K) == 0}
    fixed_strategies = set(labels.loc[list(fixed), "strategy"])
    fixed |= {name for name in runs if counts[name] == 1 and labels.loc[name, "strategy"] in fixed_strategies}
    seeded = [name for name in runs if name not in fixed]
    variances = [runs[name][0].var(ddof=1) if counts[name] > 1 else np.nan for name in seeded]
    degrees = [counts[name] - 1 for name in seeded]
    moderated = moderate(labels.loc[seeded, ["strategy", "model"]].assign(variance=variances, degrees=degrees))
    parts = dict.fromkeys(runs, NO_SEEDS)
    for name, (variance, freedom) in zip(seeded, moderated[["variance", "degrees"]].to_numpy().tolist(), strict=True):
        if freedom > 0:
            error_GK, count = runs[name][1], counts[name]
            noise = ((error_GK - error_GK.mean(axis=1, keepdims=True)) ** 2).sum() / (count - 1) if count > 1 else 0.0
            parts[name] = SeedPart(max(variance - float(noise), 0.0) / count, variance / count, freedom)
    return parts
