"""What should I deploy: the best within the limits, by hand; how sure, by counting draws; which limit binds."""

import re
from dataclasses import replace

import hydra
import numpy as np
import pandas as pd
import pytest
from command import inside, run
from omegaconf import OmegaConf
from records import add_run, add_sweep
from scipy import stats

from pipeline.analysis.costs import cost
from pipeline.analysis.errors import estimate
from pipeline.analysis.recommendation import sentences
from pipeline.analysis.winners import chosen_interval
from pipeline.recommend import LIMITS, answer
from pipeline.store.results import ResultStore
from pipeline.values import CONF, UserError

P95, MEMORY = cost("query_latency_p95_ms"), cost("serving_mib")
TABLE = pd.DataFrame(
    {
        "system": ["a", "b", "c"],
        "model": ["small", "small", "big"],
        "strategy": ["hybrid", "monolingual", "hybrid"],
        "variant": ["as trained", "SQ8", "as trained"],
        "seeds": [2, 2, 2],
        "profile.quality": ["passed", "passed", "failed"],
        "profile.query_latency_p95_ms": [5.0, 4.0, 9.0],
        "profile.sources.query_latency_p95_ms": ["measured: wall clock"] * 3,
        "profile.serving_mib": [300.0, 280.0, 700.0],
        "profile.sources.serving_mib": ["modelled: guess"] * 3,
        "accuracy": [0.6, 0.55, 0.8],
    },
    index=["a", "b", "c"],
)
EASY = np.random.default_rng(0).normal(0, 0.1, 40)  # of queries, for all systems
EASY -= EASY.mean()
APART = np.where(np.arange(40) % 2, 0.2, -0.2)  # b is better than a on some queries, worse on others
SCORES = {("a", 0): 0.6 + EASY, ("b", 0): 0.55 + EASY + APART, ("c", 0): 0.8 + EASY}
ACCURACY = estimate(pd.DataFrame(SCORES))
A, B = ACCURACY.interval("a"), ACCURACY.difference("b", "a")


WINS = stats.t.cdf(0.05 / B.standard_error, 39)  # how often a is drawn above b


def ask(store, *overrides):
    """The answer to a command line on the sweep toy."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("recommend", ["sweep=toy", f"results_dir={store.root}", *overrides])
    return answer(cfg)


def share(sentence):
    return float(re.search(r"([\d.]+)%", sentence)[1]) / 100


def test_the_best_within_the_limits_and_the_runner_up():
    best, second, wins, modelled, exact = sentences(TABLE, ACCURACY, {P95: 6.0, MEMORY: 400.0}, "toy multi map")
    low, high = chosen_interval(ACCURACY, ACCURACY.draws()[["a", "b"]], "a")  # a is the best of these two
    assert low < A.low < A.high < high
    interval = f"[{low:.3f}, {high:.3f}]"
    assert best == f"Deploy small with hybrid batches: toy multi map 0.600 {interval} at 5 ms per query (p95), 300 MiB."
    assert second.startswith("Runner-up: small with monolingual batches, inference variant SQ8, -0.050")
    assert f"[{B.low:+.3f}, {B.high:+.3f}], which these queries cannot tell from 0" in second
    assert wins.startswith("It is the best of the systems within the limits in ")
    assert share(wins) == pytest.approx(WINS, abs=0.03)
    assert modelled == "Modelled, not measured: serving_mib."  # no looser limit helps: both exclude the big one
    assert exact.startswith("Without an error in the profile, and so taken as exact: query_latency_p95_ms, serving_mib")


def test_where_low_is_better_the_lowest_is_deployed():
    """The same table read as a bias: of the two within the limits b is lower."""
    best, second, wins, *_ = sentences(TABLE, ACCURACY, {P95: 6.0}, "toy multi bias", higher_is_better=False)
    assert best.startswith("Deploy small with monolingual batches, inference variant SQ8: toy multi bias 0.550")
    assert second.startswith("Runner-up: small with hybrid batches, +0.050")
    assert share(wins) == pytest.approx(WINS, abs=0.03)
    (_, further, _) = sentences(TABLE, ACCURACY, {P95: 4.0}, "x", higher_is_better=False)
    assert further == "No other system is within the limits."  # the others are beyond the limit and more biased
    costs = TABLE.assign(**{"profile.serving_mib": [700.0, 280.0, 300.0]})
    text = sentences(costs.drop(index="b"), ACCURACY, {MEMORY: 400.0}, "x", higher_is_better=False)
    assert text[0].startswith("Deploy big with hybrid batches")
    assert "With 700 MiB: small with hybrid batches, -0.200 [-0.200, -0.200]." in text


def test_a_looser_limit_and_what_it_brings():
    text = sentences(TABLE, ACCURACY, {P95: 6.0}, "toy multi map")
    assert "With 9 ms per query (p95): big with hybrid batches, +0.200 [+0.200, +0.200]." in text


def test_costs_are_drawn_with_the_accuracies():
    """At a limit just above its latency, a system is beyond it in many draws, and then another is the best."""
    known = {P95.error: [0.05, 0.05, 0.0], "profile.rounds": 5, "profile.encoder_key": ["x", "y", "z"]}
    text = sentences(TABLE.assign(**known), ACCURACY, {P95: 5.1}, "x")
    beyond = stats.t.sf(np.log(5.1 / 5) / 0.05, 4)
    (warning,) = [sentence for sentence in text if sentence.startswith("Its cost is above a limit in ")]
    assert share(warning) == pytest.approx(beyond, abs=0.04)
    (wins,) = [sentence for sentence in text if sentence.startswith("It is the best of the systems")]
    assert share(wins) == pytest.approx(WINS * (1 - beyond), abs=0.05)
    assert not any("taken as exact" in sentence for sentence in text)
    wide = sentences(TABLE.assign(**known), ACCURACY, {P95: 8.0}, "x")
    assert not any("above a limit" in sentence for sentence in wide)


def test_an_unprofiled_system_says_so():
    table = TABLE.assign(**{"profile.quality": ["passed", "passed", "not measured"]})
    assert "Its costs were not measured: there is no profile." in sentences(table, ACCURACY, {}, "x")


def test_failed_quality_checks_are_mentioned():
    text = sentences(TABLE, ACCURACY, {}, "toy multi map")
    assert text[0].startswith("Deploy big with hybrid batches")
    assert any("failed its quality checks" in sentence for sentence in text)


def test_if_nothing_is_within_the_limits_the_binding_one_is_named():
    (text,) = sentences(TABLE, ACCURACY, {P95: 3.0, MEMORY: 400.0}, "x")
    assert text == (
        "No system is within the limits. p95_ms binds: the lowest is 4 ms per query (p95), "
        "of small with monolingual batches, inference variant SQ8."
    )
    (text,) = sentences(TABLE, ACCURACY, {P95: 3.0, MEMORY: 1.0}, "x")
    assert text.startswith("No system is within the limits, whichever limit is dropped")


def test_on_a_sweep(tmp_path):
    store = ResultStore(tmp_path)
    add_sweep(store)
    within = ask(store, "accuracy=cross.map", "p95_ms=9")
    text = within.sentences
    assert text[0].startswith("Deploy e5-small-l6 with hybrid batches: facts cross map 0.")  # 12 layers take 14.9 ms
    assert any(sentence.startswith("With 14.9 ms per query (p95): e5-small-l12") for sentence in text)
    assert within.run == "e5-small-l6-hybrid-toy-s0-abcd"
    cheap = ask(store, "usd_per_million=1000", "prices=gpu_example")
    assert cheap.sentences[0].startswith("Deploy e5-small-l12")
    assert ask(store, "p95_ms=1").run is None
    with pytest.raises(
        UserError, match=r"accuracy=multi\.mpa: did you mean facts\.multi\.map\? There are: facts\.mono\.map"
    ):
        ask(store, "accuracy=multi.mpa")


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["toy", "p95_ms=9"], 0, "Export it: python -m pipeline.export e5-small-l6-hybrid-toy-s0-abcd to=my-", ""),
        (["toy", "p95_ms=1"], 1, "No system is within the limits. p95_ms binds", ""),
        (["tyo"], 2, "", "error: no sweep tyo in results: did you mean toy? There are: toy."),
        (["toy", "p59_ms=9"], 2, "", "error: unknown key p59_ms: did you mean p99_ms? There are: sweep, "),
        (["toy", "p95_ms=fast"], 2, "", "error: Error merging override p95_ms=fast"),
        (["toy", "--help"], 0, "python -m pipeline.recommend articles p95_ms=20 memory_mib=1200", ""),
    ],
)
def test_the_command_line(tmp_path, words, code, out, err):
    store = ResultStore(tmp_path / "results")
    for layers in (3, 6):
        add_run(store, "toy", layers, "hybrid")
    in_a_process = code == 1  # once is enough
    ended, printed, refused = (run if in_a_process else inside)(*words, cwd=tmp_path, module="pipeline.recommend")
    assert ended == code
    assert out in printed
    assert refused.startswith(err)


def test_every_limit_is_a_key_of_the_conf():
    keys = OmegaConf.load(CONF / "recommend.yaml").keys() - {"defaults", "accuracy", "qps", "p99_ms", "hydra"}
    assert keys == LIMITS.keys()


def test_best_never_means_most_biased(tmp_path):
    """Rank distance is 300 - 10 x layers: 12 layers are least biased, and 6 are within 9 ms."""
    store = ResultStore(tmp_path)
    add_sweep(store, seeds=1)
    text = ask(store, "accuracy=multi.rank_distance").sentences
    assert text[0].startswith(("Deploy e5-small-l12", "Deploy untrained e5-small-l12"))
    assert "facts multi rank_distance 180.000 [180.000, 180.000]" in text[0]
    text = ask(store, "accuracy=multi.rank_distance", "p95_ms=9").sentences
    assert "e5-small-l6" in text[0]
    assert any(sentence.startswith("With 14.9 ms per query (p95): ") and "l12" in sentence for sentence in text)


def test_a_metric_that_cannot_order_runs_is_refused(tmp_path):
    store = ResultStore(tmp_path)
    record = add_run(store, "toy", 3, "hybrid")
    store.save(replace(record, metrics=dict(record.metrics) | {"facts.multi.own_share_10": 1.2}))
    with pytest.raises(UserError, match="metric own_share_10 cannot order runs"):
        ask(store, "accuracy=multi.own_share_10")


def test_without_profiles_there_is_no_cost(tmp_path):
    store = ResultStore(tmp_path)
    add_run(store, "toy", 3, "hybrid", profiled=False)
    with pytest.raises(UserError, match="p95_ms: no run of sweep toy has that figure"):
        ask(store, "p95_ms=9")
    best, *_ = ask(store).sentences
    assert best.endswith("at a cost that was not measured.")
