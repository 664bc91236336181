"""Reads a stream of JetStream in order, from a chosen message on, without acknowledgements.

The server sends only as many messages as were requested, so a slow reader is never flooded. The
loss of a connection, server or message ends the consumer. The reader then opens another one that
begins behind the last message.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from streamtag.errors import FeedError
from streamtag.feed.nats.connection import NatsConnection, api_errors
from streamtag.feed.nats.subjects import ID_HEADER, LEASE_HEADER, number_in

if TYPE_CHECKING:
    from nats.aio.msg import Msg

BATCH = 500
"""The number of messages in one request."""
HEARTBEAT_SECONDS = 2.0
"""How often the server sends a heartbeat while it has no messages."""
LOST_SECONDS = 3 * HEARTBEAT_SECONDS
"""A consumer is lost after this time without a message or heartbeat."""
REQUEST_SECONDS = 60.0
"""A request for messages is repeated after this time."""
INACTIVE_SECONDS = 30.0
"""The server removes a consumer that has sent no request for this time."""
NO_MESSAGES = ("404", "408")
"""Statuses of an answer that mean that there are no more messages now."""


class ConsumerLostError(Exception):
    """A consumer has ended. The messages that it has delivered are complete and in order."""


class StreamMissingError(FeedError):
    """The stream does not exist, because no daemon has published anything yet."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that JetStream has stored."""

    subject: str
    position: int
    """Its sequence number in JetStream's stream."""
    number: int
    """Its sequence number in its topic and epoch."""
    lease: int
    """The lease in its header; 0 for none."""
    time: datetime
    """When JetStream stored it."""
    body: bytes
    """Its payload."""


class Consumer:
    """An ephemeral consumer of one filter. Use `open_consumer` to create one.

    Args:
        connection: open.
        stream: its name.
        subject: the filter.
    """

    def __init__(self, connection: NatsConnection, stream: str, subject: str) -> None:
        self._connection, self._stream, self._subject = connection, stream, subject
        self._name = secrets.token_hex(16)  # it cannot be guessed: who knows it may read here
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._inbox = connection.client.new_inbox()
        self._expected = 1
        self._coming = 0
        self._asked_at = 0.0
        self._subscription: Any = None

    async def open(self, policy: str, *, headers_only: bool = False, **start: Any) -> None:
        """Creates the consumer; see `open_consumer`."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
        from nats.js.errors import NotFoundError

        config = ConsumerConfig(
            name=self._name,
            filter_subject=self._subject,
            deliver_policy=DeliverPolicy(policy),
            ack_policy=AckPolicy.NONE,
            inactive_threshold=INACTIVE_SECONDS,
            headers_only=headers_only or None,
            mem_storage=True,
            num_replicas=1,
            **start,
        )

        async def arrived(message: "Msg") -> None:
            self._arrived.put_nowait(message)

        self._connection.on_reconnect(self._lose)
        with api_errors(self._connection, f"to read {self._subject}"):
            try:
                jetstream = self._connection.jetstream
                await self._connection.answer(jetstream.add_consumer(self._stream, config))
            except NotFoundError:
                raise StreamMissingError(
                    f"nats {self._connection.options.place}: expected the stream {self._stream}, "
                    "got none; does a daemon publish there, with this prefix?"
                ) from None
        self._subscription = await self._connection.client.subscribe(self._inbox, cb=arrived)

    async def present(self) -> AsyncIterator[list[StoredMessage]]:
        """Yields all messages that are stored now.

        Raises:
            ConsumerLostError: the consumer was lost.
        """
        while True:
            await self._ask(no_wait=True)
            found: list[StoredMessage] = []
            is_last = False
            while self._coming and not is_last:
                is_last = not await self._take(found)
            yield found
            if is_last:
                return

    async def following(self) -> AsyncIterator[list[StoredMessage]]:
        """Yields messages without end, those that have arrived together as one list.

        Raises:
            ConsumerLostError: the consumer was lost.
        """
        while True:
            now = asyncio.get_running_loop().time()
            if self._coming <= BATCH // 2 or now > self._asked_at + REQUEST_SECONDS:
                await self._ask(no_wait=False)
            found: list[StoredMessage] = []
            await self._take(found)
            while found and not self._arrived.empty():
                await self._take(found)
            if found:
                yield found

    async def close(self) -> None:
        """Ends the consumer."""
        self._connection.forget(self._lose)
        with suppress(Exception):
            if self._subscription is not None:
                await self._subscription.unsubscribe()

    async def _ask(self, *, no_wait: bool) -> None:
        request: dict[str, Any] = {"batch": BATCH}
        if no_wait:
            request["no_wait"] = True
        else:
            request["expires"] = round(REQUEST_SECONDS * 1e9)
            request["idle_heartbeat"] = round(HEARTBEAT_SECONDS * 1e9)
        place = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        self._coming = BATCH if no_wait else self._coming + BATCH
        self._asked_at = asyncio.get_running_loop().time()
        try:
            await self._connection.client.publish(place, json.dumps(request).encode(), self._inbox)
        except Exception as error:  # the connection is closed, or its buffer full
            raise ConsumerLostError(str(error)) from None

    async def _take(self, found: list[StoredMessage]) -> bool:
        """Waits for the next message; returns False at the end of the stored messages."""
        try:
            message = await asyncio.wait_for(self._arrived.get(), LOST_SECONDS)
        except TimeoutError:
            raise ConsumerLostError("silence") from None
        if message is None:
            raise ConsumerLostError("reconnected")
        status = (message.headers or {}).get("Status", "") if not message.data else ""
        if not status:
            found.append(self._stored(message))
            self._coming -= 1
            return True
        if status == "100":
            return True
        if status in NO_MESSAGES:
            pending = (message.headers or {}).get("Nats-Pending-Messages", "")
            self._coming = max(0, self._coming - int(pending)) if pending else 0
            return False
        raise ConsumerLostError(status)

    def _stored(self, message: "Msg") -> StoredMessage:
        metadata = message.metadata
        if metadata.sequence.consumer != self._expected:
            raise ConsumerLostError("a message was lost")
        self._expected += 1
        headers = message.headers or {}
        lease = headers.get(LEASE_HEADER, "")
        return StoredMessage(
            message.subject,
            metadata.sequence.stream,
            number_in(headers.get(ID_HEADER, "")),
            int(lease) if lease.isascii() and lease.isdecimal() else 0,
            metadata.timestamp,
            message.data,
        )

    def _lose(self) -> None:
        self._arrived.put_nowait(None)


async def open_consumer(
    connection: NatsConnection, stream: str, subject: str, policy: str, **more: Any
) -> Consumer:
    """Opens a consumer of a filter.

    Args:
        connection: open.
        stream: its name.
        subject: the filter.
        policy: `all`, `last_per_subject`, `by_start_sequence`, `by_start_time`.
        more: `opt_start_seq`, `opt_start_time` or `headers_only`.

    Raises:
        StreamMissingError: the stream does not exist.
        FeedError: this user may not read it, or nobody answers.
    """
    consumer = Consumer(connection, stream, subject)
    try:
        await consumer.open(policy, **more)
    except BaseException:
        await consumer.close()
        raise
    return consumer


async def newest_of_each(
    connection: NatsConnection, stream: str, subject: str, *, headers_only: bool = False
) -> list[StoredMessage]:
    """Reads the newest message of each subject that a filter matches.

    Raises:
        FeedError: as `open_consumer`.
    """
    for _ in range(3):
        consumer = await open_consumer(
            connection, stream, subject, "last_per_subject", headers_only=headers_only
        )
        try:
            return [m async for page in consumer.present() for m in page]
        except ConsumerLostError:
            continue
        finally:
            await consumer.close()
    raise FeedError(
        f"nats {connection.options.place}: expected messages of {subject}, got no answer three "
        "times; is the cluster whole?"
    )
