"""The subscribers for NATS: `Subscriber("nats://…")` and `AsyncSubscriber("nats://…")`."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from streamtag.errors import FeedError
from streamtag.feed.client.connection import Since
from streamtag.feed.client.subscriber import AsyncSubscriber, Subscriber
from streamtag.feed.client.tracker import FeedItem
from streamtag.feed.nats.connection import NatsOptions, missing_library, options_of
from streamtag.feed.nats.reader import Mark, NatsReader, ReaderItem

PAGE = 1000
"""The most messages that are taken from the reader at a time."""
CLOSE_SECONDS = 5.0
"""How long to wait for the connection to close."""


def _reader(
    address: str,
    *,
    streams: Iterable[str] | None = None,
    scores: bool = False,
    stats: bool = False,
    mood: bool = False,
    derived: Iterable[str] = (),
    levels: bool = False,
    high_water: int = 100_000,
    since: Since = None,
    nats: NatsOptions | None = None,
    **unused: Any,
) -> NatsReader:
    """A reader for the arguments of `Subscriber`."""
    if fault := missing_library():
        raise FeedError(f"feed {address}: {fault}")
    if given := [name for name, value in unused.items() if value is not None]:
        raise FeedError(f"feed {address}: expected no {given[0]} over NATS, got one; see `nats`")
    if isinstance(since, datetime) and since.tzinfo is None:
        raise FeedError("feed: expected `since` with a time zone, got one without")
    found = options_of(address)
    if nats is not None:
        user, password = (found.user, found.password) if found.user else (nats.user, nats.password)
        found = replace(nats, servers=found.servers, user=user, password=password)
        if "/" in address.partition("://")[2]:
            found = replace(found, prefix=options_of(address).prefix)
    kinds = ["event", *derived, *["scores"] * scores, *["mood"] * mood, *["level"] * levels]
    return NatsReader(
        found,
        (*kinds, *["stats", "journal"] * stats),
        None if streams is None else tuple(streams),
        since if isinstance(since, datetime) else dict(since or {}),
        high_water,
    )


class NatsSubscriber(Subscriber):
    """A subscriber for NATS, which reads in a thread of its own."""

    def __init__(self, address: str, *, timeout: float | None = None, **arguments: Any) -> None:
        self.address, self.timeout = address, timeout
        self.received_at = 0.0
        self._reader = _reader(address, **arguments)
        self.marks: dict[str, tuple[str, int]] = {}
        """Positions up to which everything was delivered, by subject. As part of a later `since`
        they save reading JetStream from its beginning."""
        self._received: deque[ReaderItem] = deque()
        self._loop = asyncio.new_event_loop()
        self._reading = self._loop.create_task(self._reader.run())
        self._thread = threading.Thread(target=self._run, name="nats", daemon=True)
        self._thread.start()

    @property
    def synced(self) -> bool:
        """Whether the current state has been received."""
        return self._reader.synced and not self._received

    def receive(self, timeout: float | None = None) -> FeedItem | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        Raises:
            FeedError: NATS cannot be reached, or refuses something. The next call tries again.
        """
        self._note_marks()
        if not self._received:
            waiting = asyncio.run_coroutine_threadsafe(self._take(timeout), self._loop)
            try:
                self._received += waiting.result()
            except BaseException:
                waiting.cancel()
                raise
        self.received_at = self._reader.received_at
        if not self._received:
            return None
        return _raised(self._received.popleft())

    def _note_marks(self) -> None:
        """Takes the marks at the beginning of the queue."""
        while self._received and isinstance(mark := self._received[0], Mark):
            self.marks[mark.subject] = ("", mark.position)
            self._received.popleft()

    def close(self) -> None:
        """Closes the connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._reading.cancel)
            self._thread.join(CLOSE_SECONDS)

    async def _take(self, timeout: float | None) -> list[ReaderItem]:
        """The next items, which begin with a message or error, not a mark."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not await self._reader.items.wait(left):
                return []
            found = self._reader.items.take(PAGE)
            while found and isinstance(mark := found[0], Mark):
                self.marks[mark.subject] = ("", mark.position)
                del found[0]
            if found:
                return found

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._reading)
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        if rest:
            self._loop.run_until_complete(asyncio.wait(rest))
        self._loop.close()


class NatsAsyncSubscriber(AsyncSubscriber):
    """A subscriber for NATS with asyncio. It connects at the first `receive`."""

    def __init__(self, address: str, *, timeout: float | None = None, **arguments: Any) -> None:
        self.address, self.timeout = address, timeout
        self.received_at = 0.0
        self._reader = _reader(address, **arguments)
        self._reading: asyncio.Task[None] | None = None

    @property
    def synced(self) -> bool:
        """Whether the current state has been received."""
        return self._reader.synced

    async def receive(self, timeout: float | None = None) -> FeedItem | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        Raises:
            FeedError: NATS cannot be reached, or refuses something. The next call tries again.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._reader.run())
        if self._reading.done():
            self._reading.result()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            is_there = await self._reader.items.wait(left)
            self.received_at = self._reader.received_at
            if not is_there:
                return None
            (item,) = self._reader.items.take(1)
            if not isinstance(item, Mark):
                return _raised(item)

    async def close(self) -> None:
        """Closes the connection."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading


def _raised(item: ReaderItem) -> FeedItem:
    """Returns an item, or raises it if it is an error."""
    if isinstance(item, FeedError):
        raise item
    assert not isinstance(item, Mark)
    return item
