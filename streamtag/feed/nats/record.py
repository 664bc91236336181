"""Versioned records in JetStream, as JSON."""

from typing import TypeVar

import msgspec

from streamtag.errors import FeedError, StreamtagError
from streamtag.feed.nats.subjects import VERSION

R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The common field of all records."""

    v: int = VERSION


def decode_record(
    place: str, body: bytes, kind: type[R], error: type[StreamtagError] = FeedError
) -> R:
    """A record from its bytes.

    Args:
        place: begins the message of an error.
        body: JSON.
        kind: of record.
        error: what is raised if it is no such record, or one of another version.
    """
    try:
        record = msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError) as fault:
        raise error(f"{place}: expected a {kind.__name__}, got {body[:60]!r}: {fault}") from None
    if record.v != VERSION:
        raise error(
            f"{place}: expected version {VERSION}, got {record.v}; "
            "use the same version of streamtag everywhere"
        )
    return record
