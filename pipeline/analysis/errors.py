"""The error model: how far a mean accuracy, or a difference of two, may be from that of other queries and other seeds.

All intervals, p-values and draws of accuracies come from here (docs/statistics.md says why it is so):
1. scores.query_scores: one value per query whose plain mean is the macro average over language pairs.
2. `estimate`: the share of each cluster of queries in the error of each mean (delete-one-cluster jackknife). It is
   linear in the scores: the share in the error of a difference is the difference of the shares, paired, then clustered.
3. Training seeds add the moderated variance between them (seeds.py), each system its own.
4. `combine`: the sum of these variances, its degrees of freedom after Satterthwaite, and Student's t.

Axes: Q queries, G clusters, C columns (system, seed), K seeds, B draws, S systems.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import chdtri, stdtr, stdtrit

from pipeline.analysis.seeds import NO_SEEDS, SeedPart, seed_parts
from pipeline.store.records import AS_TRAINED

DRAWS = 2000
LEVEL = 0.95  # of every interval
QUERIES, QUERIES_AND_SEEDS = "queries", "queries and seeds"  # what an interval speaks of


class Interval(NamedTuple):
    """An estimate, its 95 % interval and the p-value of the null hypothesis that it is 0: all from one t distribution.

    The interval excludes 0 exactly when p < 0.05.
    """

    value: float
    low: float
    high: float
    p: float
    standard_error: float
    degrees: float


@dataclass(frozen=True)
class Estimates:
    """The mean accuracy of every system in one benchmark and setting, with what its error is made of.

    `mean_C` and `error_GC`: the mean of each run, columns (system, seed), and the share of each cluster of queries in
    its error: squares of shares sum to a variance. `labels` are those of the systems: encoder, strategy, model,
    variant.
    """

    mean_C: pd.Series
    error_GC: pd.DataFrame
    query_degrees: float
    labels: pd.DataFrame
    _seeds: dict[Hashable, dict[str, SeedPart]] = field(default_factory=dict, repr=False)

    @cached_property
    def mean_S(self) -> pd.Series:
        """The mean over queries and seeds of each system."""
        return self.mean_C.groupby(level=0, sort=False).mean()

    @cached_property
    def error_GS(self) -> pd.DataFrame:
        """The share of each cluster in the error of each system's mean."""
        return self.error_GC.T.groupby(level=0, sort=False).mean().T

    @property
    def clusters(self) -> int:
        """The number of clusters of queries."""
        return len(self.error_GC)

    def interval(self, system: str) -> Interval:
        """Return the mean accuracy of a system with its interval."""
        query_variance = (self.error_GS[system].to_numpy() ** 2).sum()
        return combine(self.mean_S[system], query_variance, self.query_degrees, [self.seed_part(system)])

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The interval of each system: one computation for the panels of all costs."""
        return {system: self.interval(system) for system in self.mean_S.index}

    def difference(self, a: str, b: str) -> Interval:
        """Return the accuracy of a less that of b: paired by query, clustered, and with the error of the seeds of each.

        Two inference variants of one encoder share its seeds: the variance over seeds is that of their difference.
        """
        error_G = self.error_GS[a].to_numpy() - self.error_GS[b].to_numpy()
        shared = self._encoders[a] == self._encoders[b]
        parts = [self._shared_part(a, b)] if shared else [self.seed_part(a), self.seed_part(b)]
        return combine(self.mean_S[a] - self.mean_S[b], (error_G**2).sum(), self.query_degrees, parts)

    def difference_variances(self, system: str, others: Sequence[str]) -> np.ndarray:
        """Return the squared standard errors of the differences between a system and each of the others."""
        error_GO = self.error_GS[list(others)].to_numpy() - self.error_GS[[system]].to_numpy()
        own = self.seed_part(system).variance
        shared = [self._encoders[other] == self._encoders[system] for other in others]
        seeds_O = [
            self._shared_part(system, other).variance if same else own + self.seed_part(other).variance
            for other, same in zip(others, shared, strict=True)
        ]
        return (error_GO**2).sum(axis=0) + np.array(seeds_O)

    def covers(self, *systems: str) -> str:
        """Say what an interval of these systems speaks of: other queries alone, or other seeds of the training as well.

        A single seed, in a sweep whose other systems tell nothing of seeds either, has no error of seeds: the interval
        is about this one checkpoint. So it is for an encoder that no seed changes, such as an untrained one.
        """
        return QUERIES_AND_SEEDS if any(self.seed_part(system) != NO_SEEDS for system in systems) else QUERIES

    def _runs(self, system: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the means [K] of a system's seeds, and the shares [G, K] of the clusters in their errors."""
        places = self._places[system]
        return self.mean_C.to_numpy()[places], self.error_GC.to_numpy()[:, places]

    @cached_property
    def _encoders(self) -> dict[str, str]:
        return self.labels["encoder"].to_dict()

    @cached_property
    def _variants(self) -> dict[str, str]:
        return self.labels["variant"].to_dict()

    @cached_property
    def _places(self) -> dict[str, np.ndarray]:
        return dict(self.mean_C.groupby(level=0, sort=False).indices)

    def seed_part(self, system: str) -> SeedPart:
        """Return what seeds add to the error of a system's mean; systems of one inference variant are comparable."""
        variant = self._variants[system]
        if variant not in self._seeds:
            systems = self.labels.index[self.labels["variant"] == variant]
            runs = {system: self._runs(system) for system in systems}
            self._seeds[variant] = seed_parts(runs, self.labels)
        return self._seeds[variant][system]

    def _shared_part(self, a: str, b: str) -> SeedPart:
        """Return the same of the difference of two variants, moderated over all encoders that have both."""
        labels = self.labels
        variants = self._variants[a], self._variants[b]
        if variants not in self._seeds:
            first, second = (
                labels[labels["variant"] == variant].reset_index().set_index("encoder") for variant in variants
            )
            runs = {}
            for encoder in first.index.intersection(second.index):
                one, other = first.loc[encoder, labels.index.name], second.loc[encoder, labels.index.name]
                mean_K = (self.mean_C[one] - self.mean_C[other]).dropna()
                error_GK = (self.error_GC[one] - self.error_GC[other])[mean_K.index]
                runs[one] = mean_K.to_numpy(), error_GK.to_numpy()
            self._seeds[variants] = seed_parts(runs, labels)
        return self._seeds[variants][a]

    def draws(self, seed: int = 0, size: int = DRAWS) -> pd.DataFrame:
        """Return draws [B, S] of the mean accuracies: what other queries and seeds could have given.

        The error over queries is multivariate t with the covariance that the clusters give: all systems meet the same
        queries in a draw. The error over seeds is Student's t with each system's moderated variance and degrees of
        freedom; inference variants share the error of their encoder as trained. Two tables with the same clusters,
        encoders and `seed`, such as accuracy and bias, are paired: a draw has the same queries and seeds in both.

        >>> score = np.array([0.2, 0.4, 0.9])
        >>> drawn = estimate(pd.DataFrame({("a", 0): score, ("b", 0): score - 0.1})).draws(size=100)
        >>> drawn.shape, np.allclose(drawn["a"] - drawn["b"], 0.1)
        ((100, 2), True)
        """
        rng = np.random.default_rng(seed)
        mean_S, error_GS = self.mean_S, self.error_GS
        query_BG = rng.standard_normal((size, self.clusters)) * student_t_factor(self.query_degrees, size, rng)
        error_BS = query_BG @ error_GS[mean_S.index].to_numpy()
        most = max(len(places) for places in self._places.values())
        for _, systems in self.labels.loc[mean_S.index].groupby("encoder", sort=False):
            normal_BK, uniform_B = rng.standard_normal((size, most)), rng.random(size)
            trained = systems.index[systems["variant"] == AS_TRAINED]
            first = [*trained, *systems.index][0]
            part = self.seed_part(first)
            if part.variance > 0:
                deviation_K = self._runs(first)[0] - self._runs(first)[0].mean()
                direction_K = deviation_K if deviation_K.any() else np.ones(len(deviation_K))
                unit_B = normal_BK[:, : len(direction_K)] @ (direction_K / np.sqrt((direction_K**2).sum()))
                t_B = unit_B * np.sqrt(part.degrees / chdtri(part.degrees, uniform_B))
                error_BS[:, mean_S.index.get_indexer(systems.index)] += np.sqrt(part.variance) * t_B[:, None]
        return pd.DataFrame(mean_S.to_numpy() + error_BS, columns=mean_S.index)


def estimate(scores_QC: pd.DataFrame, labels: pd.DataFrame | None = None) -> Estimates:
    """Return the mean accuracies of the systems and what their errors are made of.

    Args:
        scores_QC: values of `scores.query_scores`; columns are (system, seed), rows (cluster, query_id). Rows without
            clusters, or all of one cluster, are clusters of their own.
        labels: of the systems: `strategy`, `model` and `variant`. Without it, all systems are of one kind.

    Two clusters of two queries, whose means are .2 and .6: without the first the mean is .6, without the second .2. The
    jackknife's variance is (2 - 1) / 2 (.2² + .2²) = .04, with 1 degree of freedom.

    >>> clusters = pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 3), ("y", 4)], names=["cluster", "query_id"])
    >>> of = estimate(pd.DataFrame({("a", 0): [0.1, 0.3, 0.5, 0.7]}, clusters)).interval("a")
    >>> [round(number, 3) for number in (of.value, of.standard_error, of.degrees)]
    [0.4, 0.2, 1.0]
    """
    mean_C = scores_QC.mean()
    cluster_Q = scores_QC.index.get_level_values("cluster") if "cluster" in scores_QC.index.names else scores_QC.index
    codes_Q, names = pd.factorize(cluster_Q)
    if len(names) < 2:
        codes_Q = np.arange(len(scores_QC))
    size_G = np.bincount(codes_Q)
    sum_GC = (scores_QC - mean_C).groupby(codes_Q).sum()
    left_G = len(scores_QC) - size_G
    shares_GC = sum_GC.div(left_G, axis=0) * np.sqrt((len(size_G) - 1) / len(size_G))
    systems = mean_C.index.get_level_values(0).unique()
    table = pd.DataFrame({"strategy": "", "model": "", "variant": ""}, index=systems)
    if labels is not None:
        table = labels.loc[systems, ["strategy", "model", "variant"]]
    else:
        table["model"], table["variant"] = systems.str.split(" ").str[0], systems.str.partition(" ").get_level_values(2)
    encoder_S = table.index.str.split(" ").str[0]  # the label of an inference variant follows after a space
    table = table.assign(encoder=encoder_S).rename_axis(index="system")
    return Estimates(mean_C, shares_GC, cluster_degrees(size_G), table)


def cluster_degrees(size_G: np.ndarray) -> float:
    """Return the degrees of freedom of the jackknife's variance (Bell & McCaffrey 2002).

    They are those of the chi² with the mean and variance of the estimated variance, if queries were independent: G - 1
    for clusters of one size, fewer if some clusters are much larger than others.

    >>> cluster_degrees(np.array([3, 3, 3, 3])), round(cluster_degrees(np.array([9, 1, 1, 1])), 2)
    (3.0, 1.13)
    """
    size_G = size_G / size_G.sum()
    weight_G = 1 / (1 - size_G) ** 2
    trace = (weight_G * size_G * (1 - size_G)).sum()
    squares = (weight_G**2 * size_G**2 * (1 - 2 * size_G)).sum() + (weight_G * size_G**2).sum() ** 2
    return float(round(trace**2 / squares, 9))


def combine(value: float, query_variance: float, query_degrees: float, seeds: Sequence[SeedPart]) -> Interval:
    """Return the interval and the p-value of an estimate whose variance is a sum (Satterthwaite 1946).

    Variances of .03 with 4 degrees of freedom and .01 with 2 sum to .04, with .04² / (.03² / 4 + .01² / 2) = 5.8.

    >>> of = combine(0.5, 0.03, 4, [SeedPart(0.01, 0.01, 2)])
    >>> [round(number, 3) for number in of]
    [0.5, 0.007, 0.993, 0.048, 0.2, 5.818]
    """
    variance = query_variance + sum(part.variance for part in seeds)
    parts = [(query_variance, query_degrees), *((part.uncertain, part.degrees) for part in seeds)]
    parts = [(part, degrees) for part, degrees in parts if part > 0]
    if variance == 0:
        return Interval(value, value, value, float(value == 0), 0.0, query_degrees)
    degrees = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    degrees = max(degrees, min(degrees for _, degrees in parts))
    error = float(np.sqrt(variance))
    reach = stdtrit(degrees, (1 + LEVEL) / 2) * error
    p = 2 * stdtr(degrees, -abs(value) / error)
    return Interval(*map(float, (value, value - reach, value + reach, p, error, degrees)))


def student_t_factor(degrees: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return factors [B, 1] that turn a standard normal variable into Student's t with `degrees` degrees of freedom.

    A t variable is a normal one divided by the square root of chi² / degrees, both independent. With 2 degrees of
    freedom 95 % of the values lie within 4.30, against 1.96 of the normal distribution.

    >>> rng = np.random.default_rng(0)
    >>> t_B1 = rng.standard_normal((1_000_000, 1)) * student_t_factor(2, 1_000_000, rng)
    >>> np.quantile(t_B1, 0.975).round(1)
    np.float64(4.3)
    """
    return np.sqrt(degrees / rng.chisquare(degrees, (size, 1)))


def interval(draws_BS: pd.DataFrame | np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends [S] of each column's percentile interval; scalars for draws [B] of one figure.

    >>> low, high = interval(np.arange(101)[:, None])
    >>> low.round(1).tolist(), high.round(1).tolist()
    ([2.5], [97.5])
    """
    low, high = np.quantile(draws_BS, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
