"""What all daemons of a fleet must have in common, kept in its bucket.

The first daemon writes it by compare-and-set. Daemons that differ are refused, so that two fleets
that were given one name and one prefix by mistake do not become one.
"""

from collections.abc import Collection, Mapping
from typing import Any

from streamtag.config.config import Config
from streamtag.config.fleet import FleetConfig
from streamtag.config.model_fit import bundle_of
from streamtag.daemon.fleet.bucket import FleetBucket
from streamtag.daemon.fleet.records import (
    IdentityRecord,
    StationRecord,
    decode_fleet_record,
    encode_record,
)
from streamtag.errors import FleetError
from streamtag.model.bundle import checksum

KEY = "identity"
MODELS_ADMITTED = 2
"""The number of sets of models that a fleet admits: during an upgrade the old and the new one."""
ADVICE = "use another nats.prefix for another fleet, or `streamtag fleet admit` for an upgrade"


def models_of(config: Config) -> str:
    """The fingerprint of a configuration's models: names of taggers with checksums."""
    return ", ".join(
        f"{name} {checksum(bundle_of(one)):.12}" for name, one in sorted(config.taggers.items())
    )


def station_tables(config: Config) -> dict[str, Any]:
    """The tables of all streams, with values that JSON has."""
    tables: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True)["streams"]
    return tables


def station_records(config: FleetConfig, tables: Mapping[str, Any]) -> dict[str, StationRecord]:
    """The records of the stations in a configuration file."""
    return {
        name: StationRecord(table=table, weight=config.weight(name), origin="file")
        for name, table in tables.items()
    }


async def check_identity(bucket: FleetBucket, lease_seconds: float, models: str) -> None:
    """Checks that a daemon fits its fleet. The first daemon of a fleet says what fits.

    Raises:
        FleetError: it does not fit.
        FeedError: JetStream cannot be read or written.
    """
    own = IdentityRecord(lease_seconds=lease_seconds, models=[models])
    while True:
        found = await bucket.get(KEY)
        if found is not None:
            break
        if await bucket.update(KEY, encode_record(own), 0):
            return
    theirs = decode_fleet_record(KEY, found.value, IdentityRecord)
    if theirs.lease_seconds != lease_seconds:
        raise FleetError(
            f"fleet.lease_seconds: expected {theirs.lease_seconds:g} as in the rest of the fleet, "
            f"got {lease_seconds:g}; {ADVICE}"
        )
    if models not in theirs.models:
        raise FleetError(
            f"fleet: expected the models of the fleet ({' or '.join(theirs.models)}), got "
            f"{models}; {ADVICE}"
        )


async def check_stations(bucket: FleetBucket, stations: Collection[str]) -> None:
    """Checks that a configuration file and the fleet have a station in common, if both have any.

    Raises:
        FleetError: they have none, so the file is that of another fleet.
        FeedError: JetStream cannot be read.
    """
    if not stations:
        return
    found = [entry for entry in await bucket.read() if entry.key.startswith("station.")]
    known = {entry.key.removeprefix("station.") for entry in found}
    of_files = sorted(
        entry.key.removeprefix("station.")
        for entry in found
        if decode_fleet_record(entry.key, entry.value, StationRecord).origin == "file"
    )
    if of_files and not known & set(stations):
        raise FleetError(
            f"streams: expected a station of the fleet among them, such as {of_files[0]!r}, got "
            f"none, but {min(stations)!r}; {ADVICE}"
        )


async def admit(
    bucket: FleetBucket,
    lease_seconds: float,
    models: str,
    stations: Mapping[str, StationRecord],
    running: Collection[str],
) -> None:
    """Lets daemons with another configuration join: with other models, another lease, or none of
    the stations.

    Args:
        bucket: of the fleet.
        lease_seconds: of the configuration.
        models: its fingerprint.
        stations: its stations.
        running: names of the daemons that are alive.

    Raises:
        FleetError: the lease differs and daemons with the old one are running.
    """
    found = await bucket.get(KEY)
    old = decode_fleet_record(KEY, found.value, IdentityRecord) if found else None
    if old is not None and old.lease_seconds != lease_seconds and running:
        raise FleetError(
            f"fleet.lease_seconds: expected {old.lease_seconds:g} while daemons run, got "
            f"{lease_seconds:g}; stop {', '.join(sorted(running))} first"
        )
    before = [one for one in old.models if one != models] if old else []
    record = IdentityRecord(
        lease_seconds=lease_seconds, models=[*before, models][-MODELS_ADMITTED:]
    )
    if not await bucket.update(KEY, encode_record(record), found.revision if found else 0):
        raise FleetError("fleet: expected nobody else to change the fleet, got a change; try again")
    for name, station in stations.items():
        await bucket.update(f"station.{name}", encode_record(station), 0)  # those that are new
