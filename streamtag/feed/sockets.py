"""The feed's ZeroMQ sockets: their options, their addresses, and the publisher's XPUB socket.

No socket of ours has ZeroMQ's own heartbeats: the operating system notices a peer that is gone
without a word (power cut). With heartbeats on, libzmq 4.3.5 ends the whole process (`Assertion
failed: !_io_error` or `_input_stopped`, its issues 3937, 4364 and 4767) when a connection breaks
whose receive queue is full: the next heartbeat is due on a connection that is no more. And without
a bound for the receive queue a flood takes all memory.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

import zmq

from streamtag.errors import FeedError
from streamtag.feed.authentication import DOMAIN, Authenticator
from streamtag.feed.current_state import JournalRow

log = logging.getLogger(__name__)

IDLE_SECONDS = 10
"""How long a peer may be silent before the system probes it."""
PROBE_SECONDS = 5
"""How long the system waits before it probes again."""
GONE_SECONDS = 20
"""How long a peer's system may give no answer before the connection is closed."""
MAX_TOPIC, MAX_REQUEST = 512, 8192
"""More bytes than these in one subscription or request end the peer's connection. CURVE's handshake
takes about 300."""
REQUESTS = 100
"""The most requests of one connection that may wait, and the most answers."""
SUBSCRIPTIONS = 4
"""So few subscriptions of one connection may wait that ZeroMQ returns from a flood of them to us,
who can end it. With 40 it read on for as long as its own thread kept up. 5,000 topics of an honest
subscriber take 41 ms instead of 27."""
MAX_SUBSCRIPTIONS_AT_ONCE = 50_000
"""More subscriptions in one round of a tenth of a second are a flood: they wait in memory."""
MAX_TOPIC_BYTES = 250_000
"""More bytes of all subscribed topics are a flood: ZeroMQ uses fifty times as much memory."""
_MORE, _LAST = int(zmq.DONTWAIT | zmq.SNDMORE), int(zmq.DONTWAIT)

quick_send = zmq.backend.Socket.send
"""`Socket.send` without the Python code around it, for options that nobody uses here."""

quick_receive = zmq.backend.Socket.recv
"""The same of `Socket.recv`."""

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]


def bound_and_probe(socket: Socket, high_water: int) -> None:
    """Bounds the receive queue, and has the system give up a peer that is gone.

    Args:
        socket: not connected or bound yet.
        high_water: messages that may wait to be received.
    """
    socket.rcvhwm = high_water
    socket.tcp_keepalive, socket.tcp_keepalive_idle = 1, IDLE_SECONDS
    socket.tcp_keepalive_intvl = PROBE_SECONDS
    socket.tcp_keepalive_cnt = (GONE_SECONDS - IDLE_SECONDS) // PROBE_SECONDS
    socket.tcp_maxrt = 1000 * GONE_SECONDS


def xpub_socket(
    context: Context, high_water: int, authenticator: Authenticator | None, domain: str = DOMAIN
) -> Socket:
    """An XPUB socket, not bound yet.

    Args:
        context: of the feed.
        high_water: messages that are kept for one slow subscriber.
        authenticator: demands keys, where there is one.
        domain: the authenticator's name for the socket.
    """
    socket = context.socket(zmq.XPUB)
    socket.sndhwm = high_water
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # a subscriber that returns asks for the state again
    socket.maxmsgsize = MAX_TOPIC
    bound_and_probe(socket, SUBSCRIPTIONS)
    if authenticator:
        authenticator.protect(socket, domain)
    return socket


def replay_socket(
    context: Context, authenticator: Authenticator | None, domain: str = DOMAIN
) -> Socket:
    """A ROUTER socket for requests, not bound yet; arguments as above."""
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.sndhwm = REQUESTS
    bound_and_probe(socket, REQUESTS)
    socket.maxmsgsize = MAX_REQUEST
    if authenticator:
        authenticator.protect(socket, domain)
    return socket


def bind_socket(socket: Socket, address: str, authenticator: Authenticator | None = None) -> str:
    """Binds a socket and returns its address. A file (`ipc://`) is this user's alone.

    Raises:
        FeedError: the address cannot be used.
    """
    socket.ipv6 = "[" in address
    any_port = f"{address.removesuffix(':0')}:*" if address.endswith(":0") else address
    try:
        socket.bind(any_port)
    except zmq.ZMQError as error:
        raise FeedError(
            f"feed {address}: expected an address to bind to, such as tcp://127.0.0.1:5757; "
            f"got {error}; is another daemon running there?"
        ) from None
    bound = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
    if bound.startswith("ipc:///"):
        os.chmod(bound.removeprefix("ipc://"), 0o600)
    if authenticator:
        authenticator.watch(socket, bound)
    return bound


def next_to(address: str) -> str:
    """The default address for requests: the next port, or a file beside."""
    head, _, port = address.rpartition(":")
    return f"{head}:{int(port) + 1}" if address.startswith("tcp:") else f"{address}.replay"


class PublisherSocket:
    """An XPUB socket of a feed, for one thread (but for its construction).

    ZeroMQ cannot end one connection, only a socket with all of them. So when a key was removed, or
    somebody floods with subscriptions (each of which costs memory), the socket is closed and bound
    again. Well-behaved subscribers reconnect by themselves and ask for what they missed meanwhile.

    Args:
        context: of the feed.
        address: where to bind.
        high_water: messages that are kept for one slow subscriber.
        authenticator: demands keys, where there is one.
        domain: the authenticator's name for the socket.
        look: is called with each subscription; the frame's properties say whose it is.

    Raises:
        FeedError: the address cannot be used.
    """

    def __init__(
        self,
        context: Context,
        address: str,
        high_water: int,
        authenticator: Authenticator | None = None,
        domain: str = DOMAIN,
        look: Callable[[zmq.Frame], None] | None = None,
    ) -> None:
        self._context, self._high_water = context, high_water
        self._authenticator, self._domain, self._look = authenticator, domain, look
        self._socket = self._open()
        self.address = bind_socket(self._socket, address, authenticator)
        """Where it is bound."""
        self._bound = True
        self._removals = 0
        self._topics: set[bytes] = set()
        self._topic_bytes, self._flooded = 0, False
        self.changes = 0
        """How often `topics` may have changed."""

    @property
    def socket(self) -> Socket:
        """The socket at the moment."""
        return self._socket

    @property
    def topics(self) -> AbstractSet[bytes]:
        """What somebody is subscribed to at the moment."""
        return self._topics

    def _open(self) -> Socket:
        return xpub_socket(self._context, self._high_water, self._authenticator, self._domain)

    def send(self, topic: bytes, bodies: Sequence[bytes]) -> bool:
        """Sends one message; False where it was lost for all subscribers."""
        try:
            self._socket.send(topic, _MORE)
            for body in bodies[:-1]:
                self._socket.send(body, _MORE)
            self._socket.send(bodies[-1], _LAST)
        except zmq.Again:  # XPUB drops by itself; only a context that is closed raises
            return False
        return True

    def send_each(self, rows: Iterable[JournalRow], topics: Mapping[str, bytes]) -> int:
        """Sends messages of one body each; returns how many were lost for all subscribers.

        `topics` are the rows' topics as bytes.
        """
        lost, send, socket = 0, quick_send, self._socket
        for row in rows:
            try:
                send(socket, topics[row.topic], _MORE)
                send(socket, row.body, _LAST)
            except zmq.Again:
                lost += 1
        return lost

    def subscriptions(self) -> list[bytes]:
        """The topics that somebody has subscribed to since the last call."""
        self._renew()
        found: list[bytes] = []
        with suppress(zmq.Again):
            for _ in range(MAX_SUBSCRIPTIONS_AT_ONCE):
                frame = self._socket.recv(zmq.DONTWAIT, copy=False)
                request = frame.bytes
                self._count(request)
                if self._look and request[:1] == b"\x01":
                    self._look(frame)
                if request[:1] == b"\x01":
                    found.append(request[1:])
                    log.debug("feed %s: subscription %r", self.address, request[:100])
                if self._topic_bytes > MAX_TOPIC_BYTES:
                    break
            self._flooded = True
        return found

    def _count(self, request: bytes) -> None:
        topic = request[1:]
        self.changes += 1
        if request[:1] == b"\x01" and topic not in self._topics:
            self._topics.add(topic)
            self._topic_bytes += len(topic)
        elif request[:1] == b"\x00" and topic in self._topics:
            self._topics.discard(topic)
            self._topic_bytes -= len(topic)

    def _renew(self) -> None:
        """Closes the socket and binds it again, where that is the only way to end a connection."""
        removals = self._authenticator.removals if self._authenticator else 0
        if self._flooded:
            log.warning("feed %s: too many subscriptions; all have to come anew", self.address)
        elif removals == self._removals and self._bound:
            return
        if self._bound:
            self._socket.close(linger=0)
            self._socket = self._open()
            self._topics.clear()
            self.changes += 1
            self._removals, self._topic_bytes = removals, 0
            self._bound = self._flooded = False
        try:
            bind_socket(self._socket, self.address, self._authenticator)
            self._bound = True
        except FeedError as error:  # a thread of ZeroMQ closes the old socket, soon
            log.debug("feed %s: not open again yet: %s", self.address, error)
