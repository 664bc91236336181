"""The web application: who may use it, its addresses and their parameters."""

import asyncio
import json
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamtag.bridges.state_bridge import TagVocabulary
from streamtag.bridges.web.access import AccessControl, SignIn, rights_of, seen_stream
from streamtag.bridges.web.alerts import AlertPages
from streamtag.bridges.web.clips import Clips
from streamtag.bridges.web.control import Control
from streamtag.bridges.web.fragments import Fragments
from streamtag.bridges.web.hub import (
    MOOD_STEP_SECONDS,
    ClientQueue,
    FeedHub,
    MoodTrail,
    ServerEvent,
    as_json,
    stream_json,
)
from streamtag.bridges.web.live import EventStream, serve_scores, serve_socket, with_id
from streamtag.bridges.web.pages import Pages
from streamtag.bridges.web.parameters import (
    BadParameter,
    check_names,
    checked,
    error_response,
    read_limit,
    read_query,
    single,
)
from streamtag.bridges.web.past import Past
from streamtag.bridges.web.personal import PersonalPages
from streamtag.bridges.web.reports import Reports
from streamtag.config.bridges import WebConfig
from streamtag.errors import FeedError
from streamtag.history.history import History
from streamtag.history.query import EntryPage, Query, ResumePoint

PATHS = (
    "/ /stream/STREAM /wall /wall/STREAM /report/STREAM /clip/NAME /alerts /sign-in /sign-out "
    "/settings /control /healthz /api/state /api/streams/NAME /api/tags /api/mood /api/overview "
    "/api/timeline /api/curve /api/history /api/alerts /api/clips /api/session /api/control "
    "/api/control/preview /part/span /part/timeline /part/clips /part/alerts /events /ws /ws/scores"
)
MAX_QUERIES = 2
"""Number of journal queries at once; others wait."""
DEFAULT_LIMIT = 100
"""Number of entries in one answer if the request has no `limit`."""
FILTERS = ("stream", "tag", "type")
"""Parameters that choose messages; each may be given several times."""
VERSION_HEADER = "Streamtag-Pages"
"""Header of `/events` with the version of the pages, so that one left open for weeks notices."""


class Endpoints:
    """The functions that answer requests. The journal's path is None if it is not known."""

    def __init__(
        self,
        hub: FeedHub,
        config: WebConfig,
        journal: Path | None,
        vocabulary: TagVocabulary | None,
        version: str,
    ) -> None:
        self._hub, self._config, self._journal = hub, config, journal
        self._vocabulary, self._version = vocabulary, version
        self._queries = asyncio.Semaphore(MAX_QUERIES)

    async def health(self, request: Request) -> Response:
        """`GET /healthz`."""
        return JSONResponse({"status": "ok", "daemon": "up" if self._hub.daemon_alive else "gone"})

    async def state(self, request: Request) -> Response:
        """`GET /api/state`."""
        check_names(request.query_params, ())
        return JSONResponse(self._hub.state(Query(rights=rights_of(request))))

    async def stream(self, request: Request) -> Response:
        """`GET /api/streams/NAME`."""
        check_names(request.query_params, ())
        name, rights = request.path_params["name"], rights_of(request)
        states = {one: self._hub.states[one] for one in self._hub.states if rights.sees_stream(one)}
        if name not in states:
            known = ", ".join(sorted(states)) or "none"
            return error_response(404, "stream", f"one of the streams {known}", name)
        return JSONResponse({"stream": name, **stream_json(states[name], rights)})

    async def tags(self, request: Request) -> Response:
        """`GET /api/tags`."""
        params = request.query_params
        check_names(params, ("stream", "lang"))
        stream, language = single(params, "stream", str) or "", single(params, "lang", str)
        if self._vocabulary is None:
            return JSONResponse({"stream": stream, "tags": {}})
        self._vocabulary.refresh()
        states = self._hub.states
        seen = seen_stream(request, stream)
        taggers = states[seen].taggers if seen in list(states) else ()
        tags = self._vocabulary.descriptions(seen, taggers, language)
        return JSONResponse({"stream": stream, "tags": tags})

    async def mood(self, request: Request) -> Response:
        """`GET /api/mood`."""
        check_names(request.query_params, ("stream",))
        stream = single(request.query_params, "stream", str) or ""
        trail = self._hub.trails.get(seen_stream(request, stream, "mood"), MoodTrail())
        moods = [round(value, 3) for value in trail.points]
        body = {"stream": stream, "seconds": MOOD_STEP_SECONDS, "moods": moods}
        return JSONResponse(body)

    async def overview(self, request: Request) -> Response:
        """`GET /api/overview`."""
        check_names(request.query_params, ())
        return JSONResponse({"streams": self._hub.overview(rights_of(request))})

    async def history(self, request: Request) -> Response:
        """`GET /api/history`."""
        params = request.query_params
        check_names(params, (*FILTERS, "from", "to", "limit", "after"))
        query = _query(request)
        limit = single(params, "limit", read_limit) or DEFAULT_LIMIT
        if self._journal is None:
            return error_response(404, "history", "feed.journal in the configuration", "none")
        async with self._queries:
            resume, page = await asyncio.to_thread(_search, self._journal, query, limit, params)
        entries = [ServerEvent(e.message.type, as_json(e.body), e.id) for e in page.entries]
        body: dict[str, Any] = {
            "events": [json.loads(with_id(entry)) for entry in entries],
            "next": entries[-1].id if page.continue_after else None,
            "damaged": page.damaged,
        }
        for count, reason in resume.missed[:1]:
            body["missed"] = {"count": 0 if query.is_limited else count, "reason": reason}
        return JSONResponse(body)

    async def events(self, request: Request) -> Response:
        """`GET /events`."""
        params = request.query_params
        check_names(params, (*FILTERS, "last_event_id", "levels"))
        resume = self._resume(params, request.headers.get("last-event-id") or "")
        query = _query(request)
        if (full := self._full()) is not None:
            return full
        client = ClientQueue(query, self._config.queue, levels=single(params, "levels", str) == "1")
        stream = EventStream(self._hub, client, resume)
        stream.headers[VERSION_HEADER] = self._version
        return stream

    async def socket(self, socket: WebSocket) -> None:
        """`/ws`."""
        params = socket.query_params
        check_names(params, (*FILTERS, "last_event_id"))
        query, resume = _query(socket), self._resume(params, "")
        if await self._accepted(socket):
            await serve_socket(socket, self._hub, ClientQueue(query, self._config.queue), resume)

    async def scores(self, socket: WebSocket) -> None:
        """`/ws/scores`."""
        check_names(socket.query_params, ("stream",))
        stream = single(socket.query_params, "stream", str) or ""
        if await self._accepted(socket):
            await serve_scores(socket, self._hub, seen_stream(socket, stream, "scores"))

    async def _accepted(self, socket: WebSocket) -> bool:
        """Accepts a WebSocket if there is room for one more client."""
        if (full := self._full()) is not None:
            await socket.send_denial_response(full)
            return False
        await socket.accept()
        return True

    def _full(self) -> JSONResponse | None:
        """An error if there are too many clients."""
        most = self._config.clients
        if len(self._hub.clients) + self._hub.live_scores.viewers < most:
            return None
        return error_response(503, "web.clients", f"at most {most} listeners at once", "one more")

    def _resume(self, params: QueryParams, header: str) -> ResumePoint | None:
        """The place after the last event of a client that comes back."""
        id = header or single(params, "last_event_id", str)
        if not id:
            return None
        if self._hub.history is None:
            return ResumePoint(0, 0, "not_kept")
        return checked("last_event_id", id, self._hub.history.resume)


def make_app(
    hub: FeedHub,
    config: WebConfig,
    journal: Path | None,
    gate: SignIn,
    pages: Pages,
    vocabulary: TagVocabulary | None = None,
    control: Control | None = None,
    clips: Path | None = None,
) -> Starlette:
    """The application. Without `control` nothing can be changed; `clips` is the folder of clips."""
    endpoints = Endpoints(hub, config, journal, vocabulary, pages.version)
    personal = PersonalPages(pages, gate)
    reports = Reports(hub, journal, vocabulary, pages)
    past = Past(hub, journal)
    evidence = Clips(clips, journal)
    alerts = AlertPages(hub, pages, control)
    fragments = Fragments(hub, past, evidence, vocabulary, control=control is not None)
    routes = [
        Route("/", pages.desk),
        Route("/stream/{stream}", pages.stream),
        Route("/wall", pages.wall),
        Route("/wall/{stream}", pages.wall),
        Route("/report/{stream}", reports.report),
        Route("/clip/{name}", evidence.file),
        Route("/api/clips", evidence.known),
        Route("/alerts", alerts.page, methods=["GET", "POST"]),
        Route("/api/alerts", alerts.rows),
        Route("/part/span", fragments.span),
        Route("/part/timeline", fragments.timeline),
        Route("/part/clips", fragments.clips),
        Route("/part/alerts", fragments.alerts),
        Route("/sign-in", personal.sign_in, methods=["GET", "POST"]),
        Route("/sign-out", personal.sign_out, methods=["POST"]),
        Route("/settings", personal.settings, methods=["GET", "POST"]),
        Route("/api/session", gate.show, methods=["GET"]),
        Route("/api/session", gate.sign_in, methods=["POST"]),
        Route("/api/session", gate.sign_out, methods=["DELETE"]),
        Route("/static/{version}/{path:path}", pages.file),
        Route("/logos/{name}", pages.logo),
        Route("/api/tags", endpoints.tags),
        Route("/api/mood", endpoints.mood),
        Route("/api/overview", endpoints.overview),
        Route("/api/timeline", past.timeline),
        Route("/api/curve", past.curve),
        Route("/healthz", endpoints.health),
        Route("/api/state", endpoints.state),
        Route("/api/streams/{name}", endpoints.stream),
        Route("/api/history", endpoints.history),
        Route("/events", endpoints.events),
        WebSocketRoute("/ws", endpoints.socket),
        WebSocketRoute("/ws/scores", endpoints.scores),
    ]
    if control is not None:
        routes += [
            Route("/control", control.page, methods=["GET", "POST"]),
            Route("/api/control", control.command, methods=["POST"]),
            Route("/api/control/preview", control.preview),
        ]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(config.cors_origins),
        allow_headers=["Authorization", "Last-Event-ID"],
    )
    return Starlette(
        routes=routes,
        middleware=[*[cors] * bool(config.cors_origins), Middleware(AccessControl, config, gate)],
        exception_handlers={
            BadParameter: _bad_parameter,
            HTTPException: _http_error,
            FeedError: _unreadable_journal,
        },
    )


def _query(request: HTTPConnection) -> Query:
    """The messages that a request chooses of those that its sender may see."""
    query = read_query(request.query_params, rights_of(request))
    for stream in sorted(query.streams) if query.is_limited else ():
        seen_stream(request, stream)
    return query


def _search(
    path: Path, query: Query, limit: int, params: QueryParams
) -> tuple[ResumePoint, EntryPage]:
    """A page of the journal, and the place after which it starts."""
    history = History(path)
    try:
        after = single(params, "after", history.resume) or ResumePoint(0)
        return after, history.select(query, after.after, limit)
    finally:
        history.close()


def _bad_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadParameter)
    return error.response


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        return error_response(405, "method", allowed, request.method)
    return error_response(error.status_code, "path", f"one of {PATHS}", request.url.path)


def _unreadable_journal(_: Request, error: Exception) -> Response:
    return error_response(503, "history", "a journal that can be read", str(error))
