"""The records of a fleet, in one key-value bucket of JetStream.

| key | value |
|---|---|
| `daemon.NAME` | a `DaemonRecord`, which the daemon renews |
| `station.NAME` | a `StationRecord`: the station's table |
| `claim.NAME` | a `ClaimRecord`: which daemon has the station; its revision is the lease |
| `drain.NAME` | a `DrainRecord`: a daemon that should give up its stations |
| `identity` | an `IdentityRecord`: what all daemons have in common |
| `rebalance` | a `RebalanceRecord`: daemons over their quota should give up stations |

No key is ever deleted, so the larger of two revisions is the newer record.
"""

from typing import Any, Literal

import msgspec

from streamtag.errors import FleetError
from streamtag.feed.nats.record import R, Record, decode_record


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


class IdentityRecord(Record, frozen=True, kw_only=True):
    """What all daemons of a fleet have in common."""

    lease_seconds: float
    models: list[str]
    """Fingerprints of the sets of models that daemons may have, the newest last."""


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


def decode_fleet_record(key: str, value: bytes, kind: type[R]) -> R:
    """A record from a key's value.

    Raises:
        FleetError: the value is no such record, or one of another version.
    """
    return decode_record(f"fleet: record {key}", value, kind, FleetError)
