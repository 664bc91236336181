"""Which requests the web server accepts: those with the token, and none of other sites' pages.

A page of another site can make a browser on this machine connect to this server: by WebSocket, to
which CORS does not apply, or under a name of its own that leads here (DNS rebinding). So without a
token the host name must be ours, and the origin of a WebSocket must be ours always.
"""

import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from streamtag.config.bridges import WebConfig
from streamtag.config.fields import is_public

OPEN_PATHS = ("/", "/healthz")
"""Paths that need no token, since they contain nothing about the streams."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="streamtag"'}


def error_response(status: int, parameter: str, expected: str, got: str) -> JSONResponse:
    """An answer that says what was wrong with a request."""
    body = {"error": {"parameter": parameter, "expected": expected, "got": got[:200]}}
    return JSONResponse(body, status, CHALLENGE if status == 401 else None)


class AccessControl:
    """Middleware that refuses requests.

    Args:
        app: the application behind it.
        config: of the server.
        token: empty for none.
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
