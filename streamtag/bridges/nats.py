"""`streamtag nats`: publishes a daemon's messages to NATS JetStream, each exactly once.

At its start the bridge reads from JetStream which messages are stored. It gets the later ones from
the feed and its journal. Of each topic one message is sent at a time; many topics are sent in
parallel. JetStream stores a message only behind the one before it. So none is stored twice or left
out, however often it is sent and whatever servers are lost.
"""

import asyncio
import logging
import math
import os
import random
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtag.bridges.bridge import (
    ENV_JOURNAL,
    Shutdown,
    feed_access,
    load_running_config,
    required_table,
    shutdown_on_signals,
)
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.config import Config
from streamtag.config.nats import NatsConfig
from streamtag.errors import FeedError
from streamtag.feed.client.subscriber import AsyncSubscriber
from streamtag.feed.client.tracker import FeedItem, MissedMessages, Positions
from streamtag.feed.codec import encode
from streamtag.feed.current_state import CurrentState
from streamtag.feed.journal.reader import JournalReader
from streamtag.feed.messages import VERSION, AlertMessage, Goodbye, Message, Other, dump
from streamtag.feed.nats.connection import ComplaintLog, NatsConnection, connect
from streamtag.feed.nats.consumer import newest_of_each
from streamtag.feed.nats.state import TopicState, parse_state, state_body
from streamtag.feed.nats.storage import WRONG_LAST_MESSAGE, ensure_stream
from streamtag.feed.nats.subjects import (
    EXPECTED_HEADER,
    ID_HEADER,
    KEPT,
    LEASE_HEADER,
    PASSING,
    message_id,
    number_in,
)
from streamtag.feed.rights import matches

log = logging.getLogger(__name__)

ACK_SECONDS = 5.0
"""How long to wait for an acknowledgement before a message is sent again."""
WINDOW = 256
"""The most messages that are sent without an acknowledgement."""
MOST_WAITING = 5000
"""The most events that wait here. The others wait in the journal."""
MOST_PASSING = 20
"""The most scores of one topic that wait. Beyond it the oldest are left out."""
RETRY = BackoffPolicy(0.1, 5.0)
"""Waits after a failure."""
DUPLICATE_SECONDS = 120.0
"""How long JetStream remembers the ids of messages."""
REFRESH_SECONDS = 6 * 3600.0
"""How often states are stored again, before JetStream removes them."""
GOODBYE_SECONDS = 1.0
"""At the end, how long to wait for the daemon's last messages."""
STOP_SECONDS = 1.2
"""At the end, how long to wait for the last acknowledgements after that."""
BEAT_SECONDS = 2.0
"""The bridge sends no heartbeat if the daemon has sent nothing for this time."""
POLL_SECONDS = 0.1
"""How often the bridge checks whether it should end."""
WRONG_LAST = -1
"""Stands for a position: JetStream's last message of the subject was not the expected one."""
FULL = "JetStream is full: give it more room, or lower nats.days; trying again"
ADVICE = {10023: FULL, 10028: FULL, 10047: FULL, 10077: FULL, 10122: FULL}
"""What to do, by JetStream's number of an error."""
UNKNOWN_TOPIC = "event//"
"""Not a real topic. With it in `since`, topics of its epoch that are not named are replayed too."""


def stream_configs(config: NatsConfig) -> Iterator[Any]:
    """The configurations of the JetStream streams that the bridge uses."""
    from nats.js.api import DiscardPolicy, StreamConfig

    layout = config.options().layout
    common: dict[str, Any] = {
        "num_replicas": config.replicas,
        "discard": DiscardPolicy.OLD,
        "duplicate_window": DUPLICATE_SECONDS,
    }
    days, live = config.days * 86_400, config.live_minutes * 60
    yield StreamConfig(
        name=layout.kept,
        subjects=[f"{config.prefix}.{kind}.>" for kind in KEPT],
        max_age=days,
        max_bytes=round(config.megabytes * 1e6) or -1,
        **common | {"duplicate_window": min(DUPLICATE_SECONDS, days)},
    )
    yield StreamConfig(
        name=layout.passing,
        subjects=[f"{config.prefix}.{kind}.>" for kind in PASSING],
        max_age=live,
        max_bytes=round(config.live_megabytes * 1e6) or -1,
        **common | {"duplicate_window": min(DUPLICATE_SECONDS, live)},
    )
    yield StreamConfig(
        name=layout.states,
        subjects=[f"{config.prefix}.state.>"],
        max_msgs_per_subject=1,
        max_age=max(days, 2 * 86_400),
        max_bytes=-1,
        **common,
    )


class NatsTopic:
    """One topic and epoch: the messages that wait to be stored, and the state after those that
    are stored."""

    def __init__(self, topic: str, epoch: str) -> None:
        self.topic, self.epoch = topic, epoch
        self.is_kept = topic.startswith(KEPT)
        self.waiting: deque[Message | None] = deque()
        """None stands for messages that were lost."""
        self.seq, self.lease = 0, 0
        """Number and lease of the last message in the state."""
        self.stored, self.position = 0, 0
        """Number of the last stored message, and its position in JetStream's stream."""
        self.state_due = False
        self._current = CurrentState()

    def restore(self, state: TopicState) -> None:
        """Continues from a state that was stored earlier."""
        self.seq, self.lease = state.seq, state.lease
        self.stored, self.position = max((self.stored, self.position), (state.seq, state.position))
        for message, body in zip(state.parsed(), state.messages, strict=True):
            self._current.restore(message, bytes(body))

    def apply(self, message: Message, body: bytes) -> None:
        """Updates the state with a message that was stored."""
        self.seq, self.lease = max(self.seq, message.seq), lease_of(message)
        if self.is_kept:
            self._current.update(message, body)
            self.state_due = True

    def forget(self) -> None:
        """Forgets the messages in force, because messages were lost."""
        self._current = CurrentState()

    def state(self) -> bytes:
        """The payload of the state."""
        bodies = [row.body for row in self._current]
        return state_body(self.epoch, self.seq, self.position, self.lease, bodies)


def lease_of(message: Message) -> int:
    """The lease in a message; 0 for none."""
    found = message.fields.get("lease") if isinstance(message, Other) else None
    lease = found or getattr(message, "lease", 0)
    return lease if isinstance(lease, int) else 0


class NatsBridge:
    """Stores the messages of a feed in JetStream, until the shutdown.

    Args:
        daemon: the daemon's configuration.
        config: its table `[nats]`.
        connection: open.
        shutdown: true once the bridge should end.
    """

    def __init__(
        self, daemon: Config, config: NatsConfig, connection: NatsConnection, shutdown: Shutdown
    ) -> None:
        self._daemon, self._config, self._shutdown = daemon, config, shutdown
        self._outbox = NatsOutbox(connection)
        self._connection = connection
        self._topics: dict[str, NatsTopic] = {}
        self._next_beat = 0.0

    async def run(self) -> None:
        """Stores messages until the shutdown, including the daemon's last ones.

        Raises:
            FeedError: JetStream's streams were removed, or the feed cannot be read.
        """
        since = await self._resume()
        refreshing = asyncio.create_task(self._refresh())
        try:
            async with AsyncSubscriber(**self._subscription(since)) as feed:
                await self._follow(feed)
            await self._outbox.finish(STOP_SECONDS)
        finally:
            refreshing.cancel()
            await self._outbox.finish(0.0)
            n_stored, n_waiting = self._outbox.n_stored, self._outbox.size
            log.info("nats: %d messages stored, %d wait in the journal", n_stored, n_waiting)

    async def _resume(self) -> Positions:
        """The last stored message of each topic in the journal: the bridge continues behind it."""
        topics = self._journal_topics()
        for epoch in sorted({epoch for epoch, _ in topics.values()}):
            await self._read_stored(epoch)
        since = {t: found for t, found in topics.items() if self._wants_topic(t)}
        for name, (epoch, _) in since.items():
            if name.startswith(KEPT):  # of the others only what is new
                since[name] = (epoch, self._topic(name, epoch).seq)
        if topics:  # the journal will have later topics, too
            since[UNKNOWN_TOPIC] = topics[""]
        return since

    def _journal_topics(self) -> Positions:
        """Epoch and newest number of each topic in the journal; none without a journal."""
        path = os.environ.get(ENV_JOURNAL) or self._daemon.feed.journal
        if not path or not Path(path).is_file():
            return {}
        try:
            reader = JournalReader(Path(path))
        except sqlite3.Error as error:
            log.warning("nats: journal %s: cannot be read: %s", path, error)
            return {}
        try:
            return reader.topics()
        except sqlite3.Error as error:
            log.warning("nats: journal %s: cannot be read: %s", path, error)
            return {}
        finally:
            reader.close()

    async def _read_stored(self, epoch: str) -> None:
        """Reads the newest message and the state of each topic of an epoch from JetStream."""
        layout, prefix = self._connection.layout, self._connection.layout.prefix
        for kind in KEPT:
            for found in await newest_of_each(
                self._connection, layout.kept, f"{prefix}.{kind}.*.{epoch}", headers_only=True
            ):
                topic = self._topic(*layout.topic(found.subject))
                topic.stored, topic.position = found.number, found.position
        states = await newest_of_each(
            self._connection, layout.states, f"{prefix}.state.*.*.{epoch}"
        )
        for found in states:
            self._topic(*layout.topic(found.subject)).restore(parse_state(found.body))

    def _subscription(self, since: Positions) -> dict[str, Any]:
        chosen = self._config.topics
        wanted = {"scores": "scores", "mood": "mood", "stats": "stats", "levels": "level"}
        return dict(
            **feed_access(self._daemon),
            streams=self._config.streams,
            **{key: kind in chosen for key, kind in wanted.items()},
            derived=tuple(kind for kind in KEPT[1:] if kind in chosen),
            since=since,
            high_water=MOST_WAITING,
        )

    async def _follow(self, feed: AsyncSubscriber) -> None:
        """Queues messages. At the shutdown it waits for the daemon's `goodbye`."""
        deadline, has_ended = math.inf, False
        while time.monotonic() < deadline and not (self._shutdown and has_ended):
            if self._shutdown and deadline == math.inf:
                deadline = time.monotonic() + GOODBYE_SECONDS
            if self._outbox.stream_lost:
                raise FeedError("nats: expected the streams of this bridge, got none any more")
            if not await self._outbox.has_room(POLL_SECONDS):
                continue
            message = await feed.receive(POLL_SECONDS)
            if message is not None:
                has_ended = isinstance(message, Goodbye)
                self._queue(message)
            await self._beat(feed)

    async def _beat(self, feed: AsyncSubscriber) -> None:
        """Sends a heartbeat if the daemon is alive and one is due."""
        now = time.monotonic()
        if now >= self._next_beat and now < feed.received_at + BEAT_SECONDS:
            self._next_beat = now + BEAT_SECONDS / 2
            await self._outbox.beat()

    def _queue(self, message: FeedItem) -> None:
        if isinstance(message, MissedMessages):
            is_loss = message.topic.startswith(KEPT) and message.topic != UNKNOWN_TOPIC
            log.log(logging.WARNING if is_loss else logging.DEBUG, "nats: %s", message)
            if found := self._topics.get(message.topic):
                self._outbox.put(found, None)
        elif not isinstance(message, Goodbye) and self._wants(message):
            self._outbox.put(self._topic(message.topic, message.epoch), message)

    def _topic(self, name: str, epoch: str) -> NatsTopic:
        """The topic with this epoch; a new one if the numbers have begun again."""
        found = self._topics.get(name)
        if found is None or found.epoch != epoch:
            found = self._topics[name] = NatsTopic(name, epoch)
        return found

    def _wants(self, message: Message) -> bool:
        """Whether the configuration wants a message to be stored."""
        if not self._wants_topic(message.topic):
            return False
        patterns = self._config.streams
        if patterns is None or not isinstance(message, AlertMessage):
            return True
        about = getattr(message, "streams", None) or (message.stream,)
        return any(matches(patterns, one) for one in about)

    def _wants_topic(self, topic: str) -> bool:
        kind, _, name = topic.rstrip("/").partition("/")
        chosen = (*self._config.topics, *["journal"] * ("stats" in self._config.topics))
        if kind not in chosen:
            return False
        patterns = self._config.streams
        return patterns is None or not name or kind == "alert" or matches(patterns, name)

    async def _refresh(self) -> None:
        """Stores all states again from time to time, before JetStream removes them."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            for topic in list(self._topics.values()):
                topic.state_due = topic.is_kept and topic.stored > 0
                self._outbox.wake(topic)
                await asyncio.sleep(0.01)


class NatsOutbox:
    """Sends messages to JetStream: one at a time of each topic, many topics in parallel."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection, self._layout = connection, connection.layout
        self._jetstream = connection.jetstream
        self._tasks: dict[NatsTopic, asyncio.Task[None]] = {}
        self._window = asyncio.Semaphore(WINDOW)
        self._room = asyncio.Event()
        self._room.set()
        self._complaints = ComplaintLog(log)
        self.size = self.n_stored = self.n_left_out = 0
        """Number of events that wait; of messages stored, and of scores left out, so far."""
        self.stream_lost = False
        """Whether one of JetStream's streams was removed."""

    async def has_room(self, seconds: float) -> bool:
        """Waits at most `seconds` until there is room for messages; returns whether there is."""
        if self._room.is_set():
            return True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._room.wait(), seconds)
        return self._room.is_set()

    def put(self, topic: NatsTopic, message: Message | None) -> None:
        """Queues a message; None for messages that were lost."""
        if not topic.is_kept and len(topic.waiting) >= MOST_PASSING:
            del topic.waiting[1]  # the first one has been sent
            self.n_left_out += 1
        topic.waiting.append(message)
        self.size += topic.is_kept
        if self.size >= MOST_WAITING:
            self._room.clear()
        self.wake(topic)

    def wake(self, topic: NatsTopic) -> None:
        """Starts sending the messages of a topic, unless that is going on."""
        if topic not in self._tasks:
            self._tasks[topic] = asyncio.create_task(self._drain(topic))

    async def beat(self) -> None:
        """Publishes a heartbeat, which JetStream does not store."""
        if self._connection.is_up:
            with suppress(Exception):
                await self._connection.client.publish(self._layout.beat, b"")

    async def finish(self, seconds: float) -> None:
        """Waits at most `seconds` for acknowledgements, and stops sending."""
        if tasks := list(self._tasks.values()):
            await asyncio.wait(tasks, timeout=seconds)
        for task in list(self._tasks.values()):
            task.cancel()

    async def _drain(self, topic: NatsTopic) -> None:
        """Stores the messages that wait in a topic, one after the other, and then its state."""
        try:
            while topic.waiting or topic.state_due:
                if not topic.waiting:
                    topic.state_due = False
                    await self._store_state(topic)
                    continue
                message = topic.waiting[0]
                if message is None:
                    topic.forget()
                else:
                    await self._store(topic, message)
                topic.waiting.popleft()
                self.size -= topic.is_kept
                if self.size < MOST_WAITING:
                    self._room.set()
        finally:
            del self._tasks[topic]

    async def _store(self, topic: NatsTopic, message: Message) -> None:
        """Stores a message, and tries again until it is stored."""
        body = body_of(message)
        if message.seq > topic.stored:
            headers = {ID_HEADER: message_id(topic.topic, topic.epoch, message.seq)}
            if lease := lease_of(message):
                headers[LEASE_HEADER] = str(lease)
            subject = self._layout.subject(topic.topic, topic.epoch)
            backoff = Backoff(RETRY, random.random)
            while message.seq > topic.stored and not await self._send(
                subject, body, headers, topic, message.seq
            ):
                await asyncio.sleep(backoff.failed())
        topic.apply(message, body)

    async def _send(
        self, subject: str, body: bytes, headers: dict[str, str], topic: NatsTopic, number: int
    ) -> bool:
        """Tries once to store a message; returns whether it was stored."""
        if topic.is_kept:
            headers[EXPECTED_HEADER] = str(topic.position)
        if (ack := await self._publish(subject, body, headers)) is None:
            return False
        if ack == WRONG_LAST:
            await self._read_position(topic, subject)
            return False
        topic.stored, topic.position = number, ack
        self.n_stored += 1
        return True

    async def _store_state(self, topic: NatsTopic) -> None:
        """Stores the state. After a failure, messages that wait go first."""
        if topic.seq < topic.stored:
            return
        subject = self._layout.state(topic.topic, topic.epoch)
        backoff = Backoff(RETRY, random.random)
        while await self._publish(subject, topic.state(), {}) is None:
            await asyncio.sleep(backoff.failed())
            if topic.waiting:
                topic.state_due = True
                return

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str]) -> int | None:
        """Publishes once; returns the position, `WRONG_LAST`, or None after a failure."""
        import nats.errors
        import nats.js.errors

        try:
            async with self._window:
                ack = await self._connection.answer(
                    self._jetstream.publish(subject, body, ACK_SECONDS, headers=headers)
                )
        except nats.js.errors.APIError as error:
            if error.err_code == WRONG_LAST_MESSAGE:
                return WRONG_LAST
            self._complain(
                f"{error.description}; {ADVICE.get(error.err_code or 0, 'trying again')}"
            )
        except nats.js.errors.NoStreamResponseError:
            self._complain("no stream answers; trying again")
            await self._look_for_streams()
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self._complain(f"{self._connection.last_error or error or 'no answer'}; trying again")
        else:
            return int(ack.seq)
        return None

    async def _read_position(self, topic: NatsTopic, subject: str) -> None:
        """Reads the last message of a topic from JetStream, because an acknowledgement was lost."""
        import nats.errors
        import nats.js.errors

        try:
            found = await self._jetstream.get_last_msg(self._layout.kept, subject)
        except nats.js.errors.NotFoundError:
            topic.position = 0
        except (nats.errors.Error, TimeoutError) as error:
            self._complain(str(error))
        else:
            topic.position = int(found.seq or 0)
            number = number_in((found.headers or {}).get(ID_HEADER, ""))
            topic.stored = max(topic.stored, number)

    async def _look_for_streams(self) -> None:
        import nats.errors
        import nats.js.errors

        for name in (self._layout.kept, self._layout.passing, self._layout.states):
            try:
                await self._jetstream.stream_info(name)
            except nats.js.errors.NotFoundError:
                self.stream_lost = True
            except (nats.errors.Error, TimeoutError):
                return

    def _complain(self, what: str) -> None:
        """Logs a failure, the same one not too often."""
        place = self._connection.options.place
        text = f"nats {place}: not stored: {what}; {self.size} events wait"
        self._complaints.add(what, text, time.monotonic())


def body_of(message: Message) -> bytes:
    """The payload of a message in JSON."""
    if not isinstance(message, Other):
        return dump(message)
    head = {"v": VERSION, "type": message.kind, "epoch": message.epoch, "seq": message.seq}
    tail = {"stream": message.stream, "t": message.t, "utc": message.utc, **message.fields}
    return encode(head | tail)


async def _serve(daemon: Config, config: NatsConfig, shutdown: Shutdown) -> None:
    """Connects and runs the bridge, and tries again after errors."""
    backoff = Backoff(RETRY, random.random)
    while not shutdown:
        connection = None
        try:
            connection = await connect(config.options())
            await connection.check_jetstream()
            for stream in stream_configs(config):
                await ensure_stream(connection, stream)
            log.info("nats %s: connected", connection.options.place)
            await NatsBridge(daemon, config, connection, shutdown).run()
        except FeedError as error:
            log.error("%s; trying again", error)
            await asyncio.sleep(backoff.failed())
        finally:
            if connection is not None:
                await connection.close()


def run(path: Path) -> int:
    """Runs the bridge of a daemon's configuration until asked to end; returns the exit code.

    Raises:
        StreamtagError: the configuration or a secret cannot be used.
    """
    daemon = load_running_config(path)
    config = required_table(daemon.nats, path, "[nats]", "nats.md")
    config.options()  # raises if a secret is missing, before anything is tried
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # `NatsConnection` logs the errors
    with shutdown_on_signals() as shutdown:
        asyncio.run(_serve(daemon, config, shutdown))
    return 0
