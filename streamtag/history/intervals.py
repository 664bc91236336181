"""What a stream's journal adds up to: when it was heard, and when each of its tags was on.

Only what is known counts. Where messages are missing (removed, never kept, damaged), and where
audio is missing, the time belongs neither to what was heard nor to any tag.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamtag.feed.messages import Gap, Message, StreamDown, StreamUp, TagOff, TagOn
from streamtag.feed.timestamps import ns_of
from streamtag.history.query import PriorState, TopicEvents
from streamtag.history.span import NEVER, lasting

HOUR = 3600 * 10**9
"""Nanoseconds."""

Interval = tuple[int, int]
"""[begin, end) in nanoseconds since 1970."""
Key = tuple[str, str]
"""Tagger and tag."""


@dataclass(frozen=True, slots=True)
class StreamIntervals:
    """When a stream was heard and what was on."""

    heard: list[Interval] = field(default_factory=list)
    on: dict[Key, list[Interval]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TagShare:
    """How much of an hour a tag was on."""

    hour: int
    """Its beginning, in nanoseconds since 1970."""
    stream: str
    tagger: str
    tag: str
    on: float
    """Seconds."""
    heard: float
    """Seconds that the stream was heard."""

    @property
    def share(self) -> float:
        """Of the time that was heard, 0 to 1."""
        return self.on / self.heard


def stream_intervals(told: TopicEvents, end: int | None) -> StreamIntervals:
    """Adds up a stream's events.

    Args:
        told: its topic `event/STREAM/`; of a stretch, the account is right within that.
        end: the moment up to which what is in force lasts, if a daemon runs; None: up to the last
            message.
    """
    adding = _Adding()
    for number, until, message in told.rows:
        if number >= told.first:
            break
        adding.recall(until, message, told.first)
    previous = told.first - 1
    if told.before is not None:
        adding.go_on(told.before)
        previous = told.before.last
    for number, until, message in told.rows:
        if number < told.first:
            continue
        adding.forget(number)
        if number != previous + 1 or (number == told.first and told.first > 1):
            adding.resume(number, ns_of(message.utc))
        previous = number
        adding.take(until, message)
    for until, message in told.late:
        adding.take(until, message)
    adding.forget(NEVER)
    return adding.close(end)


class _Adding:
    """Adds up messages in the order of their numbers."""

    def __init__(self) -> None:
        self._account = StreamIntervals()
        self._gaps: list[Interval] = []
        self._up: tuple[int, int] | None = None  # since, number until which it is in force
        self._on: dict[Key, tuple[int, int]] = {}
        self._known = self._last = 0  # known without a hole since; the last moment
        self._ends = 0  # the first number until which something carried over is in force

    def recall(self, until: int, message: Message, first: int) -> None:
        """What was in force where retention begins."""
        self._last = max(self._last, ns_of(message.utc))
        if until < first:
            return
        if isinstance(message, StreamUp):
            self._up = self._last, until
        elif isinstance(message, TagOn):
            self._on[message.tagger, message.tag] = self._last, until

    def go_on(self, before: PriorState) -> None:
        """After messages that were left out: whatever they told of ended by then."""
        self._known = self._last = before.moment
        for until, message in before.standing:
            if isinstance(message, StreamUp):
                self._up = before.moment, until
            elif isinstance(message, TagOn):
                self._on[message.tagger, message.tag] = before.moment, until
        self._watch()

    def forget(self, number: int) -> None:
        """Ends, before a number is taken, what the journal says ended where nothing is kept."""
        if number <= self._ends or not self._ends:
            return
        for key, (since, until) in list(self._on.items()):
            if until < number:
                self._add(key, since, self._last)
                del self._on[key]
        if self._up and self._up[1] < number:
            self._heard(self._up[0], self._last)
            self._up = None
        self._watch()

    def resume(self, number: int, now: int) -> None:
        """Something is missing before a number: what went on through it begins again here."""
        now = max(now, self._last)
        if self._known:
            self._interrupt()
        self._known = self._last = now
        self._up = (now, self._up[1]) if self._up and self._up[1] >= number else None
        self._on = {key: (now, until) for key, (_, until) in self._on.items() if until >= number}
        self._watch()

    def take(self, until: int, message: Message) -> None:
        """The next message."""
        now = ns_of(message.utc)
        if isinstance(message, StreamUp):
            if self._up:
                self._interrupt()
            self._up, self._on, self._known, self._last = (now, until), {}, now, now
        self._last = max(self._last, now)
        match message:
            case TagOn():
                self._on[message.tagger, message.tag] = max(now, self._known), until
            case TagOff():
                self._off(message, now)
            case StreamDown() if self._up:
                self._heard(self._up[0], now)
                self._up = None
            case Gap():
                end = now + lasting(message)
                self._gaps.append((now, end))
                self._last = max(self._last, end)

    def close(self, end: int | None) -> StreamIntervals:
        """What is in force lasts until `end`."""
        if not self._known and end is not None:
            self._known = self._last  # nothing has come since retention
            self.resume(0, self._last)
        self._last = self._last if end is None else max(self._last, end)
        if self._known:
            self._interrupt()
        account = self._account
        on = {key: without(spans, self._gaps) for key, spans in account.on.items()}
        return StreamIntervals(without(account.heard, self._gaps), on)

    def _off(self, message: TagOff, now: int) -> None:
        key = message.tagger, message.tag
        since, _ = self._on.pop(key, (max(self._known, ns_of(message.since_utc)), 0))
        self._add(key, since, now)

    def _interrupt(self) -> None:
        """Counts what is in force up to the last moment known."""
        if self._up:
            self._heard(self._up[0], self._last)
        for key, (since, _) in self._on.items():
            self._add(key, since, self._last)

    def _watch(self) -> None:
        standing = [*self._on.values(), *([self._up] if self._up else [])]
        self._ends = min((until for _, until in standing), default=0)

    def _heard(self, begin: int, end: int) -> None:
        if end > begin:
            self._account.heard.append((begin, end))

    def _add(self, key: Key, begin: int, end: int) -> None:
        if end > begin:
            self._account.on.setdefault(key, []).append((begin, end))


def without(spans: Iterable[Interval], holes: Iterable[Interval]) -> list[Interval]:
    """Intervals less what lies in the holes."""
    left = list(spans)
    for begin, end in holes:
        left = [
            piece
            for a, b in left
            for piece in ((a, min(b, begin)), (max(a, end), b))
            if piece[0] < piece[1]
        ]
    return left


def within(spans: Iterable[Interval], begin: int, end: int) -> list[Interval]:
    """The part of intervals that lies in [begin, end)."""
    cut = [(max(a, begin), min(b, end)) for a, b in spans]
    return [(a, b) for a, b in cut if a < b]


def shares(
    stream: str,
    account: StreamIntervals,
    since: int,
    until: int,
    tags: frozenset[str] = frozenset(),
) -> list[TagShare]:
    """A share for each hour in which the stream was heard and each tag that was on in it.

    Args:
        stream: its name.
        account: of the stream.
        since: the first moment that counts, in nanoseconds since 1970.
        until: the moment after the last.
        tags: those wanted; empty for all.
    """
    found: list[TagShare] = []
    heard = within(account.heard, since, until)
    hours = sorted({h for a, b in heard for h in range(a // HOUR, -(-b // HOUR))})
    for hour in hours:
        begin, end = max(hour * HOUR, since), min((hour + 1) * HOUR, until)
        seconds = _seconds(heard, begin, end)
        for (tagger, tag), spans in sorted(account.on.items()):
            on = _seconds(spans, begin, end)
            if on and (not tags or tag in tags):
                found.append(TagShare(hour * HOUR, stream, tagger, tag, on, seconds))
    return found


def _seconds(spans: Iterable[Interval], begin: int, end: int) -> float:
    return sum(b - a for a, b in within(spans, begin, end)) / 1e9
