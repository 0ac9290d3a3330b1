"""Hard negatives: the data's own, or mined ones against an exhaustive comparison of all queries and passages."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import corpus, encoder

from pipeline.encoder.encoding import encode
from pipeline.training import negatives
from pipeline.training.losses import NO_GROUP, PADDING
from pipeline.values import Draw

COUNT = 3


@pytest.fixture(scope="module")
def mined():
    """Row 7 does not exist in German; rows 0 to 3, two groups, are held out."""
    data = corpus()
    data.available_NL[7, 0] = False
    train_NL = data.available_NL.copy()
    train_NL[:4] = False
    return data, train_NL, negatives.mine(encoder(), data, train_NL, COUNT)


def test_mined_are_the_best_of_all_passages_of_other_groups(mined):
    data, train_NL, row_NLK = mined
    for number, language in enumerate(data.languages):
        query_ND, passage_ND = (
            encode(encoder(), side[language], name)
            for side, name in [(data.questions, "query"), (data.passages, "passage")]
        )
        score_NN = query_ND @ passage_ND.T
        firsts = [min(np.flatnonzero(train_NL[:, number] & (data.passage_group == group))) for group in range(2, 12)]
        for row in range(len(data)):
            others = [first for first in firsts if data.passage_group[first] != data.passage_group[row]]
            best = sorted(others, key=lambda other: -score_NN[row, other])[:COUNT]
            expected = best if data.available_NL[row, number] else [-1] * COUNT
            assert row_NLK[row, number].tolist() == expected


def test_a_pair_gets_passages_of_its_language_with_their_groups(mined):
    data, _, row_NLK = mined
    passages = negatives.from_rows(data, row_NLK, Draw(10, "de", "en"))
    assert passages == [(data.passages["en"][row], row // 2) for row in row_NLK[10, 1]]
    assert negatives.from_rows(data, row_NLK, Draw(7, "de", "de")) == [("", PADDING)] * COUNT


def test_a_pool_that_is_too_small_is_filled_up():
    data = corpus()
    train_NL = data.available_NL & (np.arange(24) < 4)[:, None]
    row_NLK = negatives.mine(encoder(), data, train_NL, COUNT)
    assert row_NLK[0].tolist() == [[2, -1, -1]] * 2
    assert sorted(row_NLK[9, 0].tolist()) == [-1, 0, 2]


def test_mined_rows_are_stored_and_mined_again_when_damaged(tmp_path, monkeypatch):
    data, calls = corpus(), []

    def mine(*_):
        calls.append(1)
        return np.full((24, 2, 1), 5, dtype=np.int32)

    monkeypatch.setattr(negatives, "mine", mine)

    def times_mined():
        source = negatives.source(encoder(), data, data.available_NL, 1, tmp_path)
        assert source(Draw(0, "en", "de")) == [(data.passages["de"][5], 2)]
        return len(calls)

    assert [times_mined(), times_mined()] == [1, 1]
    (tmp_path / "rows.npy").write_bytes(b"damaged")
    assert times_mined() == 2


def test_the_datas_own_negatives_come_first(tmp_path):
    column = {"en": [["one", "two", "three"], ["one"], None], "de": [[], [], []]}
    data = replace(corpus(), negatives=column)
    source = negatives.source(encoder(), data, data.available_NL, 2, tmp_path)
    assert source(Draw(0, "de", "en")) == [("one", NO_GROUP), ("two", NO_GROUP)]
    assert source(Draw(1, "de", "en")) == [("one", NO_GROUP), ("", PADDING)]
    assert source(Draw(2, "de", "en")) == source(Draw(0, "en", "de")) == [("", PADDING)] * 2
    assert not list(tmp_path.iterdir())
