"""Metrics against pytrec_eval and by hand; the tables against a second way of computing them."""

import inspect
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import pytrec_eval
from test_config import composed

from pipeline.retrieval import bias, example, metrics
from pipeline.retrieval.exact import rank
from pipeline.retrieval.metrics import METRICS, metric
from pipeline.retrieval.relevant import check_answers
from pipeline.retrieval.scoring import attraction_table, per_query_table
from pipeline.values import Collection, Ranking, Relevance, Texts, UserError

TREC_EVAL = {  # trec_eval's name -> ours
    "map": "map",
    "map_cut_20": "map_20",
    "recall_1": "r_1",
    "recall_10": "r_10",
    "recall_100": "r_100",
    "recip_rank": "mrr",
    "ndcg_cut_10": "ndcg_10",
    "ndcg_cut_100": "ndcg_100",
}


def by_hand() -> Ranking:
    """Three English queries against en, de, fi: with three relevant passages, with none, and with a German one only."""
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
        for theirs, ours in TREC_EVAL.items():
            expected_Q = [expected.get(str(query), {theirs: 0.0})[theirs] for query in ranking.queries]
            values_Q = metric(ours).function(ranking)
            np.testing.assert_allclose(values_Q, expected_Q, atol=1e-9, err_msg=f"{ours} {ranking.setting}")


def test_values_by_hand():
    ranking = by_hand()
    dcg = 1 / np.log2(2) + 3 / np.log2(5)
    ideal = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4)
    expected = {
        "map": [(1 / 1 + 2 / 4 + 3 / 30) / 3, 0, 1 / 2],
        "map_20": [(1 / 1 + 2 / 4) / 3, 0, 1 / 2],
        "r_1": [1 / 3, 0, 0],
        "r_10": [2 / 3, 0, 1],
        "r_100": [1, 0, 1],
        "mrr": [1, 0, 1 / 2],
        "mrr_1": [1, 0, 0],
        "ndcg_10": [dcg / ideal, 0, 1 / np.log2(3)],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(metric(name).function(ranking), values, err_msg=name)


@pytest.mark.parametrize(("k", "relevant"), [(3, 1), (4, 2), (5, 2), (29, 2), (30, 3), (31, 3)])
def test_a_cutoff_includes_its_own_rank(k, relevant):
    assert metrics.recall(by_hand(), k)[0] == relevant / 3
    assert metrics.average_precision(by_hand(), k)[0] == pytest.approx(sum([1, 0.5, 0.1][:relevant]) / 3)


def test_language_bias_by_hand():
    ranking = by_hand()
    np.testing.assert_array_equal(bias.rank_distance(ranking), [29, np.nan, np.nan])
    np.testing.assert_array_equal(bias.best_other_language_rank(ranking), [4, np.nan, 2])
    # English holds half of the pool: 3 of 4, none, and 1 of 4 are 1.5, 0 and 0.5 of its fair share.
    np.testing.assert_array_equal(bias.own_language_share(ranking, k=4), [1.5, 0, 0.5])
    np.testing.assert_array_equal(bias.own_language_share(ranking, k=1), [2, 0, 2])
    attraction = attraction_table([ranking], k=4)
    # Of the 12 places 4, 5 and 3 are en, de and fi, which hold 1/2, 1/4 and 1/4 of the pool.
    assert attraction.loc["en"].to_dict() == pytest.approx({"en": 2 / 3, "de": 5 / 3, "fi": 1})


OF_BIAS = ["rank_distance", "best_other_rank", "worst_rank", "language_preference"]


@pytest.mark.parametrize("name", ["map", "map_20", "r_10", "mrr", "ndcg_10", *OF_BIAS])
def test_a_ranking_without_any_relevant_passage_has_scores(name):
    """FINDINGS G4: where every query counts, they are 0, as with trec_eval -c; undefined measures are NaN."""
    empty = np.empty(0, dtype=np.int64)
    ranking = replace(by_hand(), query=empty, rank=empty, grade=empty, language=empty)
    values_Q = metric(name).function(ranking)
    assert values_Q.dtype == np.float64
    assert len(values_Q) == len(ranking.queries)
    assert np.isnan(values_Q).all() if name in OF_BIAS else (values_Q == 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relevance": {}}, "angles: no en query has a relevant passage in the settings mono, cross, multi."),
        ({"settings": ("mono",)}, "angles: no de query has a relevant passage in the settings mono."),
        ({"queries": {"en": Texts([], [])}}, "angles: there are no en queries."),
        ({"passages": {"de": Texts([], [])}}, "angles: there are no de passages."),
    ],
)
def test_a_benchmark_without_answers_is_refused_before_any_work(changes, message):
    relevance = {pair: one for pair, one in example.COLLECTION.relevance.items() if pair != ("de", "de")}
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_answers(replace(example.COLLECTION, **{"relevance": relevance} | changes))


def test_worst_rank_and_language_preference_by_hand():
    ranking = by_hand()
    np.testing.assert_array_equal(bias.worst_rank(ranking), [30, np.nan, 2])
    # Query 0: English at rank 1, Finnish at 4; query 1 has no relevant passage, query 2 a German one only.
    np.testing.assert_array_equal(bias.language_preference(ranking), [1, np.nan, np.nan])
    ranking.language[:3] = [2, 0, 1]
    np.testing.assert_array_equal(bias.language_preference(ranking), [0, np.nan, np.nan])


@pytest.mark.parametrize("seed", range(3))
def test_measures_of_bias_equal_a_plain_loop_over_sorted_scores(seed):
    queries, passages, collection = random_case(seed)
    language_P = np.repeat(list(passages), [len(emb_PD) for emb_PD in passages.values()])
    offsets = dict(zip(passages, np.cumsum([0, *(len(emb_PD) for emb_PD in passages.values())]), strict=False))
    for ranking in rank(queries, passages, collection):
        if ranking.setting != "multi":
            continue
        own = ranking.query_language
        for place, query in enumerate(ranking.queries):
            scores_P = np.concatenate(
                [np.round(passages[pool].astype(float) @ queries[own][query], 6) for pool in passages]
            )
            order_P = np.argsort(-scores_P, kind="stable").tolist()
            judged = [(offsets[pool], collection.relevance[own, pool]) for pool in passages]
            found = sorted(
                (order_P.index(offset + passage) + 1, language_P[offset + passage])
                for offset, qrels in judged
                for passage in qrels.passage[(qrels.query == query) & (qrels.grade > 0)]
            )
            ranks, languages = [rank for rank, _ in found], [language for _, language in found]
            mixed = own in languages and set(languages) != {own}
            expected = {
                "rank_distance": ranks[-1] - ranks[0] if len(ranks) > 1 else np.nan,
                "worst_rank": ranks[-1] if ranks else np.nan,
                "best_other_rank": next((rank for rank, language in found if language != own), np.nan),
                "language_preference": languages[0] == own if mixed else np.nan,
            }
            for name, value in expected.items():
                np.testing.assert_equal(metric(name).function(ranking)[place], float(value), err_msg=name)


def test_a_top_longer_than_the_pool_shares_what_there_is():
    ranking = by_hand()
    ranking.top_language_QK[0] = [0, 1, -1, -1]
    assert bias.own_language_share(ranking, k=4)[0] == 1.0


def test_a_share_past_the_top_of_the_ranking_is_refused():
    with pytest.raises(ValueError, match=r"^k must lie in \[1, 4\], the top of the ranking, got 5"):
        bias.own_language_share(by_hand(), k=5)


def test_language_bias_has_no_meaning_outside_the_multilingual_pool():
    rankings = [ranking for ranking in rank(*random_case(0)) if ranking.setting != "multi"]
    for ranking in rankings:
        for name in (*OF_BIAS, "own_share_10"):
            assert np.isnan(metric(name).function(ranking)).all()


def test_tables_hold_every_query_of_every_setting_and_their_macro_means():
    case = random_case(1)
    rankings = rank(*case)
    names = ["map", "rank_distance"]
    table = per_query_table(rankings, case[2], names)
    assert list(table.columns) == ["setting", "query_language", "passage_language", "query_id", "cluster", *names]
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


def test_a_language_matrix_keeps_pairs_without_a_value_and_the_order_of_appearance():
    rows = [
        ("mono", "sw", "sw", 0.5),
        ("cross", "sw", "en", np.nan),
        ("multi", "sw", "*", 0.1),
        ("mono", "en", "en", 1),
    ]
    frame = pd.DataFrame(rows, columns=[*metrics.SETTING_COLUMNS, "map"])
    matrix = metrics.language_matrix(frame, "map")
    assert list(matrix.index) == list(matrix.columns) == ["sw", "en"]
    np.testing.assert_array_equal(matrix, [[0.5, np.nan], [np.nan, 1]])


def test_the_default_metrics_exist_and_give_a_value_per_query():
    queries, passages, collection = random_case(0)
    ranking = rank(queries, passages, collection)[-1]
    names = list(composed().metrics)
    assert len(names) == 12
    for name in names:
        assert metric(name).name == name
        assert metric(name).function(ranking).shape == (9,)


@pytest.mark.parametrize(
    ("name", "label", "higher_is_better"),
    [
        ("map", "mAP", True),
        ("map_20", "mAP@20", True),
        ("r_10", "R@10", True),
        ("mrr", "MRR", True),
        ("mrr_5", "MRR@5", True),
        ("ndcg_10", "nDCG@10", True),
        ("rank_distance", "rank distance", False),
        ("own_share_10", "own-language share@10", None),
        ("best_other_rank", "best other-language rank", False),
        ("worst_rank", "Max@R", False),
        ("language_preference", "language preference rate", None),
    ],
)
def test_a_name_gives_label_and_direction(name, label, higher_is_better):
    assert metric(name).label == label
    assert metric(name).higher_is_better is higher_is_better


@pytest.mark.parametrize("name", METRICS)
def test_the_registry_tells_truly_which_functions_take_a_cutoff(name):
    parameters = inspect.signature(METRICS[name].function).parameters
    cutoff = "none" if "k" not in parameters else "optional" if parameters["k"].default is None else "required"
    assert METRICS[name].cutoff == cutoff


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "ndgc_10",
            r"is unknown: did you mean ndcg_<k>\? Metrics: map, map_<k>, r_<k>, mrr, .*, language_preference\.",
        ),
        ("rank_distanc", r"is unknown: did you mean rank_distance\?"),
        ("accuracy", r"is unknown: Metrics: map, "),
        ("map_010", r"is unknown: did you mean map or map_<k>"),
        ("ndcg", r"needs a cutoff, as in ndcg_10\."),
        ("own_share", r"needs a cutoff, as in own_share_10\."),
        ("rank_distance_5", r"rank_distance takes no cutoff\."),
        ("r_0", r"the cutoff must be at least 1\."),
        ("map_-1", r"the cutoff must be at least 1\."),
        ("own_share_21", r"the cutoff must lie in \[1, 20\]\."),
    ],
)
def test_an_impossible_name_is_refused_before_any_work(name, reason):
    with pytest.raises(UserError, match=rf"^metric {name}:? {reason}"):
        metric(name)


def test_a_metric_without_a_direction_cannot_order_runs():
    assert metric("map_20").direction == "maximize"
    assert metric("rank_distance").direction == "minimize"
    with pytest.raises(UserError, match=r"^metric own_share_10 cannot order runs"):
        _ = metric("own_share_10").direction


def test_ranking_keeps_as_many_languages_as_the_largest_cutoff_needs():
    assert METRICS["own_share"].largest_k == inspect.signature(rank).parameters["top"].default


def test_the_worked_examples_ranking_is_the_exact_one():
    exact = rank(example.QUERIES, example.PASSAGES, example.COLLECTION, top=5)[2]
    for field, value in vars(example.RANKING).items():
        np.testing.assert_array_equal(getattr(exact, field), value, strict=isinstance(value, np.ndarray))
