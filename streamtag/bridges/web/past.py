"""The past of a stream from the journal, for the pages: its time line, and a tag's curve."""

import asyncio
import csv
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamtag.bridges.web.access import seen_stream
from streamtag.bridges.web.hub import FeedHub
from streamtag.bridges.web.parameters import (
    BadParameter,
    check_names,
    error_response,
    read_query,
    single,
)
from streamtag.feed.messages import Scores, Section, TagOff, TagOn
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.history.history import History
from streamtag.history.intervals import HOUR, Interval, Labelled, joined, within
from streamtag.history.query import Query
from streamtag.history.timeline import read_timeline

MAX_RANGE_NS = 8 * 24 * HOUR
"""Longest time line in one answer."""
STEPS = 2000
"""Intervals nearer to each other than this part of the range become one in a time line."""
MAX_POINTS = 2000
"""Number of points of a curve, at most."""
MAX_SWITCHES = 1000
"""Number of times at which a tag went on or off, at most."""
MAX_READERS = 2
"""Number of requests that read the journal at once; others wait."""
MILLISECOND = 10**6
FORMATS = ("json", "csv")
KINDS = ("received", "silences", "gaps", "titles", "states", "sections")
"""What a time line has beside tags."""
LONGEST_SECTION = 6 * HOUR
"""How long before a range a section may begin that reaches into it."""


class Past:
    """The functions that answer requests. The journal's path is None if it is not known."""

    def __init__(self, hub: FeedHub, journal: Path | None) -> None:
        self._hub, self._journal = hub, journal
        self._readers = asyncio.Semaphore(MAX_READERS)

    async def timeline(self, request: Request) -> Response:
        """`GET /api/timeline`."""
        params = request.query_params
        check_names(params, ("stream", "from", "to", "format"))
        stream, since, until = read_range(params)
        form = single(params, "format", str) or "json"
        if form not in FORMATS:
            raise BadParameter("format", " or ".join(FORMATS), form)
        body = await self.read(request, stream, since, until)
        if body is None:
            return error_response(404, "history", "feed.journal in the configuration", "none")
        if form == "csv":
            return Response(timeline_csv(body), media_type="text/csv; charset=utf-8")
        return JSONResponse(body | {"stream": stream})

    async def read(
        self, request: Request, stream: str, since: int, until: int
    ) -> dict[str, Any] | None:
        """What happened to a stream, if it may be seen; None without a journal."""
        if self._journal is None:
            return None
        seen = seen_stream(request, stream)
        async with self._readers:
            return await asyncio.to_thread(timeline_json, self._journal, seen, since, until)

    async def curve(self, request: Request) -> Response:
        """`GET /api/curve`."""
        params = request.query_params
        check_names(params, ("stream", "tagger", "tag", "from", "to"))
        stream, since, until = read_range(params)
        tagger, tag = single(params, "tagger", str) or "", single(params, "tag", str) or ""
        query = Query(frozenset([stream]), since=since, until=until)
        points = await self.points(request, query, tagger, tag)
        return JSONResponse({"stream": stream, "tag": tag, "points": points})

    async def points(
        self, request: Request, query: Query, tagger: str, tag: str
    ) -> list[tuple[float, float]]:
        """The curve of a tag in the time of a query about one stream, if it may be seen."""
        points: list[tuple[float, float]] = []
        (stream,) = query.streams
        seen = seen_stream(request, stream, "scores")
        since, until = query.since or 0, query.until or time.time_ns()
        if self._journal is not None and seen:
            wanted = Query(frozenset([seen]), frozenset(), frozenset(["scores"]), since, until)
            async with self._readers:
                points = await asyncio.to_thread(read_curve, self._journal, wanted, tagger, tag)
        if not points:
            live = self._hub.live_scores.curve(seen, tagger, tag)
            points = [point for point in live if since <= point[0] * MILLISECOND < until]
        return points

    async def switches(self, query: Query, tagger: str) -> list[TagOn | TagOff]:
        """When tags of one tagger went on and off, as a query says."""
        if self._journal is None:
            return []
        async with self._readers:
            return await asyncio.to_thread(read_switches, self._journal, query, tagger)


def read_range(params: QueryParams) -> tuple[str, int, int]:
    """Stream, beginning and end; by default the last hour.

    Raises:
        BadParameter: no stream is named, or the range is too long.
    """
    query = read_query(params)
    stream = single(params, "stream", str)
    if not stream:
        raise BadParameter("stream", "a stream's name", "none")
    until = time.time_ns() if query.until is None else query.until
    since = until - HOUR if query.since is None else query.since
    if not 0 < until - since <= MAX_RANGE_NS:
        days = MAX_RANGE_NS // (24 * HOUR)
        raise BadParameter("from", f"a moment before `to`, by {days} days at most", params["from"])
    return stream, since, until


def timeline_json(path: Path, stream: str, since: int, until: int) -> dict[str, Any]:
    """What happened to a stream in a range, for JSON: times in milliseconds since 1970."""
    history = History(path)
    try:
        end = time.time_ns() if history.being_written else None
        found = read_timeline(history, stream, since, until, end)
        sections = read_sections(history, stream, since, until)
    finally:
        history.close()
    gap = (until - since) // STEPS

    def spans(intervals: list[Interval]) -> list[tuple[int, int]]:
        cut = joined(within(intervals, since, until), gap)
        return [(begin // MILLISECOND, end // MILLISECOND) for begin, end in cut]

    def labelled(parts: list[Labelled]) -> list[tuple[int, int, str]]:
        return [
            (begin // MILLISECOND, end // MILLISECOND, text)
            for a, b, text in parts
            for begin, end in within([(a, b)], since, until)
        ]

    tags = [(tagger, tag, spans(on)) for (tagger, tag), on in found.on.items()]
    return {
        "stream": stream,
        "from": since // MILLISECOND,
        "to": until // MILLISECOND,
        "received": spans(found.received),
        "silences": spans(found.silent),
        "gaps": spans(found.gaps),
        "titles": labelled(found.titles),
        "states": labelled(found.states),
        "sections": labelled(sections),
        "tags": [{"tagger": tagger, "tag": tag, "spans": on} for tagger, tag, on in tags if on],
    }


def timeline_csv(past: dict[str, Any]) -> str:
    """A time line as CSV, with a line for each interval. Its names cannot be formulas."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("kind", "tagger", "name", "begin", "end"))
    for kind in KINDS:
        for begin, end, *name in past[kind]:
            table.writerow((kind, "", *map(_plain, name or [""]), _utc(begin), _utc(end)))
    for tag in past["tags"]:
        for begin, end in tag["spans"]:
            names = _plain(tag["tagger"]), _plain(tag["tag"])
            table.writerow(("tag", *names, _utc(begin), _utc(end)))
    return text.getvalue()


def _plain(text: str) -> str:
    """Text that no spreadsheet calculates."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def _utc(ms: int) -> str:
    return rfc3339(ms * MILLISECOND)


def read_sections(history: History, stream: str, since: int, until: int) -> list[Labelled]:
    """The sections of a programme that were published, and their kinds."""
    every = Query(frozenset([stream]), types=frozenset(["section"]))
    wanted = replace(every, since=max(0, since - LONGEST_SECTION), until=until)
    messages = [entry.message for entry in history.entries(wanted)]
    return [
        Labelled(ns_of(one.utc), ns_of(one.end_utc), one.kind)
        for one in messages
        if isinstance(one, Section)
    ]


def read_switches(path: Path, query: Query, tagger: str) -> list[TagOn | TagOff]:
    """When tags of one tagger went on and off."""
    history = History(path)
    try:
        found = history.select(query, 0, MAX_SWITCHES).entries
    finally:
        history.close()
    messages = [entry.message for entry in found]
    return [m for m in messages if isinstance(m, TagOn | TagOff) and m.tagger == tagger]


def read_curve(path: Path, query: Query, tagger: str, tag: str) -> list[tuple[float, float]]:
    """Milliseconds since 1970 and probability of a tag, if the journal keeps scores."""
    history, points = History(path), list[tuple[float, float]]()
    try:
        if not history.keeps_scores():
            return points
        for entry in history.select(query, 0, MAX_POINTS).entries:
            scores = entry.message
            if isinstance(scores, Scores) and scores.tagger == tagger and tag in scores.tags:
                points.append((ns_of(scores.utc) / 1e6, scores.smoothed[scores.tags.index(tag)]))
    finally:
        history.close()
    return points
