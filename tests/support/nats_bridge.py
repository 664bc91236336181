"""The bridge to NATS in a thread, with a feed without a daemon before it; what JetStream has."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtag.bridges.bridge import Shutdown
from streamtag.bridges.nats import _serve
from streamtag.config.config import Config, FeedConfig, parse_config
from streamtag.errors import FeedError
from streamtag.feed.messages import Message, parse
from streamtag.feed.nats.connection import NatsConnection, NatsOptions, connect
from streamtag.feed.nats.consumer import ConsumerLostError, StoredMessage, open_consumer
from streamtag.feed.nats.state import parse_state
from support.feeds import Feed, off, on
from support.peers import SECONDS, free_ports, wait_until


class BridgeThread:
    """A bridge, from `start` to `stop`."""

    def __init__(self, config: Config) -> None:
        assert config.nats is not None
        self.config, self._nats = config, config.nats
        self.shutdown = Shutdown({})
        self._thread = threading.Thread(
            target=lambda: asyncio.run(_serve(config, self._nats, self.shutdown)), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self.shutdown.event.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


class Station:
    """A journal, a feed, and a bridge to a server.

    Args:
        folder: for the journal.
        servers: addresses of NATS.
        nats: further keys of the table `[nats]`.
    """

    def __init__(self, folder: Path, *servers: str, **nats: Any) -> None:
        folder.mkdir(exist_ok=True)
        port, replay = free_ports()
        self.folder = folder
        table = {
            "exit_when_done": False,
            "streams": {},
            "feed": {
                "bind": f"tcp://127.0.0.1:{port}",
                "replay": f"tcp://127.0.0.1:{replay}",
                "journal": "journal.db",
                "beat_seconds": 0.1,
            },
            "nats": {"servers": list(servers), **nats},
        }
        self.config = parse_config(table, folder)
        self.feed: Feed | None = None
        self.bridge: BridgeThread | None = None

    def open_feed(self) -> Feed:
        feed: FeedConfig = self.config.feed
        self.feed = Feed(feed)
        return self.feed

    def start_bridge(self) -> None:
        self.bridge = BridgeThread(self.config)

    def stop_bridge(self) -> None:
        if self.bridge is not None:
            self.bridge.stop()
            self.bridge = None

    def close(self) -> None:
        if self.feed is not None:
            self.feed.publisher.close()
            self.feed = None
        self.stop_bridge()


async def _read(connection: NatsConnection, stream: str, subject: str) -> list[StoredMessage]:
    consumer = await open_consumer(connection, stream, subject, "all")
    try:
        return [one async for page in consumer.present() for one in page]
    finally:
        await consumer.close()


def stored(
    address: str, subject: str = "streamtag.event.*.*", stream: str = "streamtag"
) -> list[StoredMessage]:
    """All messages of a subject that JetStream has, in its order."""

    async def read() -> list[StoredMessage]:
        connection = await connect(NatsOptions((address,)), SECONDS)
        try:
            for _ in range(5):
                with suppress(ConsumerLostError):
                    return await _read(connection, stream, subject)
            raise FeedError("the consumer was lost five times")
        finally:
            await connection.close()

    return asyncio.run(read())


def messages(address: str, subject: str = "streamtag.event.*.*") -> list[Message]:
    """The same as messages of the feed; none before there is a stream."""
    return [parse(one.body) for one in stored(address, subject)]


def wait_for_count(address: str, count: int, subject: str = "streamtag.event.*.*") -> list[Message]:
    """Waits until JetStream has so many messages of a subject."""
    found: list[Message] = []

    def are_there() -> bool:
        nonlocal found
        try:
            found = messages(address, subject)
        except FeedError:
            return False
        return len(found) >= count

    wait_until(are_there, lambda: f"{len(found)} of {count}: {found[-3:]}")
    return found


def wait_for_state(address: str, stream: str, seq: int) -> None:
    """Waits until JetStream has what is in force after a message of a stream."""

    def is_there() -> bool:
        subject = f"streamtag.state.event.{stream}.*"
        try:
            found = stored(address, subject, "streamtag-state")
        except FeedError:  # there is no stream yet
            return False
        return any(parse_state(one.body).seq >= seq for one in found)

    wait_until(is_there, f"the state of {stream}")


def publish_tags(feed: Feed, count: int, *streams: str) -> None:
    """So many tags in each stream, on and off."""
    for _ in range(count):
        for stream in streams:
            feed.publish(on("low", stream=stream), off("low", stream=stream))


def assert_whole(address: str, count: int, *streams: str) -> None:
    """JetStream has the numbers 1 to `count` of each stream, each once and in order."""
    for stream in streams:
        found = stored(address, f"streamtag.event.{stream}.*")
        assert [one.number for one in found] == list(range(1, count + 1)), stream
