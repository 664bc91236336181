"""The key-value bucket of a fleet: reads and follows its keys, and changes them conditionally."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamtag.daemon.fleet.view import Entry
from streamtag.errors import FeedError, FleetError
from streamtag.feed.nats.connection import NatsConnection, api_errors
from streamtag.feed.nats.consumer import newest_of_each, open_consumer
from streamtag.feed.nats.storage import WRONG_LAST_MESSAGE, ensure_bucket

UPDATE_SECONDS = 2.0
"""How long to wait for the answer to a change. It may have been made without an answer."""
AT_A_TIME = 64
"""The most changes that are sent without an answer."""


class FleetBucket:
    """One key-value bucket of JetStream.

    Args:
        connection: open.
        fleet: its name.
        replicas: number of servers that store it.
    """

    def __init__(self, connection: NatsConnection, fleet: str, replicas: int) -> None:
        self.connection, self._fleet, self._replicas = connection, fleet, replicas
        self._name = connection.layout.bucket("fleet")
        self._head = f"$KV.{self._name}."
        self._window = asyncio.Semaphore(AT_A_TIME)

    async def open(self) -> None:
        """Creates the bucket if it does not exist.

        Raises:
            FeedError: it belongs to another fleet or version, or JetStream refuses.
        """
        from nats.js.api import KeyValueConfig

        await ensure_bucket(
            self.connection,
            KeyValueConfig(bucket=self._name, history=1, replicas=self._replicas),
            owner=self._fleet,
        )

    async def read(self) -> list[Entry]:
        """Reads all keys.

        Raises:
            FeedError: they cannot be read.
        """
        found = await newest_of_each(self.connection, f"KV_{self._name}", f"{self._head}>")
        return [Entry(self._key(one.subject), one.position, one.body) for one in found]

    @asynccontextmanager
    async def following(self, position: int) -> AsyncIterator[AsyncIterator[list[Entry]]]:
        """Follows all changes after a revision.

        Raises:
            FeedError: they cannot be read.
            ConsumerLostError: raised by the iterator. Open another one.
        """
        consumer = await open_consumer(
            self.connection,
            f"KV_{self._name}",
            f"{self._head}>",
            "by_start_sequence",
            opt_start_seq=position + 1,
        )

        async def pages() -> AsyncIterator[list[Entry]]:
            async for page in consumer.following():
                yield [Entry(self._key(one.subject), one.position, one.body) for one in page]

        try:
            yield pages()
        finally:
            await consumer.close()

    async def get(self, key: str) -> Entry | None:
        """Reads a key from JetStream; None if it does not exist.

        Raises:
            FeedError: no server answers.
        """
        from nats.js.errors import NotFoundError

        jetstream = self.connection.client.jetstream(timeout=UPDATE_SECONDS)
        with api_errors(self.connection, f"to read {key}"):
            try:
                found = await jetstream.get_last_msg(f"KV_{self._name}", f"{self._head}{key}")
            except NotFoundError:
                return None
        return Entry(key, int(found.seq or 0), found.data or b"")

    async def update(self, key: str, value: bytes, last: int) -> int:
        """Changes a key if `last` is still its revision (compare-and-set); 0 for a new key.

        Returns:
            The new revision; 0 if the key has another revision.

        Raises:
            FeedError: no server answers, or JetStream refuses. The change may have been made.
        """
        from nats.js.errors import APIError

        headers = {"Nats-Expected-Last-Subject-Sequence": str(last)}
        jetstream = self.connection.jetstream
        with api_errors(self.connection, f"to change {key}"):
            try:
                async with self._window:
                    ack = await self.connection.answer(
                        jetstream.publish(
                            f"{self._head}{key}", value, timeout=UPDATE_SECONDS, headers=headers
                        )
                    )
            except APIError as error:
                if error.err_code == WRONG_LAST_MESSAGE:
                    return 0
                raise
            except OSError as error:
                raise FeedError(f"nats: expected to change {key}, got {error}") from None
        return int(ack.seq)

    async def put(self, key: str, value: bytes) -> int:
        """Changes a key, whatever its revision.

        Raises:
            FleetError: other programs keep changing it.
            FeedError: as `update`.
        """
        for _ in range(20):
            found = await self.get(key)
            if revision := await self.update(key, value, found.revision if found else 0):
                return revision
        raise FleetError(f"fleet: expected to change {key}, got others that change it; try again")

    def _key(self, subject: str) -> str:
        return subject.removeprefix(self._head)
