"""Messages between the engine's thread and the publisher's: nobody waits to put them there."""

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from streamtag.feed.json_writer import Spelt
from streamtag.feed.messages import Message, Scores


class Backlog:
    """A queue with a bound; scores are given up before events.

    Args:
        capacity: messages that may wait; beyond it scores are dropped, beyond ten times as many
            everything.
        counters: where `dropped_scores` and `dropped_events` are counted.
    """

    def __init__(self, capacity: int, counters: Counter[str]) -> None:
        self._capacity, self._counters = capacity, counters
        self._queue: deque[Message | Spelt] = deque()
        self._oldest = 0.0  # when the oldest that waits was queued
        self._wake = threading.Condition()
        self._closing = False

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, messages: Sequence[Message | Spelt]) -> None:
        """Queues what there is room for."""
        if not messages:
            return
        with self._wake:
            if not self._queue:  # else the other thread is awake
                self._oldest = time.monotonic()
                self._wake.notify()
            if len(self._queue) + len(messages) <= self._capacity:
                self._queue.extend(messages)
            else:
                self._squeeze(messages)

    def _squeeze(self, messages: Sequence[Message | Spelt]) -> None:
        for message in messages:
            scores = isinstance(message, Scores)
            if len(self._queue) < self._capacity * (1 if scores else 10):
                self._queue.append(message)
            else:
                self._counters["dropped_scores" if scores else "dropped_events"] += 1

    def take(self, most: int, patience: float) -> tuple[list[Message | Spelt], float, bool]:
        """The oldest ones, as soon as there are any.

        Args:
            most: how many at most.
            patience: seconds to wait for the first.

        Returns:
            Them, when the oldest was queued (`time.monotonic`), and whether the end has come.
        """
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closing, patience)
            some = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            return some, self._oldest, self._closing

    def close(self) -> None:
        """Says that nothing comes any more."""
        with self._wake:
            self._closing = True
            self._wake.notify()
