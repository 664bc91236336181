"""`Subscriber("nats://…")`: the same messages as over ZeroMQ, of all daemons as one feed."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.feeds import Feed, off, on, up
from support.nats_bridge import Station, wait_for_count, wait_for_state
from support.nats_server import NatsServer, require_nats

import streamtag
from streamtag.errors import FeedError
from streamtag.feed.client.tracker import FeedItem, MissedMessages
from streamtag.feed.messages import Message, TagOn, dump
from streamtag.feed.nats.connection import NatsOptions, connect
from streamtag.feed.nats.subjects import LEASE_HEADER, message_id

require_nats()
SECONDS = 60.0


@pytest.fixture
def feed(station: Station) -> Feed:
    made = station.open_feed()
    station.start_bridge()
    return made


def take(subscriber: streamtag.Subscriber, count: int) -> list[FeedItem]:
    """So many items."""
    found = [subscriber.receive(SECONDS) for _ in range(count)]
    assert None not in found
    return [one for one in found if one is not None]


def told(items: list[FeedItem]) -> list[str]:
    """Streams, types and tags."""
    return [
        one.topic
        if isinstance(one, MissedMessages)
        else " ".join([one.stream, one.type, *([one.tag] if isinstance(one, TagOn) else [])])
        for one in items
    ]


def test_the_state_comes_first_then_every_message_as_over_zeromq(
    station: Station, server: NatsServer, feed: Feed
) -> None:
    feed.publish(up("a"), on("low", stream="a"), on("high", stream="a"), off("low", stream="a"))
    wait_for_count(server.address, 4)
    wait_for_state(server.address, "a", 4)
    zeromq = streamtag.Subscriber(station.config.feed.bind)
    nats = streamtag.Subscriber(server.address)
    with zeromq, nats:
        assert told(take(nats, 2)) == ["a stream_up", "a tag_on high"] == told(take(zeromq, 2))
        feed.publish(up("b"))
        for _ in range(50):
            feed.publish(on("low", stream="a"), off("low", stream="a"), on("never", stream="b"))
            feed.publish(off("never", stream="b"))
        one, other = take(nats, 201), take(zeromq, 201)
        for stream in ("a", "b"):  # in order within a stream
            assert [m for m in one if m.topic == f"event/{stream}/"] == [
                m for m in other if m.topic == f"event/{stream}/"
            ]
        assert nats.receive(0.05) is None
        assert nats.synced


def test_two_daemons_are_one_feed(
    tmp_path: Path, server: NatsServer, station: Station, feed: Feed
) -> None:
    other = Station(tmp_path / "two", server.address)
    try:
        second = other.open_feed()
        other.start_bridge()
        feed.publish(up("a"))
        second.publish(up("b"))
        wait_for_count(server.address, 2)
        with streamtag.Subscriber(server.address) as subscriber:
            assert sorted(told(take(subscriber, 2))) == ["a stream_up", "b stream_up"]
            second.publish(on("low", stream="b"))
            assert told(take(subscriber, 1)) == ["b tag_on low"]
        with streamtag.Subscriber(server.address, streams=["b*"]) as subscriber:
            assert told(take(subscriber, 2)) == ["b stream_up", "b tag_on low"]
            feed.publish(on("low", stream="a"))
            second.publish(on("high", stream="b"))
            assert told(take(subscriber, 1)) == ["b tag_on high"]
    finally:
        other.close()


def test_a_subscriber_goes_on_where_another_one_ended(server: NatsServer, feed: Feed) -> None:
    feed.publish(up("a"), on("low", stream="a"), on("high", stream="a"), off("low", stream="a"))
    (first, second, *_) = wait_for_count(server.address, 4)
    since = {"event/a/": (second.epoch, second.seq)}
    with streamtag.Subscriber(server.address, since=since) as subscriber:
        assert [one.seq for one in take(subscriber, 2) if isinstance(one, Message)] == [3, 4]
        feed.publish(on("low", stream="a"), up("b"))
        assert sorted(told(take(subscriber, 2))) == ["a tag_on low", "b stream_up"]
    wait_for_state(server.address, "a", 5)
    since = {"event/a/": ("18e0000000000000", 7)}  # of a journal that is gone
    with streamtag.Subscriber(server.address, streams=["a"], since=since) as subscriber:
        missed, *rest = take(subscriber, 4)
        assert isinstance(missed, MissedMessages)
        assert missed.restarted
        assert told(rest) == ["a stream_up", "a tag_on high", "a tag_on low"]
    assert first.seq == 1


def test_with_marks_only_what_is_new_is_read(
    tmp_path: Path, server: NatsServer, feed: Feed
) -> None:
    """Also of topics and of daemons that the earlier subscriber did not know."""
    since: dict[str, tuple[str, int]] = {}
    feed.publish(up("a"), on("low", stream="a"))
    wait_for_state(server.address, "a", 2)
    other = Station(tmp_path / "other", server.address)
    try:
        with streamtag.Subscriber(server.address) as subscriber:
            take(subscriber, 2)
            feed.publish(on("high", stream="a"), off("low", stream="a"))
            for message in take(subscriber, 2):
                assert isinstance(message, Message)
                since[message.topic] = (message.epoch, message.seq)
            assert subscriber.receive(0.01) is None
            since |= subscriber.marks  # type: ignore[attr-defined]
        assert since["streamtag.event.*.*"] == ("", 4)
        second = other.open_feed()
        other.start_bridge()
        second.publish(up("b"), on("low", stream="b"), off("low", stream="b"))
        feed.publish(off("high", stream="a"), up("c"))
        wait_for_count(server.address, 9)
        with streamtag.Subscriber(server.address, since=since) as subscriber:
            expected = ["a tag_off", "c stream_up", "b stream_up", "b tag_on low", "b tag_off"]
            assert sorted(told(take(subscriber, 5))) == sorted(expected)
            assert subscriber.receive(0.05) is None
    finally:
        other.close()


def test_a_subscriber_begins_at_a_moment(server: NatsServer, feed: Feed) -> None:
    feed.publish(up("a"), on("low", stream="a"))
    wait_for_count(server.address, 2)
    time.sleep(0.01)
    moment = datetime.now(UTC)
    feed.publish(on("high", stream="a"), off("high", stream="a"))
    wait_for_count(server.address, 4)
    with streamtag.Subscriber(server.address, since=moment) as subscriber:
        assert [one.seq for one in take(subscriber, 2) if isinstance(one, Message)] == [3, 4]
    with pytest.raises(FeedError, match="with a time zone"):
        streamtag.Subscriber(server.address, since=datetime(2026, 1, 1))
    with pytest.raises(FeedError, match="expected an address of NATS"):
        streamtag.Subscriber("tcp://127.0.0.1:1", since=moment)
    with pytest.raises(FeedError, match="expected no key over NATS"):
        streamtag.Subscriber(server.address, key="x")


def test_a_server_that_is_restarted_costs_nothing(server: NatsServer, feed: Feed) -> None:
    feed.publish(up("a"))
    wait_for_count(server.address, 1)
    with streamtag.Subscriber(server.address) as subscriber:
        take(subscriber, 1)
        for _ in range(3):
            server.kill()
            feed.publish(on("low", stream="a"), off("low", stream="a"))
            server.start()
        assert told(take(subscriber, 6)) == ["a tag_on low", "a tag_off"] * 3


def test_asyncio(server: NatsServer, feed: Feed) -> None:
    feed.publish(up("a"), on("low", stream="a"))
    wait_for_count(server.address, 2)

    async def follow() -> list[FeedItem | None]:
        async with streamtag.AsyncSubscriber(server.address) as subscriber:
            found = [await subscriber.receive(SECONDS) for _ in range(2)]
            with pytest.raises(TimeoutError):  # a wait that is cancelled loses nothing
                await asyncio.wait_for(subscriber.receive(), 0.05)
            feed.publish(off("low", stream="a"))
            return [*found, await subscriber.receive(SECONDS), await subscriber.receive(0)]

    found = asyncio.run(follow())
    assert [getattr(one, "type", None) for one in found] == ["stream_up", "tag_on", "tag_off", None]


def test_a_daemon_that_was_killed_and_lost_its_journal_leaves_nothing_on(
    tmp_path: Path, server: NatsServer, station: Station, feed: Feed
) -> None:
    feed.publish(up("a"), on("low", stream="a"))
    wait_for_count(server.address, 2)
    other = Station(tmp_path / "again", server.address)
    try:
        with streamtag.Subscriber(server.address) as subscriber:
            take(subscriber, 2)
            again = other.open_feed()
            other.start_bridge()
            again.publish(up("a"))
            missed, started = take(subscriber, 2)
            assert isinstance(missed, MissedMessages)
            assert missed.restarted
            assert told([started]) == ["a stream_up"]
    finally:
        other.close()


PUBLISHED = ["CONSUMER.CREATE.streamtag.*.streamtag.event.radio1.*"]
PUBLISHED += ["CONSUMER.CREATE.streamtag-state.*.streamtag.state.event.radio1.*"]
PUBLISHED += ["CONSUMER.MSG.NEXT.streamtag.*", "CONSUMER.MSG.NEXT.streamtag-state.*"]
"""What docs/nats.md gives a reader of one station, below `$JS.API.`."""


def test_a_reader_of_one_station_cannot_read_another(tmp_path: Path) -> None:
    publish = ", ".join(f'"$JS.API.{one}"' for one in PUBLISHED)
    limited = f'publish: [{publish}], subscribe: ["_INBOX_kitchen.>", "streamtag.beat"]'
    users = '{user: "daemon", password: "d"}, '
    users += f'{{user: "kitchen", password: "k", permissions: {{{limited}}}}}'
    server = NatsServer(tmp_path / "nats", f"authorization {{ users: [{users}] }}")
    station = Station(tmp_path / "one", server.address, user="daemon", password="d")
    kitchen = NatsOptions(user="kitchen", password="k", inbox="_INBOX_kitchen")
    own = server.address.replace("://", "://daemon:d@")
    try:
        feed = station.open_feed()
        station.start_bridge()
        with streamtag.Subscriber(own) as everything:
            feed.publish(up("radio1"), up("radio2"))
            assert len(take(everything, 2)) == 2
        with streamtag.Subscriber(server.address, streams=["radio1"], nats=kitchen) as subscriber:
            assert told(take(subscriber, 1)) == ["radio1 stream_up"]
            feed.publish(on("low", stream="radio2"), on("low", stream="radio1"))
            assert told(take(subscriber, 1)) == ["radio1 tag_on low"]
        for streams in (["radio2"], None):
            with (
                streamtag.Subscriber(server.address, streams=streams, nats=kitchen) as subscriber,
                pytest.raises(FeedError, match=r"(?i)permissions violation .*give this user"),
            ):
                subscriber.receive(SECONDS)
        asyncio.run(assert_is_kept_out(server.address, kitchen))
    finally:
        station.close()
        server.close()


async def assert_is_kept_out(address: str, options: NatsOptions) -> None:
    """Neither the subjects, nor the answers to others, nor single messages can be read."""
    import nats.errors

    connection = await connect(replace(options, servers=(address,)))
    try:
        for subject in ("streamtag.event.radio2.>", "_INBOX.>", ">"):
            connection.last_error = ""
            await connection.client.subscribe(subject)
            while "ermissions" not in connection.last_error:
                await asyncio.sleep(0.01)
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await connection.client.request("$JS.API.STREAM.MSG.GET.streamtag", b"{}", 0.3)
        request = b'{"stream_name":"streamtag","config":{"name":"x","ack_policy":"none",'
        request += b'"filter_subject":"streamtag.event.radio2.*"}}'
        place = "$JS.API.CONSUMER.CREATE.streamtag.x.streamtag.event.radio1.*"
        answer = await connection.client.request(place, request, 5)
        assert b"error" in answer.data  # the subject and the filter do not agree
    finally:
        await connection.close()


def test_words_of_a_daemon_that_has_lost_its_lease_are_late(server: NatsServer, feed: Feed) -> None:
    """The highest lease counts; what was handed over with another one is not said to be missed."""
    feed.publish(up("a"), on("low", stream="a"))
    old, tag = wait_for_count(server.address, 2)

    async def say(*some: tuple[str, int, int, Message]) -> None:
        connection = await connect(NatsOptions((server.address,)))
        for epoch, seq, lease, message in some:
            headers = {"Nats-Msg-Id": message_id("event/a/", epoch, seq), LEASE_HEADER: str(lease)}
            subject = connection.layout.subject("event/a/", epoch)
            body = dump(message)
            await connection.jetstream.publish(subject, body, headers=headers)
        await connection.close()

    with streamtag.Subscriber(server.address) as subscriber:
        take(subscriber, 2)
        new, late = "18e0000000000001", "18e0000000000002"
        said = [(new, 1, 7, old), (late, 1, 6, tag), (new, 2, 7, tag)]
        asyncio.run(say(*said))
        missed, *rest = take(subscriber, 3)
        assert isinstance(missed, MissedMessages)  # without a lease before
        assert told(rest) == ["a stream_up", "a tag_on low"]
        asyncio.run(say((late, 2, 8, old)))  # the next one has closed what was on, or will
        assert told(take(subscriber, 1)) == ["a stream_up"]
        assert subscriber.receive(0.05) is None
