"""FAISS indexes against exact ranks, numpy's Hamming distance and pytrec_eval; their meter; impossible indexes."""

from dataclasses import fields, replace

import faiss
import numpy as np
import pytest
import pytrec_eval

from pipeline.profiling.meters import index as meter
from pipeline.retrieval import faiss_index
from pipeline.retrieval.exact import SCORE_TOLERANCE, rank
from pipeline.retrieval.faiss_index import build_index, check_index, rank_by_index, search, to_gpus
from pipeline.retrieval.metrics import average_precision, ndcg
from pipeline.retrieval.vectors import truncate
from pipeline.values import Collection, Ranking, Relevance, Texts, UserError

SIZES = {"en": 299, "de": 300, "fi": 301}
QUERIES = 12
WIDTH = 24


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads would build an HNSW graph that differs from one time to the next."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def unit(rng: np.random.Generator, count: int, width: int = WIDTH) -> np.ndarray:
    emb_ND = rng.standard_normal((count, width))
    return (emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)).astype(np.float32)


def texts(count: int) -> Texts:
    return Texts([str(i) for i in range(count)], [""] * count)


def judgements(rng: np.random.Generator, size: int) -> Relevance:
    """Up to five judged passages a query, with grades 0 to 3; the last query has none."""
    query = np.repeat(np.arange(QUERIES - 1), 5)
    passage = np.concatenate([rng.choice(size, 5, replace=False) for _ in range(QUERIES - 1)])
    return Relevance(query.astype(np.int32), passage, rng.integers(0, 4, len(query)).astype(np.int8))


@pytest.fixture
def case() -> tuple[dict, dict, Collection]:
    rng = np.random.default_rng(5)
    collection = Collection(
        name="random",
        queries={language: texts(QUERIES) for language in SIZES},
        passages={language: texts(size) for language, size in SIZES.items()},
        relevance={(a, b): judgements(rng, size) for a in SIZES for b, size in SIZES.items()},
    )
    queries = {language: unit(rng, QUERIES) for language in SIZES}
    return queries, {language: unit(rng, size) for language, size in SIZES.items()}, collection


def test_truncated_embeddings_are_of_unit_length():
    emb_ND = np.array([[3, 4, 12], [-12, 5, 0]], np.float32) / 13
    np.testing.assert_allclose(truncate(emb_ND, 1), [[1], [-1]], rtol=1e-6)
    np.testing.assert_allclose(truncate(emb_ND, 2), [[0.6, 0.8], [-12 / 13, 5 / 13]], rtol=1e-6)
    np.testing.assert_allclose(truncate(emb_ND, 3), emb_ND, rtol=1e-6)
    assert truncate(emb_ND, 2).dtype == np.float32
    for width in (0, 4):
        with pytest.raises(ValueError, match=rf"^width must lie in \[1, 3\], got {width}"):
            truncate(emb_ND, width)


@pytest.mark.parametrize("block", [1, 7 * 900, 12 * 299, 10**6])  # of one query; of 7 of 12 in the union; of all
@pytest.mark.parametrize("every_query_counts", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_a_flat_index_ranks_as_exact_ranking_does(case, block, every_query_counts, ties, monkeypatch):
    """Up to the order of passages with the same score: the scores at both ranks are the same."""
    monkeypatch.setattr(faiss_index, "BLOCK_RANKS", block)
    queries, passages, collection = case
    collection = replace(collection, every_query_counts=every_query_counts)
    if ties:
        for emb_ND in passages.values():
            emb_ND[50:250] = passages["en"][np.arange(200) % 20]
    exact, by_index = rank(queries, passages, collection), rank_by_index(queries, passages, collection, "Flat")
    assert len(by_index) == 3 + 6 + 3
    moved = 0
    for a, b in zip(exact, by_index, strict=True):
        emb_PD = np.concatenate([passages[pool] for pool in a.pool_languages]).astype(float)
        sorted_QP = -np.sort(-(queries[a.query_language].astype(float) @ emb_PD.T), axis=1)
        scores = [sorted_QP[ranking.query, ranking.rank - 1] for ranking in (a, b)]
        np.testing.assert_allclose(*scores, atol=SCORE_TOLERANCE, rtol=0)
        moved += np.count_nonzero(a.rank != b.rank)
        gap_QP = np.diff(-sorted_QP[a.queries], prepend=-np.inf)
        tied_QK = (np.minimum(gap_QP[:, :-1], gap_QP[:, 1:]) < 2 * SCORE_TOLERANCE)[:, :20]
        assert (tied_QK | (a.top_language_QK == b.top_language_QK)).all()
        for field in fields(Ranking):
            x, y = getattr(a, field.name), getattr(b, field.name)
            if field.name in ("rank", "top_language_QK") or (ties and field.name in ("grade", "language")):
                assert (x.dtype, x.shape) == (y.dtype, y.shape)
            else:
                np.testing.assert_array_equal(x, y, strict=isinstance(x, np.ndarray))
    assert moved > 100 if ties else moved < 5


@pytest.mark.parametrize("settings", [("mono",), ("cross",), ("multi",), ("mono", "multi")])
def test_settings_are_those_of_exact_ranking(case, settings):
    queries, passages, collection = case
    collection = replace(collection, settings=settings)
    shape = [(r.setting, r.query_language, r.pool_languages) for r in rank(*case[:2], collection)]
    rankings = rank_by_index(queries, passages, collection, "SQfp16")
    assert [(r.setting, r.query_language, r.pool_languages) for r in rankings] == shape


def test_queries_without_a_relevant_passage_leave_no_ranking(case):
    queries, passages, collection = case
    nothing = Relevance(np.array([0], np.int32), np.array([0], np.int64), np.array([0], np.int8))
    assert rank_by_index(queries, passages, replace(collection, relevance={("en", "en"): nothing}), "Flat") == []


@pytest.mark.parametrize(
    ("factory", "exhaustive"),
    [
        ("SQfp16", True),
        ("SQ8", True),
        ("LSH", True),
        ("PQ2x4", True),
        ("PCA12,SQ8", True),
        ("IVF8,Flat;nprobe=3", False),
        ("IVF8,SQ8;nprobe=3", False),
        ("IVF8,PQ2x4;nprobe=3", False),
        ("HNSW8;efSearch=40", False),
    ],
)
def test_metrics_equal_pytrec_eval_on_the_indexs_own_run(case, factory, exhaustive):
    queries, passages, collection = case
    built: dict[tuple[str, ...], faiss.Index] = {}
    for ranking in rank_by_index(queries, passages, collection, factory):
        pool = ranking.pool_languages
        ids = [(language, i) for language in pool for i in range(SIZES[language])]
        if pool not in built:
            built[pool] = build_index(np.concatenate([passages[language] for language in pool]), factory)
        k = 40 if factory.startswith("HNSW") else len(ids)
        _, position_QK = search(built[pool], queries[ranking.query_language], k)
        assert (position_QK >= 0).all() == (exhaustive or k == 40)
        run = {
            str(q): {str(ids[position]): float(-place) for place, position in enumerate(position_K) if position >= 0}
            for q, position_K in enumerate(position_QK.tolist())
        }
        qrels: dict[str, dict[str, int]] = {}
        for language in pool:
            gold = collection.relevance[ranking.query_language, language]
            for q, passage, grade in zip(*(a.tolist() for a in (gold.query, gold.passage, gold.grade)), strict=True):
                qrels.setdefault(str(q), {})[str((language, passage))] = grade
        theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg_cut_10"}).evaluate(run)
        within = None if exhaustive else len(ids) - 1  # leaves out passages that were not returned, as trec_eval does
        for name, ours in (("map", average_precision(ranking, within)), ("ndcg_cut_10", ndcg(ranking, 10))):
            assert ours == pytest.approx([theirs[str(q)][name] for q in ranking.queries], abs=1e-9)


def test_sign_bits_rank_by_hamming_distance():
    """20 bits, which fill no whole byte: distances tie, and the earlier passage comes first."""
    rng = np.random.default_rng(1)
    passages, queries = unit(rng, 200, 20), unit(rng, 9, 20)
    distance_QP = ((queries[:, None] >= 0) != (passages >= 0)).sum(axis=2)
    theirs_QP = np.argsort(distance_QP, axis=1, kind="stable")
    score_QP, position_QP = search(build_index(passages, "LSH"), queries, 200)
    np.testing.assert_array_equal(position_QP, theirs_QP)
    np.testing.assert_array_equal(score_QP, np.take_along_axis(distance_QP, theirs_QP, axis=1))


@pytest.mark.parametrize(
    ("factory", "bytes_per_vector"),
    [("Flat", 4 * 20), ("SQfp16", 2 * 20), ("SQ8", 20), ("LSH", 3), ("IVF4,Flat", 8 + 4 * 20), ("IVF4,PQ5x4", 8 + 3)],
)
def test_storage(factory, bytes_per_vector):
    """A further vector adds its code and, in a cell, its 8-byte number."""
    index = build_index(unit(np.random.default_rng(1), 500, 20), factory)
    before = faiss.serialize_index(index).nbytes
    index.add(unit(np.random.default_rng(2), 64, 20))
    assert faiss.serialize_index(index).nbytes - before == 64 * bytes_per_vector


def test_a_passage_that_is_not_returned_has_the_pools_last_rank(case):
    queries, passages, collection = case
    rankings = rank_by_index(queries, passages, collection, "IVF100,Flat;nprobe=1", top=200)
    for ranking in rankings:
        emb_PD = np.concatenate([passages[pool] for pool in ranking.pool_languages])
        index = build_index(emb_PD, "IVF100,Flat")
        returned_Q = (search(index, queries[ranking.query_language], 200)[1] >= 0).sum(axis=1)
        assert (ranking.rank == len(emb_PD)).any()
        returned_R = ranking.rank < len(emb_PD)
        assert (ranking.rank[returned_R] <= returned_Q[ranking.query[returned_R]]).all()
        assert ((ranking.top_language_QK >= 0).sum(axis=1) == returned_Q[ranking.queries]).all()
    assert any((r.rank < sum(r.pool_sizes)).any() for r in rankings)


@pytest.mark.parametrize("size", [999, 1000, 1001])
def test_an_index_that_is_not_exhaustive_returns_a_thousand_at_most(size):
    """All cells are visited, so the thousand best are the exact ones."""
    rng = np.random.default_rng(2)
    queries, passages = {"en": unit(rng, 1)}, {"en": unit(rng, size)}
    everything = Relevance(np.zeros(size, np.int32), np.arange(size), np.ones(size, np.int8))
    collection = Collection("all", {"en": texts(1)}, {"en": texts(size)}, {("en", "en"): everything})
    (ranking,) = rank_by_index(queries, passages, collection, "IVF4,Flat;nprobe=4")
    assert ranking.rank.tolist() == list(range(1, min(size, 1000) + 1)) + [size] * max(0, size - 1000)


def test_a_graphs_ranks_are_those_of_its_beam(case):
    """If a search asked for more than the beam holds, FAISS would widen the beam, and the first ranks would change."""
    queries, passages, collection = case
    for ranking in rank_by_index(queries, passages, replace(collection, settings=("mono",)), "HNSW4;efSearch=12"):
        assert set(ranking.rank) <= {*range(1, 13), SIZES[ranking.query_language]}
        index = build_index(passages[ranking.query_language], "HNSW4;efSearch=12")
        emb_QD = queries[ranking.query_language]
        np.testing.assert_array_equal(search(index, emb_QD, 10)[1], search(index, emb_QD, 12)[1][:, :10])


@pytest.mark.parametrize("factory", ["IVF64,Flat;nprobe=8", "PQ4x4", "IVF64,PQ4x4;nprobe=8"])
def test_training_on_a_small_pool_is_quiet(factory, capfd):
    build_index(unit(np.random.default_rng(1), 64), factory)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("factory", ["PQ2x4", "IVF4,PQ2x4"])
def test_product_quantisation_returns_the_same_as_faiss_by_default(factory):
    passages, queries = unit(np.random.default_rng(1), 700), unit(np.random.default_rng(2), 20)
    default = faiss.index_factory(WIDTH, factory, faiss.METRIC_INNER_PRODUCT)
    assert default.do_polysemous_training
    default.train(passages)
    default.add(passages)
    results = default.search(queries, 50), search(build_index(passages, factory), queries, 50)
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("nonsense", "impossible for width 24: could not parse index string nonsense"),
        ("PQ7", "impossible for width 24: The dimension of the vector .* multiple of the number of subquantizers"),
        ("IVF65,Flat", r"built of 64 vectors: Number of training points \(64\) .* number of clusters \(65\)"),
        ("PQ4", r"built of 64 vectors: Number of training points \(64\) .* number of clusters \(256\)"),
        ("Flat;nprobe=8", "could not set parameter nprobe"),
        ("IVF4,Flat;nprobe=0", "positive numbers"),
        ("IVF4,Flat;nprobe", "positive numbers"),
        ("IVF0,Flat", "too few cells or links"),
        ("HNSW1", "too few cells or links"),
        ("IVF4,Flat,RFlat", "ranks would depend on k"),
        ("NSG32", "ranks would depend on k"),
    ],
)
def test_an_impossible_index_is_named(factory, reason):
    with pytest.raises(UserError, match=rf"^index '{factory}' .*{reason}.*\.$|^index '{factory}': .*{reason}.*\.$"):
        build_index(unit(np.random.default_rng(1), 64), factory)


@pytest.mark.parametrize("count", [4, 15, 16, 63, 64])
@pytest.mark.parametrize("factory", ["Flat", "SQ8", "LSH", "HNSW32", "IVF16,Flat", "IVF4,PQ4x4", "PQ4x6", "IVF64,SQ8"])
def test_what_cannot_be_trained_is_refused_before_any_work(factory, count):
    """FINDINGS G1: as soon as the size of the pools is known, and in no other case."""
    texts = Texts([str(n) for n in range(count)], ["text"] * count)
    relevance = Relevance(np.zeros(1, np.int32), np.zeros(1, np.int64), np.ones(1, np.int8))
    collection = Collection("b", {"en": texts}, {"en": texts}, {("en", "en"): relevance})

    def refused(build, *arguments) -> bool:
        try:
            build(*arguments)
        except UserError:
            return True
        return False

    built = refused(build_index, unit(np.random.default_rng(0), count), factory)
    assert refused(check_index, factory, WIDTH, collection) == built


@pytest.mark.parametrize("side", [0, 1])
def test_a_nan_is_refused(case, side):
    case[side]["de"][4] = np.nan
    with pytest.raises(ValueError, match=r"^(queries|passages)\['de'\] must be finite and of unit length"):
        rank_by_index(*case, "Flat")


def test_embeddings_that_do_not_fit_the_collection_are_refused(case):
    queries, passages, collection = case
    with pytest.raises(ValueError, match=r"^passages must hold 300 float32 vectors for 'de', got float32 \(299, 24\)"):
        rank_by_index(queries, passages | {"de": passages["de"][:299]}, collection, "Flat")


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="FAISS sees a GPU")
def test_without_a_gpu_an_index_stays_where_it_is():
    index = build_index(unit(np.random.default_rng(1), 10))
    assert to_gpus(index) is index


@pytest.mark.parametrize("min_calls", [129, 130])
def test_the_meter(min_calls):
    rng = np.random.default_rng(4)
    passages, queries = unit(rng, 400), unit(rng, 300)
    built, searched = [], []

    def build(emb_ND):
        built.append(build_index(emb_ND, "IVF16,Flat;nprobe=4"))
        return built[-1]

    def counted(index, emb_QD, k):
        searched.append(len(emb_QD))
        return search(index, emb_QD, k)

    cost = meter.measure(build, counted, passages, queries, k=10, min_calls=min_calls, min_seconds=0, seed=0)
    assert searched == [300, 300] + [1] * (meter.WARM_UP_CALLS + min_calls)
    assert len(built) == len(cost["builds_s"]) == 1
    assert cost["calls"] == min_calls
    assert cost["latency_ms"]["p50"]["value"] == pytest.approx(np.median(cost["calls_ms"]), abs=1e-4)
    assert (cost["latency_ms"]["p95"] is None) == (min_calls < 130)
    assert cost["queries_per_s"] == pytest.approx(300 / cost["batches_s"][0])
    whole = faiss.serialize_index(built[0]).nbytes
    empty = faiss.clone_index(built[0])
    empty.reset()  # keeps the centroids
    assert cost["bytes_per_passage"] == (whole - faiss.serialize_index(empty).nbytes) / 400

    exact_QK, result_QK = (search(index, queries, 10)[1] for index in (build_index(passages), built[0]))
    shared = [len(set(a) & set(b)) for a, b in zip(exact_QK.tolist(), result_QK.tolist(), strict=True)]
    assert cost["recall"] == pytest.approx(np.mean(shared) / 10)
    assert 0.2 < cost["recall"] < 0.95


def test_recall_by_hand():
    passages = np.array([[1, 0], [0.8, 0.6], [0.8, 0.6], [0, 1]], np.float32)
    query = np.array([[1, 0]], np.float32)
    for positions, expected in (([0, 1], 1), ([0, 2], 1), ([0, 3], 0.5), ([0, -1], 0.5), ([0, 1, 2, 3, -1], 1)):
        assert meter.recall(passages, query, np.array([positions])) == expected
    both = np.concatenate([query, query])
    assert meter.recall(passages, both, np.array([[0, 1], [3, 3]])) == 0.5
