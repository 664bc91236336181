"""Subscriber: the messages of a feed, in any program.

import streamtag

for message in streamtag.Subscriber("tcp://127.0.0.1:5757"):
    print(message)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import zmq
import zmq.asyncio

from streamtag.feed.client.connection import DEFAULT_ADDRESS, Connection
from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.messages import Message

__all__ = ["DEFAULT_ADDRESS", "AsyncSubscriber", "MissedMessages", "Subscriber"]


FROZEN_SECONDS = 1.0
"""So much later than asked nobody is woken who was not stopped."""


class Subscriber(Connection):
    """A connection to a feed; iterate over it.

    It connects in the background and again after a break, so it may be started before the daemon.
    The present state comes first, as the messages that are in force; then what happens. What is
    missed is fetched from the journal; what cannot be had is told as MissedMessages.

    Args:
        address: where the daemon publishes.
        streams: names of the streams wanted; None for all.
        scores: also what each single window got.
        stats: also the daemon's counters.
        mood: also where each stream stands on the mood plane, once a second.
        timeout: seconds of silence after which iteration raises; None waits for ever.
        high_water: messages kept for a slow reader; beyond them the journal is asked.
        replay: where requests are answered; None for where the feed says.
        key: this subscriber's key, a `.key_secret` file of `streamtag keygen`, where the daemon
            wants one.
        server_key: the daemon's public key: its 40 characters, or a `.key` file.
        since: epoch and number of the last message that was had of each topic, earlier, by another
            subscriber; what came after them is fetched before anything else.

    Raises:
        FeedError: the address is none, or the keys are none.
    """

    def receive(self, timeout: float | None = None) -> Message | MissedMessages | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        Raises:
            FeedError: what came is no message of this version, or the daemon refuses the key; the
                next call tries again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._more():
            socket, patience = self._awaited()
            late, milliseconds = _until(deadline, patience)
            poller = zmq.Poller()
            poller.register(self._monitor, zmq.POLLIN)
            poller.register(socket, zmq.POLLIN)
            heard = poller.poll(milliseconds)
            if not heard and late and (deadline := _after_a_freeze(deadline)) is None:
                return None
            self._hear()
        return self._ready.popleft()

    def __iter__(self) -> Iterator[Message | MissedMessages]:
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


class AsyncSubscriber(Connection):
    """A connection to a feed for asyncio; `async for message in feed`.

    Otherwise as `Subscriber`, with the same arguments. A `receive` that is cancelled loses nothing.
    """

    async def receive(self, timeout: float | None = None) -> Message | MissedMessages | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        Raises:
            FeedError: what came is no message of this version, or the daemon refuses the key; the
                next call tries again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._more():
            socket, patience = self._awaited()
            late, milliseconds = _until(deadline, patience)
            poller = zmq.asyncio.Poller()
            poller.register(self._monitor, zmq.POLLIN)
            poller.register(socket, zmq.POLLIN)
            heard = await poller.poll(milliseconds)
            if not heard and late and (deadline := _after_a_freeze(deadline)) is None:
                return None
            self._hear()
        return self._ready.popleft()

    async def __aiter__(self) -> AsyncIterator[Message | MissedMessages]:
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


def _until(deadline: float | None, patience: float) -> tuple[bool, int]:
    """Whether the deadline comes before `patience` seconds are over, and how many milliseconds to
    wait."""
    left = float("inf") if deadline is None else max(0.0, deadline - time.monotonic())
    return left <= patience, -(-round(min(left, patience) * 1e6) // 1000)


def _after_a_freeze(deadline: float | None) -> float | None:
    """Another deadline, soon, for a process that stood still until long after the first: ZeroMQ
    has yet to bring what came meanwhile. None for one that did not."""
    now = time.monotonic()
    frozen = deadline is not None and now > deadline + FROZEN_SECONDS
    return now + FROZEN_SECONDS if frozen else None
