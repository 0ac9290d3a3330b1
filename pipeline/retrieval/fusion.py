"""Fusion of a dense encoder and BM25 by reciprocal rank (Cormack et al. 2009): both search, and their ranks are added.

A passage scores the sum of 1 / (60 + rank) over the lists that hold it; equal scores rank in the order of the pools and
of positions. Each list holds DEPTH passages at most, here as in the process that is profiled; what neither holds is not
found (results.py says where it ranks).

Axes: Q queries, N passages of all pools together, K results of a search, D embedding width.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.retrieval import faiss_index
from pipeline.retrieval.lexical import Bm25, Index, Terms
from pipeline.retrieval.pools import first, nested_rankings
from pipeline.retrieval.rankings import NESTED, RANKINGS, save_rankings
from pipeline.retrieval.relevant import check_embeddings, check_unit
from pipeline.retrieval.results import Search, best, rank_by_search
from pipeline.retrieval.vectors import Vectors
from pipeline.values import Collection, Ranking

Read = tuple[Mapping[str, Vectors], Terms]  # all texts of a side, as the encoder and as BM25 reads them
K = 60  # of Cormack et al.
DEPTH = 1000  # results of each search that are fused


def fuse(results: Sequence[np.ndarray]) -> np.ndarray:
    """Return the positions in any list of results, best first by reciprocal rank.

    Passage 7 is first and second: 1/61 + 1/62; passage 3 second and third, 5 third, 9 first.

    >>> fuse([np.array([7, 3, 5]), np.array([9, 7, 3])])
    array([7, 3, 9, 5])
    """
    hits, inverse = np.unique(np.concatenate(results), return_inverse=True)
    score_H = np.bincount(inverse, np.concatenate([1 / (K + 1 + np.arange(len(one))) for one in results]), len(hits))
    return hits[np.argsort(-score_H, kind="stable")]


def rank_benchmark(
    queries: Mapping[str, Vectors], passages: Mapping[str, Vectors], collection: Collection, bm25: Bm25, folder: Path
) -> None:
    """Rank a benchmark and write the rankings to a folder, as `ranking.rank_benchmark`; all vectors are in memory."""
    query_terms, passage_terms = bm25.terms_of(collection.queries), bm25.terms_of(collection.passages)

    def ranked(some: Collection) -> list[Ranking]:
        return rank((queries, query_terms), (first(passages, some), first(passage_terms, some)), some, bm25)

    save_rankings(ranked(collection), folder / RANKINGS)
    if collection.samples:
        save_rankings(nested_rankings(collection, ranked), folder / NESTED)


def rank(queries: Read, passages: Read, collection: Collection, bm25: Bm25) -> list[Ranking]:
    """Return the fused ranking of every setting, in the order of the query languages.

    Args:
        queries, passages: vectors, as for `exact.rank`, and terms, as for `lexical.rank`.

    For English query 0 of the example all passages tie in BM25, and list in the order of their positions. en 1 is third
    and second, de 0 second and fourth, and 1/63 + 1/62 is more than 1/62 + 1/64:

    >>> from pipeline.retrieval import example
    >>> bm25, collection = Bm25(), example.COLLECTION
    >>> queries = example.QUERIES, bm25.terms_of(collection.queries)
    >>> passages = example.PASSAGES, bm25.terms_of(collection.passages)
    >>> for ranking in rank(queries, passages, collection, bm25)[:3]:
    ...     print(ranking.setting, ranking.query_language, ranking.query.tolist(), ranking.rank.tolist())
    mono en [0, 1] [2, 2]
    cross en [0] [1]
    multi en [0, 0, 1] [2, 3, 2]
    """
    (emb_queries, query_terms), (emb_passages, passage_terms) = queries, passages
    check_embeddings(emb_queries, emb_passages, collection)

    def open_pools(pools: tuple[str, ...]) -> Search:
        vectors = {pool: emb_passages[pool] for pool in pools}
        flat = faiss_index.index_of(vectors, "Flat", lambda emb_PD, pool: check_unit(emb_PD, f"passages[{pool!r}]"))
        index = Index([*chain.from_iterable(passage_terms[pool] for pool in pools)], bm25)

        @cache
        def dense(language: str) -> np.ndarray:
            emb_QD = check_unit(emb_queries[language], f"queries[{language!r}]")
            return faiss_index.search(flat, emb_QD, min(DEPTH, flat.ntotal))[1]

        def search(language: str, query: int) -> np.ndarray:
            return fuse([dense(language)[query], best(index.scores(query_terms[language][query]), DEPTH)])

        return search

    return rank_by_search(collection, open_pools)
