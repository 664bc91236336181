"""The bridge to NATS JetStream with real servers: each message once, whatever is restarted."""

from pathlib import Path

import pytest
from support.feeds import on, up
from support.nats_bridge import (
    Station,
    assert_whole,
    messages,
    publish_tags,
    stored,
    wait_for_count,
)
from support.nats_server import NatsServer, require_nats
from support.peers import wait_until

from streamtag.bridges.nats import lease_of
from streamtag.feed.messages import Other, TagOn
from streamtag.feed.nats.state import parse_state
from streamtag.feed.nats.subjects import message_id

require_nats()


def in_force(address: str, stream: str) -> list[str]:
    """The tags that the state of a stream says are on."""
    states = stored(address, f"streamtag.state.event.{stream}.*", "streamtag-state")
    found = [one for state in states for one in parse_state(state.body).parsed()]
    return [one.tag for one in found if isinstance(one, TagOn)]


def test_each_message_is_stored_once_over_restarts(station: Station, server: NatsServer) -> None:
    """Of the bridge, of NATS, of the daemon; what was said meanwhile comes from the journal."""
    feed = station.open_feed()
    feed.publish(up("a"), up("b.c"))
    publish_tags(feed, 20, "a", "b.c")  # before there is a bridge
    station.start_bridge()
    publish_tags(feed, 20, "a", "b.c")
    wait_for_count(server.address, 2 * 81)
    station.stop_bridge()
    publish_tags(feed, 10, "a", "b.c")
    station.start_bridge()
    wait_for_count(server.address, 2 * 101)
    server.kill()
    publish_tags(feed, 10, "a", "b.c")
    server.start()
    wait_for_count(server.address, 2 * 121)
    feed.publisher.close()
    feed = station.open_feed()  # what was on is closed by the journal
    feed.publish(up("a"), on("high", stream="a"))
    found = wait_for_count(server.address, 2 * 122 + 2)
    assert_whole(server.address, 124, "a")
    assert_whole(server.address, 122, "b%2Ec")
    assert len(found) == 124 + 122
    wait_until(lambda: in_force(server.address, "a") == ["high"], "the state of a")
    assert in_force(server.address, "b%2Ec") == []


def test_a_store_that_is_lost_is_filled_from_the_journal(
    station: Station, server: NatsServer
) -> None:
    import shutil

    feed = station.open_feed()
    station.start_bridge()
    feed.publish(up("a"), on("high", stream="a"))
    wait_for_count(server.address, 2)
    server.kill()
    shutil.rmtree(server.folder / "store")
    server.start()
    feed.publish(on("low", stream="a"))
    wait_for_count(server.address, 3)
    assert_whole(server.address, 3, "a")
    wait_until(lambda: in_force(server.address, "a") == ["high", "low"], "the state of a")


def test_a_full_jetstream_is_said_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = NatsServer(tmp_path / "nats", jetstream="max_file: 40000")
    station = Station(tmp_path / "station", server.address)
    try:
        feed = station.open_feed()
        station.start_bridge()
        feed.publish(up("a"))
        publish_tags(feed, 200, "a")
        wait_until(lambda: "JetStream is full: give it more room" in caplog.text, caplog.text)
        assert 0 < len(messages(server.address)) < 401
        server.kill()
        server.configure()
        server.start()
        wait_for_count(server.address, 401)
        assert_whole(server.address, 401, "a")
    finally:
        station.close()
        server.close()


def test_what_is_published_is_chosen(tmp_path: Path, server: NatsServer) -> None:
    topics = ["event", "alert"]
    station = Station(tmp_path / "s", server.address, streams=["a", "b*"], topics=topics)
    try:
        feed = station.open_feed()
        station.start_bridge()
        feed.publish(up("a"), up("c"), up("bc"), on("low", stream="c"), on("low", stream="bc"))
        wait_for_count(server.address, 3)
        feed.publish(on("low", stream="a"))
        found = wait_for_count(server.address, 4)
        assert {one.stream for one in found} == {"a", "bc"}
    finally:
        station.close()


def test_a_foreign_stream_is_named(
    station: Station, server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    from streamtag.feed.nats.connection import NatsOptions, connect

    async def occupy() -> None:
        connection = await connect(NatsOptions((server.address,)))
        await connection.jetstream.add_stream(name="streamtag", subjects=["x"])
        await connection.close()

    asyncio.run(occupy())
    station.open_feed()
    station.start_bridge()
    wait_until(lambda: "expected a stream streamtag of streamtag" in caplog.text, caplog.text)


def test_identities_and_leases() -> None:
    assert message_id("event/a/", "18ea", 7) == "18ea/event/a/7"
    head = {"epoch": "1", "seq": 1, "stream": "a", "t": 0.0, "utc": ""}
    assert lease_of(Other(**head, kind="new", fields={"lease": 7})) == 7  # type: ignore[arg-type]
    assert lease_of(Other(**head, kind="new", fields={"lease": "x"})) == 0  # type: ignore[arg-type]
