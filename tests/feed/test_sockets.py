"""The options of the sockets that a feed and a subscriber really use.

None has ZeroMQ's heartbeats, with which libzmq would end the process when a connection breaks whose
receive queue is full; each has a bound for that queue, and the system's probes instead.
"""

import time
from collections.abc import Iterator

import pytest
import zmq

from streamtag import Subscriber
from streamtag.engine import events
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers
from streamtag.feed.journal.journal import Journal
from streamtag.feed.publisher import Publisher
from streamtag.feed.sockets import GONE_SECONDS, REQUESTS, SUBSCRIPTIONS

SECONDS = 60
UP = events.StreamOpened("s", 0, 1000, 0, ("m",))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0", journal=Journal())
    yield publisher
    publisher.close()


def check(socket: zmq.Socket[bytes] | None, high_water: int) -> None:
    """Bounded, without heartbeats, probed by the system."""
    assert socket is not None
    assert (socket.rcvhwm, socket.heartbeat_ivl) == (high_water, 0)
    assert (socket.tcp_keepalive, socket.tcp_maxrt) == (1, 1000 * GONE_SECONDS)
    probes = socket.tcp_keepalive_intvl * socket.tcp_keepalive_cnt
    assert socket.tcp_keepalive_idle + probes == GONE_SECONDS


def test_the_publishers_sockets(publisher: Publisher) -> None:
    check(publisher._socket._socket, SUBSCRIPTIONS)
    assert publisher._replay is not None
    check(publisher._replay._socket, REQUESTS)


def test_the_publishers_socket_after_a_flood(publisher: Publisher) -> None:
    before = publisher._socket._socket
    publisher._socket._flooded = True  # its thread binds another one
    deadline = time.monotonic() + SECONDS
    while publisher._socket._socket is before or not publisher._socket._bound:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with Subscriber(publisher.address) as subscriber:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(message := EventEncoder({}).message(UP))
        assert subscriber.receive(SECONDS) == message
        check(publisher._socket._socket, SUBSCRIPTIONS)


def test_a_subscribers_sockets(publisher: Publisher) -> None:
    with Subscriber(publisher.address, high_water=123) as subscriber:
        assert publisher.wait_for_subscriber(SECONDS)
        assert publisher._journal is not None
        wire = EventEncoder({}, sequences=SequenceNumbers(publisher._journal.epoch))
        wire.message(UP)  # a hole: it has to ask
        publisher.publish(wire.message(UP))
        assert "missed 1 messages" in str(subscriber.receive(SECONDS))
        check(subscriber._socket, 123)
        assert subscriber._requests is not None
        assert subscriber._requests.heartbeat_ivl == 0
