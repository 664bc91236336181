"""A connection to NATS that reconnects by itself, and the errors of one that fails.

The library (`nats-py`, extra `nats`) is imported only when NATS is used.
"""

import asyncio
import importlib.util
import logging
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from streamtag.errors import FeedError
from streamtag.feed.nats.subjects import Layout

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 10.0
"""How long to try to connect for the first time."""
RECONNECT_SECONDS = 0.5
"""Wait between two tries to reconnect to the same server."""
REQUEST_SECONDS = 5.0
"""How long to wait for the answer to a request to JetStream."""
PING_SECONDS = 3
"""Time between two pings. A server that does not answer two of them is lost."""
COMPLAINT_SECONDS = 10.0
"""The same error is logged this often."""
SCHEMES = ("nats://", "tls://")


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """Addresses of the servers, credentials, and the prefix of all subjects."""

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    """Addresses of one or more servers of a cluster, `nats://HOST:PORT` or `tls://HOST:PORT`."""
    prefix: str = "streamtag"
    """The first token of all subjects, and the beginning of the names of streams and buckets."""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    credentials: str = ""
    """Path of a `.creds` file, which holds a JWT and a seed."""
    nkey: str = ""
    """Path of a file that holds the seed of an nkey."""
    ca_file: str = ""
    """Path of the certificates to trust; empty for the system's."""
    certificate_file: str = ""
    """Path of a certificate of our own."""
    key_file: str = ""
    """Path of its key, if that is not in the same file."""
    inbox: str = ""
    """Beginning of the subjects of answers; empty for `_INBOX`. A user with limited permissions
    needs one of its own, or others could read along."""

    @property
    def layout(self) -> Layout:
        """Subjects and names."""
        return Layout(self.prefix)

    @property
    def place(self) -> str:
        """The addresses of the servers without passwords, for error messages."""
        return ", ".join(server.rpartition("@")[2] for server in self.servers)


def is_nats(address: str) -> bool:
    """Whether an address is one of a NATS server."""
    return address.startswith(SCHEMES)


def options_of(address: str) -> NatsOptions:
    """Parses `nats://USER:PASSWORD@HOST:PORT/PREFIX`, or several of these with commas between.

    Raises:
        FeedError: it is not such an address.
    """
    servers, users, prefixes = [], [], []
    for one in address.split(","):
        one = one.strip()
        try:
            url = urlsplit(one)
            port = url.port or 4222
        except ValueError:
            url, port = urlsplit(""), 0
        if not one.startswith(SCHEMES) or not url.hostname or url.query or url.fragment:
            raise FeedError(
                f"feed: expected an address such as nats://HOST:4222/PREFIX, got {one!r:.200}"
            )
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        servers.append(f"{url.scheme}://{host}:{port}")
        if url.username:
            users.append((unquote(url.username), unquote(url.password or "")))
        prefixes += [url.path.strip("/")] * bool(url.path.strip("/"))
    user, password = users[0] if users else ("", "")
    prefix = prefixes[0] if prefixes else "streamtag"
    return NatsOptions(tuple(servers), prefix, user, password)


def missing_library() -> str:
    """The error message if the library is not installed; empty if it is."""
    if importlib.util.find_spec("nats") is not None:
        return ""
    return (
        "nats: expected its library, got no module 'nats'; "
        'install it: pip install "streamtag[nats]"'
    )


class ComplaintLog:
    """Logs errors of something that is tried again and again: the same one not too often."""

    def __init__(self, log: logging.Logger, seconds: float = COMPLAINT_SECONDS) -> None:
        self._log, self._seconds = log, seconds
        self._last, self._logged_at = "", -seconds

    def add(self, cause: str, text: str, now: float) -> None:
        """Logs `text`, unless the last cause was the same and has just been logged.

        Args:
            cause: what stays the same from one try to the next.
            text: for people.
            now: seconds of any clock.
        """
        if cause != self._last or now >= self._logged_at + self._seconds:
            self._last, self._logged_at = cause, now
            self._log.error("%s", text)


class NatsRefusedError(FeedError):
    """The server refuses something because this user lacks a permission."""


class NatsConnection:
    """A connection that reconnects for ever; `connect` makes one."""

    def __init__(self, options: NatsOptions) -> None:
        self.options, self.layout = options, options.layout
        self.last_error = ""
        """The newest error of the server or the network, such as a missing permission."""
        self.reconnections = 0
        self.client: Client = _client()
        self._on_change: list[Callable[[], object]] = []
        self._trouble = asyncio.Event()

    @property
    def jetstream(self) -> "JetStreamContext":
        """The interface for requests to JetStream."""
        return self.client.jetstream(timeout=REQUEST_SECONDS)

    @property
    def is_up(self) -> bool:
        """Whether a server is connected now."""
        return self.client.is_connected

    def on_reconnect(self, call: Callable[[], object]) -> None:
        """Calls a function after each reconnection."""
        self._on_change.append(call)

    def forget(self, call: Callable[[], object]) -> None:
        """Does not call a function any more after reconnections."""
        if call in self._on_change:
            self._on_change.remove(call)

    async def answer(self, request: Coroutine[Any, Any, T]) -> T:
        """Waits for the answer to a request.

        Raises:
            TimeoutError: none will come, because the server was lost or has refused something.
        """
        asking, trouble = asyncio.ensure_future(request), self._trouble
        losing = asyncio.ensure_future(trouble.wait())
        try:
            await asyncio.wait({asking, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise TimeoutError(self.last_error or "the connection was lost")
            return asking.result()
        finally:
            losing.cancel()
            asking.cancel()

    def _give_up_requests(self) -> None:
        """Ends all waits for answers with a TimeoutError."""
        self._trouble.set()
        self._trouble = asyncio.Event()

    async def open(self, seconds: float = CONNECT_SECONDS) -> None:
        """Connects for the first time.

        Raises:
            FeedError: no server can be reached, or it refuses the connection.
        """
        options = self.options
        arguments = {**_credentials(options), **_tls(options)}
        refused = asyncio.get_running_loop().create_future()

        async def failed(error: Exception) -> None:
            self.last_error = str(error) or type(error).__name__
            log.debug("nats %s: %s", options.place, self.last_error)
            refusal = "uthorization" in self.last_error or "CERTIFICATE" in self.last_error.upper()
            if refusal and not refused.done():
                refused.set_result(self.last_error)
            if "violation for publish" in self.last_error.lower():
                self._give_up_requests()

        connecting = asyncio.ensure_future(
            self.client.connect(
                list(options.servers),
                name="streamtag",
                error_cb=failed,
                disconnected_cb=self._disconnected,
                reconnected_cb=self._reconnected,
                connect_timeout=max(1, int(min(seconds, CONNECT_SECONDS) / 2)),
                reconnect_time_wait=cast(int, RECONNECT_SECONDS),
                max_reconnect_attempts=-1,
                ping_interval=PING_SECONDS,
                inbox_prefix=options.inbox or "_INBOX",
                **arguments,
            )
        )
        await asyncio.wait(
            {connecting, refused}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if not connecting.done() or refused.done() or connecting.exception():
            # The reset of a server that refuses may come as an error of its own after the reason.
            raise await self._failure(connecting, refused.result() if refused.done() else "")

    async def check_jetstream(self) -> None:
        """Checks that JetStream can be used.

        Raises:
            FeedError: it is off, or this user may not use it.
        """
        with api_errors(self, "JetStream that this user may use"):
            await self.jetstream.account_info()

    async def close(self) -> None:
        """Closes the connection. If a server is connected, everything published is sent first."""
        with suppress(Exception):
            if self.client.is_connected:
                async with asyncio.timeout(1.0):
                    await self.client.flush()
        with suppress(Exception):
            await self.client.close()

    async def _failure(self, connecting: "asyncio.Future[None]", refusal: str) -> FeedError:
        if connecting.done() and not connecting.cancelled() and (fault := connecting.exception()):
            self.last_error = str(fault) or type(fault).__name__
        connecting.cancel()
        with suppress(BaseException):
            await connecting
        with suppress(Exception):
            await self.client.close()
        why = refusal or self.last_error or "no answer"
        if "uthorization" in why:
            return FeedError(
                f"nats {self.options.place}: expected to be accepted {_who(self.options)}, got "
                f"{why}; give user and password, credentials or an nkey that the server knows"
            )
        return FeedError(
            f"nats {self.options.place}: expected a NATS server, got {why}; is it running there?"
        )

    async def _disconnected(self) -> None:
        if not self.client.is_closed:
            log.warning("nats %s: connection lost; reconnecting", self.options.place)

    async def _reconnected(self) -> None:
        self.reconnections += 1
        self._give_up_requests()
        log.info("nats %s: connected again", self.options.place)
        for call in list(self._on_change):
            call()


async def connect(options: NatsOptions, seconds: float = CONNECT_SECONDS) -> NatsConnection:
    """Connects to one of the servers. The connection reconnects by itself whenever it is lost.

    Raises:
        FeedError: no server can be reached, it refuses the connection, or a file cannot be read.
    """
    connection = NatsConnection(options)
    await connection.open(seconds)
    return connection


@contextmanager
def api_errors(connection: NatsConnection, expected: str) -> Iterator[None]:
    """Raises a FeedError that says what was expected, instead of errors of JetStream."""
    import nats.errors
    import nats.js.errors

    connection.last_error = ""
    try:
        yield
    except (TimeoutError, nats.errors.Error) as error:
        head = f"nats {connection.options.place}: expected {expected}, got"
        if "ermissions" in connection.last_error:
            refusal = f"{head} {connection.last_error}; give this user the permission"
            raise NatsRefusedError(refusal) from None
        absent = (nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError)
        if isinstance(error, absent):
            raise FeedError(
                f"{head} no answer of JetStream; start nats-server with -js, and in a cluster "
                "most of the servers"
            ) from None
        description = getattr(error, "description", "") or str(error) or "no answer"
        raise FeedError(f"{head} {description}") from None


def _client() -> "Client":
    if fault := missing_library():
        raise FeedError(fault)
    from nats.aio.client import Client

    return Client()


def _who(options: NatsOptions) -> str:
    if options.credentials or options.nkey:
        return f"with {options.credentials or options.nkey}"
    return f"as {options.user!r}" if options.user else "without credentials"


def _credentials(options: NatsOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.user:
        found |= {"user": options.user, "password": options.password}
    if options.token:
        found["token"] = options.token
    for key, path in (("user_credentials", options.credentials), ("nkeys_seed", options.nkey)):
        if path:
            _check_seed(path)
            found[key] = path
    return found


def _check_seed(path: str) -> None:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(65_536)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise FeedError(f"nats: expected a file to read, got {path}: {why}") from None
    if not any(line.startswith("S") for line in text.splitlines()):
        raise FeedError(f"nats: expected a seed that begins with S in {path}, got none")


def _tls(options: NatsOptions) -> dict[str, Any]:
    secure = any(server.startswith("tls://") for server in options.servers)
    if not (secure or options.ca_file or options.certificate_file):
        return {}
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
        if options.certificate_file:
            context.load_cert_chain(options.certificate_file, options.key_file or None)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (options.ca_file, options.certificate_file)))
        raise FeedError(f"nats: expected certificates in {files}, got {error}") from None
    return {"tls": context}
