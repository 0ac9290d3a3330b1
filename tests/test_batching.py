"""Which texts share a batch, worked by hand, with an engine that waits until the test lets it go."""

import threading
from concurrent.futures import Future, wait

import numpy as np
import pytest

from pipeline.serving.batching import Batch, Batcher, Full, Limits, Stopped

LONG_S = 60.0  # what no test waits for
SHORT_S = 0.001


class Engine:
    """Embeds a text as its first token id and its length; each batch waits for `go`."""

    def __init__(self):
        self.batches, self.at_work, self.may_go = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, rows):
        self.batches.append([row[0] for row in rows])
        self.at_work.release()
        assert self.may_go.acquire(timeout=LONG_S)
        if any(row[0] < 0 for row in rows):
            raise RuntimeError("the engine cannot take this text")
        return np.array([[row[0], len(row)] for row in rows], np.float32)

    def go(self, batches=1):
        """Let it finish so many batches."""
        for _ in range(batches):
            self.may_go.release()

    def taken(self):
        """Wait until it has taken one more batch."""
        assert self.at_work.acquire(timeout=LONG_S)


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.go(1000)


def limits(**changes):
    return Limits(**{"max_batch": 3, "token_budget": 1000, "max_wait_s": 0.0, "queue": 10} | changes)


def texts(*ids, length=2):
    return [[number, *[0] * (length - 1)] for number in ids]


def result(future: Future):
    return future.result(timeout=LONG_S)


def busy(engine, batcher):
    """Submit a text, 0, and wait until the engine is at work on it: all others queue up."""
    first = batcher.submit(texts(0))
    engine.taken()
    return first


@pytest.mark.parametrize(
    ("changes", "lengths", "batches"),
    [
        ({"max_batch": 3}, [2, 2], [[1, 2]]),
        ({"max_batch": 3}, [2, 2, 2], [[1, 2, 3]]),
        ({"max_batch": 3}, [2, 2, 2, 2], [[1, 2, 3], [4]]),
        ({"max_batch": 1}, [2, 2], [[1], [2]]),
        ({"token_budget": 7}, [2, 2, 2], [[1, 2, 3]]),  # 3 x 2 = 6
        ({"token_budget": 6}, [2, 2, 2], [[1, 2, 3]]),
        ({"token_budget": 5}, [2, 2, 2], [[1, 2], [3]]),
        ({"token_budget": 6}, [2, 3, 1], [[1, 2], [3]]),  # 2 x 3 = 6, and 3 x 3 with padding
        ({"token_budget": 6}, [2, 9, 1, 1], [[1], [2], [3, 4]]),  # a text beyond the budget is its own batch
        ({"token_budget": 1}, [2, 2], [[1], [2]]),
    ],
)
def test_what_waits_is_cut_into_batches(engine, changes, lengths, batches):
    with Batcher(engine, limits(**changes)) as batcher:
        first = busy(engine, batcher)
        futures = [batcher.submit(texts(n + 1, length=length)) for n, length in enumerate(lengths)]
        assert batcher.waiting == len(lengths)
        engine.go(1 + len(batches))
        wait([first, *futures], timeout=LONG_S)
        assert engine.batches == [[0], *batches]
        for n, (future, length) in enumerate(zip(futures, lengths, strict=True)):
            np.testing.assert_array_equal(result(future), [[n + 1, length]])
        assert batcher.waiting == 0


def test_an_idle_engine_waits_for_a_full_batch(engine):
    """The wait is a minute, so only the third text can have closed the batch."""
    with Batcher(engine, limits(max_wait_s=LONG_S)) as batcher:
        futures = [batcher.submit(texts(n)) for n in (1, 2, 3)]
        engine.go()
        wait(futures, timeout=LONG_S / 2)
        assert engine.batches == [[1, 2, 3]]


def test_a_text_that_does_not_fit_closes_the_batch(engine):
    with Batcher(engine, limits(max_wait_s=LONG_S, token_budget=4)) as batcher:
        future = batcher.submit(texts(1))
        batcher.submit(texts(2, length=3))
        engine.go(2)
        np.testing.assert_array_equal(future.result(timeout=LONG_S / 2), [[1, 2]])
        assert engine.batches[0] == [1]


def test_a_text_does_not_wait_longer_than_the_limit(engine):
    with Batcher(engine, limits(max_wait_s=SHORT_S)) as batcher:
        future = batcher.submit(texts(1))
        engine.go()
        assert result(future).shape == (1, 2)


def test_a_submission_of_several_batches_has_its_vectors_in_order(engine):
    """Its longest texts come first; an answer waits for all."""
    with Batcher(engine, limits(max_batch=2)) as batcher:
        first = busy(engine, batcher)
        rows = [[1], [2, 0, 0], [3, 0], [4, 0, 0, 0]]
        future, other = batcher.submit(rows), batcher.submit(texts(5))
        engine.go(2)
        result(first)
        engine.taken()
        engine.taken()
        assert not future.done()
        engine.go(2)
        np.testing.assert_array_equal(result(future), [[1, 1], [2, 3], [3, 2], [4, 4]])
        np.testing.assert_array_equal(result(other), [[5, 2]])
        assert engine.batches == [[0], [4, 2], [3, 1], [5]]


def test_a_full_queue_refuses_all_texts_of_a_submission(engine):
    with Batcher(engine, limits(queue=3)) as batcher:
        first = busy(engine, batcher)
        two = batcher.submit(texts(1, 2))
        with pytest.raises(Full):
            batcher.submit(texts(3, 4))
        assert batcher.waiting == 2
        third = batcher.submit(texts(5))
        with pytest.raises(Full):
            batcher.submit(texts(6))
        engine.go(3)
        wait([first, two, third], timeout=LONG_S)
        assert engine.batches == [[0], [1, 2, 5]]


def test_an_empty_queue_takes_a_submission_that_is_larger_than_it(engine):
    with Batcher(engine, limits(queue=1, max_batch=9)) as batcher:
        first = busy(engine, batcher)
        future = batcher.submit(texts(1, 2, 3))
        engine.go(2)
        assert (len(result(first)), len(result(future))) == (1, 3)


def test_an_error_fails_the_submissions_of_its_batch_alone(engine):
    """-1 fails the batch of 1 and -1; the other texts of that submission are dropped."""
    with Batcher(engine, limits(max_batch=2)) as batcher:
        first = busy(engine, batcher)
        one, bad, three = batcher.submit(texts(1)), batcher.submit(texts(-1, -2, 7)), batcher.submit(texts(3))
        engine.go(3)
        for future in (one, bad):
            with pytest.raises(RuntimeError, match="the engine cannot take this text"):
                result(future)
        np.testing.assert_array_equal(result(three), [[3, 2]])
        assert len(result(first)) == 1
        assert engine.batches == [[0], [1, -1], [3]]


def test_an_engine_that_loses_a_vector_is_an_error():
    with (
        Batcher(lambda rows: np.zeros((len(rows) - 1, 2), np.float32), limits()) as batcher,
        pytest.raises(ValueError, match="the engine returned 0 vectors for 1 texts"),
    ):
        result(batcher.submit(texts(1)))


def test_stop_finishes_what_waits_and_takes_no_more(engine):
    batcher = Batcher(engine, limits(max_wait_s=LONG_S, max_batch=100))
    futures = [batcher.submit(texts(n)) for n in (1, 2)]  # would wait for others
    engine.go()
    assert batcher.stop(LONG_S / 2)
    assert [result(future)[0, 0] for future in futures] == [1, 2]
    assert engine.batches == [[1, 2]]
    with pytest.raises(Stopped):
        batcher.submit(texts(3))
    assert batcher.stop()


def test_stop_in_bounded_time_fails_what_still_waits(engine):
    batcher = Batcher(engine, limits(max_batch=1))
    first, second = busy(engine, batcher), batcher.submit(texts(1, 2))
    assert not batcher.stop(SHORT_S)
    with pytest.raises(Stopped):
        result(second)
    engine.go(10)
    assert len(result(first)) == 1  # the engine was at work on it
    assert batcher.stop()
    assert engine.batches == [[0]]


def test_stop_fails_a_submission_that_the_engine_has_half_done(engine):
    batcher = Batcher(engine, limits(max_batch=1))
    future = batcher.submit(texts(1, 2))
    engine.taken()
    assert not batcher.stop(SHORT_S)
    engine.go(10)
    with pytest.raises(Stopped):
        result(future)
    assert batcher.stop()


def test_a_future_may_submit_and_cannot_be_cancelled(engine):
    """As a load generator that sends the next query when the last is answered."""
    engine.go(100)
    with Batcher(engine, limits()) as batcher:
        last = Future()

        def again(future):
            batcher.submit(texts(2)).add_done_callback(lambda done: last.set_result(done.result()))

        future = batcher.submit(texts(1))
        assert not future.cancel()
        future.add_done_callback(again)
        np.testing.assert_array_equal(result(last), [[2, 2]])


def test_no_texts_are_refused(engine):
    with Batcher(engine, limits()) as batcher, pytest.raises(ValueError, match="a submission needs a text"):
        batcher.submit([])


def test_batches_are_reported(engine):
    engine.go(100)
    seen: list[Batch] = []
    with Batcher(engine, limits(), seen.append) as batcher:
        result(batcher.submit([[1], [2, 0, 0]]))
        with pytest.raises(RuntimeError):
            result(batcher.submit(texts(-1)))
    assert [(batch.texts, batch.tokens) for batch in seen] == [(2, 4)]
    assert seen[0].seconds >= 0


def test_many_threads_get_their_own_vectors():
    """A thousand submissions of 1 to 3 texts from eight threads, whatever the batches."""
    sizes = []

    def embed(rows):
        sizes.append(len(rows))
        return np.array([[row[0], len(row)] for row in rows], np.float32)

    with Batcher(embed, limits(max_batch=16, token_budget=64, queue=10_000)) as batcher:
        wrong = []

        def client(number):
            for turn in range(125):
                rows = [[number * 1000 + turn * 3 + n, *[0] * n] for n in range(turn % 3 + 1)]
                expected = [[row[0], len(row)] for row in rows]
                if not np.array_equal(batcher.submit(rows).result(timeout=LONG_S), expected):
                    wrong.append(rows)

        threads = [threading.Thread(target=client, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG_S)
    assert (wrong, sum(sizes)) == ([], 8 * sum(turn % 3 + 1 for turn in range(125)))
    assert max(sizes) <= 16
