"""A taggram of a past hour, from the journal."""

from pathlib import Path

import numpy as np

from streamtag.errors import StreamtagError
from streamtag.feed.messages import Scores
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.history.history import History
from streamtag.history.intervals import HOUR, StreamIntervals, stream_intervals, without
from streamtag.history.query import Query
from streamtag.history.taggram import TagSpan, draw

MARGIN = 600 * 10**9
"""Scores are read this many nanoseconds beyond the hour: a message has the time of the end of its
window, and the picture shows the middle."""


def draw_hour(
    history: History, stream: str, hour: int, path: Path, end: int | None, tagger: str = ""
) -> str:
    """Draws one hour of a stream and returns the name of the tagger.

    The hour is its beginning, in nanoseconds since 1970. The suffix of the path selects the format.
    For `end` see `stream_intervals`. `tagger` may be empty if there is only one.

    Raises:
        StreamtagError: the journal has nothing of that hour, there are several taggers, or the
            picture cannot be written.
    """
    events = history.events_between([stream], hour, hour + HOUR)
    intervals = stream_intervals(events[stream], end) if events else StreamIntervals()
    if tagger:
        intervals = StreamIntervals(
            intervals.received, {k: v for k, v in intervals.on.items() if k[0] == tagger}
        )
    scores = _scores(history, stream, hour, tagger)
    spans = _spans(intervals, hour)
    unknown = without([(hour, hour + HOUR)], intervals.received)
    title = f"{stream}, {rfc3339(hour)[:16].replace('T', ' ')} UTC"
    if not scores and not spans and unknown == [(hour, hour + HOUR)]:
        known = ", ".join(history.streams()) or "none"
        raise StreamtagError(
            f"journal {history.path}: expected something about {title}, got nothing; it knows the "
            f"streams {known}"
        )
    taggers = {one.tagger for one in scores} | {name for name, _ in spans}
    if len(taggers) > 1:
        raise StreamtagError(
            f"{title}: expected one tagger, got {', '.join(sorted(taggers))}; choose: --tagger"
        )
    on = [span for _, span in spans]
    tags, times, smoothed = _matrix(scores, on, hour)
    grey = [((a - hour) / 1e9, (b - hour) / 1e9) for a, b in unknown]
    draw(path, title, tags, times, smoothed, on, HOUR / 1e9, unknown=grey)
    return next(iter(taggers), "")


def _spans(intervals: StreamIntervals, hour: int) -> list[tuple[str, TagSpan]]:
    """Tagger and span, in seconds of the hour."""
    return [
        (tagger, TagSpan(tag, (max(a, hour) - hour) / 1e9, (min(b, hour + HOUR) - hour) / 1e9))
        for (tagger, tag), spans in intervals.on.items()
        for a, b in spans
        if a < hour + HOUR and b > hour
    ]


def _scores(history: History, stream: str, hour: int, tagger: str) -> list[Scores]:
    """The scores whose windows have their middle in the hour."""
    wanted = Query(
        streams=frozenset([stream]),
        types=frozenset(["scores"]),
        since=hour - MARGIN,
        until=hour + HOUR + MARGIN,
    )
    return [
        entry.message
        for entry in history.entries(wanted)
        if isinstance(entry.message, Scores)
        and (not tagger or entry.message.tagger == tagger)
        and hour <= _middle(entry.message) < hour + HOUR
    ]


def _middle(scores: Scores) -> int:
    return ns_of(scores.utc) - round((scores.t - scores.start) * 5e8)


def _matrix(
    scores: list[Scores], on: list[TagSpan], hour: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Tags, (n,) seconds of the hour, rising, and (n, n_tags) probabilities.

    Where windows are missing, a row of NaN on either side keeps the neighbours from being drawn
    over the hole. A model may have been replaced by one with other tags: unknown values are NaN.
    """
    tags = list(dict.fromkeys([*(tag for s in scores for tag in s.tags), *(s.tag for s in on)]))
    column = {tag: i for i, tag in enumerate(tags)}
    rows = sorted(
        (((_middle(one) - hour) / 1e9, one) for one in _distinct(scores)), key=lambda row: row[0]
    )
    times = np.array([at for at, _ in rows])
    values = np.full((len(rows), len(tags)), np.nan)
    for row, (_, one) in zip(values, rows, strict=True):
        row[[column[tag] for tag in one.tags]] = one.smoothed
    if len(times) < 2:
        return tags, times, values
    hop = float(np.median(np.diff(times)))
    holes = np.flatnonzero(np.diff(times) > 2.5 * hop)
    borders = np.concatenate([times[holes] + hop, times[holes + 1] - hop])
    order = np.argsort(np.concatenate([times, borders]), kind="stable")
    values = np.concatenate([values, np.full((len(borders), len(tags)), np.nan)])
    return tags, np.concatenate([times, borders])[order], values[order]


def _distinct(scores: list[Scores]) -> list[Scores]:
    """The last scores of each moment."""
    return list({_middle(one): one for one in scores}.values())
