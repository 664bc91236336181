"""Intervals of time from a stream's events: when it was received, and when each tag was on; also
its silences, titles, gaps and the states of its source.

Only what is known counts. Time in which messages are missing (removed, never kept, damaged), or
audio is missing, belongs neither to the stream nor to a tag.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from streamtag.feed.messages import (
    Channels,
    Gap,
    Message,
    SilenceOff,
    SilenceOn,
    StreamDown,
    StreamStatus,
    StreamUp,
    TagOff,
    TagOn,
    Title,
)
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
SILENCE: Key = ("", "silence")
TITLE, STATE, SIDE = "title:", "state:", "side:"
"""In place of the tagger in the keys of titles, of the source's states and of a silent side; no
tagger's name has a colon."""
ONE_SIDED = ("left_silent", "right_silent")
"""The balances of channels of which only one is heard."""


class Labelled(NamedTuple):
    """An interval with a title, or with a state of the source."""

    begin: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class StreamIntervals:
    """When a stream was received, and when its tags were on."""

    received: list[Interval] = field(default_factory=list)
    on: dict[Key, list[Interval]] = field(default_factory=dict)
    silent: list[Interval] = field(default_factory=list)
    titles: list[Labelled] = field(default_factory=list)
    """By time, with the time that titles lasted."""
    states: list[Labelled] = field(default_factory=list)
    """By time, what the source was when it was not up: `connecting`, `stalled`, `retrying`,
    `failed` or `paused`."""
    gaps: list[Interval] = field(default_factory=list)
    """Missing audio, in the order of the messages."""
    one_sided: list[Interval] = field(default_factory=list)
    """By time, when one of two channels was silent."""


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
        if STREAM not in self._active:
            self._active = {k: v for k, v in self._active.items() if k[0] != TITLE}

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
            self._end_all(STATE, now)
            self._active = {k: v for k, v in self._active.items() if k[0] == TITLE}
            self._known = self._last = now
        self._last = max(self._last, now)
        match message:
            case StreamUp():
                self._activate(message, now, until)
            case TagOn() | SilenceOn():
                self._activate(message, max(now, self._known), until)
            case TagOff() | SilenceOff():
                if key := _key_of(message):
                    unknown = max(self._known, ns_of(message.since_utc)), 0
                    self._add_interval(key, self._active.pop(key, unknown)[0], now)
            case Title():
                self._end_all(TITLE, now)
                self._activate(message, now, until)
            case StreamStatus():
                self._end_all(STATE, now)
                self._activate(message, now, until)
            case Channels():
                self._end_all(SIDE, now)
                self._activate(message, max(now, self._known), until)
            case StreamDown():
                self._end_all(TITLE, now)
                self._end_all(SIDE, now)
                if message.final:
                    self._end_all(STATE, now)
                if STREAM in self._active:
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
        states = self._take_labelled(STATE)
        titles = self._take_labelled(TITLE)
        sides = union((a, b) for a, b, _ in self._take_labelled(SIDE))
        on = {key: without(spans, self._gaps) for key, spans in self._intervals.items()}
        received, silent = on.pop(STREAM, []), on.pop(SILENCE, [])
        silent = [part for begin, end in silent for part in within(received, begin, end)]
        titles = [
            Labelled(*part, text)
            for begin, end, text in titles
            for part in within(received, begin, end)
        ]
        sides = intersection(union(received), sides)
        return StreamIntervals(received, on, silent, titles, states, self._gaps, sides)

    def _take_labelled(self, kind: str) -> list[Labelled]:
        """Removes the intervals of all titles or states, and returns them by time."""
        keys = [key for key in self._intervals if key[0] == kind]
        return sorted(Labelled(*part, key[1]) for key in keys for part in self._intervals.pop(key))

    def _activate(self, message: Message, since: int, until: int) -> None:
        if key := _key_of(message):
            self._active[key] = since, until
            self._first_end = min(self._first_end, until)

    def _end_all(self, kind: str, now: int) -> None:
        """Ends the title, the state of the source, or the silent side."""
        for key in [key for key in self._active if key[0] == kind]:
            self._add_interval(key, self._active.pop(key)[0], now)

    def _interrupt(self) -> None:
        """Ends what is active at the last known moment."""
        for key, (since, _) in self._active.items():
            self._add_interval(key, since, self._last)

    def _add_interval(self, key: Key, begin: int, end: int) -> None:
        if end > begin:
            self._intervals[key].append((begin, end))


def _key_of(message: Message) -> Key | None:
    """What a message begins or ends; None for other messages, and for one that begins nothing."""
    match message:
        case StreamUp():
            return STREAM
        case TagOn() | TagOff():
            return message.tagger, message.tag
        case SilenceOn() | SilenceOff():
            return SILENCE
        case Title() if message.title:
            return TITLE, message.title
        case StreamStatus() if message.state != "up":
            return STATE, message.state
        case Channels() if message.balance in ONE_SIDED:
            return SIDE, message.balance
    return None


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


def union(spans: Iterable[Interval]) -> list[Interval]:
    """The time that lies in at least one of the intervals, as intervals by time."""
    joined: list[Interval] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined


def intersection(some: list[Interval], others: list[Interval]) -> list[Interval]:
    """The time that lies in intervals of both kinds; each is by time and does not overlap."""
    found: list[Interval] = []
    i = j = 0
    while i < len(some) and j < len(others):
        begin, end = max(some[i][0], others[j][0]), min(some[i][1], others[j][1])
        if begin < end:
            found.append((begin, end))
        if some[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return found


def difference(some: list[Interval], holes: list[Interval]) -> list[Interval]:
    """Intervals less what lies in the holes; each is by time and does not overlap."""
    if not some or not holes:
        return some
    edges = [some[0][0], *(edge for hole in holes for edge in hole), some[-1][1]]
    between = list(zip(edges[::2], edges[1::2], strict=True))
    return intersection(some, [(a, b) for a, b in between if a < b])


def within(spans: Iterable[Interval], begin: int, end: int) -> list[Interval]:
    """The part of intervals that lies in [begin, end)."""
    cut = [(max(a, begin), min(b, end)) for a, b in spans]
    return [(a, b) for a, b in cut if a < b]


def joined(spans: Iterable[Interval], gap: int) -> list[Interval]:
    """Intervals in order of time; those less than `gap` apart become one."""
    found: list[Interval] = []
    for begin, end in sorted(spans):
        if found and begin - found[-1][1] < gap:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


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
