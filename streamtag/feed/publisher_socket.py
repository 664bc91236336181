"""The XPUB socket of a feed: who subscribes, who is turned out, what goes through.

ZeroMQ cannot end one connection, only a socket with all of them. So when a key was removed, or
somebody floods with subscriptions (each of which costs memory), the socket is opened anew; those
who behave come back by themselves and ask for what they missed meanwhile.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress

import zmq

from streamtag.errors import FeedError
from streamtag.feed.authentication import Authenticator
from streamtag.feed.sockets import Context, Socket, bind, feed_socket, quick_send

log = logging.getLogger(__name__)

MOST_AT_ONCE = 50_000
"""Subscriptions between two looks, a tenth of a second at most; ZeroMQ has them wait in memory."""
MOST_TOPICS = 250_000
"""Bytes of all topics that are subscribed to; ZeroMQ uses fifty times as much."""
_MORE, _LAST = int(zmq.DONTWAIT | zmq.SNDMORE), int(zmq.DONTWAIT)


class FeedSocket:
    """For one thread, but for its making.

    Args:
        context: of the feed.
        address: where to bind.
        high_water: messages that are kept for one slow subscriber.
        guard: demands keys, where there is one.

    Raises:
        FeedError: the address cannot be used.
    """

    def __init__(
        self, context: Context, address: str, high_water: int, guard: Authenticator | None
    ) -> None:
        self._context, self._high_water, self._guard = context, high_water, guard
        self._socket: Socket = feed_socket(context, high_water, guard)
        self.address = bind(self._socket, address, guard)
        """As it became."""
        self._bound = True
        self._removals = 0
        self._topics: set[bytes] = set()
        self._size, self._flooded = 0, False

    def send(self, topic: bytes, bodies: Sequence[bytes]) -> bool:
        """One message to whom it may concern; False where it was lost for all."""
        try:
            self._socket.send(topic, _MORE)
            for body in bodies[:-1]:
                self._socket.send(body, _MORE)
            self._socket.send(bodies[-1], _LAST)
        except zmq.Again:  # XPUB drops by itself; only a closing context says this
            return False
        return True

    def send_each(self, messages: Iterable[tuple[bytes, bytes]]) -> int:
        """Many messages of one body each; how many were lost for all."""
        lost, send, socket = 0, quick_send, self._socket
        for topic, body in messages:
            try:
                send(socket, topic, _MORE)
                send(socket, body, _LAST)
            except zmq.Again:
                lost += 1
        return lost

    def subscriptions(self) -> list[bytes]:
        """The topics that somebody has subscribed to since the last call."""
        self._renew()
        found: list[bytes] = []
        with suppress(zmq.Again):
            for _ in range(MOST_AT_ONCE):
                request = self._socket.recv(zmq.DONTWAIT)
                self._count(request)
                if request[:1] == b"\x01":
                    found.append(request[1:])
                    log.debug("feed %s: subscription %r", self.address, request[:100])
                if self._size > MOST_TOPICS:
                    break
            self._flooded = True
        return found

    def _count(self, request: bytes) -> None:
        topic = request[1:]
        if request[:1] == b"\x01" and topic not in self._topics:
            self._topics.add(topic)
            self._size += len(topic)
        elif request[:1] == b"\x00" and topic in self._topics:
            self._topics.discard(topic)
            self._size -= len(topic)

    def _renew(self) -> None:
        removals = self._guard.removals if self._guard else 0
        if self._flooded:
            log.warning("feed %s: too many subscriptions; all have to come anew", self.address)
        elif removals == self._removals and self._bound:
            return
        if self._bound:
            self._socket.close(linger=0)
            self._socket = feed_socket(self._context, self._high_water, self._guard)
            self._topics.clear()
            self._removals, self._size = removals, 0
            self._bound = self._flooded = False
        try:
            bind(self._socket, self.address, self._guard)
            self._bound = True
        except FeedError as error:  # the old socket is closed by a thread of ZeroMQ's, soon
            log.debug("feed %s: not open again yet: %s", self.address, error)
