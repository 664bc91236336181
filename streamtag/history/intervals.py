"""Intervals of time from a stream's events: when it was received, and when each tag was on.

Only what is known counts. Time in which messages are missing (removed, never kept, damaged), or
audio is missing, belongs neither to the stream nor to a tag.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamtag.feed.messages import Gap, Message, StreamDown, StreamUp, TagOff, TagOn
from streamtag.feed.timestamps import ns_of
from streamtag.history.query import PriorState, TopicEvents
from streamtag.history.scan import NEVER, missing_audio

HOUR = 3600 * 10**9
"""An hour in nanoseconds."""

Interval = tuple[int, int]
"""[begin, end) in nanoseconds since 1970."""
Key = tuple[str, str]
"""Tagger and tag."""
STREAM: Key = ("", "")
"""The key of the stream itself."""


@dataclass(frozen=True, slots=True)
class StreamIntervals:
    """When a stream was received, and when its tags were on."""

    received: list[Interval] = field(default_factory=list)
    on: dict[Key, list[Interval]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TagShare:
    """The share of an hour during which a tag was on."""

    hour: int
    """Its beginning, in nanoseconds since 1970."""
    stream: str
    tagger: str
    tag: str
    on: float
    """Seconds."""
    received: float
    """Seconds in which the stream was received."""

    @property
    def share(self) -> float:
        """Fraction of the time in which the stream was received, 0 to 1."""
        return self.on / self.received


def stream_intervals(events: TopicEvents, end: int | None) -> StreamIntervals:
    """The intervals of a stream.

    Args:
        events: of its topic `event/STREAM/`. If they are those of a range of time, the intervals
            are right within that range.
        end: the moment up to which what is in force lasts, if a daemon runs; None: up to the last
            message.
    """
    builder = _IntervalBuilder()
    previous = events.first - 1
    if events.prior is not None:
        builder.begin_with(events.prior)
        previous = events.prior.last
    for number, until, message in events.rows:
        if number < events.first:
            builder.recall(until, message, events.first)
            continue
        builder.end_before(number)
        if number != previous + 1 or (number == events.first and events.first > 1):
            builder.resume(number, ns_of(message.utc))
        previous = number
        builder.add(until, message)
    builder.end_before(NEVER)
    return builder.finish(end)


class _IntervalBuilder:
    """Follows the messages of a topic in the order of their numbers."""

    def __init__(self) -> None:
        self._intervals: dict[Key, list[Interval]] = defaultdict(list)
        self._gaps: list[Interval] = []
        self._active: dict[Key, tuple[int, int]] = {}  # since, number until which it is in force
        self._first_end = NEVER  # no active key ends before this number
        self._known = self._last = 0  # known without a hole since; the last moment

    def recall(self, until: int, message: Message, first: int) -> None:
        """A message that was in force where retention begins."""
        self._last = max(self._last, ns_of(message.utc))
        if until >= first:
            self._activate(message, self._last, until)

    def begin_with(self, prior: PriorState) -> None:
        """Messages before the range: whatever else they were about had ended by then."""
        self._known = self._last = prior.moment
        for until, message in prior.in_force:
            self._activate(message, prior.moment, until)

    def end_before(self, number: int) -> None:
        """Ends what the journal says ended before a number, although no message of it is kept."""
        if number <= self._first_end:
            return
        for key, (since, until) in list(self._active.items()):
            if until < number:
                self._add_interval(key, since, self._last)
                del self._active[key]
        self._first_end = min((until for _, until in self._active.values()), default=NEVER)

    def resume(self, number: int, now: int) -> None:
        """Messages are missing before a number; what lasted beyond them begins again here."""
        now = max(now, self._last)
        if self._known:
            self._interrupt()
        self._known = self._last = now
        self._active = {
            k: (now, until) for k, (_, until) in self._active.items() if until >= number
        }

    def add(self, until: int, message: Message) -> None:
        """The next message."""
        now = ns_of(message.utc)
        if isinstance(message, StreamUp):
            if STREAM in self._active:
                self._interrupt()
            self._active, self._known, self._last = {}, now, now
        self._last = max(self._last, now)
        match message:
            case StreamUp():
                self._activate(message, now, until)
            case TagOn():
                self._activate(message, max(now, self._known), until)
            case TagOff():
                key = message.tagger, message.tag
                unknown = max(self._known, ns_of(message.since_utc)), 0
                self._add_interval(key, self._active.pop(key, unknown)[0], now)
            case StreamDown() if STREAM in self._active:
                self._add_interval(STREAM, self._active.pop(STREAM)[0], now)
            case Gap():
                end = now + missing_audio(message)
                self._gaps.append((now, end))
                self._last = max(self._last, end)

    def finish(self, end: int | None) -> StreamIntervals:
        """The intervals; what is in force lasts until `end`."""
        if not self._known and end is not None:  # nothing has come since retention
            self._known = self._last
            self.resume(0, self._last)
        self._last = self._last if end is None else max(self._last, end)
        if self._known:
            self._interrupt()
        on = {key: without(spans, self._gaps) for key, spans in self._intervals.items()}
        return StreamIntervals(on.pop(STREAM, []), on)

    def _activate(self, message: Message, since: int, until: int) -> None:
        if isinstance(message, StreamUp | TagOn):
            key = (message.tagger, message.tag) if isinstance(message, TagOn) else STREAM
            self._active[key] = since, until
            self._first_end = min(self._first_end, until)

    def _interrupt(self) -> None:
        """Ends what is active at the last known moment."""
        for key, (since, _) in self._active.items():
            self._add_interval(key, since, self._last)

    def _add_interval(self, key: Key, begin: int, end: int) -> None:
        if end > begin:
            self._intervals[key].append((begin, end))


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
    intervals: StreamIntervals,
    since: int,
    until: int,
    tags: frozenset[str] = frozenset(),
) -> list[TagShare]:
    """A share for each hour in which the stream was received and each tag that was on in it.

    Only [since, until) counts, in nanoseconds since 1970. Empty tags stand for all.
    """
    received = _by_hour(within(intervals.received, since, until))
    return sorted(
        (
            TagShare(hour, stream, tagger, tag, on, received[hour])
            for (tagger, tag), spans in intervals.on.items()
            if not tags or tag in tags
            for hour, on in _by_hour(within(spans, since, until)).items()
            if hour in received
        ),
        key=lambda share: (share.hour, share.tagger, share.tag),
    )


def _by_hour(spans: Iterable[Interval]) -> dict[int, float]:
    """Seconds of the intervals in each hour."""
    nanoseconds: dict[int, int] = defaultdict(int)
    for begin, end in spans:
        for hour in range(begin - begin % HOUR, end, HOUR):
            nanoseconds[hour] += min(end, hour + HOUR) - max(begin, hour)
    return {hour: total / 1e9 for hour, total in nanoseconds.items()}
