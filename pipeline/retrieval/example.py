"""The tiny benchmark of this room's worked examples: texts are angles, so every rank can be checked by hand.

A text's embedding is the unit vector at its angle, so a passage scores cos(difference): the nearest angle ranks first.
English query 0 lies at 4 degrees; its distances to the passages below are 4, 36, 86 (en) and 6, 76 (de). So its
multilingual ranking is en 0, de 0, en 1, de 1, en 2.
"""

import numpy as np

from pipeline.values import Collection, Ranking, Relevance, Texts

DEGREES_QUERIES = {"en": [4, 84], "de": [52]}
DEGREES_PASSAGES = {"en": [0, 40, 90], "de": [10, 80]}


def vectors(degrees: list[int]) -> np.ndarray:
    """Return the float32 unit vectors [N, 2] at these angles.

    >>> vectors([0, 60]).round(3)
    array([[1.   , 0.   ],
           [0.5  , 0.866]], dtype=float32)
    """
    radians_N = np.radians(degrees)
    return np.stack([np.cos(radians_N), np.sin(radians_N)], axis=1).astype(np.float32)


def texts(prefix: str, degrees: list[int]) -> Texts:
    """Return one text per angle, with the ids q0, q1, … or p0, p1, …

    >>> texts("q", [4, 84]).ids
    ['q0', 'q1']
    """
    return Texts([f"{prefix}{n}" for n in range(len(degrees))], [f"{angle} degrees" for angle in degrees])


QUERIES = {language: vectors(degrees) for language, degrees in DEGREES_QUERIES.items()}
PASSAGES = {language: vectors(degrees) for language, degrees in DEGREES_PASSAGES.items()}

# English query 0: passages en 1 (grade 2) and de 0; English query 1: en 2. German query 0: en 1 and de 1.
COLLECTION = Collection(
    name="angles",
    queries={language: texts("q", degrees) for language, degrees in DEGREES_QUERIES.items()},
    passages={language: texts("p", degrees) for language, degrees in DEGREES_PASSAGES.items()},
    relevance={
        ("en", "en"): Relevance(np.array([0, 1], np.int32), np.array([1, 2]), np.array([2, 1], np.int8)),
        ("en", "de"): Relevance(np.array([0], np.int32), np.array([0]), np.array([1], np.int8)),
        ("de", "en"): Relevance(np.array([0], np.int32), np.array([1]), np.array([1], np.int8)),
        ("de", "de"): Relevance(np.array([0], np.int32), np.array([1]), np.array([1], np.int8)),
    },
)

# The multilingual ranking of the English queries: ranks 2 (de 0) and 3 (en 1) for query 0, rank 2 (en 2) for query 1.
RANKING = Ranking(
    setting="multi",
    query_language="en",
    pool_languages=("en", "de"),
    pool_sizes=(3, 2),
    queries=np.array([0, 1], np.int32),
    query=np.array([0, 0, 1], np.int32),
    rank=np.array([2, 3, 2]),
    grade=np.array([1, 2, 1], np.int8),
    language=np.array([1, 0, 0], np.int16),
    top_language_QK=np.array([[0, 1, 0, 1, 0], [1, 0, 0, 1, 0]], np.int16),
)
