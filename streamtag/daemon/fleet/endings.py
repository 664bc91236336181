"""Messages that end the tags which a lost daemon has left on, computed from JetStream."""

import asyncio

from msgspec.structs import replace

from streamtag.feed.current_state import CurrentState
from streamtag.feed.journal.recovery import endings_of
from streamtag.feed.messages import Message, parse
from streamtag.feed.nats.connection import NatsConnection
from streamtag.feed.nats.consumer import (
    ConsumerLostError,
    StoredMessage,
    newest_of_each,
    open_consumer,
)
from streamtag.feed.nats.state import TopicState, parse_state
from streamtag.feed.nats.subjects import ID_HEADER, number_in

DETAIL = "its daemon was lost; another one has the station now"
POLL_SECONDS = 0.05
"""How often to ask whether JetStream has a message."""


async def endings_left(
    connection: NatsConnection, station: str, own_epoch: str, lease: int
) -> list[Message]:
    """Messages that end everything in force in a station, to be published under a new lease.

    There are none if the newest message is of `own_epoch`: the daemon's engine ends these itself.

    Raises:
        FeedError: JetStream cannot be read.
    """
    layout, topic = connection.layout, f"event/{station}/"
    found = await newest_of_each(connection, layout.states, layout.state(topic, "*"))
    states = {one.epoch: one for one in (parse_state(found_one.body) for found_one in found)}
    newest = {
        layout.topic(one.subject)[1]: one
        for one in await newest_of_each(connection, layout.kept, layout.subject(topic, "*"))
    }
    if not newest:
        return []
    epoch = max(newest, key=lambda epoch: (newest[epoch].lease, newest[epoch].position))
    if epoch == own_epoch:
        return []
    in_force = await _in_force(connection, newest[epoch], states.get(epoch))
    if not in_force:
        return []
    end = max([parse(newest[epoch].body), *in_force], key=lambda message: message.utc)
    return [replace(one, lease=lease) for one in endings_of(in_force, end, DETAIL)]


async def _in_force(
    connection: NatsConnection, newest: StoredMessage, state: TopicState | None
) -> list[Message]:
    """The messages in force after the newest message of a topic and epoch."""
    current = CurrentState()
    if state is not None:
        for message, body in zip(state.parsed(), state.messages, strict=True):
            current.restore(message, bytes(body))
    seq, position = (state.seq, state.position) if state is not None else (0, 0)
    if newest.number > seq:
        for one in await _between(connection, newest.subject, position, newest.position):
            if one.number > seq:
                current.update(parse(one.body), one.body)
    return [parse(row.body) for row in current]


async def _between(
    connection: NatsConnection, subject: str, after: int, last: int
) -> list[StoredMessage]:
    """The messages of a subject after one position in JetStream's stream, up to another."""
    for _ in range(3):
        consumer = await open_consumer(
            connection,
            connection.layout.kept,
            subject,
            "by_start_sequence",
            opt_start_seq=after + 1,
        )
        try:
            found = [one async for page in consumer.present() for one in page]
            if found and found[-1].position >= last:
                return found
        except ConsumerLostError:
            continue
        finally:
            await consumer.close()
    return []


async def wait_until_stored(
    connection: NatsConnection, topic: str, epoch: str, seq: int, seconds: float
) -> bool:
    """Waits at most `seconds` until the bridge has stored a message; returns whether it has."""
    import nats.errors

    subject = connection.layout.subject(topic, epoch)
    deadline = asyncio.get_running_loop().time() + seconds
    while seq:
        try:
            jetstream = connection.client.jetstream(timeout=1.0)
            found = await jetstream.get_last_msg(connection.layout.kept, subject)
            if number_in((found.headers or {}).get(ID_HEADER, "")) >= seq:
                return True
        except (nats.errors.Error, TimeoutError):
            pass
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
