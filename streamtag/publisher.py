"""Messages on a ZeroMQ XPUB socket, from a thread of its own.

Whoever publishes never waits: a queue with a bound lies between, scores are given up before
events, and ZeroMQ drops for each subscriber alone what that one does not fetch. Every message
has its number before it can be lost, so a reader sees the hole.
"""

import logging
import threading
import time
from collections import Counter, deque

import zmq

from streamtag.errors import FeedError
from streamtag.messages import Message, Scores, dump
from streamtag.stats import Histogram

log = logging.getLogger(__name__)

READY = "ready, publishing on "
"""What a daemon's log says, followed by the address, when somebody may subscribe."""
POLL_SECONDS = 0.1
"""How long an idle publisher takes at most to notice a new subscriber."""


class Publisher:
    """An XPUB socket and the thread that feeds it.

    Args:
        bind: where to listen; a port of 0 takes a free one.
        high_water: messages that ZeroMQ keeps for one slow subscriber before it drops.
        capacity: messages that may wait for the thread; beyond it scores are dropped, beyond ten
            times as many everything.

    Raises:
        FeedError: the address cannot be used.
    """

    def __init__(self, bind: str, *, high_water: int = 10_000, capacity: int = 10_000) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.sndhwm = high_water
        # A peer that has gone without a word (power cut) is forgotten, with its queue.
        self._socket.heartbeat_ivl, self._socket.heartbeat_timeout = 5_000, 20_000
        try:
            self._socket.bind(_any_port(bind))
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise FeedError(
                f"feed {bind}: expected an address to listen on, such as tcp://127.0.0.1:5757; "
                f"got {error}; is another daemon running there?"
            ) from None
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self.counters: Counter[str] = Counter(sent=0, dropped_scores=0, dropped_events=0)
        self.delays = Histogram()
        """Seconds that the oldest message of each batch waited to be sent."""
        self._oldest = 0.0  # when the oldest message that waits was queued
        self._capacity = capacity
        self._queue: deque[Message] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def publish(self, message: Message) -> None:
        """Queues a message; never waits."""
        with self._wake:
            scores = isinstance(message, Scores)
            if len(self._queue) >= self._capacity * (1 if scores else 10):
                self.counters["dropped_scores" if scores else "dropped_events"] += 1
                return
            if not self._queue:
                self._oldest = time.monotonic()
            self._queue.append(message)
            self._wake.notify()

    def wait_for_subscriber(self, seconds: float) -> bool:
        """Whether somebody has subscribed, now or within so many seconds."""
        return self._subscribed.wait(seconds)

    def close(self, linger: float = 2.0) -> None:
        """Sends what is queued, gives subscribers `linger` seconds to fetch it, and ends."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._context.destroy(linger=round(linger * 1000))

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closing, POLL_SECONDS)
                waiting = list(self._queue)
                self._queue.clear()
                closing, oldest = self._closing, self._oldest
            self._take_subscriptions()
            self._send(waiting)
            if waiting:
                self.delays.add(time.monotonic() - oldest)
            if closing and not waiting:
                return

    def _send(self, waiting: list[Message]) -> None:
        for message in waiting:
            try:
                self._socket.send_multipart([message.topic.encode(), dump(message)], zmq.DONTWAIT)
                self.counters["sent"] += 1
            except zmq.Again:  # XPUB drops by itself; only a closing context says this
                self.counters["dropped_events"] += 1

    def _take_subscriptions(self) -> None:
        while self._socket.poll(0):
            request = self._socket.recv()
            if request[:1] == b"\x01":
                self._subscribed.set()
            log.debug("feed %s: subscription %r", self.address, request)


def _any_port(bind: str) -> str:
    """ZeroMQ spells "any free port" as `*`."""
    return f"{bind.removesuffix(':0')}:*" if bind.endswith(":0") else bind
