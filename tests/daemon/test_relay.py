"""The process of the public sockets: a client may end it, and nobody loses anything."""

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from streamtag.config.config import FeedConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.engine import events
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Message, Title

CRASHES = int(os.environ.get("STREAMTAG_RELAY_CRASHES", "2"))
SECONDS = 60
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\4\x19\5READY\x0bSocket-Type\0\0\0\3SUB"
READY_DEALER = b"\4\x1c\5READY\x0bSocket-Type\0\0\0\6DEALER"
PING = b"\4\7\4PING\0\0"
CONNECTIONS = 30
HANG_UP = struct.pack("ii", 1, 0)
"""For SO_LINGER: the connection is reset, and nothing waits."""


@contextmanager
def feed_of(folder: Path, **keys: object) -> Iterator[EventOutput]:
    table = {"bind": "tcp://127.0.0.1:0", "beat_seconds": 0.2, "journal": str(folder / "j.db")}
    output = EventOutput(FeedConfig(**{**table, **keys}), Monitor())
    try:
        yield output
    finally:
        output.close(0.2)


def up(name: str) -> events.StreamOpened:
    return events.StreamOpened(name, 0, 1000, 10**18, ("m",))


def title(name: str, text: str, at: int = 0) -> events.TitleChanged:
    return events.TitleChanged(name, at, text)


def wait_until(true: object, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def attack(address: str, requests: bool) -> None:
    """From many connections: more than fits a queue, a PING behind it, and gone before all of it
    is read."""
    port = int(address.rpartition(":")[2])
    ready, one, n = (READY_DEALER, b"\0\2{}", 120) if requests else (READY, b"\0\3\1x/", 60)
    with ExitStack() as stack, suppress(OSError):
        raws = []
        for _ in range(CONNECTIONS):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            raw.sendall(GREETING + ready)
            raws.append(raw)
        for raw in raws:
            exactly(64 + 2, raw)
        for raw in raws:
            raw.sendall(one * n + PING * 3)
        for raw in raws:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HANG_UP)
            raw.close()


def exactly(n: int, source: socket.socket) -> None:
    """Waits for so many bytes."""
    while n > 0 and (part := source.recv(n)):
        n -= len(part)


def crash(output: EventOutput, requests: bool) -> None:
    """Attacks until the process has been started again."""
    relay = output.relay
    assert relay is not None
    before = relay.restarts
    deadline = time.monotonic() + SECONDS
    while relay.restarts == before:
        assert time.monotonic() < deadline, "it cannot be ended"
        attack(relay.replay_address if requests else relay.address, requests)
        patience = time.monotonic() + 1
        while relay.restarts == before and time.monotonic() < patience:
            time.sleep(0.01)


def receive(feed: Subscriber, n: int) -> list[Message]:
    found: list[Message] = []
    while len(found) < n:
        message = feed.receive(SECONDS)
        assert isinstance(message, Message), message
        found.append(message)
    return found


@pytest.mark.parametrize("requests", [False, True], ids=["subscriptions", "requests"])
def test_a_client_ends_only_the_relay(tmp_path: Path, requests: bool) -> None:
    with feed_of(tmp_path) as output, Subscriber(output.address) as feed:
        output.publish([up("s")])
        assert receive(feed, 1)[0].type == "stream_up"
        sent = 0
        for _ in range(CRASHES):
            output.publish([title("s", str(sent := sent + 1))])
            crash(output, requests)
            output.publish([title("s", str(sent := sent + 1))])
        got = receive(feed, sent)
        assert [m.title for m in got if isinstance(m, Title)] == [str(i + 1) for i in range(sent)]
        assert [m.seq for m in got] == list(range(2, sent + 2))
        assert output.counters()["relay_restarts"] >= CRASHES
