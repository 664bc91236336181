"""What the web server knows: the present, and news for whoever listens.

The journal is the truth about events: everything is written there before it is published, so a
message on the feed is only the sign to look. What the journal does not keep (scores, and events
while the disk is full) comes from the feed itself, and has no id.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamtag.errors import FeedError
from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.client.subscriber import AsyncSubscriber
from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.codec import decode, is_msgpack
from streamtag.feed.feed_messages import Beat, Goodbye
from streamtag.feed.messages import Message, StreamDown, dump
from streamtag.history.history import History
from streamtag.history.query import JournalEntry, Query

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the journal is looked at when the feed says nothing."""
BEATS = 5
"""Signs of life that may be missing before a daemon counts as gone."""
REMEMBERED = 10_000
"""Messages without an id that are known again when they are written later."""


@dataclass(frozen=True, slots=True)
class News:
    """Something for listeners."""

    kind: str
    """Type of the message; `missed`, `daemon` for what is none."""
    data: str
    """A JSON object."""
    id: str = ""
    """Its key in the journal; empty where it is not kept."""
    message: Message | None = None
    """None for what everybody is told."""


@dataclass(slots=True, eq=False)
class WebClient:
    """Who listens, and what waits for it."""

    query: Query
    limit: int
    waiting: deque[News] = field(default_factory=deque)
    slow: bool = False
    """More had to wait than may; it is to be told and sent away."""
    over: bool = False
    """The server ends."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, news: News) -> None:
        """Queues what it wants; never more than may wait."""
        if self.slow or not wants(self.query, news):
            return
        if len(self.waiting) >= self.limit:
            self.slow = True
            self.waiting.clear()
        else:
            self.waiting.append(news)
        self.awake.set()

    async def take(self, seconds: float) -> list[News]:
        """What waits; nothing after so many seconds."""
        if not self.waiting and not self.slow and not self.over:
            self.awake.clear()
            try:
                await asyncio.wait_for(self.awake.wait(), seconds)
            except TimeoutError:
                return []
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting


def wants(query: Query, news: News) -> bool:
    """Whether a listener wants it; scores and moods only where they are named."""
    if news.message is None:
        return True
    return query.wants(news.message) and (
        bool(query.types) or news.message.topic.startswith("event/")
    )


class Hub:
    """Follows a feed and its journal, and tells all listeners.

    Args:
        connect: makes the subscriber.
        journal: the file, if it is known.
        beat_seconds: between two of the daemon's signs of life; 0 for none.
    """

    def __init__(
        self, connect: Callable[[], AsyncSubscriber], journal: Path | None, beat_seconds: float
    ) -> None:
        self._connect, self._journal = connect, journal
        self._patience = BEATS * beat_seconds or float("inf")
        self.states = StreamStates()
        self.history: History | None = None
        """The journal, while there is one."""
        self.cursor = 0
        """Number of the newest entry that was told."""
        self.heard = False
        """The daemon lives."""
        self.listeners: set[WebClient] = set()
        self._unkept: deque[tuple[str, str, int]] = deque(maxlen=REMEMBERED)
        self._left_at = 0.0

    async def run(self) -> None:
        """Follows until it is cancelled."""
        self.look()
        async with self._connect() as feed:
            while True:
                try:
                    message = await feed.receive(LOOK_SECONDS)
                except FeedError as error:
                    log.warning("%s", error)
                    message = None
                self.look()
                if message is not None:
                    self._take(message, feed)
                self._look_for_life(feed)

    def look(self) -> None:
        """Tells what is new in the journal."""
        try:
            if self.history is None or self.history.replaced:
                self._open()
            while self.history is not None:
                page = self.history.after(self.cursor)
                for entry in page.entries:
                    self._tell_entry(entry)
                self.cursor = max([self.cursor, *(e.number for e in page.entries)])
                if page.damaged:
                    self._tell_missed("", page.damaged, "damaged")
                if not page.continue_after:
                    return
        except (FeedError, sqlite3.Error) as error:
            log.warning("journal %s: not read: %s", self._journal, error)
            self.close()

    def close(self) -> None:
        """Lets go of the journal; it is opened again when it is looked at."""
        if self.history is not None:
            self.history.close()
            self.history = None

    def end(self) -> None:
        """Sends all listeners away."""
        for listener in self.listeners:
            listener.over = True
            listener.awake.set()

    def state(self) -> dict[str, Any]:
        """The present, as JSON has it."""
        from streamtag.bridges.web.state import stream_state

        return {
            "type": "state",
            "daemon": "up" if self.heard else "gone",
            "streams": {name: stream_state(self.states[name]) for name in sorted(self.states)},
        }

    def _open(self) -> None:
        """Begins with a journal: what is in force there is the present."""
        anew = self.history is not None
        self.close()
        if self._journal is None or not self._journal.is_file():
            return
        self.history = History(self._journal)
        standing, self.cursor = self.history.current_state()
        self.states = StreamStates()
        for message in standing:
            self.states.update(message)
        if anew:
            self._tell_missed("", 0, "epoch")

    def _take(self, message: Message | MissedMessages, feed: AsyncSubscriber) -> None:
        if isinstance(message, MissedMessages):
            if self.history is None or not message.topic.startswith("event/"):
                self.states.update(message)
                self._tell_missed(message.topic, message.count, message.reason or "epoch")
            elif message.reason == "not_kept":  # all else the journal has, or says
                self._tell_missed(message.topic, message.count, message.reason)
            return
        if isinstance(message, Goodbye):
            self._left_at = feed.heard_at
        if isinstance(message, Goodbye | Beat):
            return
        if self.history is not None and self.history.contains(message):
            return  # told when the journal was looked at
        if self.history is not None and message.topic.startswith("event/"):
            self._unkept.append((message.topic, message.epoch, message.seq))
        self._tell(message, dump(message).decode(), "")

    def _tell_entry(self, entry: JournalEntry) -> None:
        message = entry.message
        if (message.topic, message.epoch, message.seq) in self._unkept:
            return  # written later than told
        self._tell(message, as_json(entry.body), entry.id)

    def _tell(self, message: Message, data: str, key: str) -> None:
        self.states.update(message)
        if isinstance(message, StreamDown) and message.removed:
            self.states.remove(message.stream)
        self._offer(News(message.type, data, key, message))

    def _tell_missed(self, topic: str, count: int, reason: str) -> None:
        self._offer(missed(topic, count, reason))

    def _look_for_life(self, feed: AsyncSubscriber) -> None:
        fresh = time.monotonic() - feed.heard_at < self._patience
        heard = feed.synced and feed.heard_at > self._left_at and fresh
        if heard != self.heard:
            self.heard = heard
            said = {"type": "daemon", "state": "up" if heard else "gone"}
            self._offer(News("daemon", json.dumps(said)))

    def _offer(self, news: News) -> None:
        for listener in self.listeners:
            listener.offer(news)


def missed(topic: str, count: int, reason: str) -> News:
    """Says that something cannot be had; `count` is 0 where that is not known."""
    said = {"type": "missed", "topic": topic, "count": count, "reason": reason}
    return News("missed", json.dumps(said))


def as_json(body: bytes) -> str:
    """A payload of either encoding as JSON."""
    if is_msgpack(body):
        return json.dumps(decode(body), ensure_ascii=False, separators=(",", ":"))
    return body.decode(errors="replace")
