"""Who may use the server: middleware for all requests, and the addresses of the sign-in."""

import json
import logging
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamtag.bridges.web.parameters import BadParameter, error_response
from streamtag.bridges.web.sessions import (
    LIFETIME_SECONDS,
    LONGEST_NAME,
    Session,
    Sessions,
    Token,
    WrongTokens,
)
from streamtag.config.bridges import WebConfig
from streamtag.config.fields import is_public
from streamtag.feed.rights import EVERYTHING, NOTHING, Rights

log = logging.getLogger(__name__)

OPEN_PATHS = (
    "/",
    "/healthz",
    "/wall",
    "/sign-in",
    "/sign-out",
    "/settings",
    "/control",
    "/api/session",
)
OPEN_FOLDERS = ("/stream/", "/wall/", "/static/", "/logos/")
"""Paths, and beginnings of paths, that need no token: they contain nothing about the streams."""
PATHS_WITH_TOKEN = ("/events", "/ws")
"""Paths, and what is below them, that take the token as a parameter: what reads them in a browser
cannot set headers. Elsewhere it would end up in the logs of proxies and in histories."""
CHANGING_PATHS = (
    "/api/session",
    "/api/control",
    "/sign-in",
    "/sign-out",
    "/control",
    "/alerts",
    "/settings",
)
"""Where requests change something."""
PAGE_HEADER = "Streamtag-Request"
"""A header of requests to `/api/` that change something. No other site can send it: browsers ask
for permission first (CORS), which is never given for it. Forms have none: browsers send the
`Origin` of the page with them."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
LONGEST_BODY = 10_000
"""Bytes of a request."""


class AccessControl:
    """Middleware that refuses requests without the token, and those of other sites' pages.

    A page of another site can make a browser on this machine connect to this server: by WebSocket,
    to which CORS does not apply, or under a name of its own that leads here (DNS rebinding). So
    without a token the host name must be ours, and the origin of a WebSocket and of a request that
    changes something must be ours always.

    It puts the session (or None) and its rights into the `state` of the request.
    """

    def __init__(self, app: ASGIApp, config: WebConfig, gate: "SignIn") -> None:
        self._app, self._config, self._gate = app, config, gate
        self._any_host = gate.needs_token or is_public(config.address[0])
        self._hosts = {*LOCAL_HOSTS, *config.hosts, config.address[0]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (refusal := self._refusal(HTTPConnection(scope))) is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        if refusal := self._foreign(request):
            return refusal
        path = request.scope["path"]
        session, wait = self._gate.session_of(request)
        request.state.session = session
        open_to_all = EVERYTHING if not self._gate.needs_token else NOTHING
        request.state.rights = session.rights if session else open_to_all
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
        if session is not None or is_open or not self._gate.needs_token:
            return None
        if wait:
            return too_many(wait)
        if path.startswith("/report/") and "text/html" in request.headers.get("accept", ""):
            query = request.scope["query_string"].decode("latin-1")
            there = path[1:] + (f"?{query}" if query else "")
            return RedirectResponse(f"../sign-in?next={quote(there)}", 303)
        expected = "the token, as `Authorization: Bearer TOKEN`, or a sign-in at /sign-in"
        return error_response(401, "token", expected, "another or none")

    def _foreign(self, request: HTTPConnection) -> JSONResponse | None:
        """An error if another site's page may have sent this."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._any_host and _host_name(host) not in self._hosts:
            expected = f"one of {', '.join(sorted(self._hosts))}; name others in web.hosts"
            return error_response(403, "Host", expected, host)
        is_socket = request.scope["type"] == "websocket"
        if is_socket and origin is not None and not self._may_read(origin, host):
            expected = "a page of this server; name other sites in web.cors_origins"
            return error_response(403, "Origin", expected, origin)
        if is_socket or request.scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        if not request.scope["path"].startswith(CHANGING_PATHS):
            return None
        is_form = not request.scope["path"].startswith("/api/")
        if is_form if origin is None else urlsplit(origin).netloc != host:
            return error_response(403, "Origin", "a page of this server", origin or "none")
        if not is_form and PAGE_HEADER not in request.headers:
            return error_response(403, PAGE_HEADER, "the header with any value", "none")
        return None

    def _may_read(self, origin: str, host: str) -> bool:
        allowed = self._config.cors_origins
        return "*" in allowed or origin in allowed or urlsplit(origin).netloc == host


class SignIn:
    """Checks the tokens, and answers at the addresses of the sign-in."""

    def __init__(
        self, config: WebConfig, token: str, control_token: str, limited: Sequence[Token] = ()
    ) -> None:
        self.needs_token = bool(token or limited)
        """Whether reading needs one."""
        self.can_control = bool(control_token)
        """Whether there is anything to control."""
        self._sessions, self._wrong = Sessions(token, control_token, limited), WrongTokens()
        self._cookie = f"streamtag-session-{config.address[1]}"  # ports of a host share cookies

    def session_of(self, request: HTTPConnection) -> tuple[Session | None, float]:
        """The session of a request, and how long its address must wait if its tokens are wrong."""
        if (cookie := request.cookies.get(self._cookie)) and (
            session := self._sessions.read(cookie, time.time())
        ):
            return session, 0.0
        if not (token := _token_in(request)):
            return None, 0.0
        found, wait = self._judge(request, token)
        return (found.session("") if found else None), wait

    async def show(self, request: Request) -> Response:
        """`GET /api/session`."""
        return self._answer(request.state.session)

    async def sign_in(self, request: Request) -> Response:
        """`POST /api/session`."""
        body = await read_json(request)
        token, name = (str(body.get(key, "")).strip() for key in ("token", "name"))
        session, wait = self.enter(request, token, name)
        if wait:
            return too_many(wait)
        if session is None:
            return error_response(401, "token", "the server's token", "another")
        answer = self._answer(session)
        self.keep(request, session, answer)
        return answer

    def enter(self, request: Request, token: str, name: str) -> tuple[Session | None, float]:
        """A new session, if the token is right, and how long to wait before it is looked at."""
        found, wait = self._judge(request, token)
        if found is None:
            return None, wait
        shown = "".join(c for c in name if c.isprintable())[:LONGEST_NAME]
        session = found.session(shown)
        log.info("sign-in: %s as %s", who(request, session), found.name or found.role)
        return session, 0.0

    def keep(self, request: Request, session: Session, answer: Response) -> None:
        """Sends the cookie of a session along with an answer."""
        answer.set_cookie(
            self._cookie,
            self._sessions.cookie(session, time.time()),
            max_age=LIFETIME_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    async def sign_out(self, request: Request) -> Response:
        """`DELETE /api/session`."""
        answer = self._answer(None)
        self.forget(answer)
        return answer

    def forget(self, answer: Response) -> None:
        """Ends the session of the browser that gets this answer."""
        answer.delete_cookie(self._cookie, httponly=True, samesite="strict")

    def _judge(self, request: HTTPConnection, token: str) -> tuple[Token | None, float]:
        """The token, if it is a right one, and how long to wait before it is looked at."""
        address, now = _address(request), time.monotonic()
        if wait := self._wrong.wait_seconds(address, now):
            return None, wait
        if (found := self._sessions.find(token)) is None:
            self._wrong.add(address, token, now)
        return found, 0.0

    def _answer(self, session: Session | None) -> JSONResponse:
        body = {
            "role": session and session.role,
            "name": session.name if session else "",
            "needs_token": self.needs_token,
            "can_control": self.can_control,
        }
        return JSONResponse(body, headers={"Cache-Control": "no-store"})


def rights_of(request: HTTPConnection) -> Rights:
    """What the sender of a request may see."""
    rights: Rights = request.state.rights
    return rights


def seen_stream(request: HTTPConnection, stream: str, kind: str = "event") -> str:
    """The stream's name if that kind of its topics may be seen; else that of no stream, and a line
    in the log."""
    if not stream or rights_of(request).sees(f"{kind}/{stream}/"):
        return stream
    session: Session | None = request.state.session
    name = session.token if session else ""
    words = "web: refused token %s at %s: %s of stream %r"
    log.warning(words, name or "none", _address(request), kind, stream[:100])
    return ""


def who(request: HTTPConnection, session: Session | None) -> str:
    """Who sent a request, for the log."""
    name = session.name if session and session.name else "somebody"
    return f"{name} at {_address(request)}"


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object that a request brings.

    Raises:
        BadParameter: it is none, or too long.
    """
    body = await _read_body(request)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadParameter("body", "a JSON object", body[:60].decode(errors="replace"))
    return found


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form.

    Raises:
        BadParameter: it is too long.
    """
    body = await _read_body(request)
    return dict(parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True))


async def _read_body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_BODY:
            raise BadParameter("body", f"at most {LONGEST_BODY} bytes", "more")
    return body


def too_many(seconds: float) -> JSONResponse:
    """The answer to an address with too many wrong tokens."""
    expected = f"the right token, in {seconds:.0f} s"
    answer = error_response(429, "token", expected, "too many wrong ones")
    answer.headers["Retry-After"] = f"{seconds:.0f}"
    return answer


def _token_in(request: HTTPConnection) -> str:
    """The token of a request; empty without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    path = request.scope["path"]
    if path not in PATHS_WITH_TOKEN and not path.startswith("/ws/"):
        return ""
    return next(iter(request.query_params.getlist("token")), "").strip()


def _address(request: HTTPConnection) -> str:
    return request.client.host if request.client else ""


def _host_name(host: str) -> str:
    """The name in a `Host` header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
