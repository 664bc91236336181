"""The web server's knowledge: the current state, and events for every client.

The journal is the truth about events: each is written there before it is published, so a message on
the feed is only the signal to read the journal. What the journal does not keep (scores, and
events while the disk is full) comes from the feed itself and has no id.
"""

import asyncio
import json
import logging
import sqlite3
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from streamtag.bridges.bridge import DaemonLiveness
from streamtag.bridges.web.live_scores import LiveScores
from streamtag.bridges.web.past_hour import PastHour
from streamtag.bridges.web.raised_alerts import RaisedAlerts
from streamtag.errors import FeedError
from streamtag.feed.client.stream_state import StreamState, StreamStates
from streamtag.feed.client.subscriber import AsyncSubscriber
from streamtag.feed.client.tracker import FeedItem, MissedMessages
from streamtag.feed.codec import decode, is_msgpack
from streamtag.feed.messages import (
    DERIVED_TOPICS,
    Beat,
    Goodbye,
    Level,
    Message,
    Mood,
    Scores,
    StreamDown,
    dump,
)
from streamtag.feed.rights import EVERYTHING, Rights
from streamtag.history.history import History
from streamtag.history.query import JournalEntry, Query

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often the journal is read while nothing arrives on the feed."""
GATHER_SECONDS = 0.03
"""Messages that arrive within this time are taken together: the journal is read once for them, and
clients are woken once."""
MAX_GATHERED = 1000
MOOD_SECONDS = 600
"""Length of a stream's past on the mood plane."""
MOOD_STEP_SECONDS = 2.0
"""Time between two points of it."""
MAX_UNKEPT = 10_000
"""Number of messages without an id that are recognised if the journal keeps them later."""
LEVELS_SECONDS = 0.5
"""Shortest time between two events `levels`."""
ALL = Query()


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event for web clients."""

    type: str
    """Type of the message, or `missed`, `daemon`, `state` or `slow`."""
    data: str
    """A JSON object."""
    id: str = ""
    """Its id in the journal; empty if it is not kept."""
    message: Message | None = None
    """None for an event that every client gets."""
    topic: str = ""
    """The topic that it is about, if it is about one and has no message."""


class MoodTrail:
    """A stream's last ten minutes on the mood plane."""

    def __init__(self) -> None:
        self.points = array("f")
        """Valence and arousal by turns, oldest first."""
        self._last: Mood | None = None

    def add(self, mood: Mood) -> None:
        """Keeps a mood if the last one is long enough ago."""
        last = self._last
        if last is not None and 0 <= mood.t - last.t < MOOD_STEP_SECONDS:
            return
        self._last = mood
        self.points.extend((mood.valence, mood.arousal))
        del self.points[: max(0, len(self.points) - 2 * int(MOOD_SECONDS / MOOD_STEP_SECONDS))]


@dataclass(slots=True, eq=False)
class ClientQueue:
    """The events that wait for one client."""

    query: Query
    limit: int
    waiting: deque[ServerEvent] = field(default_factory=deque)
    levels: bool = False
    """Whether it gets the events `levels`."""
    slow: bool = False
    """The queue was full: the client gets the event `slow` and is disconnected."""
    closed: bool = False
    """The server ends."""
    wake_up: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: ServerEvent) -> None:
        """Queues an event."""
        if self.slow:
            return
        if len(self.waiting) >= self.limit:
            self.slow = True
            self.waiting.clear()
        else:
            self.waiting.append(event)
        self.wake_up.set()

    async def get_all(self, seconds: float) -> list[ServerEvent]:
        """Removes and returns all events; waits for the first one, at most some seconds."""
        if not self.waiting and not self.slow and not self.closed:
            self.wake_up.clear()
            try:
                await asyncio.wait_for(self.wake_up.wait(), seconds)
            except TimeoutError:
                return []
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting


def wants(query: Query, event: ServerEvent) -> bool:
    """Whether a client wants an event, and may see it."""
    if event.message is None:
        return not event.topic or not query.is_limited or query.rights.sees(event.topic)
    return wants_message(query, event.message)


def wants_message(query: Query, message: Message) -> bool:
    """Whether a client wants a message; scores and moods only if the query names their type."""
    if not _is_event(message) and message.type not in query.types:
        return False
    return query.wants(message)


def _is_event(message: FeedItem) -> bool:
    """Whether a message is an event of a stream."""
    return message.topic.startswith("event/")


def _is_kept(message: FeedItem) -> bool:
    """Whether a message is of a topic that the journal keeps in any case."""
    return message.topic.startswith(("event/", *DERIVED_TOPICS))


class FeedHub:
    """Follows a feed and its journal, and queues events for all clients.

    The journal's path is None if it is not known. For `beat_seconds` see `DaemonLiveness`.
    """

    def __init__(
        self, connect: Callable[[], AsyncSubscriber], journal: Path | None, beat_seconds: float
    ) -> None:
        self._connect, self._journal, self._beat_seconds = connect, journal, beat_seconds
        self.states = StreamStates()
        self.alerts = RaisedAlerts()
        self.history: History | None = None
        """The journal, while it is open."""
        self._last_history: History | None = None  # whose state was taken; perhaps closed
        self.cursor = 0
        """Number of the last entry of the journal that was queued."""
        self.daemon_alive = False
        self.trails: dict[str, MoodTrail] = {}
        """By stream."""
        self.live_scores = LiveScores()
        self.past_hour = PastHour()
        self.alerts = RaisedAlerts()
        self.clients: set[ClientQueue] = set()
        self._levels: dict[str, tuple[int, ...]] = {}  # peak, RMS, LUFS that were not sent yet
        self._levels_sent = 0.0
        self._keeps_scores = False  # whether the journal has topics of scores or moods
        self._unkept: deque[tuple[str, str, int]] = deque(maxlen=MAX_UNKEPT)
        self._newest: dict[tuple[str, str], int] = {}  # that the journal had, by topic and epoch

    async def run(self) -> None:
        """Follows the feed until it is cancelled."""
        self.read_journal()
        async with self._connect() as feed:
            liveness = DaemonLiveness(feed, self._beat_seconds)
            while True:
                messages = await self._gather(feed, liveness)
                if not messages or self._keeps_scores or any(map(_is_kept, messages)):
                    self.read_journal()
                for message in messages:
                    self._update(message)
                self._set_alive(liveness.alive)
                self._send_levels()
                self.past_hour.sample(self.states, alive=self.daemon_alive)

    async def _gather(self, feed: AsyncSubscriber, liveness: DaemonLiveness) -> list[FeedItem]:
        """The messages of the next moment; none if nothing arrives for `POLL_SECONDS`."""
        messages: list[FeedItem] = []
        try:
            while len(messages) < MAX_GATHERED:
                message = await feed.receive(0 if messages else POLL_SECONDS)
                if message is None:
                    break
                liveness.update(message)
                messages.append(message)
                if len(messages) == 1:
                    await asyncio.sleep(GATHER_SECONDS)
        except FeedError as error:
            log.warning("%s", error)
        return messages

    def read_journal(self) -> None:
        """Queues what is new in the journal."""
        try:
            if self.history is None or self.history.replaced:
                self._open()
            while self.history is not None:
                page = self.history.after(self.cursor)
                for entry in page.entries:
                    self._queue_entry(entry)
                self.cursor = max([self.cursor, *(e.number for e in page.entries)])
                if page.damaged:
                    self._put(missed("", page.damaged, "damaged"))
                if not page.continue_after:
                    return
        except (FeedError, sqlite3.Error) as error:
            log.warning("journal %s: cannot be read: %s", self._journal, error)
            self.close()

    def close(self) -> None:
        """Closes the journal; `read_journal` opens it again."""
        if self.history is not None:
            self.history.close()
            self.history = None

    def disconnect_clients(self) -> None:
        """Ends the streams of all clients."""
        for client in self.clients:
            client.closed = True
            client.wake_up.set()

    def cursor_id(self) -> str:
        """Id of the last entry that was queued; empty without a journal."""
        return "" if self.history is None else self.history.id_of(self.cursor)

    def state(self, query: Query = ALL) -> dict[str, Any]:
        """The current state for JSON: of the streams that a query wants, with scores if it wants
        them."""
        names = [name for name in self.states if not query.streams or name in query.streams]
        names = [name for name in names if query.rights.sees_stream(name)]
        streams = {name: stream_json(self.states[name], query.rights) for name in sorted(names)}
        if query.types and "scores" not in query.types:
            for stream in streams.values():
                stream["scores"] = {}
        daemon = "up" if self.daemon_alive else "gone"
        wanted = set(query.streams)
        rows = self.alerts.rows() if query.rights.sees_kind("alert") else []
        alerts = [row for row in rows if not wanted or wanted & {*row["streams"]}]
        return {"type": "state", "daemon": daemon, "streams": streams, "alerts": alerts}

    def overview(self, rights: Rights = EVERYTHING) -> dict[str, list[Any]]:
        """The last hour of each stream that may be seen, as `PastHour.text`, and its mood, if it
        has one: valence, arousal and certainty."""
        moods = rights.sees_kind("mood")
        return {
            name: [self.past_hour.text(name), *_rounded(self.states[name].mood if moods else None)]
            for name in self.states
            if rights.sees(f"event/{name}/")
        }

    def _open(self) -> None:
        """Opens the journal and takes the current state from it. If it is the same journal, which
        could not be read for a while, what comes after the cursor is still to be queued."""
        self.close()
        if self._journal is None or not self._journal.is_file():
            return
        before = self._last_history
        replaced = before is not None and before.replaced
        self.history = History(self._journal)
        if before is not None and not replaced:
            return
        messages, self.cursor = self.history.current_state()
        self._keeps_scores = self.history.keeps_scores()
        self.states, self.alerts = StreamStates(), RaisedAlerts()
        for message in messages:
            self._apply(message)
        last_events = self.history.last_events()
        for stream in self.states:
            self.states[stream].newest = last_events.get(stream)
        self._last_history = self.history
        if replaced:
            self._put(missed("", 0, "epoch"))

    def _update(self, message: FeedItem) -> None:
        if isinstance(message, MissedMessages):
            if self.history is None or not message.topic.startswith("event/"):
                self.states.update(message)
                self._put(missed(message.topic, message.count, message.reason or "epoch"))
            elif message.reason == "not_kept":  # all other losses are read from the journal
                self._put(missed(message.topic, message.count, message.reason))
            return
        if isinstance(message, Goodbye | Beat):
            return
        is_event = _is_kept(message)
        if self._last_history is not None and (is_event or self._keeps_scores):
            if self.history is not None and self.history.contains(message):
                return  # queued when the journal was read
            if is_event:
                self._unkept.append((message.topic, message.epoch, message.seq))
            if self._newest.get((message.topic, message.epoch), 0) > message.seq:
                self._send(message)  # the state is newer: retention has removed it meanwhile
                return
        self._queue_message(message)

    def _queue_entry(self, entry: JournalEntry) -> None:
        message = entry.message
        self._keeps_scores |= not _is_kept(message)
        if (message.topic, message.epoch, message.seq) not in self._unkept:
            self._newest[message.topic, message.epoch] = message.seq
            self._queue_message(message, entry)

    def _queue_message(self, message: Message, entry: JournalEntry | None = None) -> None:
        self._apply(message)
        if isinstance(message, StreamDown) and message.removed:
            self.states.remove(message.stream)
            self.trails.pop(message.stream, None)
            self.live_scores.remove(message.stream)
            self.past_hour.remove(message.stream)
        elif isinstance(message, Mood):
            self.trails.setdefault(message.stream, MoodTrail()).add(message)
        elif isinstance(message, Scores):
            self.live_scores.add(message)
        self._send(message, entry)

    def _send(self, message: Message, entry: JournalEntry | None = None) -> None:
        """Gives a message to the clients that want it."""
        clients = [client for client in self.clients if wants_message(client.query, message)]
        if not clients:
            return  # scores are many, and become text only where somebody asked for them
        data = as_json(entry.body) if entry else dump(message).decode()
        event = ServerEvent(message.type, data, entry.id if entry else "", message)
        for client in clients:
            client.put(event)

    def _apply(self, message: Message) -> None:
        """Updates what is known of the present."""
        if isinstance(message, Level):
            numbers = (message.peak_dbfs, message.rms_dbfs, message.lufs)
            self._levels[message.stream] = tuple(round(one) for one in numbers if one is not None)
        elif message.topic.startswith(DERIVED_TOPICS):
            self.alerts.update(message)
        else:
            self.states.update(message)

    def _send_levels(self) -> None:
        """Sends what was measured since the last time, in one event for all streams."""
        now = time.monotonic()
        if not self._levels or now - self._levels_sent < LEVELS_SECONDS:
            return
        wanting = [client for client in self.clients if client.levels]
        if wanting:
            views = {client.query.rights for client in wanting}
            events = {rights: self._levels_event(rights) for rights in views}
            for client in wanting:
                client.put(events[client.query.rights])
        self._levels, self._levels_sent = {}, now

    def _levels_event(self, rights: Rights) -> ServerEvent:
        seen = {
            name: level for name, level in self._levels.items() if rights.sees(f"level/{name}/")
        }
        body = json.dumps({"type": "levels", "levels": seen}, separators=(",", ":"))
        return ServerEvent("levels", body)

    def _set_alive(self, alive: bool) -> None:
        if alive != self.daemon_alive:
            self.daemon_alive = alive
            body = {"type": "daemon", "state": "up" if alive else "gone"}
            self._put(ServerEvent("daemon", json.dumps(body)))

    def _put(self, event: ServerEvent) -> None:
        for client in self.clients:
            if wants(client.query, event):
                client.put(event)


def missed(topic: str, count: int, reason: str) -> ServerEvent:
    """The event for messages that cannot be had; `count` is 0 if it is not known."""
    body = {"type": "missed", "topic": topic, "count": count, "reason": reason}
    return ServerEvent("missed", json.dumps(body), topic=topic)


def as_json(body: bytes) -> str:
    """A payload of either encoding as JSON."""
    if is_msgpack(body):
        return json.dumps(decode(body, dict[str, Any]), ensure_ascii=False, separators=(",", ":"))
    return body.decode(errors="replace")


def stream_json(state: StreamState, rights: Rights = EVERYTHING) -> dict[str, Any]:
    """The state of one stream for JSON, as far as it may be seen."""
    if not rights.sees_kind("event"):
        state = StreamState(scores=state.scores, mood=state.mood)
    if not (rights.sees_kind("scores") and rights.sees_kind("mood")):
        scores = state.scores if rights.sees_kind("scores") else {}
        mood = state.mood if rights.sees_kind("mood") else None
        state = replace(state, scores=scores, mood=mood)
    mood, newest = state.mood, state.newest
    return {
        "status": state.status,
        "cause": state.cause,
        "detail": state.detail,
        "since": state.since,
        "title": state.title,
        "silent": state.silent,
        "taggers": list(state.taggers),
        "models": list(state.models),
        "tags": [
            {
                "tag": on.tag,
                "display": on.display or on.tag,
                "tagger": on.tagger,
                "since": on.utc,
                "probability": round(on.probability, 6),
            }
            for by_tagger in state.on.values()
            for on in by_tagger.values()
        ],
        "scores": {
            tagger: {
                "utc": scores.utc,
                "tags": {
                    tag: round(value, 6)
                    for tag, value in zip(scores.tags, scores.smoothed, strict=True)
                },
            }
            for tagger, scores in state.scores.items()
        },
        "mood": mood
        and {
            "utc": mood.utc,
            "valence": round(mood.valence, 6),
            "arousal": round(mood.arousal, 6),
            "certainty": round(mood.certainty, 6),
        },
        "last": newest and {"utc": newest.utc, "type": newest.type, "what": subject_of(newest)},
    }


def _rounded(mood: Mood | None) -> list[float]:
    return [round(x, 2) for x in (mood.valence, mood.arousal, mood.certainty)] if mood else []


def subject_of(message: Message) -> str:
    """What a message is about: a tag, a title or a cause; empty for other messages."""
    names = ("display", "tag", "title", "cause")
    return next((text for name in names if (text := getattr(message, name, ""))), "")
