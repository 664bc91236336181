"""`streamtag web`: serves the feed over HTTP, in a process of its own."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from streamtag.bridges.bridge import (
    ENV_JOURNAL,
    Shutdown,
    feed_access,
    load_running_config,
    required_table,
    shutdown_on_signals,
)
from streamtag.bridges.web.app import make_app
from streamtag.bridges.web.hub import FeedHub
from streamtag.config.bridges import WebConfig
from streamtag.config.config import Config
from streamtag.config.fields import read_secret
from streamtag.errors import ConfigError
from streamtag.feed.client.subscriber import AsyncSubscriber

log = logging.getLogger(__name__)

READY = "web: listening on http://"
"""Start of the log line that gives HOST:PORT when the server is ready."""
POLL_SECONDS = 0.1
"""How often the shutdown is checked."""
TCP_TIMEOUT_MS = 30_000
"""Milliseconds after which a connection is closed whose other side acknowledges nothing."""


def run(path: Path) -> int:
    """Serves by a daemon's configuration until asked to end; returns the exit code.

    Raises:
        StreamtagError: the configuration, its token or the feed's keys cannot be used.
    """
    config = load_running_config(path)
    web = required_table(config.web, path, "[web]", "web.md")
    token = read_secret("web.token", web.token, web.token_file, web.token_env)
    with shutdown_on_signals() as shutdown, _bind(web) as bound:
        asyncio.run(_serve(config, web, token, bound, shutdown))
    return 0


async def _serve(
    config: Config, web: WebConfig, token: str, bound: socket.socket, shutdown: Shutdown
) -> None:
    path = os.environ.get(ENV_JOURNAL) or config.feed.journal
    journal = Path(path) if path else None

    def connect() -> AsyncSubscriber:
        return AsyncSubscriber(**feed_access(config), scores=True, mood=True)

    hub = FeedHub(connect, journal, config.feed.beat_seconds)
    server = _WebServer(
        uvicorn.Config(
            make_app(hub, web, journal, token),
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,  # addresses may hold the token
            lifespan="off",
            timeout_graceful_shutdown=1,
            ws="websockets-sansio",
            server_header=False,
        )
    )
    host, port = bound.getsockname()[:2]
    log.info("%s%s:%d", READY, f"[{host}]" if ":" in host else host, port)
    following = asyncio.create_task(hub.run())
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    while not shutdown and not following.done() and not serving.done():
        await asyncio.wait({following, serving}, timeout=POLL_SECONDS)
    hub.disconnect_clients()
    server.should_exit = True
    await serving
    if following.done():
        following.result()  # raises the error that ended it
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    hub.close()


class _WebServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to `shutdown_on_signals`."""
        yield


@contextlib.contextmanager
def _bind(web: WebConfig) -> Iterator[socket.socket]:
    """The listening socket; a ConfigError if the address cannot be used."""
    host, port = web.address
    with contextlib.ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            bound = stack.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
                option = socket.TCP_USER_TIMEOUT
                bound.setsockopt(socket.IPPROTO_TCP, option, TCP_TIMEOUT_MS)
            bound.bind(address)
            bound.listen()
        except OSError as error:
            raise ConfigError(
                "web.bind: expected an address to listen on, such as 127.0.0.1:8080, "
                f"got {web.bind!r}: {error.strerror or error}; is another server running there?"
            ) from None
        yield bound
