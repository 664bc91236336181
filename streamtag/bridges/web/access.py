"""Who may ask the web server: a token; and other sites' pages may not, token or none.

A page of another site can make the browser of somebody who sits here connect to this server: by
WebSocket, which knows no CORS, or under a name of its own that leads here (DNS rebinding). So where
there is no token the host's name must be ours, and a WebSocket's origin always.
"""

import hmac
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from streamtag.config.bridges import WebConfig
from streamtag.config.fields import is_public

OPEN = ("/", "/healthz")
"""Paths that tell nothing of what is heard."""
LOCAL = ("localhost", "127.0.0.1", "::1")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="streamtag"'}


class AccessControl:
    """Lets through who may ask.

    Args:
        app: what is behind it.
        config: of the server.
        token: empty where there is none.
    """

    def __init__(self, app: ASGIApp, config: WebConfig, token: str) -> None:
        self._app, self._config, self._token = app, config, token
        self._any_host = bool(token) or is_public(config.address[0])
        self._hosts = {*LOCAL, *config.hosts, config.address[0]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (refusal := self._refusal(scope)):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if not self._any_host and _name(headers.get("host", "")) not in self._hosts:
            expected = f"one of {', '.join(sorted(self._hosts))}; name others in web.hosts"
            return _no(403, "Host", expected, headers.get("host", ""))
        if scope["type"] == "websocket" and not self._is_ours(headers):
            expected = "a page of this server; name other sites in web.cors_origins"
            return _no(403, "Origin", expected, headers.get("origin", ""))
        if self._token and scope["path"] not in OPEN and not self._knows(scope, headers):
            expected = "the token, as `Authorization: Bearer TOKEN` or as parameter `token`"
            return _no(401, "token", expected, "another or none")
        return None

    def _is_ours(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or {"*", origin} & set(self._config.cors_origins):
            return True
        return urlsplit(origin).netloc == headers.get("host", "")

    def _knows(self, scope: Scope, headers: Headers) -> bool:
        kind, _, said = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            query = scope["query_string"].decode("latin-1")
            said = parse_qs(query).get("token", [""])[0]
        return hmac.compare_digest(said.strip().encode(), self._token.encode())


def _name(host: str) -> str:
    """Of a host, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _no(status: int, parameter: str, expected: str, got: str) -> JSONResponse:
    body = {"error": {"parameter": parameter, "expected": expected, "got": got[:200]}}
    return JSONResponse(body, status, CHALLENGE if status == 401 else None)
