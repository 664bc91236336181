"""What a journal tells of a stretch of time, with few of its rows read.

A topic's rows, in the order of their numbers, fall into three parts: those before the stretch, all
of a time up to its beginning, of which only what is in force after them counts; the middle, which
is read; and those after it, of which only endings of what began earlier count. Times nearly rise
with the numbers, so the borders are guessed by bisection. But clocks are set back, so SQLite then
looks at every row outside the middle, and the middle is widened until no other row belongs to it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from streamtag.errors import FeedError
from streamtag.feed.messages import Gap, Message, StreamUp, TagOff, TagOn, parse
from streamtag.feed.timestamps import ns_of
from streamtag.history.query import PriorState, TopicEvents
from streamtag.history.sql import SINCE_UTC, UTC, moment, of_kind

NEVER = 2**62
"""A number that no message has."""
FEW = 3
"""So many topics are looked up one by one; more of them in one go through the whole journal."""

_TABLE = (
    "CREATE TEMP TABLE IF NOT EXISTS span"
    ' (topic INTEGER PRIMARY KEY, "begin" INTEGER, "end" INTEGER)'
)
_WANTED = f"""
SELECT event.topic, seq, until, body FROM {{tables}} WHERE CASE
  WHEN seq<span."begin" THEN until>=span."begin" OR {of_kind("gap")} OR coalesce({UTC}>:since,1)
  WHEN seq<=span."end" THEN 1
  ELSE coalesce({UTC}<:until,1) OR {of_kind("stream_up")}
    OR ({of_kind("tag_off")} AND coalesce({SINCE_UTC}<:until,1)) END
"""
Rows = list[tuple[int, int, Message]]
"""Number, the number until which it is in force, message."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The middle of a topic: numbers [begin, end]."""

    begin: int
    """0 where nothing is before it."""
    end: int
    """Of a message whose time is after the stretch; `NEVER` where there is none."""
    before: int
    """The number of the message before."""


class Spans:
    """Reads stretches of time out of a journal.

    Args:
        db: the journal.
        expand: gives payloads back as they were published.
        since: the first moment, in nanoseconds since 1970.
        until: the moment after the last.
    """

    def __init__(
        self, db: sqlite3.Connection, expand: Callable[[bytes], bytes], since: int, until: int
    ) -> None:
        self._db, self._expand = db, expand
        self._since, self._until = since, max(since, until)
        self._texts = {"since": moment(since), "until": moment(self._until)}

    def told(self, topics: Mapping[int, int]) -> dict[int, TopicEvents]:
        """What bears on the stretch, by topic.

        Args:
            topics: the first number that retention has left, by topic.
        """
        spans = {topic: self._guess(topic, first) for topic, first in topics.items()}
        while True:
            rows = self._read(spans)
            better = {
                topic: self._better(topic, topics[topic], span, rows[topic])
                for topic, span in spans.items()
            }
            if better == spans:
                break
            spans = better
        return {t: self._of(t, topics[t], span, rows[t]) for t, span in spans.items()}

    def _guess(self, topic: int, first: int) -> _Span:
        """Where the middle is if times rise."""
        query = "SELECT min(seq), max(seq) FROM event WHERE topic=?"
        low, high = self._db.execute(query, (topic,)).fetchone()
        if low is None:
            return _Span(0, NEVER, 0)
        begin = self._bisect(topic, low, high + 1, self._texts["since"] + b"!")  # just after it
        end = self._bisect(topic, begin, high + 1, self._texts["until"])
        return self._span(topic, first, begin, end)

    def _bisect(self, topic: int, low: int, high: int, text: bytes) -> int:
        query = f"SELECT seq, {UTC} FROM event WHERE topic=? AND seq>=? ORDER BY seq LIMIT 1"
        while low < high:
            middle = (low + high) // 2
            found = self._db.execute(query, (topic, middle)).fetchone()
            if found is None or found[1] is None or found[1] >= text:
                high = middle
            else:
                low = found[0] + 1
        return low

    def _span(self, topic: int, first: int, begin: int, end: int) -> _Span:
        """A middle that begins after a message that is kept, and ends with one after the stretch.

        Args:
            topic: of the span.
            first: the first number that retention has left.
            begin: the first number that must be in it.
            end: the first number that may be its last.
        """
        query = "SELECT seq, body FROM event WHERE topic=? AND seq>=? AND seq<? ORDER BY seq DESC"
        before = next((n for n, _ in self._parsed(query, topic, first, begin)), 0)
        query = "SELECT seq, body FROM event WHERE topic=? AND seq>=? AND seq<=? ORDER BY seq"
        after = self._parsed(query, topic, max(begin, end), NEVER)
        last = next((n for n, m in after if m.utc.encode() >= self._texts["until"]), NEVER)
        return _Span(begin if before else 0, last, before)

    def _parsed(self, query: str, *values: int) -> Iterable[tuple[int, Message]]:
        for number, body in self._db.execute(query, values):
            if (message := self._message(body)) is not None:
                yield number, message

    def _message(self, body: bytes) -> Message | None:
        try:
            return parse(self._expand(body))
        except FeedError:
            return None

    def _read(self, spans: Mapping[int, _Span]) -> dict[int, Rows]:
        """What may count, by topic; rising."""
        self._db.execute(_TABLE)
        self._db.execute("DELETE FROM temp.span")
        self._db.executemany(
            "INSERT INTO temp.span VALUES (?, ?, ?)",
            [(topic, span.begin, span.end) for topic, span in spans.items()],
        )
        tables = (
            "temp.span CROSS JOIN event ON event.topic=span.topic"
            if len(spans) <= FEW
            else "event NOT INDEXED CROSS JOIN temp.span ON span.topic=event.topic"
        )
        found: dict[int, Rows] = {topic: [] for topic in spans}
        query = _WANTED.format(tables=tables)
        for topic, number, until, body in self._db.execute(query, self._texts):
            if (message := self._message(body)) is not None:
                found[topic].append((number, until, message))
        for rows in found.values():
            rows.sort(key=lambda row: row[0])
        return found

    def _better(self, topic: int, first: int, span: _Span, rows: Rows) -> _Span:
        """The span widened by what belongs to it; itself where nothing does."""
        early = [n for n, _, m in rows if n < span.begin and self._matters(m)]
        late = [n for n, _, m in rows if n > span.end and m.utc.encode() < self._texts["until"]]
        if not early and not late:
            return span
        begin = early[0] if early else span.begin
        return self._span(topic, first, begin, late[-1] + 1 if late else span.end)

    def _matters(self, message: Message) -> bool:
        """Whether one before the middle tells of more than what is in force."""
        if message.utc.encode() > self._texts["since"]:
            return True
        return isinstance(message, Gap) and ns_of(message.utc) + lasting(message) > self._since

    def _of(self, topic: int, first: int, span: _Span, rows: Rows) -> TopicEvents:
        middle = [row for row in rows if span.begin <= row[0] <= span.end]
        if not span.begin:
            return TopicEvents(first, middle, None, self._late(topic, span, rows))
        standing: list[tuple[int, Message]] = [
            (until, message)
            for number, until, message in rows
            if number < span.begin <= until and isinstance(message, StreamUp | TagOn)
        ]
        before = PriorState(self._since, span.before, standing)
        return TopicEvents(first, middle, before, self._late(topic, span, rows))

    def _late(self, topic: int, span: _Span, rows: Rows) -> list[tuple[int, Message]]:
        """Endings after the middle, as long as all is known from there to them."""
        found, last = list[tuple[int, Message]](), span.end
        query = "SELECT count(*) FROM event WHERE topic=? AND seq>? AND seq<=?"
        for number, until, message in rows:
            if number <= span.end:
                continue
            (there,) = self._db.execute(query, (topic, last, number)).fetchone()
            if there != number - last or isinstance(message, StreamUp):
                break
            last = number
            if isinstance(message, TagOff):
                found.append((until, message))
        return found


def lasting(gap: Gap) -> int:
    """Nanoseconds of missing audio."""
    return round((gap.end - gap.t) * 1e9)
