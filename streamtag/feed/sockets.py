"""The feed's ZeroMQ sockets: what they are set to, where they listen, who guards them."""

import os

import zmq

from streamtag.errors import FeedError
from streamtag.feed.authentication import Authenticator
from streamtag.feed.keepalive import by_the_system

LONGEST_TOPIC, LONGEST_REQUEST = 512, 8192
"""Bytes of what others may send; more ends their connection. CURVE's handshake takes about 300."""
REQUESTS = 100
"""Of each connection that may wait, and answers."""
SUBSCRIPTIONS = 40
"""Of each connection that may wait: so ZeroMQ comes back from a flood to us, who can end it."""

quick_send = zmq.backend.Socket.send
"""`Socket.send` without what Python lays round it for options that nobody uses here."""

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]


def feed_socket(context: Context, high_water: int, guard: Authenticator | None) -> Socket:
    """An XPUB socket, not bound yet.

    Args:
        context: of the feed.
        high_water: messages that are kept for one slow subscriber.
        guard: demands keys, where there is one.
    """
    socket = context.socket(zmq.XPUB)
    socket.sndhwm = high_water
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # who comes back asks for the state again
    socket.maxmsgsize = LONGEST_TOPIC
    by_the_system(socket, SUBSCRIPTIONS)
    if guard:
        guard.protect(socket)
    return socket


def replay_socket(context: Context, guard: Authenticator | None) -> Socket:
    """A ROUTER socket for requests, not bound yet; arguments as above."""
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.sndhwm = REQUESTS
    by_the_system(socket, REQUESTS)
    socket.maxmsgsize = LONGEST_REQUEST
    if guard:
        guard.protect(socket)
    return socket


def bind(socket: Socket, address: str, guard: Authenticator | None = None) -> str:
    """Binds; the address that it became. A file (`ipc://`) is this user's alone.

    Raises:
        FeedError: the address cannot be used.
    """
    socket.ipv6 = "[" in address
    try:
        socket.bind(_any_port(address))
    except zmq.ZMQError as error:
        raise FeedError(
            f"feed {address}: expected an address to listen on, such as tcp://127.0.0.1:5757; "
            f"got {error}; is another daemon running there?"
        ) from None
    became = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
    if became.startswith("ipc:///"):
        os.chmod(became.removeprefix("ipc://"), 0o600)
    if guard:
        guard.watch(socket, became)
    return became


def next_to(address: str) -> str:
    """Where requests are answered if nobody says: the next port, or a file beside."""
    head, _, port = address.rpartition(":")
    return f"{head}:{int(port) + 1}" if address.startswith("tcp:") else f"{address}.replay"


def _any_port(address: str) -> str:
    """ZeroMQ spells "any free port" as `*`."""
    return f"{address.removesuffix(':0')}:*" if address.endswith(":0") else address
