"""Ranking and scoring embeddings: against pytrec_eval fed by a FAISS flat search, and against that search alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import faiss
import numpy as np

from pipeline.bench import texts
from pipeline.bench.pairs import Row, alternate
from pipeline.data import lareqa
from pipeline.retrieval import exact as retrieval
from pipeline.retrieval import metrics
from pipeline.values import Collection, Ranking, Relevance, Texts

WIDTH, SEED = 384, 0
QUERIES, PASSAGES = 1000, 1_000_000
TOP = 1000  # of FAISS; ours are uncut
RECALLS = (1, 10, 100)


def unit_vectors(count: int) -> np.ndarray:
    """Speed does not depend on what they say."""
    emb_ND = np.random.default_rng(SEED).standard_normal((count, WIDTH), np.float32)
    return emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)


def scores() -> list[Row]:
    """mAP, nDCG@10 and R@k of the 12 settings that one of XQuAD-R's 11 query languages has, of 132 in all."""
    whole = lareqa.benchmark("xquad_r", list(texts.LANGUAGES), str(texts.folder()))
    collection = replace(whole, queries={"en": whole.queries["en"]})
    queries = {language: unit_vectors(len(of)) for language, of in collection.queries.items()}
    passages = {language: unit_vectors(len(of)) for language, of in collection.passages.items()}
    wanted: dict[str, Callable[[Ranking], Any]] = {
        "map": metrics.average_precision,
        "ndcg_cut_10": partial(metrics.ndcg, k=10),
    }
    wanted |= {f"recall_{k}": partial(metrics.recall, k=k) for k in RECALLS}

    def ours() -> None:
        for ranking in retrieval.rank(queries, passages, collection):
            for score in wanted.values():
                score(ranking)

    taken = alternate(ours, lambda: by_pytrec_eval(queries["en"], passages, collection, set(wanted)), 2)
    work = f"mAP, nDCG@10, R@k of 12 of XQuAD-R's 132 settings, {len(queries['en'])} questions"
    note = f"theirs cut at {TOP}, ours not; random vectors"
    return [Row(work, f"pytrec_eval after FAISS flat top-{TOP}", 20, *taken, note)]


def by_pytrec_eval(
    emb_QD: np.ndarray, passages: Mapping[str, np.ndarray], collection: Collection, names: set[str]
) -> None:
    """As one writes it: a search a pool, a run of dicts, an evaluator a setting."""
    import pytrec_eval

    for pools in [*((language,) for language in passages), tuple(passages)]:
        index = faiss.IndexFlatIP(WIDTH)
        index.add(np.concatenate([passages[pool] for pool in pools]))
        score_QK, place_QK = index.search(emb_QD, min(TOP, index.ntotal))
        ids = [f"{pool} {n}" for pool in pools for n in range(len(passages[pool]))]
        run = {
            str(query): {ids[place]: float(score) for place, score in zip(place_K, score_K, strict=True)}
            for query, (place_K, score_K) in enumerate(zip(place_QK.tolist(), score_QK.tolist(), strict=True))
        }
        qrels: dict[str, dict[str, int]] = {}
        for pool in pools:
            gold = collection.relevance["en", pool]
            for query, passage in zip(gold.query.tolist(), gold.passage.tolist(), strict=True):
                qrels.setdefault(str(query), {})[f"{pool} {passage}"] = 1
        pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(run)


def one_pool(passages: int) -> Collection:
    """QUERIES queries in one language, each with one relevant passage among so many; texts are not needed."""
    of_query = np.arange(QUERIES)
    gold = Relevance(of_query.astype(np.int32), of_query % passages, np.ones(QUERIES, np.int8))
    asked, among = ({"en": Texts(range(size), range(size))} for size in (QUERIES, passages))  # type: ignore[arg-type]
    return Collection("one pool", asked, among, {("en", "en"): gold}, settings=("mono",))


def million() -> list[Row]:
    """Exact ranks of the relevant passages of 1,000 queries among a million, uncut, against FAISS's best thousand."""
    passages, queries = {"en": unit_vectors(PASSAGES)}, {"en": unit_vectors(QUERIES)[:, ::-1].copy()}
    collection = one_pool(PASSAGES)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(passages["en"])
    taken = alternate(
        lambda: retrieval.rank(queries, passages, collection), lambda: index.search(queries["en"], TOP), 3
    )
    work = f"rank {QUERIES:,} queries over {PASSAGES:,} x {WIDTH}, exactly"
    return [Row(work, f"FAISS IndexFlatIP, top-{TOP}", 1, *taken, "ours uncut")]
