"""Scans of a journal that SQLite does by itself, so that few rows reach Python.

SQLite reads the time of a message from its payload: the field is easy to find, and its text sorts
as the moments do. An index of times would make every write slower. The time of writing says little
about an archive that is tagged faster than it plays, or after a clock was set back.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streamtag.errors import FeedError
from streamtag.feed.codec import encode
from streamtag.feed.journal.compression import ZLIB_HEADER, Decompressor
from streamtag.feed.messages import Gap, Message, SilenceOn, StreamUp, TagOn, parse
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.history.query import PriorState, Query, TopicEvents

NEVER = 2**62
"""A number that no message has."""
FEW_TOPICS = 3
"""Up to this many topics are looked up by the index; more of them in one pass through the file."""
_TIME_LENGTH = 27
"""Characters of a time with microseconds."""
_HEAD_BYTES = 400
"""The fields that all messages have are in this many bytes."""
_UTC = re.compile(rb'utc(?:":"|\xbb)(.{27})')
"""The time of a message, in JSON and in MessagePack."""

_IS_JSON = f"substr(body,1,1)=x'{b'{'.hex()}'"
_IS_MSGPACK = "substr(body,1,1)>=x'80'"


def _time_in(name: str) -> str:
    """SQL for the text of a field with a time; NULL if it is not found."""
    in_json = f'"{name}":"'.encode()
    packed = bytes([0xA0 | len(name)]) + name.encode() + bytes([0xA0 | _TIME_LENGTH])
    return f"CASE WHEN {_IS_JSON} THEN {_after(in_json)} WHEN {_IS_MSGPACK} THEN {_after(packed)}"


def _after(mark: bytes) -> str:
    position = f"nullif(instr(body,x'{mark.hex()}'),0)"
    return f"substr(body,{position}+{len(mark)},{_TIME_LENGTH})"


def _may_be(name: str) -> str:
    """SQL for whether a message may be of a type; true for every one that is."""
    return (
        f"(instr(substr(body,1,48),x'{name.encode().hex()}') OR NOT ({_IS_JSON} OR {_IS_MSGPACK}))"
    )


UTC = f"{_time_in('utc')} ELSE compressed_utc(body) END"
SINCE_UTC = f"{_time_in('since_utc')} END"
"""When the thing began that a message ends."""

_MAY_END = f"({_may_be('tag_off')} OR {_may_be('silence_off')})"
_OUTSIDE = f"""
SELECT event.topic, seq, seq>="end" AND NOT coalesce({UTC}<:until,0) FROM {{tables}} WHERE CASE
  WHEN seq<"begin" THEN CASE WHEN {_may_be("gap")} THEN gap_end(body) ELSE {UTC} END>=:after
  WHEN seq>="end" THEN CASE WHEN {_MAY_END} THEN {SINCE_UTC} ELSE {UTC} END<:until END
"""
_IN_FORCE = """
SELECT event.topic, until, body FROM {tables} WHERE seq<"begin" AND until>="begin" ORDER BY seq
"""


def add_functions(db: sqlite3.Connection, decompressor: Decompressor) -> None:
    """Adds the SQL functions that the scans need to a connection."""

    def compressed_utc(body: object) -> bytes | None:
        if not isinstance(body, bytes) or body[:1] != ZLIB_HEADER:
            return None
        try:
            found = _UTC.search(decompressor.decompress(body, _HEAD_BYTES))
        except FeedError:
            return None
        return found[1] if found else None

    def gap_end(body: bytes) -> bytes | None:
        try:
            gap = parse(body)
        except FeedError:
            return None
        return _text(ns_of(gap.utc) + missing_audio(gap)) if isinstance(gap, Gap) else None

    db.create_function("compressed_utc", 1, compressed_utc, deterministic=True)
    db.create_function("gap_end", 1, gap_end, deterministic=True)


def missing_audio(gap: Gap) -> int:
    """Nanoseconds of audio that are missing."""
    return round((gap.end - gap.t) * 1e9)


def condition(query: Query) -> tuple[str, list[object]]:
    """SQL that is true for every message that a query wants, but for its streams; and the values.

    A row whose time SQLite cannot read is passed on: it is compressed or damaged.
    """
    parts, values = ["1"], list[object]()
    for moment, comparison in ((query.since, ">="), (query.until, "<")):
        if moment is not None:
            parts.append(f"coalesce({UTC}{comparison}?,1)")
            values.append(_text(moment))
    if query.tags:
        found = " OR ".join(["instr(body,?)"] * len(query.tags))
        parts.append(f"(NOT {_IS_JSON} OR {found})")
        values += [b'"tag":' + encode(tag) for tag in sorted(query.tags)]
    if query.types:
        parts.append(f"({' OR '.join(map(_may_be, sorted(query.types)))})")
    return " AND ".join(parts), values


def _text(ns: int) -> bytes:
    """Nanoseconds since 1970 as payloads have them."""
    return rfc3339(ns).encode()


@dataclass(slots=True)
class _Span:
    """The numbers [begin, end) of a topic; all others are of a time outside the range."""

    begin: int
    end: int
    endings: list[int] = field(default_factory=list)
    """Numbers of later messages that end what began before the end of the range."""


class RangeScan:
    """Reads what a journal knows of a range of time.

    The times of a topic nearly rise with its numbers, so bisection finds the numbers of the range.
    But clocks are set back. A scan of all other rows then finds those that belong to the range,
    too. The range is [since, until) in nanoseconds since 1970. The connection has the functions of
    `add_functions`.
    """

    def __init__(
        self, db: sqlite3.Connection, decompressor: Decompressor, since: int, until: int
    ) -> None:
        self._db, self._decompress, self._since = db, decompressor.decompress, since
        self._texts = {"after": _text(since + 1000), "until": _text(max(since, until))}

    def read(self, topics: dict[int, int]) -> dict[int, TopicEvents]:
        """The rows that matter for the range, by topic. Given is the first number that is kept."""
        spans = {topic: self._bisected(topic) for topic in topics}
        for topic, number, is_ending in list(self._scan(_OUTSIDE, spans)):
            span = spans[topic]
            if number < span.begin:
                span.begin = number
            elif is_ending:
                span.endings.append(number)
            else:
                span.end = max(span.end, number + 1)
        in_force: dict[int, list[tuple[int, Message]]] = {topic: [] for topic in topics}
        for topic, until, body in self._scan(_IN_FORCE, spans):
            if (message := self._parse(body)) is not None:
                in_force[topic].append((until, message))
        return {t: self._events(t, topics[t], span, in_force[t]) for t, span in spans.items()}

    def rows(self, topic: int, begin: int) -> Iterator[tuple[int, int, Message]]:
        """Number, the number until which it is in force, and message; damaged ones are left out."""
        query = "SELECT seq, until, body FROM event WHERE topic=? AND seq>=? ORDER BY seq"
        for number, until, body in self._db.execute(query, (topic, begin)):
            if message := self._parse(body):
                yield number, until, message

    def _bisected(self, topic: int) -> _Span:
        query = "SELECT min(seq), max(seq) FROM event WHERE topic=?"
        low, high = self._db.execute(query, (topic,)).fetchone()
        if low is None:
            return _Span(0, NEVER)
        begin = self._bisect(topic, low, high + 1, self._texts["after"])
        return _Span(begin, self._bisect(topic, begin, high + 1, self._texts["until"]))

    def _bisect(self, topic: int, low: int, high: int, text: bytes) -> int:
        """The first number whose time is not before `text`, if times rise."""
        query = f"SELECT seq, {UTC} FROM event WHERE topic=? AND seq>=? ORDER BY seq LIMIT 1"
        while low < high:
            middle = (low + high) // 2
            found = self._db.execute(query, (topic, middle)).fetchone()
            if found is None or found[1] is None or found[1] >= text:
                high = middle
            else:
                low = found[0] + 1
        return low

    def _scan(self, query: str, spans: dict[int, _Span]) -> Iterable[tuple[int, int, bytes]]:
        """Rows of the topics."""
        self._db.execute("DROP TABLE IF EXISTS temp.span")
        self._db.execute('CREATE TEMP TABLE span (topic INTEGER PRIMARY KEY, "begin", "end")')
        rows = [(topic, span.begin, span.end) for topic, span in spans.items()]
        self._db.executemany("INSERT INTO temp.span VALUES (?, ?, ?)", rows)
        tables = "event NOT INDEXED CROSS JOIN temp.span ON span.topic=event.topic"
        if len(spans) <= FEW_TOPICS:
            tables = "temp.span CROSS JOIN event ON event.topic=span.topic"
        return self._db.execute(query.format(tables=tables), self._texts)

    def _events(
        self, topic: int, first: int, span: _Span, in_force: list[tuple[int, Message]]
    ) -> TopicEvents:
        """The rows from the beginning of a span to the first one after it."""
        query = "SELECT seq, body FROM event WHERE topic=? AND seq>=? AND seq<? ORDER BY seq DESC"
        before = self._db.execute(query, (topic, first, span.begin))
        last = next((number for number, body in before if self._parse(body)), 0)
        prior = PriorState(self._since, last, in_force) if last else None
        rows = list[tuple[int, int, Message]]()
        following = self.rows(topic, span.begin if prior else 0)
        _take_until(span.end, following, rows)
        began = [until for until, _ in in_force]
        for _, until, message in rows:
            if isinstance(message, StreamUp):
                began = []
            elif isinstance(message, TagOn | SilenceOn):
                began.append(until)
        if unknown := set(span.endings).difference(began):  # of what has no beginning here
            _take_until(max(unknown), following, rows)
        return TopicEvents(first, rows, prior)

    def _parse(self, body: bytes) -> Message | None:
        try:
            return parse(self._decompress(body))
        except FeedError:
            return None


def _take_until(
    number: int,
    following: Iterator[tuple[int, int, Message]],
    rows: list[tuple[int, int, Message]],
) -> None:
    """Moves rows over, up to the first that has at least a number."""
    for row in following:
        rows.append(row)
        if row[0] >= number:
            return
