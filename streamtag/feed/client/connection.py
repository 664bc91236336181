"""What a subscriber does between two waits: its sockets, its requests, its keys.

Whoever drives it waits for `awaited` (blocking or with asyncio), then calls `hear`. Nothing here
waits, and nothing is lost when the wait is given up halfway.
"""

import itertools
import secrets
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from streamtag.errors import FeedError
from streamtag.feed.client.tracker import Answer, Ask, FeedItem, FeedTracker, Work, read_answer
from streamtag.feed.keepalive import by_the_system
from streamtag.feed.keys import KeyPair, read_pair, read_public

DEFAULT_ADDRESS = "tcp://127.0.0.1:5757"
RESEND_SECONDS = 1.0
"""After which a request that nobody answered is sent again."""
ANSWER_SECONDS = 10.0
"""After which it is given up."""
RETRY_SECONDS = 1.0
"""After which a connection that was refused is tried again."""

AT_ONCE = 100
"""Messages taken before anything else is looked at."""

Socket = zmq.Socket[bytes]


@dataclass(slots=True)
class _Request:
    """A request under way; times as of `time.monotonic`."""

    ask: Ask
    give_up: float
    number: int = 0
    resend: float = 0.0


class Connection:
    """Sockets and state of a subscriber; see `Subscriber` for the arguments."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        streams: Iterable[str] | None = None,
        scores: bool = False,
        stats: bool = False,
        mood: bool = False,
        timeout: float | None = None,
        high_water: int = 100_000,
        replay: str | None = None,
        key: KeyPair | str | Path | None = None,
        server_key: str | Path | None = None,
        since: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self.address, self.timeout = address, timeout
        self.heard_at = 0.0
        """When the feed last gave a sign of life, as of `time.monotonic`; 0 for never."""
        self._keys = _read_keys(key, server_key)
        topics = _topics(None if streams is None else list(streams), scores, stats, mood)
        self._following = FeedTracker(tuple(topics), since)
        self._replay = replay
        self._numbers = itertools.count(1)
        self._ready: deque[FeedItem] = deque()
        self._work: Work | None = None
        self._request: _Request | None = None
        self._again = 0.0  # when to connect anew after a refusal; 0 for not
        self._context = zmq.Context()
        self._socket = self._open(zmq.SUB)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        )
        self._requests: Socket | None = None
        self._requests_at = ""
        self._hello = b""
        by_the_system(self._socket, high_water)
        for topic in ["beat/", *topics]:
            self._socket.subscribe(topic)
        self._say_hello()  # last: what was subscribed to before it is heard when it is answered
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._end()
            raise FeedError(
                f"feed {address!r}: expected an address such as {DEFAULT_ADDRESS}, got {error}"
            ) from None

    @property
    def synced(self) -> bool:
        """Whether the feed has said what is in force."""
        return self._following.synced

    def _awaited(self) -> tuple[Socket, float]:
        """The socket to wait for beside `_monitor`, and the seconds after which to go on anyway."""
        now = time.monotonic()
        if self._request is None:
            return self._socket, max(0.0, self._again - now) if self._again else 3600.0
        if now >= self._request.resend:
            self._send(self._request)
        return self._requests or self._socket, max(0.0, self._request.resend - now)

    def _hear(self) -> None:
        """Takes what has arrived and begins what follows from it.

        Raises:
            FeedError: what came is no message of this version, or the daemon refuses the keys.
        """
        if self._monitor.poll(0):
            raise self._refused(int(parse_monitor_message(self._monitor.recv_multipart())["event"]))
        if self._again and time.monotonic() >= self._again:
            self._again = 0.0
            self._socket.disconnect(self.address)
            self._socket.connect(self.address)
        if self._request is not None:
            self._hear_answer(self._request)
            return
        with suppress(zmq.Again):
            for _ in range(AT_ONCE):
                parts = self._socket.recv_multipart(zmq.DONTWAIT)
                self.heard_at = time.monotonic()
                self._work = self._following.accept(parts)
                self._go_on(None)
                if self._work is not None:
                    return

    def _hear_answer(self, request: _Request) -> None:
        while self._requests is not None and self._requests.poll(0):
            answer = read_answer(self._requests.recv_multipart())
            if answer and answer.head["id"] == request.number:
                self._go_on(answer)
                return
        if time.monotonic() >= request.give_up:
            self._drop_requests()
            self._go_on(None)

    def _go_on(self, answer: Answer | None) -> None:
        """Goes on with the piece of work under way, up to its next request, page or end."""
        assert self._work is not None
        self._request = None
        try:
            step = next(self._work) if answer is None else self._work.send(answer)
        except StopIteration as done:
            self._work = None
            self._ready += done.value
            if self._following.lost_touch:
                self._following.lost_touch = False
                self._say_hello()
        else:
            if isinstance(step, Ask):
                self._request = _Request(step, time.monotonic() + ANSWER_SECONDS)
            else:
                self._ready += step

    def _more(self) -> bool:
        """Whether there is something to hand out; goes on with work that waited for its last page
        to be taken."""
        while not self._ready and self._work is not None and self._request is None:
            self._go_on(None)
        return bool(self._ready)

    def _send(self, request: _Request) -> None:
        """Sends a request, or sends it again on a socket of its own."""
        if request.number:
            self._drop_requests()
        request.number = next(self._numbers)
        request.resend = time.monotonic() + RESEND_SECONDS
        address = self._replay or _reachable(self._following.replay, self.address)
        if self._requests is None or self._requests_at != address:
            self._drop_requests()
            self._requests, self._requests_at = self._open(zmq.DEALER), address
            try:
                self._requests.connect(address)
            except zmq.ZMQError as error:
                self._drop_requests()
                raise FeedError(
                    f"feed {self.address}: expected an address for requests, got {address!r}: "
                    f"{error}; name one (replay=)"
                ) from None
        with suppress(zmq.Again):  # refused: it is tried again on a new socket
            body = request.ask.body(request.number, self._following.encoding)
            self._requests.send(body, zmq.DONTWAIT)

    def _open(self, kind: int) -> Socket:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.ipv6 = True  # beside IPv4
        if self._keys:
            pair, server = self._keys
            socket.curve_publickey, socket.curve_secretkey = (
                half.encode() for half in (pair.public, pair.secret)
            )
            socket.curve_serverkey = server.encode()
        return socket

    def _drop_requests(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _say_hello(self) -> None:
        """Asks for the state, now and after every break of the connection."""
        if self._hello:
            self._socket.unsubscribe(self._hello)
        self._hello = f"hello/{secrets.token_hex(8)}/".encode()
        self._socket.subscribe(self._hello)

    def _refused(self, event: int) -> FeedError:
        self._again = time.monotonic() + RETRY_SECONDS
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and self._keys:
            return FeedError(
                f"feed {self.address}: expected to be let in with the key {self._keys[0].public}, "
                "got a refusal; put its .key file into the daemon's feed.authorised_keys"
            )
        wanted, mend = ("without keys", "leave out") if self._keys else ("with keys", "give")
        return FeedError(
            f"feed {self.address}: expected a feed like this subscriber, got one that works "
            f"{wanted}, or no streamtag feed; {mend} `key` and `server_key`"
        )

    def _end(self) -> None:
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._socket.close()
        self._context.destroy(linger=0)

    def _late(self) -> FeedError:
        keys = ", and is server_key its public key" if self._keys else ""
        return FeedError(
            f"feed {self.address}: expected a message within {self.timeout} s, got none; "
            f"is the daemon running, does it publish there{keys}?"
        )


def _read_keys(
    key: KeyPair | str | Path | None, server_key: str | Path | None
) -> tuple[KeyPair, str] | None:
    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        given, missing = ("key", "server_key") if server_key is None else ("server_key", "key")
        raise FeedError(f"feed: expected {missing}, too, where {given} is given, got none")
    pair = key if isinstance(key, KeyPair) else read_pair(Path(key))
    return pair, read_public(server_key)


def _reachable(replay: str, feed: str) -> str:
    """The address of requests on the host under which the feed is known here."""
    if not replay.startswith("tcp://"):
        return replay
    port = replay.rpartition(":")[2]
    host = feed.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:{port}"


def _topics(streams: list[str] | None, scores: bool, stats: bool, mood: bool) -> list[str]:
    kinds = ["event", *["scores"] * scores, *["mood"] * mood]
    names = [""] if streams is None else [f"{name}/" for name in streams]
    wanted = [f"{kind}/{name}" for kind in kinds for name in names]
    return [*wanted, *["stats/"] * stats, "journal/", "goodbye/"]
