"""Dynamic batching: texts that arrive at different times go through the engine together.

A Batcher knows nothing of the web. Callers in any thread submit token ids and get a future; one worker thread runs the
engine. `app` serves requests with it; a load generator can drive it in its own process.

Axes: N texts of a submission, T tokens, D embedding width.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

Row = list[int]  # the token ids of a text


class Full(Exception):
    """The queue has no room for the texts: submit them again later."""


class Stopped(Exception):
    """The batcher takes no more texts, or stopped before it came to these."""


@dataclass(frozen=True)
class Limits:
    """When a batch closes, and how many texts may wait.

    Attributes:
        max_batch: texts per batch.
        token_budget: tokens per batch, padding included; a single longer text is its own batch.
        max_wait_s: how long the oldest text waits for others while the engine is idle.
        queue: texts that may wait; an empty queue takes any submission, however large.
    """

    max_batch: int
    token_budget: int
    max_wait_s: float
    queue: int


@dataclass(eq=False)
class Submission:
    """Texts that were submitted together, and their vectors as far as they are there."""

    rows: Sequence[Row]
    arrived: float
    missing: int
    emb_ND: np.ndarray | None = None
    future: "Future[np.ndarray]" = field(default_factory=Future)


class Text(NamedTuple):
    """One text of a submission."""

    submission: Submission
    position: int

    @property
    def row(self) -> Row:
        """Its token ids."""
        return self.submission.rows[self.position]


@dataclass(frozen=True)
class Batch:
    """What `on_batch` is told of a batch that the engine has finished.

    Attributes:
        tokens: padding not included.
    """

    texts: int
    tokens: int
    seconds: float


class Batcher:
    """Batch the texts of many callers for one engine.

    Texts keep the order in which their submissions arrive; within a submission the longest come first, so that its
    batches have little padding. An error of the engine fails the submissions that have a text in its batch, and no
    others.

    Args:
        embed: the engine: returns `emb_ND` of a batch of rows. It is called by the worker thread alone.
        on_batch: called by the worker thread after each batch that succeeded.
    """

    def __init__(
        self,
        embed: Callable[[list[Row]], np.ndarray],
        limits: Limits,
        on_batch: Callable[[Batch], None] = lambda batch: None,
    ):
        self.embed, self.limits, self.on_batch = embed, limits, on_batch
        self._waiting: deque[Text] = deque()
        self._stopping = False
        self._changed = threading.Condition()  # reentrant: a future's callback may submit
        self._worker = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def waiting(self) -> int:
        """Number of texts in the queue, without those that the engine is at work on."""
        return len(self._waiting)

    def submit(self, rows: Sequence[Row]) -> "Future[np.ndarray]":
        """Queue texts; the future's result is `emb_ND`, in the order of `rows`. It cannot be cancelled.

        Raises:
            Full: the queue has no room for all of them; none was taken.
            Stopped: `stop` was called.
            ValueError: there are no texts.
        """
        if not rows:
            raise ValueError("a submission needs a text")
        submission = Submission(rows, time.monotonic(), len(rows))
        submission.future.set_running_or_notify_cancel()
        order = sorted(range(len(rows)), key=lambda position: len(rows[position]), reverse=True)
        with self._changed:
            if self._stopping:
                raise Stopped
            if self._waiting and len(self._waiting) + len(rows) > self.limits.queue:
                raise Full
            self._waiting.extend(Text(submission, position) for position in order)
            self._changed.notify_all()
        return submission.future

    def stop(self, timeout_s: float | None = None) -> bool:
        """Take no more texts, finish those that wait, and end the worker.

        Args:
            timeout_s: after that time the texts that still wait fail with Stopped; None: there is no limit. A batch
                that the engine is at work on is not interrupted.

        Returns:
            Whether all texts were finished in time.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._worker.join(timeout_s)
        with self._changed:
            abandoned = {text.submission for text in self._waiting}
            self._fail(abandoned, Stopped())
        return not abandoned and not self._worker.is_alive()

    def _work(self) -> None:
        while batch := self._next():
            self._run(batch)

    def _next(self) -> list[Text]:
        """Wait for a batch and take it from the queue; it is empty once all is finished after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if self._waiting:
                # While the engine was busy this time may have passed: then no text waits for others that may come.
                deadline = self._waiting[0].submission.arrived + self.limits.max_wait_s
                self._changed.wait_for(lambda: self._stopping or self._closed(), max(deadline - time.monotonic(), 0))
            return [self._waiting.popleft() for _ in range(self._fitting())]

    def _fitting(self) -> int:
        """Return how many texts at the front of the queue fit into a batch."""
        longest = 0
        for count, text in enumerate(self._waiting):
            longest = max(longest, len(text.row))
            over = (count + 1) * longest > self.limits.token_budget
            if count == self.limits.max_batch or (count and over):
                return count
        return len(self._waiting)

    def _closed(self) -> bool:
        """Return whether a text that arrives now could not join the next batch."""
        count = self._fitting()
        return count < len(self._waiting) or count == self.limits.max_batch

    def _run(self, batch: list[Text]) -> None:
        """Run the engine on a batch and answer the submissions that it completes."""
        started = time.monotonic()
        rows = [text.row for text in batch]
        try:
            emb_ND = self.embed(rows)
            if len(emb_ND) != len(rows):
                raise ValueError(f"the engine returned {len(emb_ND)} vectors for {len(rows)} texts")
        except Exception as error:
            with self._changed:
                self._fail({text.submission for text in batch}, error)
            return
        self.on_batch(Batch(len(rows), sum(map(len, rows)), time.monotonic() - started))
        with self._changed:
            for (submission, position), emb_D in zip(batch, emb_ND, strict=True):
                if submission.emb_ND is None:
                    submission.emb_ND = np.empty((len(submission.rows), len(emb_D)), np.float32)
                submission.emb_ND[position] = emb_D
                submission.missing -= 1
                if not submission.missing and not submission.future.done():
                    submission.future.set_result(submission.emb_ND)

    def _fail(self, submissions: set[Submission], error: Exception) -> None:
        """Answer submissions with an error, and drop their other texts from the queue."""
        self._waiting = deque(text for text in self._waiting if text.submission not in submissions)
        for submission in submissions:
            if not submission.future.done():
                submission.future.set_exception(error)
