"""The records of a fleet, in one key-value bucket of JetStream.

| key | value |
|---|---|
| `daemon.NAME` | a `DaemonRecord`, which the daemon renews |
| `station.NAME` | a `StationRecord`: the station's table |
| `claim.NAME` | a `ClaimRecord`: which daemon has the station; its revision is the lease |
| `drain.NAME` | a `DrainRecord`: a daemon that should give up its stations |
| `rebalance` | a `RebalanceRecord`: daemons over their quota should give up stations |

No key is ever deleted, so the larger of two revisions is the newer record.
"""

from typing import Any, Literal, TypeVar

import msgspec

from streamtag.errors import FleetError

VERSION = 1
"""Version of these records."""
R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The common field of all records."""

    v: int = VERSION


class DaemonRecord(Record, frozen=True, kw_only=True):
    """A daemon of the fleet."""

    session: str
    """Random; a new one at each start of the daemon, and after each loss of its lease."""
    capacity: float = 1.0
    """Number of stations that it can process."""
    state: Literal["serving", "left"] = "serving"
    version: str = ""
    """Of streamtag."""
    feed: str = ""
    """Address of its own feed."""


class StationRecord(Record, frozen=True, kw_only=True):
    """A station of the fleet."""

    table: dict[str, Any] | None
    """Its table in the configuration; None if it was removed."""
    weight: float = 1.0
    """Its load; 1 is usual."""
    origin: str = ""
    """`file` if it came from a configuration file, `command` otherwise."""


class ClaimRecord(Record, frozen=True, kw_only=True):
    """Which daemon has a station."""

    daemon: str = ""
    """Its name; empty for none."""
    session: str = ""
    """Session of that daemon, or the claim holds nothing."""


class DrainRecord(Record, frozen=True, kw_only=True):
    """Asks a daemon to give up its stations until it is started again."""

    session: str = ""
    """Its present session; empty to undo the request."""


class RebalanceRecord(Record, frozen=True, kw_only=True):
    """Asks all daemons to spread the stations evenly."""

    id: str = ""
    """Random, so that each request changes the record."""


def encode_record(record: Record) -> bytes:
    """A record as the value of a key."""
    return msgspec.json.encode(record)


def decode_record(key: str, value: bytes, kind: type[R]) -> R:
    """A record from a key's value.

    Raises:
        FleetError: the value is no such record, or one of another version.
    """
    try:
        record = msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise FleetError(f"fleet: expected a {kind.__name__} in {key}, got {error}") from None
    if record.v != VERSION:
        raise FleetError(
            f"fleet: expected records of version {VERSION} in {key}, got {record.v}; "
            "use the same version of streamtag everywhere"
        )
    return record
