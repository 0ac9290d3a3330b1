"""A served encoder and a benchmark -> metrics: every text is encoded once, then ranked as each way of serving ranks.

`cell` calls it for each encoder it serves; widths and indexes of one encoder share its embeddings.
Axes: Q queries, P passages of a language, K the top of a ranking, D embedding width.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.encoder.encoding import TOKEN_BUDGET, encode
from pipeline.encoder.model import Encoder
from pipeline.retrieval import exact as retrieval
from pipeline.retrieval import faiss_index as indexes
from pipeline.retrieval import metrics, pools
from pipeline.values import Collection, Serving, Side

ATTRACTION_K = 10  # best passages of a query in which languages are counted

Embeddings = dict[str, np.ndarray]  # language -> float32 unit vectors


class Result(NamedTuple):
    """Of one way of serving on one benchmark: tables to keep by name, and means by '<benchmark>.<setting>.<metric>'."""

    serving: Serving
    frames: dict[str, pd.DataFrame]
    figures: dict[str, float]


def encode_all(encoder: Encoder, collection: Collection, side: Side, halvings: int) -> Embeddings:
    """Language by language: a pool may be too large to be held. `halvings` of the token budget, for want of memory."""
    by_language = collection.queries if side == "query" else collection.passages
    budget = TOKEN_BUDGET[encoder.device.type] >> halvings
    return {
        language: encode(
            encoder, texts.texts, side, token_budget=budget, progress=f"{collection.name}, {language}, {side}"
        )
        for language, texts in by_language.items()
    }


def evaluate(
    queries: Embeddings,
    passages: Embeddings,
    collection: Collection,
    servings: list[Serving],
    scores: Mapping[str, Callable],
) -> Iterator[Result]:
    """What each of `servings`, all of the encoder that made the embeddings, scores."""
    for serving in servings:
        sides = cut(queries, serving.width), cut(passages, serving.width)
        exact = serving.index == "exact"
        rankings = (
            retrieval.rank(*sides, collection) if exact else indexes.rank_by_index(*sides, collection, serving.index)
        )
        table = metrics.per_query_table(rankings, collection, scores)
        frames = {f"per_query-{collection.name}": table}
        figures = {f"{collection.name}.{score}": value for score, value in metrics.macro(table).items()}
        attraction = metrics.language_attraction(rankings, ATTRACTION_K)
        if len(attraction):  # there is a multilingual pool
            frames[f"attraction-{collection.name}"] = attraction.reset_index()
        if collection.samples and exact:
            frames[f"pool_ranks-{collection.name}"] = pools.ranks(*sides, collection)
        yield Result(serving, frames, figures)


def cut(side: Embeddings, width: int | None) -> Embeddings:
    return side if width is None else {key: indexes.truncate(emb_ND, width) for key, emb_ND in side.items()}
