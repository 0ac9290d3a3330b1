"""Batch strategies by their definitions: hand-made corpora, with and without gaps."""

from collections import Counter

import numpy as np
import pytest

from pipeline.sampling.crosslingual import Crosslingual
from pipeline.sampling.english import English
from pipeline.sampling.hybrid import Hybrid
from pipeline.sampling.mixed import Mixed
from pipeline.sampling.monolingual import Monolingual
from pipeline.sampling.strategy import Corpus, batches, weights
from pipeline.values import UserError

LANGUAGES = ("ar", "de", "en")
FULL = Corpus(LANGUAGES, np.ones((40, 3), dtype=bool))
EVERY = [Monolingual(), Crosslingual(), Crosslingual("batch"), Mixed(), English(), Hybrid()]


def gaps() -> Corpus:
    """Rows 0-19 exist in all three languages, 20-29 in ar and en, 30-39 in en alone."""
    available_NL = np.ones((40, 3), dtype=bool)
    available_NL[20:, 1] = False
    available_NL[30:, 0] = False
    return Corpus(LANGUAGES, available_NL)


def draw(strategy, corpus, size=16, steps=60, seed=0, start=0):
    return list(batches(strategy, corpus, size, steps=steps, seed=seed, start=start))


@pytest.mark.parametrize("strategy", EVERY, ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize("corpus", [FULL, gaps()], ids=["full", "gaps"])
def test_a_batch_is_full_has_no_row_twice_and_uses_what_exists(strategy, corpus):
    for batch in draw(strategy, corpus):
        assert len(batch) == 16
        assert len({pair.row for pair in batch}) == 16
        for row, query, passage in batch:
            assert corpus.available_NL[row, [LANGUAGES.index(query), LANGUAGES.index(passage)]].all()


@pytest.mark.parametrize("strategy", EVERY, ids=lambda strategy: type(strategy).__name__)
def test_batches_are_a_function_of_seed_epoch_and_index(strategy):
    whole = draw(strategy, FULL, steps=12)
    assert draw(strategy, FULL, steps=12) == whole
    assert draw(strategy, FULL, steps=12, start=7) == whole[7:]
    assert draw(strategy, FULL, steps=12, seed=1) != whole
    assert whole[0] != whole[1]
    assert whole[0] != whole[2]  # an epoch is 40 // 16 = 2 batches: the next one differs


def test_monolingual_batches_hold_one_language_drawn_uniformly():
    counts = Counter()
    for batch in draw(Monolingual(), FULL, steps=3000):
        (pair,) = {(query, passage) for _, query, passage in batch}
        assert pair[0] == pair[1]
        counts[pair[0]] += 1
    assert all(abs(counts[language] / 3000 - 1 / 3) < 0.04 for language in LANGUAGES)  # over 4 standard errors


def test_monolingual_by_size():
    counts = Counter(batch[0].query_language for batch in draw(Monolingual(size_exponent=1), gaps(), steps=3000))
    for language, share in (("ar", 30 / 90), ("de", 20 / 90), ("en", 40 / 90)):
        assert abs(counts[language] / 3000 - share) < 0.04


def test_weights_are_hand_worked():
    np.testing.assert_allclose(weights(np.array([1, 4, 0]), 0.5), [1 / 3, 2 / 3, 0])
    np.testing.assert_allclose(weights(np.array([1, 4, 0]), 0.0), [0.5, 0.5, 0])


def test_crosslingual_pairs_differ_and_cover_all_ordered_pairs():
    counts = Counter((query, passage) for batch in draw(Crosslingual(), FULL, 32, 300) for _, query, passage in batch)
    assert len(counts) == 6
    assert all(abs(count / (32 * 300) - 1 / 6) < 0.02 for count in counts.values())


def test_crosslingual_by_batch_draws_one_pair_and_only_pairs_with_enough_rows():
    pairs = {
        frozenset((query, passage) for _, query, passage in batch) for batch in draw(Crosslingual("batch"), gaps(), 25)
    }
    assert pairs == {frozenset([("ar", "en")]), frozenset([("en", "ar")])}


def test_mixed_pairs_share_a_language_and_batches_do_not():
    for batch in draw(Mixed(), FULL):
        assert all(query == passage for _, query, passage in batch)
        assert len({query for _, query, _ in batch}) > 1


def test_english_is_english():
    assert {(query, passage) for batch in draw(English(), gaps(), 40) for _, query, passage in batch} == {("en", "en")}


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_hybrid_mixes_batches_not_pairs(alpha):
    kinds = []
    for batch in draw(Hybrid(alpha), FULL, steps=2000):
        (same,) = {query == passage for _, query, passage in batch}
        kinds.append(same)
    assert abs(np.mean(kinds) - alpha) < 0.045


def test_hybrid_schedules_are_hand_worked():
    linear, cosine = Hybrid(1.0, 0.0, "linear"), Hybrid(1.0, 0.0, "cosine")
    assert [linear.alpha(x) for x in (0, 0.25, 1)] == [1, 0.75, 0]
    np.testing.assert_allclose([cosine.alpha(x) for x in (0, 0.25, 0.5, 1)], [1, 0.853553, 0.5, 0], atol=1e-6)
    kinds = [batch[0].query_language == batch[0].passage_language for batch in draw(linear, FULL, steps=2000)]
    assert np.mean(kinds[:500]) > 0.8 > 0.2 > np.mean(kinds[-500:])


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_alpha_outside_its_interval_is_refused(value):
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
        Hybrid(alpha=value)
    with pytest.raises(ValueError, match=r"alpha_end must lie in \[0, 1\]"):
        Hybrid(alpha_end=value)


@pytest.mark.parametrize(
    ("strategy", "corpus", "most"),
    [
        (Monolingual(), gaps(), 20),
        (Mixed(), gaps(), 40),
        (Crosslingual(), gaps(), 30),
        (Crosslingual("batch"), gaps(), 30),
        (English(), gaps(), 40),
        (Hybrid(), gaps(), 20),
    ],
)
def test_the_largest_batch_is_filled_and_one_more_is_refused(strategy, corpus, most):
    assert len(draw(strategy, corpus, size=most, steps=20)) == 20
    with pytest.raises(UserError, match=rf"trainer.batch_size={most + 1} is larger than the {most} rows"):
        draw(strategy, corpus, size=most + 1, steps=1)


def test_languages_that_are_not_there():
    with pytest.raises(UserError, match="needs en, which the data lacks"):
        draw(English(), Corpus(("de", "fi"), np.ones((9, 2), dtype=bool)), 4)
    with pytest.raises(UserError, match="need two languages"):
        draw(Hybrid(), Corpus(("de",), np.ones((9, 1), dtype=bool)), 4)


def test_a_corpus_of_forty_million_rows_costs_no_memory():
    rows = np.broadcast_to(np.ones((1, 3), dtype=bool), (40_000_000, 3))
    assert len(draw(Hybrid(), Corpus(LANGUAGES, rows), 100, 5)) == 5
