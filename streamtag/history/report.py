"""What was on in some hours of a stream: a pure function of its intervals.

Every moment of the hours has one condition. A moment that is not known (no daemon ran, messages are
missing) is `unknown`, never silence, and nothing is said about the future.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, tzinfo
from typing import Any

from streamtag.feed.timestamps import SECOND
from streamtag.history.days import local_time
from streamtag.history.intervals import (
    Interval,
    Labelled,
    StreamIntervals,
    difference,
    intersection,
    union,
    within,
)

MUSIC, SPEECH, BOTH, OTHER = "music", "speech", "both", "other"
SILENCE, LOST, PAUSED, UNKNOWN = "silence", "lost", "paused", "unknown"
CONDITIONS = (MUSIC, BOTH, SPEECH, OTHER, SILENCE, LOST, PAUSED, UNKNOWN)
"""`both` is speech over music; `other` is sound that is neither."""
HEARD = (MUSIC, BOTH, SPEECH, OTHER, SILENCE)
"""The conditions in which the stream was received."""
KIND = "kind"
"""The category of speech and music."""
SHORTEST_SONG = 30 * SECOND
"""A title that was heard for less, in nanoseconds, is not listed."""
BREAK = 300 * SECOND
"""A title that comes back within this time goes on."""
LEAST_SHARE = 0.3
"""A tag is named with a song if it was on for at least this share of it."""
MOST_TAGS = 3
"""Tags of each category that are named with a song, at most."""


@dataclass(frozen=True, slots=True)
class HourReport:
    """One hour."""

    begin: int
    """Nanoseconds since 1970, as the next one."""
    end: int
    seconds: Mapping[str, float]
    """By condition. They add up to the hour, less what is still to come."""
    one_sided: float = 0.0
    """Seconds in which one of two channels was silent."""

    @property
    def heard(self) -> float:
        """Seconds in which the stream was received."""
        return sum(self.seconds[condition] for condition in HEARD)


@dataclass(frozen=True, slots=True)
class TagReport:
    """How long a tag was on, or at least one tag of a category."""

    tag: str
    """Empty for a whole category."""
    category: str
    on: Sequence[float]
    """Seconds in each hour."""


@dataclass(frozen=True, slots=True)
class Song:
    """A title that the source gave."""

    begin: int
    """Nanoseconds since 1970, as the next one."""
    end: int
    title: str
    heard: float
    """Seconds."""
    tags: Mapping[str, Sequence[tuple[str, float]]]
    """By category: the tags that were on for the greatest shares of it, with these."""


@dataclass(frozen=True, slots=True)
class ReportedAlert:
    """An alert about a stream."""

    alert: str
    """Name of the rule."""
    id: str
    since: int
    """Nanoseconds since 1970, as the next one."""
    over: int | None
    """None if it still holds."""
    severity: str
    detail: str


@dataclass(frozen=True, slots=True)
class ReportedSection:
    """A section of the programme log."""

    begin: int
    """Nanoseconds since 1970, as the next one."""
    end: int
    kind: str
    certainty: float
    title: str
    genre: str
    moods: Sequence[str]
    instruments: Sequence[str]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What was on in some hours of a stream."""

    stream: str
    hours: Sequence[HourReport]
    segments: Sequence[Labelled]
    """Every moment up to now with its condition, by time."""
    tags: Mapping[str, Sequence[TagReport]]
    """By category: the category itself, then its tags, the longest first."""
    songs: Sequence[Song]
    gaps: int
    """How often audio was missing although the source was up."""
    alerts: Sequence[ReportedAlert] = ()
    """By time."""
    sections: Sequence[ReportedSection] = ()
    """The programme log, by time."""
    clips: Sequence[Mapping[str, Any]] = ()
    """As `clips_of` returns them."""

    @property
    def seconds(self) -> dict[str, float]:
        """By condition, of all hours."""
        return {name: sum(hour.seconds[name] for hour in self.hours) for name in CONDITIONS}

    @property
    def heard(self) -> float:
        """Seconds in which the stream was received."""
        return sum(hour.heard for hour in self.hours)

    @property
    def one_sided(self) -> float:
        """Seconds in which one of two channels was silent."""
        return sum(hour.one_sided for hour in self.hours)


def make_report(
    stream: str,
    intervals: StreamIntervals,
    hours: Sequence[Interval],
    categories: Mapping[str, str],
    now: int,
) -> StreamReport:
    """The report of a stream.

    Args:
        stream: its name.
        intervals: right within the hours.
        hours: [begin, end) each, by time, such as those of a day.
        categories: of tags by name; of a tag that is not there the name says it, or nobody.
        now: nothing is said of later moments. Nanoseconds since 1970.
    """
    begin, end = hours[0][0], max(hours[0][0], min(hours[-1][1], now))
    on = _by_tag(intervals, begin, end)
    segments = _segments(intervals, on, categories, begin, end)
    by_condition: dict[str, list[Interval]] = defaultdict(list)
    for first, after, condition in segments:
        by_condition[condition].append((first, after))
    one_sided = within(intervals.one_sided, begin, end)
    reported = [
        HourReport(
            a,
            b,
            {name: _seconds(by_condition[name], a, b) for name in CONDITIONS},
            _seconds(one_sided, a, b),
        )
        for a, b in hours
    ]
    tags = _tags(on, categories, hours)
    songs = _songs(intervals, on, categories, begin, end)
    gaps = len(union(within(intervals.gaps, begin, end)))
    return StreamReport(stream, reported, segments, tags, songs, gaps)


def by_day(report: StreamReport, zone: tzinfo) -> StreamReport:
    """The same with days of a zone in place of hours."""
    days: dict[date, list[int]] = defaultdict(list)
    for i, hour in enumerate(report.hours):
        days[local_time(hour.begin, zone).date()].append(i)
    hours = report.hours
    made = [
        HourReport(
            hours[some[0]].begin,
            hours[some[-1]].end,
            {name: sum(hours[i].seconds[name] for i in some) for name in CONDITIONS},
            sum(hours[i].one_sided for i in some),
        )
        for some in days.values()
    ]
    tags = {
        category: [
            replace(r, on=[sum(r.on[i] for i in some) for some in days.values()]) for r in rows
        ]
        for category, rows in report.tags.items()
    }
    return replace(report, hours=made, tags=tags)


def bare_name(tag: str) -> str:
    """A tag without the category before dashes (`genre---rock`)."""
    return tag.rpartition("---")[2]


def _category(tag: str, categories: Mapping[str, str]) -> str:
    if bare_name(tag).lower() in (SPEECH, MUSIC, SILENCE):
        return KIND
    return categories.get(tag) or tag.rpartition("---")[0]


def _by_tag(intervals: StreamIntervals, begin: int, end: int) -> dict[str, list[Interval]]:
    """When each tag was on and the stream was received, whoever the tagger."""
    found: dict[str, list[Interval]] = defaultdict(list)
    received = union(intervals.received)
    for (_, tag), spans in intervals.on.items():
        found[tag] += intersection(received, union(within(spans, begin, end)))
    return {tag: union(spans) for tag, spans in found.items() if spans}


def _segments(
    intervals: StreamIntervals,
    on: Mapping[str, list[Interval]],
    categories: Mapping[str, str],
    begin: int,
    end: int,
) -> list[Labelled]:
    """The condition of every moment: the first of the layers that has it."""
    speech = _of_kind(on, SPEECH)
    music = _of_kind(on, MUSIC)
    if not any(bare_name(tag).lower() == MUSIC for tag in {*on, *categories}):
        music = union(  # a model of instruments or moods alone
            span
            for tag, spans in on.items()
            if _category(tag, categories) != KIND
            for span in spans
        )
    stopped = [(a, b) for a, b, state in intervals.states if state == PAUSED]
    failing = [(a, b) for a, b, state in intervals.states if state != PAUSED]
    stalled = [(a, b) for a, b, state in intervals.states if state == "stalled"]
    received = difference(union(intervals.received), union(stalled))
    layers = (
        (SILENCE, intersection(received, union(intervals.silent))),
        (BOTH, intersection(received, intersection(speech, music))),
        (SPEECH, intersection(received, speech)),
        (MUSIC, intersection(received, music)),
        (OTHER, received),
        (LOST, union(intervals.gaps)),
        (PAUSED, union(stopped)),
        (LOST, union(failing)),
        (UNKNOWN, [(begin, end)]),
    )
    left, found = [(begin, end)] * (begin < end), list[Labelled]()
    for condition, spans in layers:
        taken = intersection(left, spans)
        found += [Labelled(*span, condition) for span in taken]
        left = difference(left, taken)
    return sorted(found)


def _of_kind(on: Mapping[str, list[Interval]], kind: str) -> list[Interval]:
    return union(
        span for tag, spans in on.items() if bare_name(tag).lower() == kind for span in spans
    )


def _tags(
    on: Mapping[str, list[Interval]], categories: Mapping[str, str], hours: Sequence[Interval]
) -> dict[str, list[TagReport]]:
    by_category: dict[str, list[str]] = defaultdict(list)
    for tag in on:
        if (category := _category(tag, categories)) != KIND:
            by_category[category].append(tag)
    found: dict[str, list[TagReport]] = {}
    for category, names in sorted(by_category.items()):
        spans = union(span for name in names for span in on[name])
        rows = [TagReport(name, category, _by_hour(on[name], hours)) for name in names]
        rows.sort(key=lambda row: (-sum(row.on), row.tag))
        found[category] = [TagReport("", category, _by_hour(spans, hours)), *rows]
    return found


def _songs(
    intervals: StreamIntervals,
    on: Mapping[str, list[Interval]],
    categories: Mapping[str, str],
    begin: int,
    end: int,
) -> list[Song]:
    """Titles with what was heard of them in [begin, end)."""
    joined: list[tuple[str, list[Interval]]] = []
    for first, after, title in intervals.titles:
        for part in within([(first, after)], begin, end):
            if joined and joined[-1][0] == title and part[0] - joined[-1][1][-1][1] <= BREAK:
                joined[-1][1].append(part)
            else:
                joined.append((title, [part]))
    songs = []
    for title, parts in joined:
        parts = union(parts)
        length = sum(b - a for a, b in parts)
        if length >= SHORTEST_SONG:
            tags = _tags_of_song(on, categories, parts, length)
            songs.append(Song(parts[0][0], parts[-1][1], title, length / SECOND, tags))
    return songs


def _tags_of_song(
    on: Mapping[str, list[Interval]],
    categories: Mapping[str, str],
    parts: list[Interval],
    length: int,
) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for tag, spans in on.items():
        first = max(0, bisect_right(spans, (parts[0][0], 0)) - 1)
        last = bisect_left(spans, (parts[-1][1], 0))
        share = sum(b - a for a, b in intersection(parts, spans[first:last])) / length
        if share >= LEAST_SHARE:
            found[_category(tag, categories)].append((tag, share))
    return {
        category: sorted(some, key=lambda one: (-one[1], one[0]))[:MOST_TAGS]
        for category, some in sorted(found.items())
    }


def _by_hour(spans: list[Interval], hours: Sequence[Interval]) -> list[float]:
    return [_seconds(spans, begin, end) for begin, end in hours]


def _seconds(spans: list[Interval], begin: int, end: int) -> float:
    """How long spans, by time and without overlap, last within [begin, end)."""
    first = max(0, bisect_right(spans, (begin, 0)) - 1)
    last = bisect_left(spans, (end, 0))
    return sum(b - a for a, b in within(spans[first:last], begin, end)) / SECOND
