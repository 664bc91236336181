"""`Subscriber` and `AsyncSubscriber`: receive the messages of a feed in any program.

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


STOPPED_SECONDS = 1.0
"""A process that wakes up this much later than it asked for was stopped meanwhile."""


class Subscriber(Connection):
    """A connection to a feed; iterate over it.

    It connects in the background, and reconnects, so it may be started before the daemon. The
    current state comes first, as the messages in force. All later messages follow. Missed ones are
    fetched from the journal; if it does not have them, a `MissedMessages` takes their place.

    Args:
        address: where the daemon publishes; or `nats://HOST:PORT/PREFIX` for all daemons that
            publish to NATS JetStream there, see docs/nats.md.
        streams: names of the streams wanted; None for all.
        scores: also the probabilities of each window.
        stats: also the daemon's counters.
        mood: also each stream's point on the mood plane, once a second.
        derived: also what is derived from other messages, of all streams: `alert`, `clip`.
        levels: also each stream's level, twice a second, where the daemon has `feed.levels`.
        timeout: seconds without a message after which iteration raises; None waits for ever.
        high_water: messages that are queued for a slow reader; more are read from the journal.
        replay: address that answers requests; None for the one that the feed names.
        key: this subscriber's key, a `.key_secret` file of `streamtag keygen`, where the daemon
            wants one.
        server_key: the daemon's public key: its 40 characters, or a `.key` file.
        since: topic -> epoch and number of the last message that an earlier subscriber received.
            The messages after it are fetched before all others. Over NATS it may be a moment, a
            `datetime` with a time zone: then all messages since that are delivered, without the
            state before.
        nats: credentials, certificates and the like, if the address is one of NATS. Keys and
            `replay` are not for NATS.

    Raises:
        FeedError: the address or the keys are not valid.
    """

    def receive(self, timeout: float | None = None) -> Message | MissedMessages | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        Raises:
            FeedError: a message is not of this version, or the daemon refuses the key. The next
                call tries again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._has_items():
            socket, longest = self._next_wait()
            late, milliseconds = _until(deadline, longest)
            poller = zmq.Poller()
            poller.register(self._monitor, zmq.POLLIN)
            poller.register(socket, zmq.POLLIN)
            arrived = poller.poll(milliseconds)
            if not arrived and late and (deadline := _deadline_after_stop(deadline)) is None:
                return None
            self._process()
        return self._items.popleft()

    def __iter__(self) -> Iterator[Message | MissedMessages]:
        while True:
            message = self.receive(self.timeout)
            if message is None:
                raise self._timeout_error()
            yield message

    def close(self) -> None:
        """Closes the connection."""
        self._close()

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

    It takes the same arguments as `Subscriber`. A `receive` that is cancelled loses nothing.
    """

    async def receive(self, timeout: float | None = None) -> Message | MissedMessages | None:
        """The next message, or None if there is none within `timeout` seconds (None: for ever).

        Raises:
            FeedError: a message is not of this version, or the daemon refuses the key. The next
                call tries again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._has_items():
            socket, longest = self._next_wait()
            late, milliseconds = _until(deadline, longest)
            poller = zmq.asyncio.Poller()
            poller.register(self._monitor, zmq.POLLIN)
            poller.register(socket, zmq.POLLIN)
            arrived = await poller.poll(milliseconds)
            if not arrived and late and (deadline := _deadline_after_stop(deadline)) is None:
                return None
            self._process()
        return self._items.popleft()

    async def __aiter__(self) -> AsyncIterator[Message | MissedMessages]:
        while True:
            message = await self.receive(self.timeout)
            if message is None:
                raise self._timeout_error()
            yield message

    async def close(self) -> None:
        """Closes the connection."""
        self._close()
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


def _until(deadline: float | None, longest: float) -> tuple[bool, int]:
    """Whether the deadline comes within `longest` seconds, and how many milliseconds to wait."""
    left = float("inf") if deadline is None else max(0.0, deadline - time.monotonic())
    return left <= longest, -(-round(min(left, longest) * 1e6) // 1000)


def _deadline_after_stop(deadline: float | None) -> float | None:
    """A new deadline for a process that was stopped until long after the first one: ZeroMQ has yet
    to deliver what arrived meanwhile. None if the process was not stopped."""
    now = time.monotonic()
    stopped = deadline is not None and now > deadline + STOPPED_SECONDS
    return now + STOPPED_SECONDS if stopped else None
