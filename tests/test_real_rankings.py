"""Real sentences, a real encoder: metrics of XQuAD-R's held-out articles equal pytrec_eval's on the same embeddings."""

import numpy as np
import pytest
import pytrec_eval
from tiny import PACKAGED, model_config

from pipeline.data.lareqa import test_articles as held_out_articles
from pipeline.encoder.sources import load
from pipeline.retrieval.exact import rank
from pipeline.retrieval.metrics import metric
from pipeline.retrieval.ranking import encode_side

LANGUAGES = ["en", "th", "zh"]


@pytest.fixture(scope="module")
def collection(shared_data):
    return held_out_articles(LANGUAGES, str(shared_data / "xquad-r"))


@pytest.fixture(scope="module")
def embeddings(collection):
    encoder = load(model_config(**PACKAGED | {"max_query_tokens": 32, "max_passage_tokens": 48}), seed=0)
    return [encode_side(encoder, collection, side) for side in ("query", "passage")]


def theirs(collection, embeddings, setting, language, pools):
    """The metrics of each query by pytrec_eval, from float64 scores."""
    queries, passages = embeddings
    ids = [f"{pool}-{position}" for pool in pools for position in range(len(passages[pool]))]
    score_QP = queries[language].astype(float) @ np.concatenate([passages[pool] for pool in pools]).astype(float).T
    run = {str(q): dict(zip(ids, scores, strict=True)) for q, scores in enumerate(score_QP.tolist())}
    qrels: dict[str, dict[str, int]] = {}
    for pool in pools:
        gold = collection.relevance[language, pool]
        for query, passage in zip(gold.query.tolist(), gold.passage.tolist(), strict=True):
            qrels.setdefault(str(query), {})[f"{pool}-{passage}"] = 1
    values = pytrec_eval.RelevanceEvaluator(qrels, {"map", "recall_10", "ndcg_cut_10"}).evaluate(run)
    return {
        name: np.array([values[str(q)][name] for q in range(len(score_QP))]) for name in next(iter(values.values()))
    }


def test_all_settings_equal_pytrec_eval(collection, embeddings):
    rankings = rank(*embeddings, collection)
    assert sorted(ranking.setting for ranking in rankings) == ["cross"] * 6 + ["mono"] * 3 + ["multi"] * 3
    for ranking in rankings:
        expected = theirs(collection, embeddings, ranking.setting, ranking.query_language, ranking.pool_languages)
        for trec_name, name in (("map", "map"), ("recall_10", "r_10"), ("ndcg_cut_10", "ndcg_10")):
            values_Q = metric(name).function(ranking)
            # Sentences that occur twice tie, and trec_eval orders ties by name: a few queries may differ by one place.
            assert np.isclose(values_Q, expected[trec_name], atol=1e-9).mean() > 0.98, (ranking.setting, name)
            assert values_Q.mean() == pytest.approx(expected[trec_name].mean(), abs=1e-3)
