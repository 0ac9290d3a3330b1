"""Pools that are samples: their ranks, the curve of nDCG@10 over their size, extrapolation against a known truth."""

import io
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import records
from scipy.stats import nbinom, norm
from test_miracl import write_shards

from pipeline.analysis import pool
from pipeline.data import miracl
from pipeline.reporting import publish
from pipeline.retrieval.exact import rank
from pipeline.retrieval.metrics import ndcg
from pipeline.retrieval.ranking import rank_benchmark
from pipeline.retrieval.scoring import score_benchmark
from pipeline.store.results import ResultStore
from pipeline.values import Collection, Relevance, Sample, Texts, Variant

JUDGED, SAMPLED, OTHERS = 300, 2_000, 60_000  # passages of the simulated corpora
TOPICS = 30  # of the small MIRACL


def pool_ranks(queries: dict, passages: dict, collection: Collection, folder: Path) -> pd.DataFrame:
    """Rank a benchmark whose pools are samples, and return its table of ranks in nested pools."""
    rank_benchmark(queries, passages, collection, Variant(), folder)
    return score_benchmark(folder, collection, ["ndcg_10"]).frames[f"pool_ranks-{collection.name}"]


def simulated(rng: np.random.Generator, topics: int, shares: str) -> pd.DataFrame:
    """Topics with one or two relevant passages: their ranks among the judged, in the sample and in the full pool.

    A share of all passages beats a relevant one: Gamma as in the model, or Phi(-z) of normal scores, unlike the model.
    """
    if shares == "gamma":
        share_Q2 = np.minimum(rng.gamma(0.25, 1 / 200, (topics, 2)), 1)
    else:
        share_Q2 = norm.sf(rng.normal(3, 1, (topics, 1)) + rng.normal(0, 0.5, (topics, 2)))
    share_Q2.sort(axis=1)
    gain_Q2 = np.where(rng.random((topics, 1)) < 0.5, 1 / (1 + 1 / np.log2(3)), [1.0, 0.0])
    topic, place = (index.ravel() for index in np.indices((topics, 2)))
    frames, rank_Q2 = [], np.tile([1, 2], (topics, 1))
    for pool_size, added in ((JUDGED, JUDGED), (JUDGED + SAMPLED, SAMPLED), (JUDGED + OTHERS, OTHERS - SAMPLED)):
        first_Q = rng.binomial(added, share_Q2[:, 0])
        second_Q = first_Q + rng.binomial(added, share_Q2[:, 1] - share_Q2[:, 0])
        rank_Q2 = rank_Q2 + np.stack([first_Q, second_Q], axis=1)
        table = {"query_id": topic, "place": place + 1, "gain": gain_Q2.ravel(), "rank": rank_Q2.ravel()}
        frames.append(pd.DataFrame(table).query("gain > 0").assign(pool_size=pool_size, full_size=JUDGED + OTHERS))
    return pd.concat(frames)


def mean_ndcg(ranks: pd.DataFrame, pool_size: int) -> float:
    rows = ranks[ranks["pool_size"] == pool_size]
    return (rows["gain"] * pool.discount(rows["rank"])).sum() / rows["query_id"].nunique()


@pytest.mark.parametrize(
    ("shares", "corpora", "bias", "coverage"), [("gamma", 60, 0.015, 0.88), ("scores", 20, 0.03, 0.8)]
)
def test_the_full_pool_lies_in_the_interval(shares, corpora, bias, coverage, monkeypatch):
    """From 2,000 sampled passages to 60,000. With other shares than the model's the estimate is 0.01 too high."""
    monkeypatch.setattr(pool, "LARGER_POOLS", 1)
    monkeypatch.setattr(pool, "TRIALS", 250)
    rng = np.random.default_rng(0)
    truth = mean_ndcg(simulated(rng, 100_000, shares), JUDGED + OTHERS)
    estimates, covers = [], []
    for _ in range(corpora):
        ranks = simulated(rng, 300, shares)
        ndcg_X = pool.curve(ranks[ranks["pool_size"] <= JUDGED + SAMPLED], draws=100).iloc[-1].to_numpy()
        low, high = np.quantile(ndcg_X[1:], [0.025, 0.975])
        estimates.append(ndcg_X[0])
        covers.append(low <= truth <= high)
    sampled = mean_ndcg(ranks, JUDGED + SAMPLED)
    assert sampled - truth > 0.25  # there is something to extrapolate
    assert abs(np.mean(estimates) - truth) < bias
    assert np.mean(covers) >= coverage
    assert np.std(estimates) > 0.01


def test_a_sample_that_is_the_full_pool_is_measured_and_not_extrapolated():
    ranks = simulated(np.random.default_rng(0), 50, "gamma")
    curve = pool.curve(ranks)
    assert curve.index.to_list() == [(size, "measured") for size in (300, 2_300, 60_300)]
    assert curve[0].to_list() == pytest.approx([mean_ndcg(ranks, size) for size in (300, 2_300, 60_300)], rel=1e-12)


def test_an_added_passage_changes_next_to_nothing():
    ranks = simulated(np.random.default_rng(0), 50, "gamma").query("pool_size < 60_300").assign(full_size=2_301)
    curve = pool.curve(ranks)[0]
    assert curve[2_301, "extrapolated"] == pytest.approx(curve[2_300, "measured"], abs=1e-3)
    assert curve[2_301, "extrapolated"] < curve[2_300, "measured"]


def test_where_nothing_beats_the_estimate_stays_near_the_top():
    rows = [{"query_id": f"{i}", "place": 1, "gain": 1.0, "rank": 1, "full_size": 20_100} for i in range(200)]
    ranks = pd.concat([pd.DataFrame(rows).assign(pool_size=size) for size in (100, 10_100)])
    assert 0.97 < pool.curve(ranks)[0].iloc[-1] < 1


def test_likelihood_and_expectation_equal_scipys_negative_binomial():
    cases = pool.Cases(np.array([0, 3, 3, 9]), np.array([0, 1, 0, 0]), np.array([4, 6, 2, 1]))  # 2nd and 4th: censored
    a, c, t, growth = 0.3, 0.7, 2.5, 12.0
    parameters_1P = np.log([[a, c, t]])
    shape_C = a + c * cases.judged_C
    counts = nbinom(shape_C, 1 / (1 + t))
    expected = np.where([0, 1, 0, 1], counts.logsf(cases.sampled_C - 1), counts.logpmf(cases.sampled_C))
    np.testing.assert_allclose(pool.log_likelihood(cases, parameters_1P)[0], expected, rtol=1e-10)
    added = nbinom(shape_C + cases.sampled_C, (1 + t) / (1 + t + t * growth))
    mean_C = sum(added.pmf(b) * pool.discount(1 + cases.beaten_C + b) for b in range(11))
    np.testing.assert_allclose(pool.expected_discount(cases, parameters_1P, growth)[0], mean_C, rtol=1e-10)


def unit(emb_ND: np.ndarray) -> np.ndarray:
    return (emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("others", [0, 1, 7, 8, 40])
def test_ranks_give_the_ndcg_of_each_smaller_pool(others, tmp_path):
    rng = np.random.default_rng(others)
    queries, passages = unit(rng.standard_normal((6, 8))), unit(rng.standard_normal((15 + others, 8)))
    judged = Relevance(
        np.repeat(np.arange(5), 3).astype(np.int32), np.arange(15), rng.integers(0, 3, 15).astype(np.int8)
    )
    texts = [str(i) for i in range(15 + others)]
    collection = Collection(
        name="toy",
        queries={"sw": Texts(texts[:6], texts[:6])},
        passages={"sw": Texts(texts, texts)},
        relevance={("sw", "sw"): judged},
        settings=("mono",),
        every_query_counts=True,
        samples={"sw": Sample(15, 1000)},
    )
    ranks = pool_ranks({"sw": queries}, {"sw": passages}, collection, tmp_path)
    assert not ranks.duplicated().any()
    assert ranks["pool_size"].unique().tolist() == sorted({15 + others * part // 8 for part in (0, 1, 2, 4, 8)})
    measured = pool.curve(ranks)[0]
    for size in ranks["pool_size"].unique():
        smaller = replace(collection, passages={"sw": Texts(texts[:size], texts[:size])})
        (ranking,) = rank({"sw": queries}, {"sw": passages[:size]}, smaller)
        assert measured[size, "measured"] == pytest.approx(ndcg(ranking, 10).mean(), rel=1e-12)


@pytest.fixture
def small_miracl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """30 topics with a relevant and another judged passage each, and 200 of 400 others, from files as published."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = tmp_path / "miracl"
    for kind in ("topics", "qrels"):
        (root / "miracl-v1.0-sw" / kind).mkdir(parents=True)
    topics = "".join(f"{i}\tNani {i}?\n" for i in range(TOPICS))
    (root / "miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv").write_text(topics)
    qrels = "".join(f"{i}\tQ0\t{i}#{passage}\t{1 - passage}\n" for i in range(TOPICS) for passage in (0, 1))
    (root / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv").write_text(qrels)
    docids = [f"{i}#{passage}" for passage in (0, 1) for i in range(TOPICS)] + [f"{i}#9" for i in range(400)]
    write_shards(root / "miracl-corpus-v1.0-sw", docids, shards=3)
    return miracl.dev(["sw"], str(root), "sample:200", 0)


def test_from_miracls_files_to_the_csv_and_the_picture(small_miracl, tmp_path, monkeypatch):
    assert small_miracl.samples == {"sw": Sample(judged=2 * TOPICS, full=131_924)}
    queries_ND = unit(np.random.default_rng(0).standard_normal((TOPICS, 16)))

    def embed(docid: str) -> np.ndarray:
        topic, passage = docid.split("#")
        noise_D = np.random.default_rng([int(topic), int(passage)]).standard_normal(16)
        return noise_D if passage == "9" else noise_D + (5 - int(passage)) * queries_ND[int(topic)]

    queries = {"sw": queries_ND}
    passages = {"sw": unit(np.stack([embed(docid) for docid in small_miracl.passages["sw"].ids]))}
    monkeypatch.setenv("WANDB_MODE", "disabled")
    store = ResultStore(tmp_path / "results")
    ranks = pool_ranks(queries, passages, small_miracl, tmp_path)
    for seed in (0, 1):
        record = records.add_run(store, "toy", 3, "hybrid", seed)
        store.save_frame(store.run_dir(record.name), "pool_ranks-miracl[sample:200]", ranks)
    with redirect_stdout(io.StringIO()):
        publish.report(store.root, "toy")

    curve = pd.read_csv(store.sweep_dir("toy") / "pool_curve.csv")
    assert set(curve["benchmark"]) == {"miracl[sample:200]"}
    measured, extrapolated = (curve[curve["kind"] == kind] for kind in ("measured", "extrapolated"))
    assert measured["pool_size"].tolist() == [60, 85, 110, 160, 260]
    (ranking,) = rank(queries, passages, small_miracl)
    assert measured["ndcg_10"].iloc[-1] == pytest.approx(ndcg(ranking, 10).mean(), rel=1e-12)
    assert extrapolated["pool_size"].iloc[-1] == 131_924
    assert (curve["ndcg_10"].diff().dropna() <= 1e-12).all()
    assert (curve["low"] < curve["ndcg_10"]).all()
    assert (curve["ndcg_10"] < curve["high"]).all()
    assert "`pool_curve.csv`, `pool_curve.pdf`, `pool_curve.png`" in (store.sweep_dir("toy") / "README.md").read_text()
    assert matplotlib.image.imread(store.sweep_dir("toy") / "pool_curve.png").shape[0] > 600
