"""The publisher never waits for anybody, and says what it lost."""

import json
import threading
from collections.abc import Iterator

import pytest
import zmq

from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.publisher import Publisher

SECONDS = 60
UP = events.StreamOpened("s", 0, 1000, 0, ("m",))
SCORES = events.WindowScored("s", "m", 0, 1000, (0.5,), (0.5,), False)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0")
    yield publisher
    publisher.close()


def connect(publisher: Publisher, context: zmq.Context, prefix: str = "") -> zmq.Socket:
    socket = context.socket(zmq.SUB)
    socket.rcvtimeo = SECONDS * 1000
    socket.subscribe(prefix)
    socket.connect(publisher.address)
    return socket


def test_a_plain_zeromq_socket_gets_topic_and_json(publisher: Publisher) -> None:
    wire = EventEncoder({"m": ("a",)})
    with zmq.Context() as context, connect(publisher, context, "event/s/") as socket:
        assert publisher.wait_for_subscriber(SECONDS)
        for event in (UP, SCORES, events.GapFound("s", 1, 2)):
            publisher.publish(wire.message(event))
        received = [socket.recv_multipart() for _ in range(2)]
    assert [topic for topic, _ in received] == [b"event/s/"] * 2
    assert [json.loads(body)["type"] for _, body in received] == ["stream_up", "gap"]


def test_a_topic_does_not_catch_streams_that_begin_alike(publisher: Publisher) -> None:
    wire = EventEncoder({})
    with zmq.Context() as context, connect(publisher, context, "event/s/") as socket:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(wire.message(events.StreamOpened("s1", 0, 1000, 0, ())))
        publisher.publish(wire.message(UP))
        assert json.loads(socket.recv_multipart()[1])["stream"] == "s"


def test_what_is_queued_leaves_before_the_socket_closes() -> None:
    publisher, wire = Publisher("tcp://127.0.0.1:0"), EventEncoder({})
    with zmq.Context() as context, connect(publisher, context, "event/") as socket:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(wire.message(UP))
        for i in range(5000):
            publisher.publish(wire.message(events.GapFound("s", i, i + 1)))
        publisher.close()
        numbers = [json.loads(socket.recv_multipart()[1])["seq"] for _ in range(5001)]
    assert numbers == list(range(1, 5002))


def test_a_subscriber_that_reads_nothing_holds_nobody() -> None:
    publisher, wire = (
        Publisher("tcp://127.0.0.1:0", high_water=10),
        EventEncoder({"m": ("a",) * 500}),
    )
    big = events.WindowScored("s", "m", 0, 1000, (0.5,) * 500, (0.5,) * 500, False)
    with zmq.Context() as context:
        dead = context.socket(zmq.SUB)
        dead.rcvhwm, dead.linger = 1, 0
        dead.subscribe("")
        dead.connect(publisher.address)
        with connect(publisher, context, "event/") as alive:
            assert publisher.wait_for_subscriber(SECONDS)
            publisher.publish(wire.message(UP))
            assert alive.recv_multipart()
            for _ in range(5000):  # 40 MB: far more than sockets and high water hold
                publisher.publish(wire.message(big))
            publisher.publish(wire.message(events.GapFound("s", 1, 2)))
            assert json.loads(alive.recv_multipart()[1])["type"] == "gap"
        dead.close()
    publisher.close()
    assert publisher.counters["sent"] + publisher.counters["dropped_scores"] == 5002


def test_scores_are_given_up_before_events() -> None:
    publisher, wire = Publisher("tcp://127.0.0.1:0", capacity=5), EventEncoder({"m": ("a",)})
    with publisher._queue._changed:  # the thread cannot fetch anything meanwhile
        publisher.publish(wire.message(UP))
        for _ in range(10):
            publisher.publish(wire.message(SCORES))
            publisher.publish(wire.message(events.GapFound("s", 1, 2)))
        for _ in range(100):
            publisher.publish(wire.message(events.GapFound("s", 1, 2)))
    publisher.close()
    # 1 up, 2 scores and 2 gaps fill it; from then on events only, up to ten times 5.
    assert publisher.counters == {"sent": 50, "dropped_scores": 8, "dropped_events": 63}


def test_a_taken_address_is_an_error(publisher: Publisher) -> None:
    with pytest.raises(FeedError, match=r"Address already in use.*; is another daemon running"):
        Publisher(publisher.address)
    with pytest.raises(FeedError, match="feed nonsense: expected an address"):
        Publisher("nonsense")


def test_nobody_subscribes(publisher: Publisher) -> None:
    assert not publisher.wait_for_subscriber(0)


def test_closing_does_not_wait_for_ever(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    may_end, destroy = threading.Event(), publisher._context.destroy

    def slow(linger: int) -> None:
        may_end.wait(SECONDS)
        destroy(linger)

    monkeypatch.setattr(publisher._context, "destroy", slow)
    monkeypatch.setattr("streamtag.feed.publisher.END_SECONDS", 0.1)
    publisher.close(linger=0)
    assert "its sockets did not close" in caplog.text
    (ending,) = (t for t in threading.enumerate() if t.name == "end")
    may_end.set()
    ending.join(SECONDS)
    assert publisher._context.closed
