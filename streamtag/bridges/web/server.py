"""`streamtag web`: the feed over HTTP, from a process of its own."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from streamtag.bridges.bridge import (
    JOURNAL,
    Ending,
    configured,
    ending,
    feed_address,
    load_running_config,
)
from streamtag.bridges.web.app import make_app
from streamtag.bridges.web.hub import Hub
from streamtag.config.bridges import WebConfig
from streamtag.config.config import Config
from streamtag.config.feed import feed_keys
from streamtag.config.fields import read_secret
from streamtag.errors import ConfigError
from streamtag.feed.client.subscriber import AsyncSubscriber

log = logging.getLogger(__name__)

READY = "web: listening on http://"
"""What the log says, followed by HOST:PORT, when somebody may ask."""
LOOK_SECONDS = 0.1
UNTAKEN_MILLISECONDS = 30_000
"""A connection whose other side takes nothing for so long is given up."""


def run(path: Path) -> int:
    """Serves until it is told to end; its exit code.

    Args:
        path: of the daemon's configuration.

    Raises:
        StreamtagError: the configuration, its token or the feed's keys cannot be used.
    """
    config = load_running_config(path)
    web = configured(config.web, path, "[web]", "web.md")
    token = read_secret("web.token", web.token, web.token_file, web.token_env)
    with ending() as end, _listening(web) as listening:
        asyncio.run(_serve(config, web, token, listening, end))
    return 0


async def _serve(
    config: Config, web: WebConfig, token: str, listening: socket.socket, end: Ending
) -> None:
    journal = _journal(config)
    hub = Hub(lambda: _subscriber(config), journal, config.feed.beat_seconds)
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
    host, port = listening.getsockname()[:2]
    log.info("%s%s:%d", READY, f"[{host}]" if ":" in host else host, port)
    following = asyncio.create_task(hub.run())
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not end and not following.done() and not serving.done():
        await asyncio.wait({following, serving}, timeout=LOOK_SECONDS)
    hub.end()
    server.should_exit = True
    await serving
    if following.done():
        following.result()  # what ended it
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    hub.close()


class _WebServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are ours."""
        yield


def _journal(config: Config) -> Path | None:
    told = os.environ.get(JOURNAL) or config.feed.journal
    return Path(told) if told else None


def _subscriber(config: Config) -> AsyncSubscriber:
    return AsyncSubscriber(
        feed_address(config),
        scores=True,
        mood=True,
        replay=config.feed.replay or None,
        **feed_keys(config.feed),
    )


@contextlib.contextmanager
def _listening(web: WebConfig) -> Iterator[socket.socket]:
    """The socket.

    Raises:
        ConfigError: the address cannot be used.
    """
    host, port = web.address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(web, error) from None
    with listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; those that are accepted have it, too
                option = socket.TCP_USER_TIMEOUT
                listening.setsockopt(socket.IPPROTO_TCP, option, UNTAKEN_MILLISECONDS)
            listening.bind(address)
            listening.listen()
        except OSError as error:
            raise _unusable(web, error) from None
        yield listening


def _unusable(web: WebConfig, error: OSError) -> ConfigError:
    return ConfigError(
        f"web.bind: expected an address to listen on, such as 127.0.0.1:8080, got {web.bind!r}: "
        f"{error.strerror or error}; is another server running there?"
    )
