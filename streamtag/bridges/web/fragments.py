"""Pieces of pages as HTML: what a tag did in a span of time, the newest clips, the raised alerts;
and the rows of a time line.

The pages take them over as they are (`static/parts.js`). Links are relative to `/part/`. The page
itself puts moments into its zone and clock.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from streamtag.bridges.state_bridge import TagVocabulary
from streamtag.bridges.web.access import rights_of, seen_stream
from streamtag.bridges.web.clips import Clips
from streamtag.bridges.web.html import Html, element, join
from streamtag.bridges.web.hub import FeedHub
from streamtag.bridges.web.parameters import check_names, read_query, single
from streamtag.bridges.web.past import Past, read_range
from streamtag.bridges.web.sessions import Role, Session
from streamtag.bridges.web.texts import Texts, best_language
from streamtag.bridges.web.timeline_rows import timeline_rows
from streamtag.feed.messages import TagOff, TagOn
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.history.intervals import HOUR
from streamtag.history.query import Query

SECOND = 10**9
NEWEST_CLIPS = 24 * HOUR
"""Older ones are not named on the page of a stream."""
MOST_CLIPS = 8
"""Named there."""
LONGEST_CLIP = HOUR
"""How long before a span a clip may begin that reaches into it."""
MOST_STREAMS = 4
"""Named in the line of an alert."""
WIDTH, HEIGHT, MARGIN = 720, 160, 8
"""Of a curve."""


@dataclass(frozen=True, slots=True)
class SpanFacts:
    """What is known of a span in which a tag was on."""

    begin: int
    """In nanoseconds since 1970, as `end`."""
    end: int
    tagger: str
    name: str
    threshold: float | None
    events: Sequence[TagOn | TagOff]
    points: Sequence[tuple[float, float]]
    """Milliseconds since 1970 and probability."""
    clips: Sequence[Mapping[str, Any]]


class Fragments:
    """Answers `/part/span`, `/part/timeline`, `/part/clips` and `/part/alerts`."""

    def __init__(
        self,
        hub: FeedHub,
        past: Past,
        clips: Clips,
        vocabulary: TagVocabulary | None,
        *,
        control: bool,
    ) -> None:
        self._hub, self._past, self._clips = hub, past, clips
        self._vocabulary, self._control = vocabulary, control

    async def span(self, request: Request) -> Response:
        """`GET /part/span`."""
        params = request.query_params
        check_names(params, ("stream", "tagger", "tag", "from", "to", "lang"))
        stream, begin, end = read_range(params)
        tagger, tag = single(params, "tagger", str) or "", single(params, "tag", str) or ""
        query = Query(frozenset([stream]), since=begin, until=end, rights=rights_of(request))
        around = replace(query, since=begin - SECOND, until=end + SECOND)
        earlier = replace(query, since=max(0, begin - LONGEST_CLIP))
        texts = _texts(request)
        about = self._tags(seen_stream(request, stream), single(params, "lang", str)).get(tag, {})
        facts = SpanFacts(
            begin=begin,
            end=end,
            tagger=tagger,
            name=about.get("name") or texts.tag(tag),
            threshold=about.get("threshold"),
            events=await self._past.switches(replace(around, tags=frozenset([tag])), tagger),
            points=await self._past.points(request, around, tagger, tag),
            clips=[one for one in await self._ready(earlier) if _end_of(one) > begin],
        )
        return _answer(span_html(facts, texts))

    async def timeline(self, request: Request) -> Response:
        """`GET /part/timeline`: rows as JSON."""
        params = request.query_params
        check_names(params, ("stream", "from", "to", "lang"))
        stream, since, until = read_range(params)
        past = await self._past.read(request, stream, since, until)
        if past is None:
            return JSONResponse({"rows": []})
        about = self._tags(seen_stream(request, stream), single(params, "lang", str))
        return JSONResponse({"rows": timeline_rows(past, about, _texts(request))})

    async def clips(self, request: Request) -> Response:
        """`GET /part/clips`."""
        check_names(request.query_params, ("stream", "lang"))
        query = read_query(request.query_params, rights_of(request))
        found = await self._ready(replace(query, since=time.time_ns() - NEWEST_CLIPS))
        links = [
            element("a", element("time", datetime=one["utc"]), f" {one['event']}", href=_clip(one))
            for one in found[-MOST_CLIPS:]
        ]
        heading = element("span", f"{_texts(request)['report_clips']}: ")
        return _answer(join(heading, *links) if links else Html(""))

    async def alerts(self, request: Request) -> Response:
        """`GET /part/alerts`: those that nobody has acknowledged come first, then the newest."""
        check_names(request.query_params, ("lang",))
        session: Session | None = request.state.session
        controls = session is not None and session.role is Role.CONTROLLER
        may = self._control and controls and "authorization" not in request.headers  # as forms are
        rows = self._hub.alerts.rows() if rights_of(request).sees_kind("alert") else []
        rows.sort(key=lambda row: row["acknowledged_by"] != "")
        texts = _texts(request)
        return _answer(join(*[alert_html(row, texts, may_control=may) for row in rows]))

    async def _ready(self, query: Query) -> list[dict[str, Any]]:
        """The clips that can be heard."""
        return [one for one in await self._clips.rows(query) if one["stage"] == "ready"]

    def _tags(self, stream: str, language: str | None) -> Mapping[str, Mapping[str, Any]]:
        """What is known of the tags of a stream."""
        if self._vocabulary is None:
            return {}
        self._vocabulary.refresh()
        states = self._hub.states
        taggers = states[stream].taggers if stream in list(states) else ()
        return self._vocabulary.descriptions(stream, taggers, language)


def span_html(facts: SpanFacts, texts: Texts) -> Html:
    """The name of a tag, what there is to say of it, its clips and its probability."""
    ons = [event for event in facts.events if isinstance(event, TagOn)]
    offs = [event for event in facts.events if isinstance(event, TagOff)]
    peaks = [*[on.probability for on in ons[:1]], *[off.peak for off in offs]]
    times = f", {len(offs)} ×" if len(offs) > 1 else ""
    moments = [element("time", datetime=rfc3339(ns)) for ns in (facts.begin, facts.end)]
    rows = {
        "stream_time": join(moments[0], " – ", moments[1]),
        "stream_length": f"{(facts.end - facts.begin) / SECOND:.1f} s{times}",
        "stream_peak": f"{max(peaks, default=0):.2f}",
        "stream_threshold": "" if facts.threshold is None else f"{facts.threshold:.2f}",
        "stream_model": " · ".join(filter(None, (facts.tagger, ons[0].model if ons else ""))),
        "desk_column_title": ons[0].title if ons else "",
    }
    pairs = [(element("dt", texts[key]), element("dd", text)) for key, text in rows.items() if text]
    listed = element("dl", *[part for pair in pairs for part in pair])
    players = [_player(clip) for clip in facts.clips]
    drawn = [_curve(facts.points, facts.threshold)] if len(facts.points) > 1 else []
    return join(element("h3", facts.name), listed, *players, *drawn)


def alert_html(row: Mapping[str, Any], texts: Texts, *, may_control: bool) -> Html:
    """A line of the desk, as `RaisedAlerts.rows` has it."""
    by, name, streams = row["acknowledged_by"], row["alert"], row["streams"]
    parts: list[str] = [
        element("b", element("a", name, href="../alerts")),
        element("span", row["detail"], class_="detail"),
    ]
    for stream in streams[:MOST_STREAMS]:
        parts.append(element("a", stream, href=f"../stream/{quote(stream, safe='')}"))
    if len(streams) > MOST_STREAMS:
        parts.append(f"+ {len(streams) - MOST_STREAMS}")
    parts.append(element("time", datetime=row["utc"]))
    if by:
        parts.append(element("em", f"{texts['alerts_seen']} {by}", class_="by"))
    elif may_control:
        parts.append(_acknowledgement(row, texts))
    return element("li", *parts, class_="seen" if by else row["severity"])


def _acknowledgement(row: Mapping[str, Any], texts: Texts) -> Html:
    """A form of the desk, answered without a page: the browser stays where it is."""
    label = f"{texts['alerts_ack']}: {row['alert']}"
    fields = {"command": "ack", "alert": row["id"], "stay": "1"}
    hidden = [element("input", type="hidden", name=key, value=fields[key]) for key in fields]
    button = element("button", texts["alerts_ack"], aria_label=label)
    return element("form", *hidden, button, method="post", action="alerts")


def _player(clip: Mapping[str, Any]) -> Html:
    href, event = _clip(clip), str(clip["event"])
    audio = element("audio", src=href, controls="", preload="none", aria_label=event)
    link = element("a", f"{event}, {clip['seconds']:.0f} s", href=href, download="")
    return element("p", audio, link, class_="clip")


def _curve(points: Sequence[tuple[float, float]], threshold: float | None) -> Html:
    """A tag's probability over time with its threshold. The page chooses the colours."""
    begin, end = points[0][0], points[-1][0]
    scale = WIDTH / max(end - begin, 1)

    def y(probability: float) -> float:
        return round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * probability, 1)

    line = " ".join(f"{(at - begin) * scale:.1f},{y(p)}" for at, p in points)
    level = [] if threshold is None else [element("path", d=f"M0 {y(threshold)}H{WIDTH}")]
    drawn = element("polyline", points=line)
    return element("svg", *level, drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="curve")


def _clip(clip: Mapping[str, Any]) -> str:
    return f"../clip/{quote(clip['id'], safe='')}"


def _end_of(clip: Mapping[str, Any]) -> int:
    return ns_of(clip["utc"]) + int(clip["seconds"] * SECOND)


def _texts(request: Request) -> Texts:
    chosen = request.query_params.get("lang", "")
    return Texts(best_language(chosen, request.headers.get("accept-language", "")))


def _answer(html: Html) -> HTMLResponse:
    """A document, since Firefox makes none of an empty answer."""
    return HTMLResponse(f"<!doctype html>{html}", headers={"Cache-Control": "no-store"})
