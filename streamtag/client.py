"""Subscriber: the messages of a feed, in any program.

import streamtag

for message in streamtag.Subscriber("tcp://127.0.0.1:5757"):
    print(message)
"""

import asyncio
import itertools
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Self

import zmq
import zmq.asyncio

from streamtag.errors import FeedError
from streamtag.following import Answer, Ask, Following, Missed, Work, read_answer
from streamtag.messages import Message

__all__ = ["DEFAULT_ADDRESS", "AsyncSubscriber", "Missed", "Subscriber"]

DEFAULT_ADDRESS = "tcp://127.0.0.1:5757"
RESEND_SECONDS = 1.0
"""After which a request that nobody answered is sent again."""
ANSWER_SECONDS = 10.0
"""After which it is given up."""


class _Connection:
    """Sockets and state of a subscriber, without waiting."""

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
    ) -> None:
        self.address, self.timeout = address, timeout
        topics = _topics(None if streams is None else list(streams), scores, stats, mood)
        self._following = Following(tuple(topics))
        self._replay = replay
        self._numbers = itertools.count(1)
        self._ready: deque[Message | Missed] = deque()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._requests: zmq.Socket[bytes] | None = None
        self._requests_at = ""
        self._hello = b""
        self._socket.linger = 0
        self._socket.rcvhwm = high_water
        self._socket.heartbeat_ivl, self._socket.heartbeat_timeout = 5_000, 20_000
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

    def _say_hello(self) -> None:
        """Asks for the state, now and after every break of the connection."""
        if self._hello:
            self._socket.unsubscribe(self._hello)
        self._hello = f"hello/{secrets.token_hex(8)}/".encode()
        self._socket.subscribe(self._hello)

    def _ask(self, ask: Ask, number: int) -> "zmq.Socket[bytes]":
        """Sends a request; the socket on which its answer will come."""
        address = self._replay or _reachable(self._following.replay, self.address)
        if self._requests is None or self._requests_at != address:
            self._drop_requests()
            self._requests, self._requests_at = self._context.socket(zmq.DEALER), address
            self._requests.linger = 0
            try:
                self._requests.connect(address)
            except zmq.ZMQError as error:
                self._drop_requests()
                raise FeedError(
                    f"feed {self.address}: expected an address for requests, got {address!r}: "
                    f"{error}; name one (replay=)"
                ) from None
        self._requests.send(ask.body(number), zmq.DONTWAIT)
        return self._requests

    def _drop_requests(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _after(self, heard: list[Message | Missed]) -> None:
        self._ready += heard
        if self._following.lost_touch:
            self._following.lost_touch = False
            self._say_hello()

    def _end(self) -> None:
        self._context.destroy(linger=0)

    def _late(self) -> FeedError:
        return FeedError(
            f"feed {self.address}: expected a message within {self.timeout} s, got none; "
            "is the daemon running, and does it publish there?"
        )


class Subscriber(_Connection):
    """A connection to a feed; iterate over it.

    It connects in the background and again after a break, so it may be started before the daemon.
    The present state comes first, as the messages that are in force; then what happens. What is
    missed is fetched from the journal; what cannot be had is told as Missed.

    Args:
        address: where the daemon publishes.
        streams: names of the streams wanted; None for all.
        scores: also what each single window got.
        stats: also the daemon's counters.
        mood: also where each stream stands on the mood plane, once a second.
        timeout: seconds of silence after which iteration raises; None waits for ever.
        high_water: messages kept for a slow reader; beyond them the journal is asked.
        replay: where requests are answered; None for where the feed says.

    Raises:
        FeedError: the address is none.
    """

    def receive(self, timeout: float | None = None) -> Message | Missed | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        It may take `ANSWER_SECONDS` longer where something was missed and nobody answers for it.

        Raises:
            FeedError: what came is no message of this version.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            left = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1e3))
            if not self._socket.poll(left):
                return None
            self._after(self._finish(self._following.accept(self._socket.recv_multipart())))
        return self._ready.popleft()

    def _finish(self, work: Work) -> list[Message | Missed]:
        """Has every request of a piece of work answered."""
        answer: Answer | None = None
        try:
            ask = next(work)
            while True:
                answer = self._answer(ask)
                ask = work.send(answer)
        except StopIteration as done:
            return list(done.value)

    def _answer(self, ask: Ask) -> Answer | None:
        give_up = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < give_up:
            number = next(self._numbers)
            try:
                socket = self._ask(ask, number)
            except zmq.Again:
                self._drop_requests()
                continue
            until = time.monotonic() + RESEND_SECONDS
            while (left := until - time.monotonic()) > 0 and socket.poll(round(left * 1000)):
                answer = read_answer(socket.recv_multipart())
                if answer and answer.head["id"] == number:
                    return answer
            self._drop_requests()
        return None

    def __iter__(self) -> Iterator[Message | Missed]:
        while True:
            message = self.receive(self.timeout)
            if message is None:
                raise self._late()
            yield message

    def close(self) -> None:
        """Ends the connection."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncSubscriber(_Connection):
    """A connection to a feed for asyncio; `async for message in feed`.

    Otherwise as `Subscriber`, with the same arguments.
    """

    async def receive(self, timeout: float | None = None) -> Message | Missed | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        It may take `ANSWER_SECONDS` longer where something was missed and nobody answers for it.

        Raises:
            FeedError: what came is no message of this version.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        feed = zmq.asyncio.Socket.from_socket(self._socket)
        while not self._ready:
            left = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1e3))
            if not await feed.poll(left):
                return None
            parts = self._socket.recv_multipart(zmq.DONTWAIT)
            self._after(await self._finish(self._following.accept(parts)))
        return self._ready.popleft()

    async def _finish(self, work: Work) -> list[Message | Missed]:
        try:
            ask = next(work)
            while True:
                ask = work.send(await self._answer(ask))
        except StopIteration as done:
            return list(done.value)

    async def _answer(self, ask: Ask) -> Answer | None:
        give_up = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < give_up:
            number = next(self._numbers)
            try:
                socket = self._ask(ask, number)
            except zmq.Again:
                self._drop_requests()
                continue
            waiting = zmq.asyncio.Socket.from_socket(socket)
            until = time.monotonic() + RESEND_SECONDS
            while (left := until - time.monotonic()) > 0 and await waiting.poll(round(left * 1e3)):
                answer = read_answer(socket.recv_multipart(zmq.DONTWAIT))
                if answer and answer.head["id"] == number:
                    return answer
            self._drop_requests()
        return None

    async def __aiter__(self) -> AsyncIterator[Message | Missed]:
        while True:
            message = await self.receive(self.timeout)
            if message is None:
                raise self._late()
            yield message

    async def close(self) -> None:
        """Ends the connection."""
        self._end()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


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
