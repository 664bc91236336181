"""Messages on a ZeroMQ XPUB socket, from a thread of its own: first into the journal, then out.

Whoever publishes never waits: a queue with a bound lies between, scores are given up before
events, and ZeroMQ drops for each subscriber alone what that one does not fetch. Every message
has its number before it can be lost, so a reader sees the hole and asks for what is missing.
"""

import logging
import threading
import time
from collections import Counter
from typing import Any

import zmq

from streamtag.engine.counters import Histogram
from streamtag.errors import FeedError
from streamtag.feed.authentication import Authenticator, Curve
from streamtag.feed.codec import Encoding, encode
from streamtag.feed.current_state import CurrentState, JournalRow
from streamtag.feed.journal.journal import Journal
from streamtag.feed.json_writer import Spelt
from streamtag.feed.messages import (
    VERSION,
    Beat,
    Goodbye,
    JournalStatus,
    Message,
    dump,
    parse,
)
from streamtag.feed.newest_scores import Newest
from streamtag.feed.protocol import FeedState
from streamtag.feed.publish_queue import Backlog
from streamtag.feed.publisher_socket import FeedSocket
from streamtag.feed.replay import ReplayServer
from streamtag.feed.sockets import bind as bind_socket
from streamtag.feed.sockets import next_to, replay_socket
from streamtag.feed.timestamps import rfc3339

log = logging.getLogger(__name__)

READY = "ready, publishing on "
"""What a daemon's log says, followed by the address, when somebody may subscribe."""
POLL_SECONDS = 0.1
"""How long an idle publisher takes at most to notice a new subscriber."""
BATCH = 1000
"""Messages in one transaction of the journal."""
PRUNE_SECONDS, PRUNE_SOON = 10.0, 0.1
"""Until old messages are removed again, where there were none and where there may be more."""


class Publisher:
    """An XPUB socket and the thread that feeds it.

    Args:
        bind: where to listen; a port of 0 takes a free one.
        high_water: messages that ZeroMQ keeps for one slow subscriber before it drops.
        capacity: messages that may wait for the thread; beyond it scores are dropped, beyond ten
            times as many everything.
        journal: where messages are kept; it is closed with the publisher. None: nowhere, and
            nothing can be replayed.
        keeps: how the topics begin that the journal keeps.
        replay: where to answer requests; empty for the port after the feed's.
        beat_seconds: between two signs of life; 0 for none.
        run: epoch of what is not kept.
        curve: keys, where only who has one may subscribe.
        encoding: of all messages.

    Raises:
        FeedError: the address or the keys cannot be used.
    """

    def __init__(
        self,
        bind: str,
        *,
        high_water: int = 10_000,
        capacity: int = 10_000,
        journal: Journal | None = None,
        keeps: tuple[str, ...] = ("event/",),
        replay: str = "",
        beat_seconds: float = 1.0,
        run: str = "",
        curve: Curve | None = None,
        encoding: Encoding = "json",
    ) -> None:
        self._context = zmq.Context()
        self._encoding: Encoding = encoding
        self._journal, self._keeps = journal, keeps if journal else ()
        self.journal_path = journal.path if journal else None
        """Where the journal's file is."""
        self._replay: ReplayServer | None = None
        self.guard: Authenticator | None = None
        try:
            self.guard = Authenticator(self._context, curve) if curve else None
            self._socket = FeedSocket(self._context, bind, high_water, self.guard)
            self.address = self._socket.address
            beside = bind if bind.endswith(":0") else next_to(self.address)
            self.replay_address = self._serve_replay(replay or beside) if journal else ""
        except FeedError:
            self._end_sockets(linger=0)
            raise
        self.counters: Counter[str] = Counter(sent=0, dropped_scores=0, dropped_events=0)
        self._state = CurrentState()
        self._newest = Newest()
        self._last: dict[str, tuple[str, int]] = {}  # topic -> epoch, number
        self._recall()
        self._beat_seconds, self._next_beat = beat_seconds, time.monotonic()
        self._next_prune = time.monotonic()
        self._started = time.time_ns()
        self._run_epoch = run or f"{self._started:016x}"
        self._own: Counter[str] = Counter()  # numbers of the publisher's own messages
        self._said: set[str] = set()  # topics that said something since the last beat
        self._unkept = 0
        self.delays = Histogram()
        """Seconds that the oldest message of each batch waited to be sent."""
        self._backlog = Backlog(capacity, self.counters)
        self._subscribed, self._somebody = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def publish(self, *messages: Message | Spelt) -> None:
        """Queues messages, which become one batch if the thread can take them; never waits."""
        self._backlog.put(messages)

    def wait_for_subscriber(self, seconds: float) -> bool:
        """Whether somebody has subscribed, now or within so many seconds."""
        return self._subscribed.wait(seconds)

    def close(self, linger: float = 2.0) -> None:
        """Sends what is queued, gives subscribers `linger` seconds to fetch it, and ends."""
        self._backlog.close()
        self._thread.join()
        if self._replay:
            self._replay.close()
        if self._journal:
            self._journal.close()
            self._journal = None
        self._end_sockets(round(linger * 1000))

    def reload_keys(self) -> dict[str, list[str]]:
        """Reads the folder of authorised keys anew, from any thread; what came and went.

        Raises:
            FeedError: it cannot be read; then nothing changes.
        """
        return self.guard.reload() if self.guard else {}

    def _end_sockets(self, linger: int) -> None:
        """Ends all of them; `linger` in milliseconds."""
        if self.guard:
            self.guard.close()
        self._context.destroy(linger)

    def _serve_replay(self, replay: str) -> str:
        assert self._journal is not None
        socket = replay_socket(self._context, self.guard)
        address = bind_socket(socket, replay, self.guard)
        self._replay = ReplayServer(socket, self._journal, self.guard)
        return address

    def _recall(self) -> None:
        """What the journal says is in force, and how far its numbers have come."""
        if self._journal is None:
            return
        for body in self._journal.current_state():
            self._state.recall(parse(body), body)
        epochs = self._journal.epochs()
        for topic, seq in self._journal.last().items():
            if topic.startswith(self._keeps):
                self._last[topic] = (epochs[topic], seq)

    def _run(self) -> None:
        while True:
            waiting, oldest, closing = self._backlog.take(BATCH, POLL_SECONDS)
            self._take_subscriptions()
            self._send(waiting)
            if waiting:
                self.delays.add(time.monotonic() - oldest)
            self._keep_house()
            if closing and not waiting:
                self._out(b"goodbye/", dump(Goodbye(**self._head("goodbye/")), self._encoding))
                return

    def _send(self, waiting: list[Message | Spelt]) -> None:
        """One batch: into the journal, then out."""
        rows, newest = [], {}
        for message in waiting:
            if isinstance(message, Spelt):
                row = self._state.take_tag(message)
            else:
                row = self._learn(message)
            rows.append(row)
            newest[row.topic] = (message.epoch, row.seq)
        self._last.update(newest)
        self._said.update(newest)
        self._keep([row for row in rows if row.topic.startswith(self._keeps)])
        lost = self._socket.send_each([(row.topic.encode(), row.body) for row in rows])
        self.counters["sent"] += len(rows) - lost
        self.counters["dropped_events"] += lost

    def _learn(self, message: Message) -> JournalRow:
        """A message as it goes out; what those who come late must know of it is noted."""
        body = dump(message, self._encoding)
        self._newest.take(message, body)
        if message.topic.startswith("event/"):
            return self._state.take(message, body)
        return JournalRow(message.topic, message.seq, body)

    def _out(self, topic: bytes, *bodies: bytes) -> bool:
        sent = self._socket.send(topic, bodies)
        if not sent:
            self.counters["dropped_events"] += 1
        return sent

    def _keep(self, rows: list[JournalRow]) -> None:
        if self._journal is None or not rows:
            return
        worked = self._journal.working
        fault = self._journal.try_append(rows, self._state, self._kept_numbers)
        if fault:
            self._unkept += len(rows)
            self.counters["unkept"] += len(rows)
        if worked != self._journal.working:
            log.error("journal %s: %s", self._journal.path, fault or "can be written again")
            said = JournalStatus(
                **self._head("journal/"), working=not fault, detail=fault, unkept=self._unkept
            )
            self._out(b"journal/", dump(said, self._encoding))

    def _kept_numbers(self) -> dict[str, int]:
        """The newest number of every topic that is kept."""
        return {t: seq for t, (_, seq) in self._last.items() if t.startswith(self._keeps)}

    def _take_subscriptions(self) -> None:
        if self._somebody:  # without hello, as plain sockets do
            self._subscribed.set()
        topics = self._socket.subscriptions()
        self._somebody |= bool(topics)
        if hellos := [topic for topic in topics if topic.startswith(b"hello/")]:
            state = self._present_state()
            for topic in hellos:
                self._out(topic, *state)
            self._subscribed.set()

    def _present_state(self) -> list[bytes]:
        """For who subscribed to a topic of its own; all that it hears afterwards is newer."""
        head: FeedState = {
            "v": VERSION,
            "type": "state",
            "epoch": self._run_epoch,
            "replay": self.replay_address,
            "last": self._last | {"beat/": (self._run_epoch, self._own["beat/"])},
        }
        standing = (row.body for row in self._state)
        return [encode(head, self._encoding), *standing, *self._newest]

    def _keep_house(self) -> None:
        now = time.monotonic()
        if self.guard:
            self.counters["refused"] = self.guard.refused
        if self._beat_seconds and now >= self._next_beat:
            self._next_beat = now + self._beat_seconds
            last: dict[str, float] = {topic: self._last[topic][1] for topic in sorted(self._said)}
            self._said.clear()
            self._out(b"beat/", dump(Beat(**self._head("beat/"), last=last), self._encoding))
        if self._journal and self._journal.working and now >= self._next_prune:
            removed = self._journal.try_prune(time.time_ns())
            self._next_prune = now + (PRUNE_SOON if removed else PRUNE_SECONDS)

    def _head(self, topic: str) -> dict[str, Any]:
        self._own[topic] += 1
        now = time.time_ns()
        return {
            "epoch": self._run_epoch,
            "seq": self._own[topic],
            "stream": "",
            "t": (now - self._started) / 1e9,
            "utc": rfc3339(now),
        }
