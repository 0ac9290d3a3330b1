"""The first step of an evaluation: texts to embeddings, and embeddings to stored rankings.

`experiment` encodes a benchmark once per engine; all widths and indexes of an engine rank the same embeddings.
scoring.py takes the second step. Nothing here imports metrics, so a new metric makes no stored ranking stale.

Axes: N texts, Q queries, P passages of a language, D embedding width.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipeline.encoder.encoding import CHUNK, TOKEN_BUDGET, Shards, TextEncoder, encode
from pipeline.retrieval import exact, faiss_index
from pipeline.retrieval.pools import nested_rankings
from pipeline.retrieval.rankings import NESTED, RANKINGS, save_rankings
from pipeline.values import Collection, Side, Variant


def encode_side(
    encoder: TextEncoder,
    collection: Collection,
    side: Side,
    *,
    halvings: int = 0,
    shards: Callable[[str], Shards] | None = None,
) -> dict[str, np.ndarray]:
    """Return the float32 unit vectors [N, D] of all queries, or of all passages, per language.

    Args:
        halvings: how often to halve the token budget of a batch, after running out of memory.
        shards: returns where to keep the finished shards of one language and side, given their name.

    >>> from pipeline.config import ModelConfig
    >>> from pipeline.encoder.sources import load
    >>> from pipeline.retrieval import example
    >>> encoder = load(ModelConfig(family="e5-small", weights="packaged", layers=1), seed=0)
    >>> {language: emb_PD.shape for language, emb_PD in encode_side(encoder, example.COLLECTION, "passage").items()}
    {'en': (3, 384), 'de': (2, 384)}
    """
    texts_by_language = collection.queries if side == "query" else collection.passages
    budget = TOKEN_BUDGET[encoder.device_type] >> halvings
    embeddings = {}
    for language, texts in texts_by_language.items():
        kept = shards(f"{side}-{language}") if shards else None
        progress = f"{collection.name}, {language}, {side}"
        emb_ND = encode(encoder, texts.texts, side, token_budget=budget, progress=progress, shards=kept)
        if not encoder.unit:  # compared by cosine
            for start in range(0, len(emb_ND), CHUNK):  # in parts: a norm needs the squares of all it is taken of
                chunk_ND = emb_ND[start : start + CHUNK]
                chunk_ND /= np.linalg.norm(chunk_ND, axis=1, keepdims=True)
        embeddings[language] = emb_ND
    return embeddings


def rank_benchmark(
    queries: Mapping[str, np.ndarray],
    passages: Mapping[str, np.ndarray],
    collection: Collection,
    variant: Variant,
    folder: Path,
) -> None:
    """Rank a benchmark with a variant's width and index, and write `rankings.npz` to the folder.

    If the pools are samples and the index is exact, `nested.npz` holds the rankings of nested smaller pools.

    Args:
        queries, passages: as for `exact.rank`, of the variant's engine and at full width.

    Raises:
        ValueError: for embeddings that do not fit the collection, or narrower than the variant's width.
        UserError: for an index that cannot be built.

    >>> import tempfile
    >>> from pipeline.retrieval import example
    >>> from pipeline.retrieval.rankings import load_rankings
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rank_benchmark(example.QUERIES, example.PASSAGES, example.COLLECTION, Variant(), Path(folder))
    ...     rankings = load_rankings(Path(folder, RANKINGS))
    >>> [ranking.setting for ranking in rankings]
    ['mono', 'cross', 'multi', 'cross', 'mono', 'multi']
    """
    if variant.width is not None:
        queries, passages = (
            {language: faiss_index.truncate(emb_ND, variant.width) for language, emb_ND in embeddings.items()}
            for embeddings in (queries, passages)
        )
    if variant.index == "exact":
        rankings = exact.rank(queries, passages, collection)
    else:
        rankings = faiss_index.rank_by_index(queries, passages, collection, variant.index)
    save_rankings(rankings, folder / RANKINGS)
    if collection.samples and variant.index == "exact":
        save_rankings(nested_rankings(queries, passages, collection), folder / NESTED)
