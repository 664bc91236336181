"""Messages on a ZeroMQ XPUB socket, from a thread of its own: first into the journal, then out.

Whoever publishes never waits. A bounded queue lies between, which drops scores before events, and
ZeroMQ drops for each slow subscriber alone. Every message has its sequence number before it can be
lost, so a subscriber sees the hole and asks for what is missing.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import zmq

from streamtag.engine.counters import Histogram
from streamtag.errors import FeedError
from streamtag.feed.codec import Encoding, encode, encode_all
from streamtag.feed.current_state import CurrentState, JournalRow
from streamtag.feed.journal.journal import Journal
from streamtag.feed.messages import (
    Beat,
    FeedState,
    Goodbye,
    JournalStatus,
    Level,
    Message,
    Scores,
    parse,
)
from streamtag.feed.replay import ReplayServer
from streamtag.feed.sockets import PublisherSocket, bind_socket, next_to, replay_socket
from streamtag.feed.timestamps import rfc3339

log = logging.getLogger(__name__)

READY = "ready, publishing on "
"""A daemon logs this, followed by the address, when somebody may subscribe."""
END_SECONDS = 10.0
"""How long libzmq may take to end, besides the time that subscribers are given."""
POLL_SECONDS = 0.1
"""How long an idle publisher takes at most to notice a new subscriber."""
BATCH = 1000
"""The most messages in one transaction of the journal."""
PRUNE_SECONDS, PRUNE_AGAIN_SECONDS = 10.0, 0.1
"""How often old messages are removed from the journal."""


class PublishQueue:
    """A bounded queue between the engine's thread and the publisher's; `put` never waits.

    Args:
        capacity: messages that may wait; beyond it scores are dropped, beyond ten times as many
            everything.
        counters: where `dropped_scores` and `dropped_events` are counted.
    """

    def __init__(self, capacity: int, counters: Counter[str]) -> None:
        self._capacity, self._counters = capacity, counters
        self._messages: deque[Message] = deque()
        self._oldest = 0.0  # when the oldest message was put in
        self._changed = threading.Condition()
        self._closing = False

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, messages: Sequence[Message]) -> None:
        """Queues the messages for which there is room, and counts the others."""
        if not messages:
            return
        with self._changed:
            if not self._messages:  # else the other thread is awake
                self._oldest = time.monotonic()
                self._changed.notify()
            if len(self._messages) + len(messages) <= self._capacity:
                self._messages.extend(messages)
            else:
                self._put_what_fits(messages)

    def _put_what_fits(self, messages: Sequence[Message]) -> None:
        for message in messages:
            scores = isinstance(message, (Scores, Level))
            if len(self._messages) < self._capacity * (1 if scores else 10):
                self._messages.append(message)
            else:
                self._counters["dropped_scores" if scores else "dropped_events"] += 1

    def get(self, most: int, timeout: float) -> tuple[list[Message], float, bool]:
        """The oldest messages, as soon as there are any.

        Args:
            most: how many at most.
            timeout: seconds to wait for the first.

        Returns:
            The messages, when the oldest was queued (`time.monotonic`), and whether the queue is
            being closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._closing, timeout)
            some = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
            return some, self._oldest, self._closing

    def close(self) -> None:
        """Wakes the publisher's thread for the last time."""
        with self._changed:
            self._closing = True
            self._changed.notify()


class Publisher:
    """An XPUB socket and the thread that feeds it.

    Args:
        bind: the address; a port of 0 takes a free one.
        high_water: messages that ZeroMQ keeps for one slow subscriber before it drops.
        capacity: messages that may wait for the thread; beyond it scores are dropped, beyond ten
            times as many everything.
        journal: where messages are kept; it is closed with the publisher. None: nowhere, and
            nothing can be replayed.
        kept: how the topics begin that the journal keeps.
        replay: where to answer requests; empty for the port after the feed's.
        beat_seconds: between two signs of life; 0 for none.
        run_epoch: epoch of the topics that are not kept.
        encoding: of all messages.

    Raises:
        FeedError: the address cannot be used.
    """

    def __init__(
        self,
        bind: str,
        *,
        high_water: int = 10_000,
        capacity: int = 10_000,
        journal: Journal | None = None,
        kept: tuple[str, ...] = ("event/",),
        replay: str = "",
        beat_seconds: float = 1.0,
        run_epoch: str = "",
        encoding: Encoding = "json",
    ) -> None:
        self._context = zmq.Context()
        self._encoding: Encoding = encoding
        self._journal, self._kept = journal, kept if journal else ()
        self.journal_path = journal.path if journal else None
        """Where the journal's file is."""
        self._replay: ReplayServer | None = None
        try:
            self._socket = PublisherSocket(self._context, bind, high_water)
            self.address = self._socket.address
            beside = bind if bind.endswith(":0") else next_to(self.address)
            self.replay_address = self._serve_replay(replay or beside) if journal else ""
        except FeedError:
            self._context.destroy(linger=0)
            raise
        self.counters: Counter[str] = Counter(sent=0, dropped_scores=0, dropped_events=0)
        self._state = CurrentState()
        self._last: dict[str, tuple[str, int]] = {}  # topic -> epoch, sequence number
        self._restore()
        self._beat_seconds = beat_seconds
        self._next_beat = self._next_prune = time.monotonic()
        self._started = time.time_ns()
        self._run_epoch = run_epoch or f"{self._started:016x}"
        self._own: Counter[str] = Counter()  # sequence numbers of the publisher's own messages
        self._since_beat: set[str] = set()  # topics that had messages since the last beat
        self._unkept = 0
        self.delays = Histogram()
        """Seconds that the oldest message of each batch waited to be sent."""
        self._queue = PublishQueue(capacity, self.counters)
        self._subscribed, self._subscriptions = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def publish(self, *messages: Message) -> None:
        """Queues messages, which become one batch if the thread can take them; never waits."""
        self._queue.put(messages)

    @property
    def waiting(self) -> int:
        """Messages that are queued."""
        return len(self._queue)

    def wait_for_subscriber(self, seconds: float) -> bool:
        """Waits at most `seconds` for a subscriber; returns whether there is one."""
        return self._subscribed.wait(seconds)

    def close(self, linger: float = 2.0) -> None:
        """Sends what is queued, gives subscribers `linger` seconds to fetch it, and ends.

        libzmq 4.3.5 was seen not to return from ending its context: that is not waited for.
        """
        self._queue.close()
        self._thread.join()
        if self._replay:
            self._replay.close()
        if self._journal:
            self._journal.close()
            self._journal = None
        ending = threading.Thread(
            target=self._context.destroy, args=(round(linger * 1000),), name="end", daemon=True
        )
        ending.start()
        ending.join(linger + END_SECONDS)
        if ending.is_alive():
            log.warning("feed: its sockets did not close; they end with this process")

    def _serve_replay(self, replay: str) -> str:
        assert self._journal is not None
        socket = replay_socket(self._context, None)
        address = bind_socket(socket, replay)
        self._replay = ReplayServer(socket, self._journal.path)
        return address

    def _restore(self) -> None:
        """Takes over the journal's state and sequence numbers."""
        if self._journal is None:
            return
        for body in self._journal.current_state():
            self._state.restore(parse(body), body)
        epochs = self._journal.epochs()
        for topic, seq in self._journal.last().items():
            if topic.startswith(self._kept):
                self._last[topic] = (epochs[topic], seq)

    def _run(self) -> None:
        while True:
            messages, oldest, closing = self._queue.get(BATCH, POLL_SECONDS)
            self._answer_subscriptions()
            self._publish_batch(messages)
            if messages:
                self.delays.add(time.monotonic() - oldest)
            self._maintain()
            if closing and not messages:
                self._send_own(Goodbye(**self._head("goodbye/")))
                return

    def _publish_batch(self, messages: list[Message]) -> None:
        """One batch: into the journal, then out."""
        bodies = encode_all(messages, self._encoding)
        rows = self._state.update_all(messages, bodies)
        newest = {row.topic: message for row, message in zip(rows, messages, strict=True)}
        self._last.update({topic: (one.epoch, one.seq) for topic, one in newest.items()})
        self._since_beat.update(newest)
        kept = {topic for topic in newest if topic.startswith(self._kept)}
        self._write_journal([row for row in rows if row.topic in kept] if kept else [])
        names = {topic: topic.encode() for topic in newest}
        lost = self._socket.send_each(rows, names)
        self.counters["sent"] += len(rows) - lost
        self.counters["dropped_events"] += lost

    def _send(self, topic: bytes, *bodies: bytes) -> None:
        if not self._socket.send(topic, bodies):
            self.counters["dropped_events"] += 1

    def _send_own(self, message: Message) -> None:
        self._send(message.topic.encode(), encode(message, self._encoding))

    def _write_journal(self, rows: list[JournalRow]) -> None:
        if self._journal is None or not rows:
            return
        worked = self._journal.working
        fault = self._journal.try_append(rows, self._state, self._kept_numbers)
        if fault:
            self._unkept += len(rows)
            self.counters["unkept"] += len(rows)
        if worked != self._journal.working:
            log.error("journal %s: %s", self._journal.path, fault or "can be written again")
            head = self._head("journal/")
            self._send_own(
                JournalStatus(**head, working=not fault, detail=fault, unkept=self._unkept)
            )

    def _kept_numbers(self) -> dict[str, int]:
        """The newest sequence number of every topic that is kept."""
        return {t: seq for t, (_, seq) in self._last.items() if t.startswith(self._kept)}

    def _answer_subscriptions(self) -> None:
        topics = self._socket.subscriptions()
        if self._subscriptions and not topics:  # all have come, none a hello: a plain socket
            self._subscribed.set()
        self._subscriptions |= bool(topics)
        if hellos := [topic for topic in topics if topic.startswith(b"hello/")]:
            state = self._current_state()
            for topic in hellos:
                self._send(topic, *state)
            self._subscribed.set()

    def _current_state(self) -> list[bytes]:
        """The answer to a subscription to `hello/WORD/`; all messages after it are newer."""
        head = FeedState(
            epoch=self._run_epoch,
            replay=self.replay_address,
            last=self._last | {"beat/": (self._run_epoch, self._own["beat/"])},
        )
        in_force = (row.body for row in self._state)
        return [encode(head, self._encoding), *in_force, *self._state.latest()]

    def _maintain(self) -> None:
        """What is due by the clock: a beat, and the removal of old messages."""
        now = time.monotonic()
        if self._beat_seconds and now >= self._next_beat:
            self._next_beat = now + self._beat_seconds
            last = {topic: self._last[topic][1] for topic in sorted(self._since_beat)}
            self._since_beat.clear()
            self._send_own(Beat(**self._head("beat/"), last=last))
        if self._journal and self._journal.working and now >= self._next_prune:
            removed = self._journal.try_prune(time.time_ns())
            self._next_prune = now + (PRUNE_AGAIN_SECONDS if removed else PRUNE_SECONDS)

    def _head(self, topic: str) -> dict[str, Any]:
        """The common fields of the publisher's own next message."""
        self._own[topic] += 1
        now = time.time_ns()
        return {
            "epoch": self._run_epoch,
            "seq": self._own[topic],
            "stream": "",
            "t": round((now - self._started) / 1e9, 6),
            "utc": rfc3339(now),
        }
