"""The addresses of the web server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from streamtag.bridges.web.access import AccessControl
from streamtag.bridges.web.hub import Hub, WebClient, as_json
from streamtag.bridges.web.live import EventStream, tell_socket
from streamtag.bridges.web.parameters import (
    FILTERS,
    BadInput,
    check_names,
    read_filters,
    read_limit,
    single,
)
from streamtag.bridges.web.state import stream_state
from streamtag.config.bridges import WebConfig
from streamtag.errors import FeedError
from streamtag.history.history import History
from streamtag.history.query import EntryPage, Query, ResumePoint

PAGE = Path(__file__).with_name("page.html")
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src *"
QUERIES = 2
"""Of the journal at once; others wait."""


class Pages:
    """What answers.

    Args:
        hub: what is known.
        config: of the server.
        journal: the file; None where it is not known.
    """

    def __init__(self, hub: Hub, config: WebConfig, journal: Path | None) -> None:
        self._hub, self._config, self._journal = hub, config, journal
        self._queries = asyncio.Semaphore(QUERIES)

    async def page(self, request: Request) -> Response:
        """`GET /`."""
        html = PAGE.read_text(encoding="utf-8")
        return HTMLResponse(html, headers={"Content-Security-Policy": POLICY})

    async def health(self, request: Request) -> Response:
        """`GET /healthz`."""
        return JSONResponse({"status": "ok", "daemon": "up" if self._hub.heard else "gone"})

    async def state(self, request: Request) -> Response:
        """`GET /api/state`."""
        check_names(request.query_params, ())
        return JSONResponse(self._hub.state())

    async def stream(self, request: Request) -> Response:
        """`GET /api/streams/NAME`."""
        check_names(request.query_params, ())
        name, states = request.path_params["name"], self._hub.states
        if name not in list(states):
            known = ", ".join(sorted(states)) or "none"
            return _fault(404, "stream", f"one of the streams {known}", name)
        return JSONResponse({"stream": name, **stream_state(states[name])})

    async def history(self, request: Request) -> Response:
        """`GET /api/history`."""
        given = request.query_params
        check_names(given, (*FILTERS, "from", "to", "limit", "after"))
        query, limit = read_filters(given), read_limit(given)
        if self._journal is None:
            return _fault(404, "history", "feed.journal in the configuration", "none")
        async with self._queries:
            resume, page, following = await asyncio.to_thread(
                _search, self._journal, query, limit, given
            )
        events = [json.loads(with_entry(entry.id, entry.body)) for entry in page.entries]
        body: dict[str, Any] = {"events": events, "next": following, "damaged": page.damaged}
        for count, reason in resume.missed[:1]:
            body["missed"] = {"count": count, "reason": reason}
        return JSONResponse(body)

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /events`."""
        request = Request(scope, receive)
        check_names(request.query_params, (*FILTERS, "last_event_id"))
        given = request.headers.get("last-event-id") or ""
        resume = self._resume(request.query_params, given)
        if (listener := self._listener(request.query_params)) is None:
            await self._full()(scope, receive, send)
            return
        await EventStream(self._hub, listener, resume)(scope, receive, send)

    async def socket(self, socket: WebSocket) -> None:
        """`/ws`."""
        given = socket.query_params
        try:
            check_names(given, (*FILTERS, "last_event_id"))
            listener, resume = self._listener(given), self._resume(given, "")
        except BadInput as error:
            await socket.send_denial_response(_refusal(error))
            return
        if listener is None:
            await socket.send_denial_response(self._full())
            return
        await socket.accept()
        await tell_socket(socket, self._hub, listener, resume)

    def _listener(self, given: QueryParams) -> WebClient | None:
        """None where there are too many already.

        Raises:
            BadInput: a parameter is wrong.
        """
        query = read_filters(given)
        if len(self._hub.listeners) >= self._config.clients:
            return None
        return WebClient(query, self._config.queue)

    def _full(self) -> JSONResponse:
        most = self._config.clients
        return _fault(503, "web.clients", f"at most {most} listeners at once", "one more")

    def _resume(self, given: QueryParams, header: str) -> ResumePoint | None:
        """Where the last event was, if the listener was here before.

        Raises:
            BadInput: it is no event's id.
        """
        asked = single(given, "last_event_id", str)
        key = header or asked
        if not key:
            return None
        if self._hub.history is None:
            return ResumePoint(0, 0, "not_kept")
        try:
            return self._hub.history.resume(key)
        except ValueError as error:
            expected = str(error).removeprefix("expected ").rpartition(", got ")[0]
            raise BadInput("last_event_id", expected, key) from None


def make_app(hub: Hub, config: WebConfig, journal: Path | None, token: str) -> Starlette:
    """The application.

    Args:
        hub: what is known.
        config: of the server.
        journal: the file; None where it is not known.
        token: that whoever asks must know; empty for none.
    """
    pages = Pages(hub, config, journal)
    routes = [
        Route("/", pages.page),
        Route("/healthz", pages.health),
        Route("/api/state", pages.state),
        Route("/api/streams/{name}", pages.stream),
        Route("/api/history", pages.history),
        Route("/events", _Raw(pages.events), methods=["GET"]),
        WebSocketRoute("/ws", pages.socket),
    ]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(config.cors_origins),
        allow_headers=["Authorization", "Last-Event-ID"],
    )
    return Starlette(
        routes=routes,
        middleware=[*[cors] * bool(config.cors_origins), Middleware(AccessControl, config, token)],
        exception_handlers={BadInput: _bad_input, HTTPException: _no_such, FeedError: _no_journal},
    )


class _Raw:
    """An ASGI application, for a route that would take a method for a handler of requests."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _search(
    path: Path, query: Query, limit: int, given: QueryParams
) -> tuple[ResumePoint, EntryPage, str | None]:
    """A page of the journal, the key to go on after, and whether something is gone."""
    history = History(path)
    try:
        after = single(given, "after", history.resume) or ResumePoint(0)
        page = history.select(query, after.after, limit)
        return after, page, page.entries[-1].id if page.continue_after else None
    finally:
        history.close()


def with_entry(key: str, body: bytes) -> str:
    """A kept message as JSON, its key first."""
    return f'{{"id":"{key}",{as_json(body)[1:]}'


def _fault(status: int, parameter: str, expected: str, got: str) -> JSONResponse:
    body = {"parameter": parameter, "expected": expected, "got": got[:200]}
    return JSONResponse({"error": body}, status)


def _refusal(error: BadInput) -> JSONResponse:
    return JSONResponse({"error": error.body}, 400)


def _bad_input(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadInput)
    return _refusal(error)


def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _fault(405, "method", "GET", request.method)
    known = "/ /healthz /api/state /api/streams/NAME /api/history /events /ws"
    return _fault(error.status_code, "path", f"one of {known}", request.url.path)


def _no_journal(_: Request, error: Exception) -> Response:
    return _fault(503, "history", "a journal that can be read", str(error))
