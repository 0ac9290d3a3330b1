"""The first step of an evaluation: texts to embeddings, and embeddings to stored rankings.

`experiment` encodes a benchmark once per engine; all widths and indexes of an engine rank the same embeddings.
scoring.py takes the second step. Nothing here imports metrics, so a new metric makes no stored ranking stale.

Axes: N texts, Q queries, P passages of a language, D embedding width.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pipeline.encoder.encoding import (
    TOKEN_BUDGET,
    Shards,
    TextEncoder,
    as_unit,
    encode,
    encode_shards,
    missing_shards,
)
from pipeline.retrieval import exact, faiss_index
from pipeline.retrieval.centring import centred
from pipeline.retrieval.pools import first, nested_rankings
from pipeline.retrieval.rankings import NESTED, RANKINGS, save_rankings
from pipeline.retrieval.vectors import Truncated, Vectors
from pipeline.values import Collection, Side, Variant


def encode_side(
    encoder: TextEncoder,
    collection: Collection,
    side: Side,
    *,
    halvings: int = 0,
    shards: Callable[[str], Shards] | None = None,
    encode_missing: Callable[..., None] | None = None,
) -> dict[str, Vectors]:
    """Return the float32 unit vectors [N, D] of all queries, or of all passages, per language.

    Args:
        halvings: how often to halve the token budget of a batch, after running out of memory.
        shards: returns where to keep the shards of one language and side, given their name; None: all in memory.
        encode_missing: takes the arguments of `encode_shards` after the encoder; by default this process encodes.

    >>> from pipeline.groups import ModelConfig
    >>> from pipeline.encoder.sources import load
    >>> from pipeline.retrieval import example
    >>> encoder = load(ModelConfig(family="e5-small", weights="packaged", layers=1), seed=0)
    >>> {language: emb_PD.shape for language, emb_PD in encode_side(encoder, example.COLLECTION, "passage").items()}
    {'en': (3, 384), 'de': (2, 384)}
    """
    texts_by_language = collection.queries if side == "query" else collection.passages
    budget = TOKEN_BUDGET[encoder.device_type] >> halvings
    embeddings: dict[str, Vectors] = {}
    for language, texts in texts_by_language.items():
        progress = f"{collection.name}, {language}, {side}"
        if shards is None:
            emb_ND = encode(encoder, texts.texts, side, token_budget=budget, progress=progress)
            embeddings[language] = as_unit(encoder, emb_ND)
            continue
        kept = shards(f"{side}-{language}")
        firsts = missing_shards(kept, len(texts), encoder.width, progress)
        work = encode_missing or partial(encode_shards, encoder)
        work(texts.texts, side, kept, firsts, token_budget=budget, progress=progress)
        embeddings[language] = kept.rows(len(texts), encoder.width)
    return embeddings


def rank_benchmark(
    queries: Mapping[str, Vectors],
    passages: Mapping[str, Vectors],
    collection: Collection,
    variant: Variant,
    folder: Path,
) -> None:
    """Rank a benchmark with a variant's width, centre and index, and write `rankings.npz` to the folder.

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
            {language: Truncated(emb_ND, variant.width) for language, emb_ND in embeddings.items()}
            for embeddings in (queries, passages)
        )
    if variant.centre:
        queries, passages = centred(queries, passages, variant.centre)
    if variant.index == "exact":
        rankings = exact.rank(queries, passages, collection)
    else:
        rankings = faiss_index.rank_by_index(queries, passages, collection, variant.index)
    save_rankings(rankings, folder / RANKINGS)
    if collection.samples and variant.index == "exact":
        save_rankings(
            nested_rankings(collection, lambda smaller: exact.rank(queries, first(passages, smaller), smaller)),
            folder / NESTED,
        )
