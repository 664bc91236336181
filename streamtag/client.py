"""Subscriber: the messages of a feed, in any program.

import streamtag

for message in streamtag.Subscriber("tcp://127.0.0.1:5757"):
    print(message)
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from streamtag.errors import FeedError
from streamtag.messages import Message, parse

DEFAULT_ADDRESS = "tcp://127.0.0.1:5757"


@dataclass(frozen=True, slots=True)
class Missed:
    """Messages that never arrived here: this program was too slow, or the connection broke."""

    topic: str
    """Where the hole is, such as `event/radio1/`."""
    count: int
    """Messages missing from the topic, as far as is known."""
    restarted: bool = False
    """The daemon began anew: how many were lost before that is not known, and no tag that was on
    before is on now."""

    def __str__(self) -> str:
        cause = " (the daemon was started anew)" if self.restarted else ""
        return f"missed {self.count} messages on {self.topic}{cause}"


class Subscriber:
    """A connection to a feed; iterate over it.

    It connects in the background and again after a break, so it may be started before the daemon.

    Args:
        address: where the daemon publishes.
        streams: names of the streams wanted; None for all.
        scores: also what each single window got.
        stats: also the daemon's counters.
        mood: also where each stream stands on the mood plane, once a second.
        timeout: seconds of silence after which iteration raises; None waits for ever.
        high_water: messages kept for a slow reader before newer ones are dropped (and reported as
            Missed).

    Raises:
        FeedError: the address is none.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        streams: Iterable[str] | None = None,
        scores: bool = False,
        stats: bool = False,
        mood: bool = False,
        timeout: float | None = None,
        high_water: int = 100_000,
    ) -> None:
        self.address, self.timeout = address, timeout
        self._epoch = ""
        self._last: dict[str, int] = {}  # topic -> number of its newest message
        # Number expected first on a topic: unknown (0) for whoever came late to this epoch.
        self._unseen = 0
        self._ready: deque[Message | Missed] = deque()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.rcvhwm = high_water
        self._socket.heartbeat_ivl, self._socket.heartbeat_timeout = 5_000, 20_000
        for topic in _topics(None if streams is None else list(streams), scores, stats, mood):
            self._socket.subscribe(topic)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise FeedError(
                f"feed {address!r}: expected an address such as {DEFAULT_ADDRESS}, got {error}"
            ) from None

    def receive(self, timeout: float | None = None) -> Message | Missed | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        Raises:
            FeedError: what came is no message of this version.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            left = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1e3))
            if not self._socket.poll(left):
                return None
            self._ready += self._accept(self._socket.recv_multipart())
        return self._ready.popleft()

    def __iter__(self) -> Iterator[Message | Missed]:
        while True:
            message = self.receive(self.timeout)
            if message is None:
                raise FeedError(
                    f"feed {self.address}: expected a message within {self.timeout} s, got none; "
                    "is the daemon running, and does it publish there?"
                )
            yield message

    def close(self) -> None:
        """Ends the connection."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self, parts: list[bytes]) -> list[Message | Missed]:
        """What to hand out for one multipart message: a Missed, if there is a hole, then it."""
        if len(parts) != 2:
            raise FeedError(
                f"feed {self.address}: expected messages of 2 parts, got {len(parts)}; "
                "is this a streamtag feed?"
            )
        message, topic = parse(parts[1]), parts[0].decode(errors="replace")
        restarted = bool(self._epoch) and message.epoch != self._epoch
        if restarted:
            self._last.clear()
            self._unseen = 1
        self._epoch = message.epoch
        expected = self._last.get(topic, (self._unseen or message.seq) - 1) + 1
        self._last[topic] = message.seq
        if message.seq != expected or restarted:
            return [Missed(topic, max(0, message.seq - expected), restarted), message]
        return [message]


def _topics(streams: list[str] | None, scores: bool, stats: bool, mood: bool) -> list[str]:
    kinds = ["event", *["scores"] * scores, *["mood"] * mood]
    names = [""] if streams is None else [f"{name}/" for name in streams]
    return [f"{kind}/{name}" for kind in kinds for name in names] + ["stats/"] * stats
