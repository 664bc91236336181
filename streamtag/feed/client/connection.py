"""The sockets, requests and keys of a subscriber, whether it blocks or uses asyncio.

The subscriber waits for the socket that `_next_wait` names, then calls `_process`. Nothing here
waits, and nothing is lost if a wait is cancelled.
"""

import itertools
import secrets
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from inspect import Signature, signature
from pathlib import Path
from typing import Any, Self

import zmq
from zmq.utils.monitor import parse_monitor_message

from streamtag.errors import FeedError
from streamtag.feed.client.tracker import (
    FeedItem,
    FeedTracker,
    ReplayCall,
    ReplayReply,
    Steps,
    read_answer,
)
from streamtag.feed.keys import KeyPair, read_pair, read_public
from streamtag.feed.nats.connection import NatsOptions, is_nats
from streamtag.feed.rights import topic_starts
from streamtag.feed.sockets import bound_and_probe

DEFAULT_ADDRESS = "tcp://127.0.0.1:5757"
RESEND_SECONDS = 1.0
"""A request without an answer is sent again after this time."""
ANSWER_SECONDS = 10.0
"""A request without an answer is given up after this time."""
RETRY_SECONDS = 1.0
"""A refused connection is tried again after this time."""
MESSAGES_PER_STEP = 100
"""Messages that are received before anything else is done."""

Socket = zmq.Socket[bytes]
Since = Mapping[str, tuple[str, int]] | datetime | None
"""Where to begin: topic -> epoch and number of its last message; over NATS also a moment."""


@dataclass(slots=True)
class _Request:
    """A request without an answer; times as of `time.monotonic`."""

    call: ReplayCall
    give_up: float
    number: int = 0
    resend: float = 0.0


class Connection:
    """Sockets and state of a subscriber; see `Subscriber` for the arguments."""

    def __new__(cls, address: str = DEFAULT_ADDRESS, *_: Any, **__: Any) -> Self:
        """A subscriber of NATS for an address of NATS. Its library is loaded then."""
        if is_nats(address) and not cls.__name__.startswith("Nats"):
            cls = getattr(import_module("streamtag.feed.nats.subscriber"), f"Nats{cls.__name__}")
        return super().__new__(cls)

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        streams: Iterable[str] | None = None,
        scores: bool = False,
        stats: bool = False,
        mood: bool = False,
        derived: Iterable[str] = (),
        levels: bool = False,
        timeout: float | None = None,
        high_water: int = 100_000,
        replay: str | None = None,
        key: KeyPair | str | Path | None = None,
        server_key: str | Path | None = None,
        since: Since = None,
        nats: NatsOptions | None = None,
    ) -> None:
        if nats is not None or isinstance(since, datetime):
            raise FeedError(
                f"feed {address!r}: expected an address of NATS, nats://HOST, with `nats` or a "
                "time as `since`, got another one"
            )
        self.address, self.timeout = address, timeout
        self.received_at = 0.0
        """When the last message or beat was received, as of `time.monotonic`; 0 for never."""
        self._keys = _read_keys(key, server_key)
        topics = _topics(None if streams is None else list(streams), scores, stats, mood, levels)
        topics += [f"{kind}/" for kind in derived]
        self._tracker = FeedTracker(tuple(topics), since)
        self._replay = replay
        self._numbers = itertools.count(1)
        self._items: deque[FeedItem] = deque()
        self._steps: Steps | None = None
        self._request: _Request | None = None
        self._reconnect_at = 0.0  # after a refusal; 0 for not
        self._context = zmq.Context()
        self._socket = self._open(zmq.SUB)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        )
        self._requests: Socket | None = None
        self._requests_at = ""
        self._hello = b""
        bound_and_probe(self._socket, high_water)
        for topic in ["beat/", *topics]:
            self._socket.subscribe(topic)
        self._request_state()  # last: all other subscriptions are in effect when it is answered
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._close()
            raise FeedError(
                f"feed {address!r}: expected an address such as {DEFAULT_ADDRESS}, got {error}"
            ) from None

    # Of `__init__`, for tools that would show `__new__`.
    __signature__ = Signature([*signature(__init__).parameters.values()][1:])

    @property
    def synced(self) -> bool:
        """Whether the current state has been received."""
        return self._tracker.synced

    def _next_wait(self) -> tuple[Socket, float]:
        """The socket to wait for beside `_monitor`, and for how many seconds at the most."""
        now = time.monotonic()
        if self._request is None:
            return self._socket, max(
                0.0, self._reconnect_at - now
            ) if self._reconnect_at else 3600.0
        if now >= self._request.resend:
            self._send(self._request)
        return self._requests or self._socket, max(0.0, self._request.resend - now)

    def _process(self) -> None:
        """Receives what has arrived.

        Raises:
            FeedError: it is no message of this version, or the daemon refuses the keys.
        """
        if self._monitor.poll(0):
            raise self._refusal(int(parse_monitor_message(self._monitor.recv_multipart())["event"]))
        if self._reconnect_at and time.monotonic() >= self._reconnect_at:
            self._reconnect_at = 0.0
            self._socket.disconnect(self.address)
            self._socket.connect(self.address)
        if self._request is not None:
            self._receive_reply(self._request)
            return
        with suppress(zmq.Again):
            for _ in range(MESSAGES_PER_STEP):
                parts = self._socket.recv_multipart(zmq.DONTWAIT)
                self.received_at = time.monotonic()
                self._steps = self._tracker.accept(parts)
                self._continue(None)
                if self._steps is not None:
                    return

    def _receive_reply(self, request: _Request) -> None:
        while self._requests is not None and self._requests.poll(0):
            answer = read_answer(self._requests.recv_multipart())
            if answer and answer.head.id == request.number:
                self._continue(answer)
                return
        if time.monotonic() >= request.give_up:
            self._drop_requests()
            self._continue(None)

    def _continue(self, answer: ReplayReply | None) -> None:
        """Continues with the current message, up to its next request, page or end."""
        assert self._steps is not None
        self._request = None
        try:
            step = next(self._steps) if answer is None else self._steps.send(answer)
        except StopIteration as done:
            self._steps = None
            self._items += done.value
            if self._tracker.state_needed:
                self._tracker.state_needed = False
                self._request_state()
        else:
            if isinstance(step, ReplayCall):
                self._request = _Request(step, time.monotonic() + ANSWER_SECONDS)
            else:
                self._items += step

    def _has_items(self) -> bool:
        """Whether there is an item to deliver; continues if the last page has been delivered."""
        while not self._items and self._steps is not None and self._request is None:
            self._continue(None)
        return bool(self._items)

    def _send(self, request: _Request) -> None:
        """Sends a request; the second time on a new socket."""
        if request.number:
            self._drop_requests()
        request.number = next(self._numbers)
        request.resend = time.monotonic() + RESEND_SECONDS
        address = self._replay or _replay_address(self._tracker.replay, self.address)
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
        with suppress(zmq.Again):  # it is sent again, on a new socket
            body = request.call.body(request.number, self._tracker.encoding)
            self._requests.send(body, zmq.DONTWAIT)

    def _open(self, kind: int) -> Socket:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.ipv6 = True  # as well as IPv4
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

    def _request_state(self) -> None:
        """Requests the state, now and after every reconnect."""
        if self._hello:
            self._socket.unsubscribe(self._hello)
        self._hello = f"hello/{secrets.token_hex(8)}/".encode()
        self._socket.subscribe(self._hello)

    def _refusal(self, event: int) -> FeedError:
        self._reconnect_at = time.monotonic() + RETRY_SECONDS
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

    def _close(self) -> None:
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._socket.close()
        self._context.destroy(linger=0)

    def _timeout_error(self) -> FeedError:
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


def _replay_address(replay: str, feed: str) -> str:
    """The address for requests, on the host of the feed's address."""
    if not replay.startswith("tcp://"):
        return replay
    port = replay.rpartition(":")[2]
    host = feed.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:{port}"


def _topics(
    streams: list[str] | None, scores: bool, stats: bool, mood: bool, levels: bool
) -> list[str]:
    kinds = ["event", *["scores"] * scores, *["mood"] * mood, *["level"] * levels]
    wanted = topic_starts(kinds, ["*"] if streams is None else streams)
    return [*wanted, *["stats/"] * stats, "journal/", "goodbye/"]
