"""Centring: language bias without training, by taking from each vector what is common to its language.

Vectors of one language lie together, whatever their texts say. Where is estimated by the mean of the passages of a
language, known once they are indexed, before the first query.

    passages    Move the passages of each language to the mean of the languages' means. Queries stay as they are, so a
                search need not know their language. Index-side, as SHIFT (arXiv:2606.18801) moves passages by the
                mean distance between translations.
    both        Subtract the mean of its language from each passage, and from each query that of the passages in its
                language, which a search has to know. As LAReQA (Roy et al. 2020).

Vectors are of unit length again. If the pools of two languages are not about the same, their means differ in more than
language, and centring removes that too.

Axes: N vectors, P passages of a language, D embedding width.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.retrieval.vectors import Shifted, Vectors, mean
from pipeline.values import Collection, UserError

Side = Mapping[str, Vectors]


def centred(queries: Side, passages: Side, centre: str) -> tuple[Side, Side]:
    """Return queries and passages [N, D] per language, centred by `passages` or `both`.

    >>> from pipeline.retrieval.example import vectors
    >>> queries, passages = {"en": vectors([10])}, {"en": vectors([0, 40]), "de": vectors([20, 60])}
    >>> _, moved = centred(queries, passages, "passages")
    >>> [np.degrees(np.arctan2(*np.asarray(emb_ND).T[::-1])).round().tolist() for emb_ND in moved.values()]
    [[9.0, 49.0], [11.0, 51.0]]
    """
    means = {language: mean(emb_PD) for language, emb_PD in passages.items()}
    if centre == "both":
        queries, passages = (
            {language: Shifted(emb_ND, means[language]) for language, emb_ND in side.items()}
            for side in (queries, passages)
        )
        return queries, passages
    centre_D = np.mean(list(means.values()), axis=0)
    return queries, {language: Shifted(emb_PD, means[language] - centre_D) for language, emb_PD in passages.items()}


def check_centre(centre: str, collection: Collection) -> None:
    """Check, before any work, that each query has a language's mean to subtract, and no passage is that mean.

    Raises:
        UserError: names the first language with fewer than two passages.

    >>> from pipeline.retrieval import example
    >>> check_centre("both", example.COLLECTION)
    """
    if centre == "both":
        for language in {**collection.passages, **collection.queries}:
            if (count := len(collection.passages.get(language, ()))) < 2:
                needed = "centre=both needs two passages or more in each language of passages and queries"
                raise UserError(f"variants: {needed}: {collection.name} has {count} in {language}.")
