"""Rankings of nested smaller pools, for benchmarks whose pools are samples (values.Sample).

ranking.py stores them beside the benchmark's own rankings; analysis/pool.py makes the curve of nDCG@10 over pool size.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.values import Collection, Ranking, Texts

PARTS = (0, 1 / 8, 1 / 4, 1 / 2)  # of the sampled passages that a smaller pool holds beside all judged passages


def nested_rankings(collection: Collection, rank: Callable[[Collection], list[Ranking]]) -> list[Ranking]:
    """Return the monolingual rankings of each smaller pool, the smallest first.

    A smaller pool is the beginning of the full one: all judged passages and a part of the sampled ones.

    Args:
        rank: returns the rankings of a smaller collection, which holds as many passages as are to be ranked, without
            their texts.

    A query at 4 degrees, a judged and relevant passage at 40 degrees, and a sample of 8 others:

    >>> import numpy as np
    >>> from pipeline.retrieval import exact
    >>> from pipeline.retrieval.example import texts, vectors
    >>> from pipeline.values import Relevance, Sample
    >>> degrees = [40, 90, 0, 80, 5, 70, 60, 10, 50]
    >>> relevance = Relevance(np.array([0], np.int32), np.array([0]), np.array([1], np.int8))
    >>> collection = Collection(
    ...     "sampled", {"en": texts("q", [4])}, {"en": texts("p", degrees)}, {("en", "en"): relevance},
    ...     samples={"en": Sample(judged=1, full=1000)},
    ... )
    >>> def rank(smaller):
    ...     return exact.rank({"en": vectors([4])}, first({"en": vectors(degrees)}, smaller), smaller)
    >>> [(ranking.pool_sizes, ranking.rank.tolist()) for ranking in nested_rankings(collection, rank)]
    [((1,), [1]), ((2,), [1]), ((3,), [2]), ((5,), [3])]
    """
    rankings = []
    for part in PARTS:
        sizes = {
            language: sample.judged + int(part * (len(collection.passages[language]) - sample.judged))
            for language, sample in collection.samples.items()
        }
        texts = {language: Texts([""] * size, [""] * size) for language, size in sizes.items()}  # ranks need no text
        rankings += rank(replace(collection, passages=texts, settings=("mono",)))
    return rankings


def first(passages: Mapping[str, Any], smaller: Collection) -> dict[str, Any]:
    """Return what stands for the passages of a smaller collection: the first of each language."""
    return {language: passages[language][: len(texts)] for language, texts in smaller.passages.items()}
