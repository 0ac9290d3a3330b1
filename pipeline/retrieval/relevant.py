"""What exact.py, faiss_index.py and results.py share: checks, which settings to rank, relevant passages, Rankings.

Axes: Q queries, P passages of a pool, N vectors, R relevant passages, L pools, K top of a ranking, D embedding width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.retrieval.vectors import Vectors
from pipeline.values import Collection, Ranking, Setting, UserError

LENGTH_TOLERANCE = 0.01  # of a unit vector's length; bfloat16 rounding changes it by less


def rank_pools(
    collection: Collection, rank: Callable[[tuple[str, ...], list[str]], Iterable[Ranking]]
) -> list[Ranking]:
    """Return the rankings of each pool alone and of the union of all, in the order of the query languages.

    Args:
        rank: takes the pools, and the query languages that are ranked in them; called only if there are any.

    >>> from pipeline.retrieval import example
    >>> rank_pools(example.COLLECTION, lambda pools, languages: print(pools, languages) or [])
    ('en',) ['en', 'de']
    ('de',) ['en', 'de']
    ('en', 'de') ['en', 'de']
    []
    """
    union, order = tuple(collection.passages), list(collection.queries)
    rankings: list[Ranking] = []
    for pools in dict.fromkeys([*((pool,) for pool in union), union]):
        if languages := [language for language in order if is_ranked(collection, language, pools)]:
            rankings += rank(pools, languages)
    return sorted(rankings, key=lambda ranking: order.index(ranking.query_language))


def check_embeddings(queries: Mapping[str, Vectors], passages: Mapping[str, Vectors], collection: Collection) -> None:
    """Check that the embeddings are float32 and as many as the collection's texts.

    Raises:
        ValueError: names the side and the language that do not fit.

    >>> from pipeline.retrieval import example
    >>> check_embeddings(example.QUERIES, example.PASSAGES, example.COLLECTION)
    >>> check_embeddings(example.QUERIES, example.QUERIES, example.COLLECTION)
    Traceback (most recent call last):
    ValueError: passages must hold 3 float32 vectors for 'en', got float32 (2, 2)
    """
    for name, side, embeddings in [
        ("queries", collection.queries, queries),
        ("passages", collection.passages, passages),
    ]:
        for language, texts in side.items():
            emb_ND = embeddings[language]
            if len(emb_ND) != len(texts) or emb_ND.dtype != np.float32:
                raise ValueError(
                    f"{name} must hold {len(texts)} float32 vectors for {language!r}, got {emb_ND.dtype} {emb_ND.shape}"
                )


def check_unit(emb_ND: Vectors, name: str) -> np.ndarray:
    """Return the embeddings as a plain array, read from where they lie.

    A NaN would neither beat a passage nor be beaten, so it must not pass.

    Raises:
        ValueError: for a vector that is not finite or not of unit length.

    >>> check_unit(np.array([[0.6, 0.8]]), "queries['en']")
    array([[0.6, 0.8]])
    >>> check_unit(np.array([[0.6, np.nan]]), "queries['en']")
    Traceback (most recent call last):
    ValueError: queries['en'] must be finite and of unit length, got other vectors
    """
    read_ND = np.asarray(emb_ND)
    if not np.all(np.abs(np.einsum("nd,nd->n", read_ND, read_ND) - 1) < 2 * LENGTH_TOLERANCE):
        raise ValueError(f"{name} must be finite and of unit length, got other vectors")
    return read_ND


def setting(query_language: str, pools: Sequence[str]) -> Setting:
    """Return the setting in which queries of a language search these pools together.

    >>> setting("en", ["en"]), setting("en", ["de"]), setting("en", ["en", "de"])
    ('mono', 'cross', 'multi')
    """
    if len(pools) > 1:
        return "multi"
    return "mono" if pools[0] == query_language else "cross"


def is_ranked(collection: Collection, language: str, pools: Sequence[str]) -> bool:
    """Return whether the collection ranks these pools, taken together, for the queries of a language.

    >>> from dataclasses import replace
    >>> from pipeline.retrieval import example
    >>> mono = replace(example.COLLECTION, settings=("mono",))
    >>> is_ranked(mono, "en", ["en"]), is_ranked(mono, "en", ["de"])
    (True, False)
    """
    judged = any((language, pool) in collection.relevance for pool in pools)
    return judged and setting(language, pools) in collection.settings


def check_answers(collection: Collection) -> None:
    """Check, before any work, that every query language has passages to find.

    Raises:
        UserError: names the side and the language that have no text, or the queries without a relevant passage.

    >>> from dataclasses import replace
    >>> from pipeline.retrieval import example
    >>> check_answers(example.COLLECTION)
    >>> check_answers(replace(example.COLLECTION, relevance={}))
    Traceback (most recent call last):
    pipeline.values.UserError: angles: no en query has a relevant passage in the settings mono, cross, multi.
    """
    for side, texts_by_language in (("queries", collection.queries), ("passages", collection.passages)):
        for language, texts in texts_by_language.items():
            if not len(texts):
                raise UserError(f"{collection.name}: there are no {language} {side}.")
    pools = [*((pool,) for pool in collection.passages), tuple(collection.passages)]
    for language in collection.queries:
        ranked = [pool for pool in dict.fromkeys(pools) if is_ranked(collection, language, pool)]
        if not any(len(relevant_passages(collection, language, pool).row) for pool in ranked):
            settings = ", ".join(collection.settings)
            raise UserError(
                f"{collection.name}: no {language} query has a relevant passage in the settings {settings}."
            )


@dataclass(frozen=True)
class Relevant:
    """The relevant passages of one query language in some pools, laid out for counting.

    `rows` are the positions of the queries that count, those with the most relevant passages first. The other arrays
    are parallel, in layers: the first relevant passage of every query, then the second of the queries that have two, …
    Row 0 has the most relevant passages, so it opens every layer, and a layer of n passages belongs to rows 0 to n - 1.
    """

    rows: np.ndarray  # [Q]
    row: np.ndarray  # [R], points into rows
    pool: np.ndarray  # [R], points into the pools
    passage: np.ndarray  # [R]
    grade: np.ndarray  # [R]

    def layers(self) -> Iterator[slice]:
        """Yield the part of the arrays that each layer takes.

        >>> from pipeline.retrieval import example
        >>> relevant = relevant_passages(example.COLLECTION, "en", ["en", "de"])
        >>> [relevant.row[layer].tolist() for layer in relevant.layers()]
        [[0, 1], [0]]
        """
        return (slice(*bounds) for bounds in pairwise([*np.flatnonzero(self.row == 0), len(self.row)]))


def relevant_passages(collection: Collection, language: str, pools: Sequence[str]) -> Relevant:
    """Return the passages with a grade above 0 in these pools, for the queries of a language.

    Queries without a relevant passage get a row only if `collection.every_query_counts`.

    >>> from pipeline.retrieval import example
    >>> relevant = relevant_passages(example.COLLECTION, "en", ["en", "de"])
    >>> relevant.rows.tolist()
    [0, 1]
    >>> list(zip(relevant.row.tolist(), relevant.pool.tolist(), relevant.passage.tolist(), relevant.grade.tolist()))
    [(0, 0, 1, 2), (1, 0, 2, 1), (0, 1, 0, 1)]
    """
    judged = [
        (i, collection.relevance[language, pool])
        for i, pool in enumerate(pools)
        if (language, pool) in collection.relevance
    ]
    grade = np.concatenate([judgements.grade for _, judgements in judged])
    relevant = grade > 0
    query = np.concatenate([judgements.query for _, judgements in judged])[relevant]
    passage = np.concatenate([judgements.passage for _, judgements in judged])[relevant]
    pool = np.concatenate([np.full(len(judgements.grade), i) for i, judgements in judged])[relevant]

    count_Q = np.bincount(query, minlength=len(collection.queries[language]))
    by_count = np.argsort(-count_Q, kind="stable")
    rows = by_count if collection.every_query_counts else by_count[: np.count_nonzero(count_Q)]
    row = np.argsort(by_count)[query]
    layer = np.empty_like(row)
    by_row = np.argsort(row, kind="stable")
    layer[by_row] = np.arange(len(row)) - np.searchsorted(row[by_row], row[by_row])
    order = np.lexsort((row, layer))
    return Relevant(rows, row[order], pool[order], passage[order], grade[relevant][order])


def as_rankings(
    collection: Collection,
    language: str,
    pools: tuple[str, ...],
    relevant: Relevant,
    rank_R: np.ndarray,
    top_language_QK: np.ndarray,
) -> list[Ranking]:
    """Return the Ranking of these pools, sorted by (query, rank); an empty list where no query counts.

    Args:
        rank_R: parallel to the arrays of `relevant`, in any order.
        top_language_QK: parallel to `relevant.rows`.

    >>> from pipeline.retrieval import example
    >>> relevant = relevant_passages(example.COLLECTION, "en", ["en"])
    >>> top_language_QK = np.zeros((2, 3))
    >>> (ranking,) = as_rankings(example.COLLECTION, "en", ("en",), relevant, np.array([2, 1]), top_language_QK)
    >>> ranking.setting, ranking.query.tolist(), ranking.rank.tolist()
    ('mono', [0, 1], [2, 1])
    """
    row_Q = np.arange(len(relevant.rows)) if collection.every_query_counts else np.unique(relevant.row)
    row_Q = row_Q[np.argsort(relevant.rows[row_Q])]
    query_R = relevant.rows[relevant.row]
    order = np.lexsort((rank_R, query_R))
    ranking = Ranking(
        setting=setting(language, pools),
        query_language=language,
        pool_languages=pools,
        pool_sizes=tuple(len(collection.passages[pool]) for pool in pools),
        queries=relevant.rows[row_Q].astype(np.int32),
        query=query_R[order].astype(np.int32),
        rank=rank_R[order],
        grade=relevant.grade[order],
        language=relevant.pool[order].astype(np.int16),
        top_language_QK=top_language_QK[row_Q].astype(np.int16),
    )
    return [ranking] if len(row_Q) else []
