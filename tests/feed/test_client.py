"""Subscriber: what a program of somebody else sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import streamtag
from streamtag.config.config import FeedConfig
from streamtag.daemon.output import open_feed
from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed import messages
from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.publisher import Publisher
from streamtag.feed.replay import MAX_MESSAGES

SECONDS = 60
SCORES = events.WindowScored("a", "m", 0, 1000, (0.5,), (0.5,), False)


def up(stream: str) -> events.StreamOpened:
    return events.StreamOpened(stream, 0, 1000, 0, ("m",))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0")
    yield publisher
    publisher.close()


@pytest.fixture
def wire() -> EventEncoder:
    return EventEncoder({"m": ("tag",)}, 10**18)


def test_iteration_gives_typed_messages(publisher: Publisher, wire: EventEncoder) -> None:
    with streamtag.Subscriber(publisher.address, scores=True, stats=True) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        sent = [wire.message(up("a")), wire.message(SCORES), wire.stats({"x": 1}, 2 * 10**18)]
        for message in sent:
            publisher.publish(message)
        assert [feed.receive(SECONDS) for _ in sent] == sent
        publisher.publish(wire.message(events.GapFound("a", 500, 1000)))
        gap = next(iter(feed))
    assert isinstance(gap, messages.Gap)
    assert (gap.stream, gap.t, gap.end) == ("a", 0.5, 1.0)


def test_only_selected_streams_and_types_arrive(publisher: Publisher, wire: EventEncoder) -> None:
    with Subscriber(publisher.address, streams=["b"]) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        for event in (up("a"), SCORES, up("b")):
            publisher.publish(wire.message(event))
        publisher.publish(wire.stats({}, 10**18))
        publisher.publish(wire.message(events.GapFound("b", 1, 2)))
        got = [feed.receive(SECONDS) for _ in range(2)]
    assert [(m.stream, m.type, m.seq) for m in got if isinstance(m, messages.Message)] == [
        ("b", "stream_up", 1),
        ("b", "gap", 2),
    ]


def test_missed_messages_come_before_those_that_follow(
    publisher: Publisher, wire: EventEncoder
) -> None:
    with Subscriber(publisher.address) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        kept = [wire.message(e) for e in (up("a"), up("b"), events.GapFound("a", 1, 2))]
        for _ in range(3):
            wire.message(events.GapFound("a", 2, 3))  # never sent
        kept += [wire.message(events.GapFound("a", 3, 4)), wire.message(events.GapFound("b", 3, 4))]
        for message in kept:
            publisher.publish(message)
        got = [feed.receive(SECONDS) for _ in range(6)]
    assert got == [*kept[:3], MissedMessages("event/a/", 3, reason="not_kept"), *kept[3:]]


def test_a_late_subscriber_gets_the_messages_in_force(
    publisher: Publisher, wire: EventEncoder
) -> None:
    on = events.TagStarted("a", "m", "tag", 1, 2, 0.5, False)
    over = [events.TagStarted("a", "m", "t", 1, 2, 0.5, False)]
    over += [events.TagEnded("a", "m", "t", 1, 2, 1, 0.5, events.Reason.SILENCE)]
    sent = [wire.message(event) for event in (up("a"), SCORES, SCORES, *over, on)]
    with Subscriber(publisher.address, scores=True) as first:
        assert publisher.wait_for_subscriber(SECONDS)
        for message in sent:
            publisher.publish(message)
        assert [first.receive(SECONDS) for _ in sent] == sent
        with Subscriber(publisher.address, scores=True) as feed:
            got = [feed.receive(SECONDS) for _ in range(3)]
            assert got == [sent[0], sent[5], sent[2]]
            publisher.publish(live := wire.message(events.GapFound("a", 1, 2)))
            assert feed.receive(SECONDS) == live


def test_a_restart_of_the_daemon_is_reported(publisher: Publisher, wire: EventEncoder) -> None:
    with Subscriber(publisher.address) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(wire.message(up("a")))
        assert isinstance(feed.receive(SECONDS), messages.StreamUp)
        anew = EventEncoder({})
        for stream in ("a", "b"):
            anew.message(up(stream))  # never sent
        for stream in ("a", "b"):
            publisher.publish(anew.message(events.GapFound(stream, 1, 2)))
        got = [feed.receive(SECONDS) for _ in range(4)]
    assert got[0] == MissedMessages("event/a/", 1, restarted=True)
    assert got[2] == MissedMessages("event/b/", 1, reason="not_kept")
    assert "was restarted" in str(got[0])


def test_a_timeout_gives_none_or_an_error(publisher: Publisher) -> None:
    with Subscriber(publisher.address, timeout=0.01) as feed:
        assert feed.receive(0) is None
        with pytest.raises(FeedError, match=r"expected a message within 0.01 s.*daemon running"):
            next(iter(feed))


def test_it_may_start_before_the_daemon() -> None:
    first = Publisher("tcp://127.0.0.1:0")
    address = first.address
    first.close()
    with Subscriber(address) as feed:
        daemon = Publisher(address)
        assert daemon.wait_for_subscriber(SECONDS)
        daemon.publish(EventEncoder({}).message(up("a")))
        assert isinstance(feed.receive(SECONDS), messages.StreamUp)
        daemon.close()


def test_a_wrong_address_is_an_error() -> None:
    with pytest.raises(FeedError, match=r"feed 'localhost': expected an address such as tcp://"):
        Subscriber("localhost")


def test_a_restart_without_the_journal_is_reported(
    publisher: Publisher, wire: EventEncoder
) -> None:
    """Killed, and its journal with it: nothing says that a tag is off, so it must be said."""
    with Subscriber(publisher.address) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(wire.message(up("a")))
        assert isinstance(feed.receive(SECONDS), messages.StreamUp)
        publisher.close()
        other = Publisher(publisher.address)
        assert isinstance(feed.receive(SECONDS), messages.Goodbye)
        received = feed.receive(SECONDS)
        other.close()
    assert received == MissedMessages("event/a/", 0, restarted=True)


def test_beats_update_received_at(publisher: Publisher) -> None:
    with Subscriber(publisher.address) as feed:
        assert feed.received_at == 0
        while not (first := feed.received_at):
            feed.receive(0.01)
        while feed.received_at == first:  # nothing but beats
            assert feed.receive(0.01) is None


def test_since_continues_after_an_earlier_subscriber(tmp_path: Path) -> None:
    publisher, wire = open_feed(
        FeedConfig(
            bind="tcp://127.0.0.1:0", replay="tcp://127.0.0.1:0", journal=str(tmp_path / "j")
        )
    )
    had: dict[str, tuple[str, int]] = {}
    with Subscriber(publisher.address) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(wire.message(up("a")))
        message = feed.receive(SECONDS)
        assert isinstance(message, messages.Message)
        had[message.topic] = (message.epoch, message.seq)
    missed = [
        wire.message(e) for e in (events.GapFound("a", 1, 2), events.GapFound("a", 2, 3), up("b"))
    ]
    for message in missed:
        publisher.publish(message)
    with Subscriber(publisher.address, since=had) as feed:
        assert [feed.receive(SECONDS) for _ in missed] == missed
    publisher.close()


def test_a_long_backlog_is_delivered_in_pages(tmp_path: Path) -> None:
    """A backlog of many pages never lies in memory as a whole."""
    publisher, wire = open_feed(
        FeedConfig(
            bind="tcp://127.0.0.1:0", replay="tcp://127.0.0.1:0", journal=str(tmp_path / "j")
        )
    )
    count = 3 * MAX_MESSAGES + 1
    gaps = [events.GapFound("a", i, i + 1) for i in range(1, count)]
    sent = [wire.message(event) for event in (up("a"), *gaps)]
    with Subscriber(publisher.address) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        for message in sent:
            publisher.publish(message)
        assert feed.receive(SECONDS) == sent[0]
    with Subscriber(publisher.address, since={"event/a/": (sent[0].epoch, 1)}) as feed:
        got, longest = [], 0
        while len(got) < count - 1:
            got.append(feed.receive(SECONDS))
            longest = max(longest, len(feed._items))
    publisher.close()
    assert got == sent[1:]
    assert longest < MAX_MESSAGES


def test_a_stopped_process_receives_what_arrived_meanwhile(
    publisher: Publisher, wire: EventEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of waiting, and woken long after the time was up."""
    now, real = [0.0], zmq.Poller.poll
    with Subscriber(publisher.address) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(wire.message(up("before")))
        assert feed.receive(SECONDS) is not None
        monkeypatch.setattr("streamtag.feed.client.subscriber.time.monotonic", lambda: now[0])

        def frozen(self: zmq.Poller, milliseconds: int) -> object:
            if not now[0]:
                now[0] = 33.0
                return []  # nothing yet: it only woke
            return real(self, milliseconds)

        monkeypatch.setattr(zmq.Poller, "poll", frozen)
        sent = wire.message(up("a"))
        publisher.publish(sent)
        assert feed.receive(30) == sent
        monkeypatch.setattr(zmq.Poller, "poll", lambda self, ms: now.append(now.pop() + ms / 1000))
        assert feed.receive(30) is None
