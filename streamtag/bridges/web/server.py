"""`streamtag web`: serves the feed over HTTP, in a process of its own."""

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from websockets.exceptions import InvalidState

from streamtag.bridges.bridge import (
    ENV_JOURNAL,
    Shutdown,
    feed_access,
    load_running_config,
    required_table,
    shutdown_on_signals,
)
from streamtag.bridges.state_bridge import TagVocabulary
from streamtag.bridges.web.access import SignIn
from streamtag.bridges.web.app import make_app
from streamtag.bridges.web.control import Control
from streamtag.bridges.web.hub import FeedHub
from streamtag.bridges.web.pages import Pages
from streamtag.bridges.web.past_hour import read_past_hour
from streamtag.bridges.web.sessions import Role, Token
from streamtag.config.bridges import WebConfig, WebTokenConfig
from streamtag.config.config import Config
from streamtag.config.control_socket import default_path
from streamtag.config.fields import read_secret
from streamtag.errors import ConfigError, StreamtagError
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
    if web.control and not config.control.enabled:
        raise ConfigError("control.enabled: expected true with web.control, got false")
    gate, vocabulary = _gate(web), _vocabulary(path)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_is_worth_a_line)
    with shutdown_on_signals() as shutdown, _bind(web) as bound:
        asyncio.run(_serve(config, web, gate, vocabulary, path, bound, shutdown))
    return 0


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Text that is not UTF-8 closes its WebSocket. It must not fill the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (UnicodeDecodeError, InvalidState))


def _gate(web: WebConfig) -> SignIn:
    """Who may come in. Raises a ConfigError if a token cannot be read."""
    token = read_secret("web.token", web.token, web.token_file, web.token_env)
    control_token = read_secret(
        "web.control_token", web.control_token, web.control_token_file, web.control_token_env
    )
    if web.control and (not control_token or control_token == token):
        got = "the same" if control_token else "an empty one"
        raise ConfigError(f"web.control_token: expected another token than web.token, got {got}")
    limited = [_limited(name, table) for name, table in web.tokens.items()]
    secrets = [secret for secret in (token, control_token) if secret]
    secrets += [one.secret for one in limited]
    if len({*secrets}) < len(secrets):
        raise ConfigError("web.tokens: expected a different token in each table, got one twice")
    return SignIn(web, token, control_token, limited)


def _limited(name: str, table: WebTokenConfig) -> Token:
    key = f"web.tokens.{name}.token"
    secret = read_secret(key, table.token, table.token_file, table.token_env)
    return Token(Role.READER, secret, name, table.rights)


def _control(
    config: Config, hub: FeedHub, pages: Pages, vocabulary: TagVocabulary | None, path: Path
) -> Control | None:
    """What may be controlled; None for nothing."""
    if config.web is None or not config.web.control:
        return None
    socket = Path(config.control.socket or default_path())
    return Control(hub, pages, socket, _journal(config), vocabulary, path.resolve().parent)


def _journal(config: Config) -> Path | None:
    path = os.environ.get(ENV_JOURNAL) or config.feed.journal
    return Path(path) if path else None


def _clips_folder(config: Config) -> Path | None:
    return Path(config.clips.folder) if config.clips else None


def _vocabulary(path: Path) -> TagVocabulary | None:
    """Tags and categories in the models' cards; None if one cannot be read."""
    try:
        return TagVocabulary(path)
    except StreamtagError as error:
        log.warning("categories and thresholds of tags are not known: %s", error)
        return None


async def _serve(
    config: Config,
    web: WebConfig,
    gate: SignIn,
    vocabulary: TagVocabulary | None,
    path: Path,
    bound: socket.socket,
    shutdown: Shutdown,
) -> None:
    journal = _journal(config)

    def connect() -> AsyncSubscriber:
        return AsyncSubscriber(
            **feed_access(config), scores=True, mood=True, levels=True, derived=("alert", "clip")
        )

    hub = FeedHub(connect, journal, config.feed.beat_seconds)
    pages = Pages(web)
    control = _control(config, hub, pages, vocabulary, path)
    server = _WebServer(
        uvicorn.Config(
            make_app(hub, web, journal, gate, pages, vocabulary, control, _clips_folder(config)),
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
    remembering = asyncio.create_task(_remember(hub, journal))
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    while not shutdown and not following.done() and not serving.done():
        await asyncio.wait({following, serving}, timeout=POLL_SECONDS)
    hub.disconnect_clients()
    server.should_exit = True
    await serving
    if following.done():
        following.result()  # raises the error that ended it
    remembering.cancel()
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    hub.close()


async def _remember(hub: FeedHub, journal: Path | None) -> None:
    """Reads the last hour of all streams from the journal, one after the other."""
    if journal is None or not journal.is_file():
        return
    await asyncio.sleep(POLL_SECONDS)  # until the hub knows the streams
    for name in hub.states:
        try:
            cells = await asyncio.to_thread(read_past_hour, journal, name, time.time_ns())
        except (StreamtagError, sqlite3.Error) as error:
            log.warning("the past hour of %s: %s", name, error)
            return
        hub.past_hour.fill(name, cells)


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
