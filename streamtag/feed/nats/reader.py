"""Follows the messages of all daemons that publish to one JetStream.

The state comes first: each bridge has stored the messages in force in its topics, and the position
behind which that is true. From there on the messages are read in the order in which they were
stored. A message has a sequence number in its topic and epoch, so that none is delivered twice and
missing ones are noticed.
"""

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from streamtag.errors import FeedError
from streamtag.feed.client.tracker import FeedItem, MissedMessages
from streamtag.feed.messages import StreamDown, TagOff, TagOn, parse
from streamtag.feed.nats.connection import NatsConnection, NatsOptions, NatsRefusedError, connect
from streamtag.feed.nats.consumer import (
    Consumer,
    ConsumerLostError,
    StoredMessage,
    StreamMissingError,
    newest_of_each,
    open_consumer,
)
from streamtag.feed.nats.state import TopicState, parse_state
from streamtag.feed.rights import matches

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How long to wait after something could not be read."""
COMPLAINT_SECONDS = 15.0
"""An error is delivered if reading has failed for this time."""
MOST_WAITING = 10_000
"""The most messages that wait for a slow reader. The others wait in JetStream."""
FRESH = timedelta(seconds=30)
"""The age up to which scores and moods are in force."""

OF_DAEMONS = ("alert", "stats", "journal")
"""Kinds of topics that do not belong to one stream."""

TopicEpoch = tuple[str, str]
"""Topic and epoch."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Follows in the queue after everything of a filter up to a position in JetStream's stream."""

    subject: str
    position: int


ReaderItem = FeedItem | FeedError | Mark


class ItemQueue:
    """The items that were received and are not delivered yet. A cancelled wait loses none."""

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._items: deque[ReaderItem] = deque()
        self._filled, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, items: Iterable[ReaderItem]) -> None:
        """Adds items, and waits while the queue is full."""
        for item in items:
            while len(self._items) >= self._most:
                self._room.clear()
                await self._room.wait()
            self._items.append(item)
            self._filled.set()

    async def wait(self, seconds: float | None) -> bool:
        """Waits at most `seconds` for an item, None for ever; returns whether there is one."""
        if not self._items:
            self._filled.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._filled.wait(), seconds)
        return bool(self._items)

    def take(self, most: int) -> list[ReaderItem]:
        """Removes the first items."""
        found = [self._items.popleft() for _ in range(min(most, len(self._items)))]
        self._room.set()
        return found


@dataclass(slots=True)
class _Stored:
    """The newest messages and states of a topic in JetStream, by epoch."""

    newest: dict[str, StoredMessage] = field(default_factory=dict)
    states: dict[str, TopicState] = field(default_factory=dict)

    def writer(self) -> str:
        """The epoch of the daemon that owns the topic: with the highest lease, else the newest."""

        def rank(epoch: str) -> tuple[int, int]:
            state, newest = self.states.get(epoch), self.newest.get(epoch)
            lease = max(state.lease if state else 0, newest.lease if newest else 0)
            position = max(state.position if state else 0, newest.position if newest else 0)
            return lease, position

        return max({*self.newest, *self.states}, key=rank)


class DeliveryTracker:
    """Decides for each message whether it is new, late or a repetition, and what is missing.

    It keeps the sequence numbers, leases and active tags of all topics.

    Args:
        since: epoch and number of the last message that an earlier reader delivered, by topic.
    """

    def __init__(self, since: Mapping[str, tuple[str, int]]) -> None:
        self.since = dict(since)
        self._epochs = {epoch for epoch, _ in since.values()}
        self._floors: dict[str, int] = {}  # places up to which an earlier reader had everything
        self._numbers: dict[TopicEpoch, int] = {}
        self._skipping: dict[str, tuple[str, int]] = {}
        self._leases: dict[str, int] = defaultdict(int)  # by stream
        self._writers: dict[str, tuple[str, int]] = {}  # epoch and lease, of events
        self._on: dict[str, set[tuple[str, str]]] = defaultdict(set)  # tagger and tag, by topic
        self.n_late = 0
        """Number of messages that were dropped because their lease had ended."""

    def begin(
        self, topic: str, stored: _Stored, mark: int | None
    ) -> tuple[list[FeedItem], int | None]:
        """Begins with the stored state of a topic. Up to position `mark` an earlier reader has
        delivered everything.

        Returns:
            The items to deliver, and the position behind which to read the topic; None if the state
            is complete.
        """
        known = self.since.pop(topic, None)
        if known is not None and known[0] in stored.newest:
            return [], self._resume(topic, stored, known, mark)
        if known is None and (mark is not None or not self._epochs.isdisjoint(stored.newest)):
            self._floors[topic] = mark or 0  # it began after the earlier reader had ended
            return [], mark or 0
        for epoch, one in stored.newest.items():
            self._numbers[topic, epoch] = one.number
        epoch = stored.writer()
        items: list[FeedItem] = []
        if known is not None:
            items.append(MissedMessages(topic, 0, restarted=True, reason="epoch"))
        newest, state = stored.newest.get(epoch), stored.states.get(epoch)
        number = state.seq if state else 0
        if state is not None:
            items += state.parsed()
            self._note_lease(topic, epoch, state.lease)
            for item in items:
                self._note_tags(topic, item)
        if newest is not None and newest.number > number:
            self._numbers[topic, epoch] = number
            return items, state.position if state else 0
        self._numbers[topic, epoch] = number
        return items, None

    def _resume(
        self, topic: str, stored: _Stored, known: tuple[str, int], mark: int | None
    ) -> int | None:
        epoch, number = known
        newest = max(stored.newest.values(), key=lambda one: one.position)
        self._numbers[topic, epoch] = number
        if newest is stored.newest[epoch] and newest.number <= number:
            for other, one in stored.newest.items():
                self._numbers.setdefault((topic, other), one.number)
            return None
        if mark is None:
            self._skipping[topic] = known
        self._floors[topic] = mark or 0
        return mark or 0

    def accept(self, topic: str, epoch: str, one: StoredMessage) -> list[FeedItem]:
        """The items to deliver for a message; none if it was delivered before, or is late."""
        if self._skips(topic, epoch, one.number) or one.position <= self._floors.get(topic, 0):
            return []
        last = self._numbers.get((topic, epoch))
        if one.number <= (last or 0):
            return []
        self._numbers[topic, epoch] = one.number
        if one.lease < self._leases[_name(topic)] and not topic.startswith(OF_DAEMONS):
            self.n_late += 1
            return []
        items: list[FeedItem] = []
        if last is not None and one.number > last + 1:
            items.append(MissedMessages(topic, one.number - last - 1, reason="not_kept"))
        items += self._note_lease(topic, epoch, one.lease)
        message = parse(one.body)
        self._note_tags(topic, message)
        return [*items, message]

    def _skips(self, topic: str, epoch: str, number: int) -> bool:
        """Whether an earlier reader has delivered a message."""
        known = self._skipping.get(topic)
        if known is None:
            return False
        if epoch != known[0]:
            self._numbers[topic, epoch] = number
            return True
        if number >= known[1]:
            del self._skipping[topic]
        return number <= known[1]

    def _note_lease(self, topic: str, epoch: str, lease: int) -> list[FeedItem]:
        """Notes which daemon publishes a topic. If the last one did not hand the topic over, the
        tags that it has left on are unknown."""
        name = _name(topic)
        self._leases[name] = max(self._leases[name], lease)
        if not topic.startswith("event/"):
            return []
        before = self._writers.get(topic)
        if before is not None and (lease, epoch) <= (before[1], before[0]):
            return []
        self._writers[topic] = (epoch, lease)
        handed_over = before is None or before[0] == epoch or 0 < before[1] < lease
        if handed_over or not self._on[topic]:
            return []
        self._on[topic].clear()
        return [MissedMessages(topic, 0, restarted=True, reason="epoch")]

    def _note_tags(self, topic: str, message: FeedItem) -> None:
        if isinstance(message, TagOn):
            self._on[topic].add((message.tagger, message.tag))
        elif isinstance(message, TagOff):
            self._on[topic].discard((message.tagger, message.tag))
        elif isinstance(message, StreamDown):
            self._on[topic].clear()


def _name(topic: str) -> str:
    """The stream that a topic is about."""
    return topic.split("/")[1]


class NatsReader:
    """Reads messages of JetStream into `items`, until it is cancelled.

    Args:
        options: how to reach NATS.
        kinds: kinds of topics to read.
        streams: names, or beginnings of names with a star; None for all.
        since: epoch and number of the last delivered message by topic, or the time to begin at.
        most: the most items that may wait.
    """

    def __init__(
        self,
        options: NatsOptions,
        kinds: tuple[str, ...],
        streams: tuple[str, ...] | None,
        since: dict[str, tuple[str, int]] | datetime | None,
        most: int,
    ) -> None:
        self._options, self._layout = options, options.layout
        self._streams = streams
        self._moment = since if isinstance(since, datetime) else None
        known = since if isinstance(since, dict) else {}
        self._marks = {subject: n for subject, (_, n) in known.items() if "/" not in subject}
        self._tracker = DeliveryTracker({t: found for t, found in known.items() if "/" in t})
        self.items = ItemQueue(min(most, MOST_WAITING))
        self.received_at = 0.0
        """When the last message or beat was received, as of `time.monotonic`; 0 for never."""
        named = tuple(kind for kind in kinds if kind not in OF_DAEMONS)
        general = tuple(kind for kind in kinds if kind in OF_DAEMONS)
        self._filters = [
            *self._layout.filters(named, streams),
            *self._layout.filters(general, None),
        ]
        self._unread = set(self._filters)
        self._failed_at = self._failing_since = 0.0  # as of `time.monotonic`

    @property
    def synced(self) -> bool:
        """Whether the current state has been received."""
        return not self._unread

    async def run(self) -> None:
        """Connects and reads, and tries again after errors."""
        while True:
            try:
                connection = await connect(self._options)
            except NatsRefusedError as error:
                await self.items.put([error])
                await asyncio.sleep(RETRY_SECONDS)
            except FeedError as error:
                await self._complain(error)
                await asyncio.sleep(RETRY_SECONDS / 4)
                continue
            try:
                await self._listen(connection)
                await asyncio.gather(*(self._read(connection, one) for one in self._filters))
            finally:
                await connection.close()

    async def _listen(self, connection: NatsConnection) -> None:
        """Subscribes to the bridges' heartbeats."""

        async def arrived(_: "Msg") -> None:
            self.received_at = time.monotonic()

        with suppress(Exception):
            await connection.client.subscribe(self._layout.beat, cb=arrived)

    async def _read(self, connection: NatsConnection, subject: str) -> None:
        """Reads one filter until it is cancelled."""
        position: int | None = None
        while True:
            try:
                if position is None and self._moment is None:
                    position = await self._begin(connection, subject)
                consumer = await self._open(connection, subject, position)
                self._unread.discard(subject)
                try:
                    async for page in consumer.following():
                        self.received_at = time.monotonic()
                        for one in page:
                            await self._deliver(subject, one)
                            position = one.position
                finally:
                    await consumer.close()
            except ConsumerLostError as error:
                log.debug("nats: %s: %s", subject, error)
                await asyncio.sleep(0.05)
            except StreamMissingError as error:  # a daemon may come later
                log.debug("%s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except NatsRefusedError as error:
                await self.items.put([error])
                await asyncio.sleep(RETRY_SECONDS)
            except FeedError as error:
                await self._complain(error)
                await asyncio.sleep(RETRY_SECONDS / 4)

    async def _complain(self, error: FeedError) -> None:
        """Delivers an error if it lasts. Servers that elect a leader do not answer for a while."""
        now = time.monotonic()
        if now > self._failed_at + COMPLAINT_SECONDS:
            self._failing_since = now
        self._failed_at = now
        log.debug("%s", error)
        if now >= self._failing_since + COMPLAINT_SECONDS:
            self._failing_since = now
            await self.items.put([error])

    async def _open(
        self, connection: NatsConnection, subject: str, position: int | None
    ) -> Consumer:
        """Opens a consumer behind a position; None to begin at the time in `since`."""
        stream = self._layout.stream_of(subject)
        if position is None:
            return await open_consumer(
                connection, stream, subject, "by_start_time", opt_start_time=self._moment
            )
        newest = await newest_of_each(connection, stream, subject, headers_only=True)
        if position > max((one.position for one in newest), default=0):
            position = 0  # the stream may have been created anew; known messages are left out
        return await open_consumer(
            connection, stream, subject, "by_start_sequence", opt_start_seq=position + 1
        )

    async def _begin(self, connection: NatsConnection, subject: str) -> int:
        """Delivers the state of a filter; returns the position behind which to read on."""
        stream = self._layout.stream_of(subject)
        is_kept = stream == self._layout.kept
        newest = await newest_of_each(connection, stream, subject, headers_only=is_kept)
        last = max((one.position for one in newest), default=0)
        if not is_kept:
            await self._deliver_newest(subject, newest)
            return last
        mark = self._marks.get(subject)
        mark = mark if mark is not None and mark <= last else None
        topics: dict[str, _Stored] = defaultdict(_Stored)
        for one in newest:
            topic, epoch = self._layout.topic(one.subject)
            topics[topic].newest[epoch] = one
        states = subject.replace(f"{self._layout.prefix}.", f"{self._layout.prefix}.state.", 1)
        for one in await newest_of_each(connection, self._layout.states, states):
            topic, epoch = self._layout.topic(one.subject)
            if epoch in topics[topic].newest or not topics[topic].newest:
                topics[topic].states[epoch] = parse_state(one.body)
        starts: list[int] = []
        for topic, stored in topics.items():
            items, start = self._tracker.begin(topic, stored, mark)
            if start is not None:
                starts.append(start)
            if self._wants(topic):
                await self.items.put(items)
        return min(starts, default=last)

    async def _deliver_newest(self, subject: str, newest: list[StoredMessage]) -> None:
        """Delivers the newest scores and moods, unless they are old."""
        now = datetime.now(UTC)
        for one in newest:
            if one.time > now - FRESH:
                await self._deliver(subject, one)
            else:
                with suppress(FeedError):
                    self._tracker.accept(*self._layout.topic(one.subject), one)

    async def _deliver(self, subject: str, one: StoredMessage) -> None:
        topic, epoch = self._layout.topic(one.subject)
        items: list[ReaderItem] = []
        try:
            items += self._tracker.accept(topic, epoch, one)
        except FeedError as error:  # of another version
            items.append(error)
        if items and self._wants(topic):
            await self.items.put([*items, Mark(subject, one.position)])

    def _wants(self, topic: str) -> bool:
        kind, name = topic.split("/")[:2]
        return self._streams is None or kind in OF_DAEMONS or matches(self._streams, name)
