"""What a fleet keeps in its bucket, one key-value bucket of JetStream.

| key | value |
|---|---|
| `daemon.NAME` | a `DaemonRecord`: renewed as long as the daemon lives |
| `station.NAME` | a `StationRecord`: the station's table |
| `claim.NAME` | a `ClaimRecord`: who has the station; its revision is the lease |
| `drain.NAME` | a `DrainRecord`: a daemon that is to give up its stations |
| `rebalance` | anything: daemons over their quota give up stations |

Nothing is ever deleted, so a revision says which of two records is the newer one.
"""

from typing import Any, Literal, TypeVar

import msgspec

from streamtag.errors import FleetError

VERSION = 1
"""Version of these records."""
R = TypeVar("R", bound="Record")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What all records have."""

    v: int = VERSION


class DaemonRecord(Record, frozen=True, kw_only=True):
    """A daemon of the fleet."""

    session: str
    """Differs between two starts of one daemon, and where it has lost its lease."""
    capacity: float = 1.0
    """Number of stations that it can bear."""
    state: Literal["serving", "left"] = "serving"
    version: str = ""
    """Of streamtag."""
    feed: str = ""
    """Where its own feed is."""


class StationRecord(Record, frozen=True, kw_only=True):
    """A station of the fleet."""

    table: dict[str, Any] | None
    """Its table in the configuration; None if it was removed."""
    weight: float = 1.0
    """Its load, 1 for a usual one."""
    origin: str = ""
    """`file` if it came from a configuration file, `command` otherwise."""


class ClaimRecord(Record, frozen=True, kw_only=True):
    """Who has a station."""

    daemon: str = ""
    """Empty: nobody."""
    session: str = ""


class DrainRecord(Record, frozen=True, kw_only=True):
    """A daemon that is to give up its stations until it is started again."""

    session: str = ""
    """Empty: it need not any more."""


class RebalanceRecord(Record, frozen=True, kw_only=True):
    """An order to spread the stations evenly."""

    id: str = ""


def encode_record(record: Record) -> bytes:
    """The value of a key."""
    return msgspec.json.encode(record)


def decode_record(key: str, value: bytes, kind: type[R]) -> R:
    """A record from a key's value.

    Raises:
        FleetError: it is none, or one of another version.
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
