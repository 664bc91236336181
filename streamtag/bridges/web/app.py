"""The web application: who may use it, its addresses and their parameters."""

import asyncio
import hmac
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamtag.bridges.web.hub import ClientQueue, FeedHub, ServerEvent, as_json, stream_json
from streamtag.bridges.web.live import EventStream, serve_socket, with_id
from streamtag.config.bridges import WebConfig
from streamtag.config.fields import is_public
from streamtag.errors import FeedError
from streamtag.feed.messages import TYPES
from streamtag.feed.timestamps import parse_moment
from streamtag.history.history import History
from streamtag.history.query import EntryPage, Query, ResumePoint

PAGE = Path(__file__).with_name("page.html")
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src *"
)
PATHS = "/ /healthz /api/state /api/streams/NAME /api/history /events /ws"
MAX_QUERIES = 2
"""Number of journal queries at once; others wait."""
MAX_LIMIT = 1000
"""Number of entries in one answer, at most."""
DEFAULT_LIMIT = 100
"""Number of entries in one answer if the request has no `limit`."""
FILTERS = ("stream", "tag", "type")
"""Parameters that choose messages; each may be given several times."""
OPEN_PATHS = ("/", "/healthz")
"""Paths that need no token, since they contain nothing about the streams."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="streamtag"'}

T = TypeVar("T")


def error_response(status: int, parameter: str, expected: str, got: str) -> JSONResponse:
    """An answer that says what was wrong with a request."""
    body = {"error": {"parameter": parameter, "expected": expected, "got": got[:200]}}
    return JSONResponse(body, status, CHALLENGE if status == 401 else None)


class AccessControl:
    """Middleware that refuses requests without the token, and those of other sites' pages.

    A page of another site can make a browser on this machine connect to this server: by WebSocket,
    to which CORS does not apply, or under a name of its own that leads here (DNS rebinding). So
    without a token the host name must be ours, and the origin of a WebSocket must be ours always.

    An empty token is none.
    """

    def __init__(self, app: ASGIApp, config: WebConfig, token: str) -> None:
        self._app, self._config, self._token = app, config, token
        self._any_host = bool(token) or is_public(config.address[0])
        self._hosts = {*LOCAL_HOSTS, *config.hosts, config.address[0]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (refusal := self._refusal(HTTPConnection(scope))) is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def _refusal(self, request: HTTPConnection) -> JSONResponse | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._any_host and _host_name(host) not in self._hosts:
            expected = f"one of {', '.join(sorted(self._hosts))}; name others in web.hosts"
            return error_response(403, "Host", expected, host)
        if (
            request.scope["type"] == "websocket"
            and origin is not None
            and not self._is_ours(origin, host)
        ):
            expected = "a page of this server; name other sites in web.cors_origins"
            return error_response(403, "Origin", expected, origin)
        if self._token and request.scope["path"] not in OPEN_PATHS and not self._has_token(request):
            expected = "the token, as `Authorization: Bearer TOKEN` or as parameter `token`"
            return error_response(401, "token", expected, "another or none")
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        allowed = self._config.cors_origins
        return "*" in allowed or origin in allowed or urlsplit(origin).netloc == host

    def _has_token(self, request: HTTPConnection) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = next(iter(request.query_params.getlist("token")), "")
        return hmac.compare_digest(token.strip().encode(), self._token.encode())


def _host_name(host: str) -> str:
    """The name in a `Host` header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class BadParameter(Exception):
    """A parameter of a request is wrong."""

    def __init__(self, parameter: str, expected: str, got: str) -> None:
        super().__init__(f"{parameter}: expected {expected}, got {got!r}")
        self.response = error_response(400, parameter, expected, got)


class Endpoints:
    """The functions that answer requests. The journal's path is None if it is not known."""

    def __init__(self, hub: FeedHub, config: WebConfig, journal: Path | None) -> None:
        self._hub, self._config, self._journal = hub, config, journal
        self._queries = asyncio.Semaphore(MAX_QUERIES)

    async def page(self, request: Request) -> Response:
        """`GET /`."""
        html = PAGE.read_text(encoding="utf-8")
        return HTMLResponse(html, headers={"Content-Security-Policy": CONTENT_POLICY})

    async def health(self, request: Request) -> Response:
        """`GET /healthz`."""
        return JSONResponse({"status": "ok", "daemon": "up" if self._hub.daemon_alive else "gone"})

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
            return error_response(404, "stream", f"one of the streams {known}", name)
        return JSONResponse({"stream": name, **stream_json(states[name])})

    async def history(self, request: Request) -> Response:
        """`GET /api/history`."""
        params = request.query_params
        check_names(params, (*FILTERS, "from", "to", "limit", "after"))
        query, limit = read_query(params), single(params, "limit", _limit) or DEFAULT_LIMIT
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
            body["missed"] = {"count": count, "reason": reason}
        return JSONResponse(body)

    async def events(self, request: Request) -> Response:
        """`GET /events`."""
        params = request.query_params
        check_names(params, (*FILTERS, "last_event_id"))
        resume = self._resume(params, request.headers.get("last-event-id") or "")
        query = read_query(params)
        if (full := self._full()) is not None:
            return full
        return EventStream(self._hub, ClientQueue(query, self._config.queue), resume)

    async def socket(self, socket: WebSocket) -> None:
        """`/ws`."""
        params = socket.query_params
        try:
            check_names(params, (*FILTERS, "last_event_id"))
            query, resume = read_query(params), self._resume(params, "")
        except BadParameter as error:
            await socket.send_denial_response(error.response)
            return
        if (full := self._full()) is not None:
            await socket.send_denial_response(full)
            return
        await socket.accept()
        await serve_socket(socket, self._hub, ClientQueue(query, self._config.queue), resume)

    def _full(self) -> JSONResponse | None:
        """An error if there are too many clients."""
        most = self._config.clients
        if len(self._hub.clients) < most:
            return None
        return error_response(503, "web.clients", f"at most {most} listeners at once", "one more")

    def _resume(self, params: QueryParams, header: str) -> ResumePoint | None:
        """The place after the last event of a client that comes back."""
        id = header or single(params, "last_event_id", str)
        if not id:
            return None
        if self._hub.history is None:
            return ResumePoint(0, 0, "not_kept")
        return _checked("last_event_id", id, self._hub.history.resume)


def make_app(hub: FeedHub, config: WebConfig, journal: Path | None, token: str) -> Starlette:
    """The application. `token` must come with requests; empty for none."""
    endpoints = Endpoints(hub, config, journal)
    routes = [
        Route("/", endpoints.page),
        Route("/healthz", endpoints.health),
        Route("/api/state", endpoints.state),
        Route("/api/streams/{name}", endpoints.stream),
        Route("/api/history", endpoints.history),
        Route("/events", endpoints.events),
        WebSocketRoute("/ws", endpoints.socket),
    ]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(config.cors_origins),
        allow_headers=["Authorization", "Last-Event-ID"],
    )
    return Starlette(
        routes=routes,
        middleware=[*[cors] * bool(config.cors_origins), Middleware(AccessControl, config, token)],
        exception_handlers={
            BadParameter: _bad_parameter,
            HTTPException: _http_error,
            FeedError: _unreadable_journal,
        },
    )


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
        return error_response(405, "method", "GET", request.method)
    return error_response(error.status_code, "path", f"one of {PATHS}", request.url.path)


def _unreadable_journal(_: Request, error: Exception) -> Response:
    return error_response(503, "history", "a journal that can be read", str(error))


def check_names(params: QueryParams, known: Iterable[str]) -> None:
    """Refuses unknown parameters.

    Raises:
        BadParameter: for the first one.
    """
    allowed = (*known, "token")
    for name in params:
        if name not in allowed:
            raise BadParameter(name[:60], f"one of the parameters {', '.join(allowed)}", name)


def read_query(params: QueryParams) -> Query:
    """The messages that `stream`, `tag`, `type`, `from` and `to` choose.

    Raises:
        BadParameter: a type or a time is not valid.
    """
    types = frozenset(params.getlist("type"))
    for kind in types - TYPES.keys():
        raise BadParameter("type", f"one of {', '.join(sorted(TYPES))}", kind)
    now = time.time_ns()
    since = single(params, "from", lambda text: parse_moment(text, now))
    until = single(params, "to", lambda text: parse_moment(text, now))
    if since is not None and until is not None and until < since:
        raise BadParameter("to", "a moment not before `from`", params["to"])
    streams, tags = frozenset(params.getlist("stream")), frozenset(params.getlist("tag"))
    return Query(streams, tags, types, since, until)


def single(params: QueryParams, name: str, parse: Callable[[str], T]) -> T | None:
    """The value of a parameter that may be given once; None if it is not given.

    Raises:
        BadParameter: it is given twice or is not valid.
    """
    values = params.getlist(name)
    if len(values) > 1:
        raise BadParameter(name, "one value", ", ".join(values))
    return _checked(name, values[0], parse) if values else None


def _checked(name: str, text: str, parse: Callable[[str], T]) -> T:
    """Parses a value; a ValueError of the form `expected …, got …` becomes a BadParameter."""
    try:
        return parse(text)
    except ValueError as error:
        expected = str(error).removeprefix("expected ").rpartition(", got ")[0]
        raise BadParameter(name, expected or "another value", text) from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise ValueError(f"expected a number from 1 to {MAX_LIMIT}, got {text!r}")
    return int(text)
