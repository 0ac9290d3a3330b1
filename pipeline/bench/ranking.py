"""Ranking and scoring of embeddings: against pytrec_eval fed by a FAISS flat search, and against that search alone.

Axes: N vectors, Q queries, K top, D embedding width.
"""

from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import replace

import faiss
import numpy as np

from pipeline.bench import texts
from pipeline.bench.pairs import Row, alternate
from pipeline.data import lareqa
from pipeline.retrieval import exact
from pipeline.retrieval.metrics import metric
from pipeline.values import Collection, Relevance, Texts

WIDTH, SEED = 384, 0
QUERIES, PASSAGES = 1000, 1_000_000
TOP = 1000  # of FAISS; ours are full rankings
TREC_NAMES = {  # metrics of both sides: pytrec_eval's name of each
    "map": "map",
    "ndcg_10": "ndcg_cut_10",
    "r_1": "recall_1",
    "r_10": "recall_10",
    "r_100": "recall_100",
}


def unit_vectors(count: int) -> np.ndarray:
    """Return random unit vectors [N, D]: speed does not depend on their values."""
    emb_ND = np.random.default_rng(SEED).standard_normal((count, WIDTH), np.float32)
    return emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)


def scores() -> list[Row]:
    """Compare mAP, nDCG@10 and R@k of the 12 settings of one of XQuAD-R's 11 query languages; there are 132 in all."""
    benchmark = lareqa.benchmark("xquad_r", list(texts.LANGUAGES), str(texts.folder()))
    collection = replace(benchmark, queries={"en": benchmark.queries["en"]})
    queries = {language: unit_vectors(len(of_language)) for language, of_language in collection.queries.items()}
    passages = {language: unit_vectors(len(pool)) for language, pool in collection.passages.items()}
    functions = [metric(name).function for name in TREC_NAMES]

    def ours() -> None:
        for ranking in exact.rank(queries, passages, collection):
            for function in functions:
                function(ranking)

    def theirs() -> None:
        by_pytrec_eval(queries["en"], passages, collection, TREC_NAMES.values())

    times_s = alternate(ours, theirs, 2)
    work = f"mAP, nDCG@10, R@k of 12 of XQuAD-R's 132 settings, {len(queries['en'])} queries"
    note = f"theirs truncated to the top {TOP}, ours full rankings; random vectors"
    return [Row(work, f"pytrec_eval after FAISS flat top-{TOP}", 20, *times_s, note)]


def by_pytrec_eval(
    emb_QD: np.ndarray, passages: Mapping[str, np.ndarray], collection: Collection, names: Names[str]
) -> None:
    """Score English queries as a user of pytrec_eval would: per pool one search, one run of dicts, one evaluator."""
    import pytrec_eval

    for pools in [*((language,) for language in passages), tuple(passages)]:
        index = faiss.IndexFlatIP(WIDTH)
        index.add(np.concatenate([passages[pool] for pool in pools]))
        score_QK, position_QK = index.search(emb_QD, min(TOP, index.ntotal))
        ids = [f"{pool} {n}" for pool in pools for n in range(len(passages[pool]))]
        run = {
            str(query): {ids[position]: float(score) for position, score in zip(position_K, score_K, strict=True)}
            for query, (position_K, score_K) in enumerate(zip(position_QK.tolist(), score_QK.tolist(), strict=True))
        }
        qrels: dict[str, dict[str, int]] = {}
        for pool in pools:
            relevance = collection.relevance["en", pool]
            for query, passage in zip(relevance.query.tolist(), relevance.passage.tolist(), strict=True):
                qrels.setdefault(str(query), {})[f"{pool} {passage}"] = 1
        pytrec_eval.RelevanceEvaluator(qrels, set(names)).evaluate(run)


def one_pool(passages: int) -> Collection:
    """Return a benchmark of QUERIES queries in one language, each with one relevant passage; its texts are empty."""
    query = np.arange(QUERIES)
    relevance = Relevance(query.astype(np.int32), query % passages, np.ones(QUERIES, np.int8))
    queries, pool = ({"en": Texts([""] * size, [""] * size)} for size in (QUERIES, passages))
    return Collection("one pool", queries, pool, {("en", "en"): relevance}, settings=("mono",))


def million() -> list[Row]:
    """Compare the exact ranks of the relevant passages of 1,000 queries among a million with FAISS's top thousand."""
    passages, queries = {"en": unit_vectors(PASSAGES)}, {"en": unit_vectors(QUERIES)[:, ::-1].copy()}
    collection = one_pool(PASSAGES)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(passages["en"])
    times_s = alternate(lambda: exact.rank(queries, passages, collection), lambda: index.search(queries["en"], TOP), 3)
    work = f"rank {QUERIES:,} queries over {PASSAGES:,} x {WIDTH}, exactly"
    return [Row(work, f"FAISS IndexFlatIP, top-{TOP}", 1, *times_s, "ours: full rankings")]
