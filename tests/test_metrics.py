"""Metrics against pytrec_eval and by hand; the tables against a second way of computing them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pipeline.config import check_target
from pipeline.retrieval import metrics
from pipeline.retrieval.exact import rank
from pipeline.values import Collection, Ranking, Relevance, Texts, UserError

DEFAULT = Path(__file__).parents[1] / "conf/metrics/default.yaml"
TREC_EVAL = {
    "map": metrics.average_precision,
    "map_cut_20": partial(metrics.average_precision, k=20),
    "recall_1": partial(metrics.recall, k=1),
    "recall_10": partial(metrics.recall, k=10),
    "recall_100": partial(metrics.recall, k=100),
    "recip_rank": metrics.reciprocal_rank,
    "ndcg_cut_10": partial(metrics.ndcg, k=10),
    "ndcg_cut_100": partial(metrics.ndcg, k=100),
}


def by_hand() -> Ranking:
    """Two English queries against en, de, fi: one finds all three of its passages, the other has a German one only."""
    return Ranking(
        setting="multi",
        query_language="en",
        pool_languages=("en", "de", "fi"),
        pool_sizes=(50, 25, 25),
        queries=np.array([0, 3, 7], np.int32),
        query=np.array([0, 0, 0, 7], np.int32),
        rank=np.array([1, 4, 30, 2]),
        grade=np.array([1, 3, 2, 1], np.int8),
        language=np.array([0, 2, 1, 1], np.int16),
        top_language_QK=np.array([[0, 0, 0, 2], [1, 1, 1, 1], [0, 1, 2, 2]], np.int16),
    )


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    emb_ND = rng.standard_normal((count, 8))
    return (emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)).astype(np.float32)


def random_case(seed: int) -> tuple[dict, dict, Collection]:
    """Three languages, graded judgements, many exact ties, a query without relevant passage that counts."""
    rng = np.random.default_rng(seed)
    sizes = {"en": 150, "de": 120, "fi": 90}
    queries = {language: unit(rng, 9) for language in sizes}
    passages = {language: unit(rng, size // 2)[np.arange(size) % (size // 2)] for language, size in sizes.items()}
    relevance = {}
    for pair in [(a, b) for a in sizes for b in sizes]:
        query, passage = np.nonzero(rng.random((9, sizes[pair[1]])) < 0.05)
        query, passage = query[query < 8], passage[query < 8]
        grade = rng.integers(0, 4, len(query)).astype(np.int8)
        relevance[pair] = Relevance(query.astype(np.int32), passage.astype(np.int64), grade)
    sides = [
        {k: Texts([f"{k}{i}" for i in range(len(v))], [""] * len(v)) for k, v in s.items()} for s in (queries, passages)
    ]
    return queries, passages, Collection("random", *sides, relevance, every_query_counts=True)


@pytest.mark.parametrize("seed", range(3))
def test_values_equal_pytrec_eval_with_graded_relevance_and_ties(seed):
    queries, passages, collection = random_case(seed)
    for ranking in rank(queries, passages, collection, block=64):
        language, pools = ranking.query_language, ranking.pool_languages
        emb_PD = np.concatenate([passages[pool] for pool in pools]).astype(np.float64)
        scores_QP = np.round(queries[language].astype(np.float64) @ emb_PD.T, 9)
        # trec_eval holds scores in single precision and breaks ties by the larger id: give it whole numbers, and
        # the earlier passages the larger ids.
        run = {
            str(query): {
                f"{9999 - i}": float(score) for i, score in enumerate(np.unique(scores_P, return_inverse=True)[1])
            }
            for query, scores_P in enumerate(scores_QP)
        }
        offsets = np.cumsum([0, *ranking.pool_sizes])
        qrels = {str(query): {} for query in ranking.queries}
        for offset, pool in zip(offsets, pools, strict=False):
            relevance = collection.relevance[language, pool]
            for query, passage, grade in zip(relevance.query, relevance.passage, relevance.grade, strict=True):
                qrels[str(query)][f"{9999 - offset - passage}"] = int(grade)
        expected = pytrec_eval.RelevanceEvaluator({q: r for q, r in qrels.items() if r}, set(TREC_EVAL)).evaluate(run)
        assert len(expected) == 8
        for name, metric in TREC_EVAL.items():
            values = [expected.get(str(query), {name: 0.0})[name] for query in ranking.queries]
            np.testing.assert_allclose(metric(ranking), values, atol=1e-9, err_msg=f"{name} {ranking.setting}")


def test_values_by_hand():
    ranking = by_hand()
    dcg = 1 / np.log2(2) + 3 / np.log2(5)
    ideal = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4)
    expected = {
        "map": [(1 / 1 + 2 / 4 + 3 / 30) / 3, 0, 1 / 2],
        "map_cut_20": [(1 / 1 + 2 / 4) / 3, 0, 1 / 2],
        "recall_1": [1 / 3, 0, 0],
        "recall_10": [2 / 3, 0, 1],
        "recall_100": [1, 0, 1],
        "recip_rank": [1, 0, 1 / 2],
        "ndcg_cut_10": [dcg / ideal, 0, 1 / np.log2(3)],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(TREC_EVAL[name](ranking), values, err_msg=name)
    np.testing.assert_array_equal(metrics.reciprocal_rank(ranking, k=1), [1, 0, 0])


@pytest.mark.parametrize(("k", "found"), [(3, 1), (4, 2), (5, 2), (29, 2), (30, 3), (31, 3)])
def test_a_cut_includes_its_own_rank(k, found):
    assert metrics.recall(by_hand(), k)[0] == found / 3
    assert metrics.average_precision(by_hand(), k)[0] == pytest.approx(sum([1, 0.5, 0.1][:found]) / 3)


def test_language_bias_by_hand():
    ranking = by_hand()
    np.testing.assert_array_equal(metrics.rank_distance(ranking), [29, np.nan, np.nan])
    np.testing.assert_array_equal(metrics.best_other_language_rank(ranking), [4, np.nan, 2])
    # English holds half of the pool: 3 of 4, none, and 1 of 4 are 1.5, 0 and 0.5 of its fair share.
    np.testing.assert_array_equal(metrics.own_language_share(ranking, k=4), [1.5, 0, 0.5])
    np.testing.assert_array_equal(metrics.own_language_share(ranking, k=1), [2, 0, 2])
    attraction = metrics.language_attraction([ranking], k=4)
    # Of the 12 places 4, 5 and 3 are en, de and fi, which hold 1/2, 1/4 and 1/4 of the pool.
    assert attraction.loc["en"].to_dict() == pytest.approx({"en": 2 / 3, "de": 5 / 3, "fi": 1})


def test_a_top_longer_than_the_pool_shares_what_there_is():
    ranking = by_hand()
    ranking.top_language_QK[0] = [0, 1, -1, -1]
    assert metrics.own_language_share(ranking, k=4)[0] == 1.0


def test_a_share_past_the_top_that_was_kept_is_refused():
    with pytest.raises(ValueError, match=r"^k must lie in \[1, 4\], the top kept when ranking, got 5"):
        metrics.own_language_share(by_hand(), k=5)


def test_language_bias_has_no_meaning_outside_the_multilingual_pool():
    rankings = [ranking for ranking in rank(*random_case(0)) if ranking.setting != "multi"]
    for ranking in rankings:
        for metric in (
            metrics.rank_distance,
            metrics.best_other_language_rank,
            partial(metrics.own_language_share, k=10),
        ):
            assert np.isnan(metric(ranking)).all()


def test_tables_hold_every_query_of_every_setting_and_their_macro_means():
    case = random_case(1)
    rankings = rank(*case)
    scores = {"map": metrics.average_precision, "rank_distance": metrics.rank_distance}
    table = metrics.per_query_table(rankings, case[2], scores)
    assert list(table.columns) == ["setting", "query_language", "passage_language", "query_id", *scores]
    assert len(table) == (3 + 6 + 3) * 9
    assert set(table.loc[table["setting"] == "multi", "passage_language"]) == {"*"}
    assert table.iloc[0]["query_id"] == "en0"

    means = metrics.macro(table)
    assert set(means) == {"mono.map", "cross.map", "multi.map", "multi.rank_distance"}
    for setting in ("mono", "cross", "multi"):
        by_setting = [metrics.average_precision(r).mean() for r in rankings if r.setting == setting]
        assert means[f"{setting}.map"] == pytest.approx(np.mean(by_setting))

    matrix = metrics.language_matrix(table, "map")
    assert list(matrix.index) == list(matrix.columns) == ["en", "de", "fi"]
    for ranking in rankings:
        if ranking.setting != "multi":
            mean = metrics.average_precision(ranking).mean()
            assert matrix.loc[ranking.query_language, ranking.pool_languages[0]] == pytest.approx(mean)


def test_the_default_metrics_can_be_built_and_applied():
    conf = OmegaConf.load(DEFAULT)
    conf.merge_with_dotlist(["map_20.k=3"])
    built = instantiate(conf, _convert_="all")
    queries, passages, collection = random_case(0)
    ranking = rank(queries, passages, collection)[-1]
    assert all(metric(ranking).shape == (9,) for metric in built.values())
    np.testing.assert_array_equal(built["map_20"](by_hand()), metrics.average_precision(by_hand(), k=3))


@pytest.mark.parametrize("impossible", ["r_10.k=0", "map_20.k=-1", "own_share_10.k=21"])
def test_an_impossible_cut_is_refused_before_any_work(impossible):
    conf = OmegaConf.load(DEFAULT)
    conf.merge_with_dotlist([impossible])
    name = impossible.split(".")[0]
    with pytest.raises(UserError, match=rf"metrics\.{name}\.k="):
        check_target(f"metrics.{name}", conf[name])
