"""BM25: exact full rankings by the terms that a query and a passage share. Nothing is trained, nothing is embedded.

The scores are those of Lucene (Kamphuis et al. 2020, "Which BM25 do you mean?"), computed by bm25s (Lù 2024): for each
term t of the query, as often as it stands there,

    ln(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length))

with N passages, df of them holding t, and tf times t in this passage. Each language's pool has an index of its own, and
so has their union: rarity and mean length are those of what is searched.

Passages with the same score rank in the order of the pools and, within a pool, of their position. A passage that shares
no term with the query scores 0 and is not found (results.py says where it ranks).

Axes: N passages of an index, T terms of the vocabulary.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.retrieval.analyser import ANALYSERS, analyser
from pipeline.retrieval.pools import first, nested_rankings
from pipeline.retrieval.rankings import NESTED, RANKINGS, save_rankings
from pipeline.retrieval.results import Search, best, rank_by_search
from pipeline.values import Collection, Ranking, Texts, UserError, alternatives, unknown

LIBRARIES = ("bm25s", "icu4py", "Stemmer")
Terms = Mapping[str, Sequence[list[str]]]  # language -> terms of each text


@dataclass(frozen=True)
class Bm25:
    """How BM25 reads texts and weighs terms: conf/model/bm25.yaml explains every key."""

    analyser: str = "icu_snowball"
    k1: float = 0.9
    b: float = 0.4

    def terms(self, text: str, language: str) -> list[str]:
        """Return the terms of a text."""
        return analyser(self.analyser, language)(text)

    def terms_of(self, texts: Mapping[str, Texts]) -> dict[str, list[list[str]]]:
        """Return the terms of all texts by language."""
        read = {language: analyser(self.analyser, language) for language in texts}
        return {language: [read[language](text) for text in side.texts] for language, side in texts.items()}


def settings(values: Mapping[str, Any], key: str) -> Bm25:
    """Return the settings that a config holds under `key`.

    Raises:
        UserError: for an unknown key, an impossible value, or libraries that are not installed.

    >>> settings({"k1": 1.2, "b": 0.75}, "model.architecture")
    Bm25(analyser='icu_snowball', k1=1.2, b=0.75)
    >>> settings({"b": 2}, "model.architecture")
    Traceback (most recent call last):
    pipeline.values.UserError: model.architecture.b=2: it must lie between 0 and 1.
    """
    known = [field.name for field in fields(Bm25)]
    for name in values.keys() - {*known}:
        raise UserError(f"unknown key {key}.{name}: {alternatives(name, known)}")
    bm25 = Bm25(**values)
    if bm25.analyser not in ANALYSERS:
        raise UserError(unknown(f"{key}.analyser", bm25.analyser, ANALYSERS))
    for name, most in {"k1": 100, "b": 1}.items():
        value = getattr(bm25, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise UserError(f"{key}.{name}={value}: it must lie between 0 and {most}.")
    if missing := [library for library in LIBRARIES if find_spec(library) is None]:
        raise UserError(f"{key}: {', '.join(missing)} is missing: pip install -c constraints.txt -e '.[lexical]'.")
    return bm25


def fused_with(fusion: str) -> Bm25:
    """Return the settings of the BM25 that an inference variant's `fusion` names.

    `rrf` fuses with BM25 as conf/model/bm25.yaml has it. Other values of its keys follow a semicolon, as parameters
    follow FAISS's factory strings: rrf;analyser=whitespace,k1=1.2

    Raises:
        UserError: for another fusion than rrf, and as `lexical.settings`.

    >>> fused_with("rrf"), fused_with("rrf;k1=1.2")
    (Bm25(analyser='icu_snowball', k1=0.9, b=0.4), Bm25(analyser='icu_snowball', k1=1.2, b=0.4))
    """
    method, _, parameters = fusion.partition(";")
    if method != "rrf":
        raise UserError(unknown("variants: fusion", method, ["rrf"]))
    pairs = [pair.partition("=")[::2] for pair in parameters.split(",") if pair]
    try:
        values = {name: value if name == "analyser" else float(value) for name, value in pairs}
    except ValueError as error:
        raise UserError(f"variants: fusion={fusion}: {error}.") from error
    return settings(values, f"variants: fusion={method}")


class Index:
    """A BM25 index of passages, whose terms may be empty.

    "defens" is in one of 3 passages, whose length is twice the mean: ln(1 + 2.5 / 1.5) / (1 + 0.9 (0.6 + 0.4 * 2)):

    >>> index = Index([["panther", "defens"], ["panther"], []], Bm25())
    >>> [f"{score:.3f}" for score in index.scores(["defens", "unknown"])], index.scores([]).tolist()
    (['0.434', '0.000', '0.000'], [0.0, 0.0, 0.0])
    """

    def __init__(self, passages: Sequence[list[str]], bm25: Bm25):
        import bm25s

        self.size, self.index = len(passages), None
        if any(passages):
            self.index = bm25s.BM25(method="lucene", k1=bm25.k1, b=bm25.b)
            self.index.index(passages, create_empty_token=False, show_progress=False)

    def scores(self, terms: Sequence[str]) -> np.ndarray:
        """Return the float32 score of every passage [N] for the terms of a query."""
        if self.index is None:
            return np.zeros(self.size, np.float32)
        return self.index.get_scores_from_ids(self.index.get_tokens_ids(terms))

    @cached_property
    def bytes(self) -> int:
        """Size of the index as bm25s saves it: postings (8 bytes: passage and score), their bounds, the vocabulary."""
        if self.index is None:
            return 0
        with tempfile.TemporaryDirectory() as folder:
            self.index.save(folder, show_progress=False)
            return sum(file.stat().st_size for file in Path(folder).iterdir())


def rank_benchmark(collection: Collection, bm25: Bm25, folder: Path) -> None:
    """Rank a benchmark and write the rankings to a folder, as `ranking.rank_benchmark` does those of an encoder."""
    queries, passages = bm25.terms_of(collection.queries), bm25.terms_of(collection.passages)
    save_rankings(rank(queries, passages, collection, bm25), folder / RANKINGS)
    if collection.samples:
        save_rankings(
            nested_rankings(collection, lambda smaller: rank(queries, first(passages, smaller), smaller, bm25)),
            folder / NESTED,
        )


def rank(queries: Terms, passages: Terms, collection: Collection, bm25: Bm25) -> list[Ranking]:
    """Return BM25's exact ranking of every setting, in the order of the query languages.

    Args:
        queries, passages: terms of the collection's texts.

    The example's texts are angles. Queries and passages share the word "degrees" only, so all passages tie, and rank in
    the order of their positions:

    >>> from pipeline.retrieval.example import COLLECTION
    >>> bm25 = Bm25()
    >>> rankings = rank(bm25.terms_of(COLLECTION.queries), bm25.terms_of(COLLECTION.passages), COLLECTION, bm25)
    >>> for ranking in rankings[:3]:
    ...     print(ranking.setting, ranking.query_language, ranking.query.tolist(), ranking.rank.tolist())
    mono en [0, 1] [2, 3]
    cross en [0] [1]
    multi en [0, 0, 1] [2, 4, 3]
    """

    def open_pools(pools: tuple[str, ...]) -> Search:
        index = Index([*chain.from_iterable(passages[pool] for pool in pools)], bm25)
        return lambda language, query: best(index.scores(queries[language][query]), index.size)

    return rank_by_search(collection, open_pools)
