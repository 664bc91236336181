"""Creates or checks JetStream's streams and buckets.

The description of each has the version of its layout and the name of its fleet. Streams and
buckets of other programs, versions or fleets are refused.
"""

import asyncio
import json
from typing import TYPE_CHECKING

from streamtag.errors import FeedError
from streamtag.feed.nats.connection import NatsConnection, api_errors
from streamtag.feed.nats.subjects import VERSION

if TYPE_CHECKING:
    from nats.js.api import KeyValueConfig, StreamConfig
    from nats.js.kv import KeyValue

WRONG_LAST_MESSAGE = 10071
"""JetStream's number of the error "wrong last sequence"."""
TRIES = 6
"""How often to ask for a bucket, `REQUEST_SECONDS` each: the servers of a cluster that starts take
their time."""
LIMITS = ("max_age", "max_bytes", "num_replicas", "duplicate_window")
"""The settings of an existing stream that a changed configuration may change."""


def description(owner: str = "") -> str:
    """The description of a stream or bucket. `owner` is the name of a fleet; empty for none."""
    return json.dumps({"streamtag": VERSION, **({"fleet": owner} if owner else {})})


async def ensure_stream(connection: NatsConnection, config: "StreamConfig") -> None:
    """Creates a stream, or updates the limits of an existing one.

    Raises:
        FeedError: the stream belongs to another program or version, or JetStream refuses.
    """
    import nats.js.errors

    jetstream, name = connection.jetstream, str(config.name)
    config.description = description()
    with api_errors(connection, f"to use or make the stream {name}"):
        try:
            found = (await jetstream.stream_info(name)).config
        except nats.js.errors.NotFoundError:
            await jetstream.add_stream(config)
            return
        _check(connection, f"stream {name}", found.description, config.description)
        changed = [key for key in LIMITS if getattr(found, key) != getattr(config, key)]
        if changed or sorted(found.subjects or ()) != sorted(config.subjects or ()):
            await jetstream.update_stream(
                found.evolve(subjects=config.subjects, **{k: getattr(config, k) for k in LIMITS})
            )


async def ensure_bucket(
    connection: NatsConnection, config: "KeyValueConfig", owner: str = ""
) -> "KeyValue":
    """Creates or opens a key-value bucket. `owner` is the name of a fleet; empty for none.

    Raises:
        FeedError: the bucket belongs to another program, fleet or version.
    """
    config.description = description(owner)
    with api_errors(connection, f"to use or make the bucket {config.bucket}"):
        for _ in range(TRIES - 1):
            try:
                return await _bucket(connection, config)
            except TimeoutError:
                if connection.last_error:  # the server has said why
                    raise
        return await _bucket(connection, config)


async def _bucket(connection: NatsConnection, config: "KeyValueConfig") -> "KeyValue":
    import nats.js.errors

    jetstream = connection.jetstream
    try:
        bucket = await jetstream.key_value(config.bucket)
    except nats.js.errors.NotFoundError:
        return await jetstream.create_key_value(config)
    found = (await jetstream.stream_info(f"KV_{config.bucket}")).config
    _check(connection, f"bucket {config.bucket}", found.description, str(config.description))
    return bucket


async def wait_for_leader(connection: NatsConnection, stream: str, seconds: float) -> bool:
    """Waits at most `seconds` until a stream has a leader, so that it can be written; returns
    whether it has one."""
    import nats.errors

    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        try:
            info = await connection.jetstream.stream_info(stream)
        except (TimeoutError, nats.errors.Error):
            await asyncio.sleep(0.1)
            continue
        if info.cluster is None or info.cluster.leader:
            return True
        await asyncio.sleep(0.1)
    return False


def _check(connection: NatsConnection, what: str, found: str | None, own: str) -> None:
    """Raises a FeedError for a stream or bucket of another program, version or fleet."""
    try:
        theirs, ours = json.loads(found or ""), json.loads(own)
        version, fleet = theirs["streamtag"], theirs.get("fleet", "")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FeedError(
            f"nats {connection.options.place}: expected a {what} of streamtag, got one that says "
            f"{found or 'nothing'!r:.100} of itself; set another prefix"
        ) from None
    if version != VERSION:
        raise FeedError(
            f"nats {connection.options.place}: expected version {VERSION} of the {what}, got "
            f"{version!r:.20}; update the other daemons, or set another prefix"
        )
    if fleet != ours.get("fleet", ""):
        raise FeedError(
            f"nats {connection.options.place}: expected the {what} of the fleet "
            f"{ours.get('fleet', '')!r}, got that of {fleet!r:.60}; set another prefix"
        )
