"""Exact ranks against a float64 sort and FAISS: settings, ties, sizes around the block, memory; stored rankings."""

import tracemalloc
from dataclasses import fields, replace
from functools import partial

import faiss
import numpy as np
import pandas as pd
import pytest

from pipeline.retrieval.exact import SCORE_TOLERANCE, rank
from pipeline.retrieval.faiss_index import build_index, search
from pipeline.retrieval.ranking import rank_benchmark
from pipeline.retrieval.rankings import NESTED, RANKINGS, load_rankings, save_rankings
from pipeline.retrieval.scoring import score_benchmark
from pipeline.store import keys
from pipeline.values import Collection, Relevance, Sample, Texts, UserError, Variant

BLOCK = 32
POOL_SIZES = {"en": BLOCK - 1, "de": BLOCK, "fi": BLOCK + 1}
QUERIES = 12
WIDTH = 16


def unit(rng: np.random.Generator, count: int, width: int = WIDTH) -> np.ndarray:
    emb_ND = rng.standard_normal((count, width))
    return (emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)).astype(np.float32)


def texts(count: int) -> Texts:
    return Texts([str(i) for i in range(count)], [""] * count)


def judgements(rng: np.random.Generator, queries: int, passages: int) -> Relevance:
    """About one in eight judged, with grades 0 to 3; the last two queries have no judgement at all."""
    grade_QP = rng.integers(0, 4, (queries, passages)) * (rng.random((queries, passages)) < 0.12)
    query, passage = np.nonzero(grade_QP + (rng.random(grade_QP.shape) < 0.02))
    has_judgement = query < queries - 2
    query, passage = query[has_judgement], passage[has_judgement]
    return Relevance(query.astype(np.int32), passage.astype(np.int64), grade_QP[query, passage].astype(np.int8))


@pytest.fixture
def case() -> tuple[dict, dict, Collection]:
    rng = np.random.default_rng(7)
    queries = {language: unit(rng, QUERIES) for language in POOL_SIZES}
    passages = {language: unit(rng, size) for language, size in POOL_SIZES.items()}
    for pool in passages.values():  # exact duplicates
        pool[9:12] = pool[3]
        pool[-1] = pool[5]
    collection = Collection(
        name="random",
        queries={language: texts(QUERIES) for language in POOL_SIZES},
        passages={language: texts(size) for language, size in POOL_SIZES.items()},
        relevance={(a, b): judgements(rng, QUERIES, POOL_SIZES[b]) for a in POOL_SIZES for b in POOL_SIZES},
    )
    return queries, passages, collection


def by_sorting(queries: dict, passages: dict, collection: Collection, language: str, pools: tuple[str, ...]) -> dict:
    """Query position -> its relevant passages as sorted (rank, grade, pool), and the pools of the full ranking."""
    emb_PD = np.concatenate([passages[pool] for pool in pools]).astype(np.float64)
    pool_P = np.repeat(np.arange(len(pools)), [len(passages[pool]) for pool in pools])
    # Duplicates may differ in the last bit even here, so round them together.
    scores_QP = np.round(queries[language].astype(np.float64) @ emb_PD.T, 9)
    result = {}
    for query, scores_P in enumerate(scores_QP):
        order = np.lexsort((np.arange(len(scores_P)), -scores_P))
        rank_P = np.argsort(order) + 1
        relevant, offset = [], 0
        for column, pool in enumerate(pools):
            relevance = collection.relevance[language, pool]
            for i in np.flatnonzero((relevance.query == query) & (relevance.grade > 0)):
                relevant.append((rank_P[offset + relevance.passage[i]], relevance.grade[i], column))
            offset += len(passages[pool])
        result[query] = sorted(relevant), pool_P[order]
    return result


def assert_equal_to_sorting(rankings: list, queries: dict, passages: dict, collection: Collection) -> None:
    for ranking in rankings:
        expected = by_sorting(queries, passages, collection, ranking.query_language, ranking.pool_languages)
        counted = [q for q, (relevant, _) in expected.items() if relevant or collection.every_query_counts]
        assert ranking.queries.tolist() == counted
        assert ranking.query.tolist() == sorted(ranking.query)
        assert ranking.pool_sizes == tuple(len(passages[pool]) for pool in ranking.pool_languages)
        for query in counted:
            own = ranking.query == query
            relevant = list(zip(ranking.rank[own], ranking.grade[own], ranking.language[own], strict=True))
            assert relevant == expected[query][0]


def assert_tops_equal_sorting(rankings: list, queries: dict, passages: dict, collection: Collection, top: int) -> None:
    for ranking in rankings:
        expected = by_sorting(queries, passages, collection, ranking.query_language, ranking.pool_languages)
        for query, top_language_K in zip(ranking.queries, ranking.top_language_QK, strict=True):
            best = expected[query][1][:top].tolist()
            assert top_language_K.tolist() == best + [-1] * (top - len(best))


@pytest.mark.parametrize("block", [1, 7, BLOCK, 1000])
@pytest.mark.parametrize("every_query_counts", [False, True])
def test_ranks_equal_a_float64_sort_whatever_the_block(case, block, every_query_counts):
    queries, passages, collection = case
    collection = replace(collection, every_query_counts=every_query_counts)
    rankings = rank(queries, passages, collection, block=block, top=20)
    assert [r.setting for r in rankings].count("mono") == 3
    assert [r.setting for r in rankings].count("cross") == 6
    assert [r.setting for r in rankings].count("multi") == 3
    assert all((len(r.queries) == QUERIES) == every_query_counts for r in rankings)
    assert_equal_to_sorting(rankings, queries, passages, collection)
    assert_tops_equal_sorting(rankings, queries, passages, collection, top=20)


@pytest.mark.parametrize("size", [255, 256, 257])
@pytest.mark.parametrize("block", [255, 256, 257])
def test_counts_of_a_whole_block_do_not_overflow(size, block):
    """All other passages beat the last one. A block has 255 passages, the most that a byte counts, or more."""
    emb = np.array([[1, 0], [0, 1]], np.float32)
    passages = {"en": emb[np.r_[np.zeros(size - 1, int), 1]]}
    gold = Relevance(np.array([0], np.int32), np.array([size - 1]), np.array([1], np.int8))
    collection = Collection("one", {"en": texts(1)}, {"en": texts(size)}, {("en", "en"): gold})
    (ranking,) = rank({"en": emb[:1]}, passages, collection, block=block)
    assert ranking.rank.tolist() == [size]


def test_duplicates_between_pools_rank_in_the_order_of_the_pools(case):
    queries, passages, collection = case
    for pool in passages.values():
        pool[14:22] = passages["en"][14:22]
    assert_equal_to_sorting(rank(queries, passages, collection, block=BLOCK), queries, passages, collection)


def test_top_longer_than_the_pools_is_filled_with_minus_one(case):
    queries, passages, collection = case
    assert_tops_equal_sorting(rank(queries, passages, collection, top=120), queries, passages, collection, top=120)


@pytest.mark.parametrize("settings", [("mono",), ("cross",), ("multi",), ("mono", "cross")])
def test_a_part_of_the_settings_is_ranked_as_among_all(case, settings):
    queries, passages, collection = case
    rankings = rank(queries, passages, replace(collection, settings=settings))
    assert {ranking.setting for ranking in rankings} == set(settings)
    assert_equal_to_sorting(rankings, queries, passages, collection)
    assert len(rankings) == len([r for r in rank(queries, passages, collection) if r.setting in settings])


def test_a_single_language_has_no_multi(case):
    queries, passages, collection = case
    alone = Collection(
        "en", {"en": texts(QUERIES)}, {"en": texts(31)}, {("en", "en"): collection.relevance["en", "en"]}
    )
    (ranking,) = rank({"en": queries["en"]}, {"en": passages["en"]}, alone)
    assert ranking.setting == "mono"
    assert_equal_to_sorting([ranking], queries, passages, alone)


def test_without_relevant_passages_a_setting_is_left_out_unless_every_query_counts(case):
    queries, passages, collection = case
    nothing = Relevance(np.array([0], np.int32), np.array([0], np.int64), np.array([0], np.int8))
    empty = replace(collection, relevance={("en", "en"): nothing}, settings=("mono",))
    assert rank(queries, passages, empty) == []
    (ranking,) = rank(queries, passages, replace(empty, every_query_counts=True))
    assert len(ranking.queries) == QUERIES
    assert len(ranking.rank) == 0


def test_ties_rank_in_the_order_of_pools_and_positions():
    emb = np.array([[1.0, 0.0]], np.float32)
    passages = {"en": np.repeat(emb, 3, axis=0), "de": np.repeat(emb, 2, axis=0)}
    relevance = {
        ("en", "en"): Relevance(np.array([0, 0]), np.array([2, 0]), np.array([1, 1])),
        ("en", "de"): Relevance(np.array([0]), np.array([1]), np.array([1])),
    }
    collection = Collection("ties", {"en": texts(1)}, {"en": texts(3), "de": texts(2)}, relevance)
    ranks = {r.setting: r.rank.tolist() for r in rank({"en": emb}, passages, collection, block=2)}
    assert ranks == {"mono": [1, 3], "cross": [2], "multi": [1, 3, 5]}


def test_the_shape_of_xquad_r_gives_132_settings():
    rng = np.random.default_rng(0)
    languages, count = [f"l{i:02}" for i in range(11)], 40
    gold = Relevance(np.arange(count, dtype=np.int32), np.arange(count, dtype=np.int64), np.ones(count, np.int8))
    queries = {language: unit(rng, count) for language in languages}
    passages = {language: unit(rng, count + i) for i, language in enumerate(languages)}
    sides = [{language: texts(len(emb)) for language, emb in side.items()} for side in (queries, passages)]
    collection = Collection("xquad_r", *sides, {(a, b): gold for a in languages for b in languages})
    rankings = rank(queries, passages, collection)
    assert len(rankings) == 11 + 110 + 11
    assert all(len(r.rank) == (11 if r.setting == "multi" else 1) * count for r in rankings)
    assert_equal_to_sorting(rankings[:13], queries, passages, collection)
    assert_tops_equal_sorting(rankings[:13], queries, passages, collection, top=20)


def test_ranks_agree_with_faiss_flat_search():
    rng = np.random.default_rng(3)
    passages, queries = unit(rng, 3001, 384), unit(rng, 50, 384)
    gold = Relevance(np.arange(50, dtype=np.int32), rng.integers(0, 3001, 50), np.ones(50, np.int8))
    collection = Collection("faiss", {"en": texts(50)}, {"en": texts(3001)}, {("en", "en"): gold})
    (ranking,) = rank({"en": queries}, {"en": passages}, collection, block=512)
    scores_QK, position_QK = search(build_index(passages), queries, 3001)
    is_gold_QK = position_QK == gold.passage[:, None]
    near_Q = (np.abs(scores_QK - scores_QK[is_gold_QK][:, None]) < 2 * SCORE_TOLERANCE).sum(axis=1) - 1
    assert near_Q.sum() < 10  # passages whose scores are too close to order, of 50 times 3,001
    assert (np.abs(ranking.rank - np.argmax(is_gold_QK, axis=1) - 1) <= near_Q).all()


def test_an_approximate_index_is_named_by_its_factory_string():
    passages = unit(np.random.default_rng(3), 400, 32)
    index = build_index(passages, "IVF4,Flat")
    faiss.extract_index_ivf(index).nprobe = 4  # all cells: exact again
    scores_QK, position_QK = search(index, passages[:5], 1)
    assert position_QK[:, 0].tolist() == list(range(5))
    np.testing.assert_allclose(scores_QK, 1, atol=1e-6)


def test_memory_does_not_grow_with_a_memory_mapped_pool(tmp_path):
    rng = np.random.default_rng(0)
    queries = {"en": unit(rng, 20)}
    np.save(tmp_path / "passages.npy", unit(rng, 64_000))
    gold = Relevance(np.arange(20, dtype=np.int32), np.arange(20, dtype=np.int64) * 100, np.ones(20, np.int8))

    def ranks_and_peak_bytes(count: int, load: partial) -> tuple[list, int]:
        collection = Collection(
            "big", {"en": texts(20)}, {"en": Texts(range(count), range(count))}, {("en", "en"): gold}
        )
        tracemalloc.start()
        (ranking,) = rank(queries, {"en": load(tmp_path / "passages.npy")[:count]}, collection, block=1000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return ranking.rank.tolist(), peak_bytes

    mapped = partial(np.load, mmap_mode="r")
    _, small_bytes = ranks_and_peak_bytes(8_000, mapped)
    ranks, large_bytes = ranks_and_peak_bytes(64_000, mapped)
    assert large_bytes < 1.1 * small_bytes
    assert ranks == ranks_and_peak_bytes(64_000, np.load)[0]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("spoil", ["nan", "length"])
def test_a_nan_or_a_vector_of_another_length_is_refused(case, side, spoil):
    case[side]["de"][4] *= np.nan if spoil == "nan" else 1.1
    with pytest.raises(ValueError, match=r"^(queries|passages)\['de'\] must be finite and of unit length"):
        rank(*case)


def test_embeddings_that_do_not_fit_the_collection_are_refused(case):
    queries, passages, collection = case
    with pytest.raises(ValueError, match=r"^passages must hold 32 float32 vectors for 'de', got float32 \(31, 16\)"):
        rank(queries, passages | {"de": passages["de"][:31]}, collection)
    with pytest.raises(ValueError, match=r"^queries must hold 12 float32 vectors for 'fi', got float64"):
        rank(queries | {"fi": queries["fi"].astype(np.float64)}, passages, collection)


def assert_identical(rankings: list, loaded: list) -> None:
    for ranking, copy in zip(rankings, loaded, strict=True):
        for field in fields(ranking):
            value, copied = getattr(ranking, field.name), getattr(copy, field.name)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(copied, value, strict=True)
            else:
                assert (type(copied), copied) == (type(value), value)


@pytest.mark.parametrize("every_query_counts", [False, True])
def test_stored_rankings_are_the_same(case, every_query_counts, tmp_path):
    rankings = rank(*case[:2], replace(case[2], every_query_counts=every_query_counts))
    for part in (rankings, rankings[:1], []):
        save_rankings(part, tmp_path / "new" / "rankings.npz")
        assert_identical(part, load_rankings(tmp_path / "new" / "rankings.npz"))


def test_a_ranking_without_relevant_passages_is_stored(case, tmp_path):
    nothing = Relevance(np.array([0], np.int32), np.array([0], np.int64), np.array([0], np.int8))
    collection = replace(case[2], relevance={("en", "en"): nothing}, settings=("mono",), every_query_counts=True)
    rankings = rank(*case[:2], collection)
    assert len(rankings[0].rank) == 0
    save_rankings(rankings, tmp_path / "rankings.npz")
    assert_identical(rankings, load_rankings(tmp_path / "rankings.npz"))


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(case, share, tmp_path):
    path = tmp_path / "rankings.npz"
    save_rankings(rank(*case), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"^{path} is damaged \(.*\)\. Remove the folder {tmp_path} and run again\.$"):
        load_rankings(path)


def test_a_changed_byte_is_refused(case, tmp_path):
    path = tmp_path / "rankings.npz"
    save_rankings(rank(*case), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path} is damaged"):
        load_rankings(path)


def test_a_missing_file_and_one_with_other_contents_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"rankings\.npz does not exist\.$"):
        load_rankings(tmp_path / "rankings.npz")
    np.savez(tmp_path / "rankings.npz", header=np.array("[]"))
    with pytest.raises(UserError, match=r"rankings\.npz is damaged \('queries is not a file in the archive'\)"):
        load_rankings(tmp_path / "rankings.npz")


@pytest.mark.parametrize(
    ("variant", "sampled", "names"),
    [
        (Variant(), False, [RANKINGS]),
        (Variant(width=4), False, [RANKINGS]),
        (Variant(index="SQ8"), False, [RANKINGS]),
        (Variant(), True, [NESTED, RANKINGS]),
        (Variant(index="SQ8"), True, [RANKINGS]),
    ],
)
def test_a_benchmark_is_ranked_once_and_scored_by_any_metric(case, variant, sampled, names, tmp_path):
    queries, passages, collection = case
    if sampled:
        samples = {language: Sample(judged=20, full=1000) for language in collection.passages}
        within = {pair: gold.passage < 20 for pair, gold in collection.relevance.items() if pair[0] == pair[1]}
        relevance = {
            pair: Relevance(
                *(getattr(collection.relevance[pair], field)[mask] for field in ("query", "passage", "grade"))
            )
            for pair, mask in within.items()
        }
        collection = replace(collection, settings=("mono",), samples=samples, relevance=relevance)
    rank_benchmark(queries, passages, collection, variant, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    few, many = (score_benchmark(tmp_path / "new", collection, list(metrics)) for metrics in (["map"], ["map", "r_3"]))
    assert few.figures.items() < many.figures.items()
    columns = ["setting", "query_language", "passage_language", "query_id", "cluster", "map"]
    assert list(few.frames["per_query-random"]) == columns
    pd.testing.assert_frame_equal(few.frames["per_query-random"], many.frames["per_query-random"].drop(columns="r_3"))
    tables = ["per_query-random", *["attraction-random"] * (not sampled), *["pool_ranks-random"] * (len(names) > 1)]
    assert list(few.frames) == list(many.frames) == tables


def test_a_new_metric_makes_no_stored_ranking_stale():
    modules = keys.closure(["pipeline.retrieval.ranking"])
    assert "pipeline.retrieval.exact" in modules
    assert not modules & {f"pipeline.retrieval.{name}" for name in ("metrics", "scoring", "example")}
    of_metrics = {"pipeline", "pipeline.values", "pipeline.retrieval"}
    of_metrics |= {"pipeline.retrieval.metrics", "pipeline.retrieval.bias"}
    assert keys.closure(["pipeline.retrieval.metrics"]) == of_metrics
