"""Real sentences, a real encoder: metrics of XQuAD-R's held-out articles equal pytrec_eval's on the same embeddings."""

import numpy as np
import pytest
import pytrec_eval
from tiny import PACKAGED

from pipeline.data.lareqa import test_articles as held_out_articles
from pipeline.encoder.encoding import encode
from pipeline.encoder.model import load
from pipeline.retrieval import metrics
from pipeline.retrieval.exact import rank

LANGUAGES = ["en", "th", "zh"]


@pytest.fixture(scope="module")
def collection(shared_data):
    return held_out_articles(LANGUAGES, str(shared_data / "xquad-r"))


@pytest.fixture(scope="module")
def embeddings(collection):
    encoder = load(**PACKAGED | {"max_query_tokens": 32, "max_passage_tokens": 48}, seed=0)
    return [
        {language: encode(encoder, texts.texts, side) for language, texts in by_language.items()}
        for side, by_language in (("query", collection.queries), ("passage", collection.passages))
    ]


def theirs(collection, embeddings, setting, language, pools):
    """map and recall_10 of each query by pytrec_eval, from float64 scores."""
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
        for name, found in (
            ("map", metrics.average_precision(ranking)),
            ("recall_10", metrics.recall(ranking, 10)),
            ("ndcg_cut_10", metrics.ndcg(ranking, 10)),
        ):
            # Sentences that occur twice tie, and trec_eval orders ties by name: a few queries may differ by a place.
            assert np.isclose(found, expected[name], atol=1e-9).mean() > 0.98, (ranking.setting, name)
            assert found.mean() == pytest.approx(expected[name].mean(), abs=1e-3)
