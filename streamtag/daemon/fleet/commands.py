"""The work of the commands `streamtag fleet …`: status and changes of a fleet."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from streamtag.config.config import Config, parse_config
from streamtag.daemon.fleet.bucket import FleetBucket
from streamtag.daemon.fleet.identity import admit, models_of, station_records, station_tables
from streamtag.daemon.fleet.records import (
    DaemonRecord,
    DrainRecord,
    RebalanceRecord,
    StationRecord,
    decode_fleet_record,
    encode_record,
)
from streamtag.daemon.fleet.view import FleetView
from streamtag.errors import FleetError
from streamtag.feed.nats.connection import connect
from streamtag.feed.nats.consumer import ConsumerLostError

T = TypeVar("T")


def with_bucket(config: Config, work: Callable[[FleetBucket], Awaitable[T]]) -> T:
    """Opens the bucket of a configuration's fleet and calls `work` with it.

    Raises:
        FeedError: JetStream cannot be reached, or refuses.
        FleetError: there is no table `[fleet]`.
    """
    if config.fleet is None or config.nats is None:
        raise FleetError(
            "fleet: expected the tables [fleet] and [nats], got none; see docs/fleet.md"
        )
    fleet, nats = config.fleet, config.nats

    async def run() -> T:
        connection = await connect(nats.options())
        try:
            bucket = FleetBucket(connection, fleet.name, nats.replicas)
            await bucket.open()
            return await work(bucket)
        finally:
            await connection.close()

    return asyncio.run(run())


async def fleet_status(bucket: FleetBucket, lease_seconds: float) -> dict[str, Any]:
    """All daemons and stations. A daemon counts as lost if its record does not change for half a
    lease."""
    view = FleetView(lease_seconds)
    for entry in await bucket.read():
        view.apply(entry, 0.0)
    silent = {n: seen.revision for n, seen in view.daemons.items() if seen.record.state != "left"}
    with suppress(TimeoutError):
        async with asyncio.timeout(lease_seconds / 2):
            await _follow_until_heard(bucket, view, silent)
    return _table(view, lost=set(silent))


async def _follow_until_heard(bucket: FleetBucket, view: FleetView, silent: dict[str, int]) -> None:
    """Follows the records until all daemons have renewed theirs, and takes those from `silent`."""
    while silent:
        with suppress(ConsumerLostError):
            async with bucket.following(max(view.revisions.values())) as pages:
                async for page in pages:
                    for entry in page:
                        view.apply(entry, 0.0)
                    for name in [n for n, r in silent.items() if view.daemons[n].revision > r]:
                        del silent[name]
                    if not silent:
                        return


def _table(view: FleetView, lost: set[str]) -> dict[str, Any]:
    holders, weights = view.holders(), view.weights()
    counts = Counter(d for s, d in holders.items() if s in weights and d not in lost)
    daemons = [
        {
            "name": name,
            "state": "lost" if name in lost else _state(view, name),
            "stations": counts[name],
            "capacity": seen.record.capacity,
            "load": sum(w for s, w in weights.items() if holders.get(s) == name),
            "version": seen.record.version,
            "feed": seen.record.feed,
        }
        for name, seen in sorted(view.daemons.items())
    ]
    stations = [
        {
            "name": name,
            "daemon": holders.get(name, "") if holders.get(name) not in lost else "",
            "lease": view.claims[name][1] if name in view.claims else 0,
            "weight": weight,
            "source": str((view.stations[name].table or {}).get("source", "")),
        }
        for name, weight in sorted(weights.items())
    ]
    free = [one["name"] for one in stations if not one["daemon"]]
    return {"daemons": daemons, "stations": stations, "free": free}


def _state(view: FleetView, name: str) -> str:
    return "draining" if view.is_draining(name) else view.daemons[name].record.state


async def add_station(
    bucket: FleetBucket, config: Config, folder: Path, name: str, table: dict[str, Any]
) -> None:
    """Adds a station, or replaces its table.

    Raises:
        ConfigError: the table is wrong.
    """
    assert config.fleet is not None
    whole = config.model_dump(exclude_unset=True) | {"streams": {name: table}}
    checked = parse_config(whole, folder).model_dump(mode="json", exclude_unset=True)
    weight = config.fleet.weight(name)
    record = StationRecord(table=checked["streams"][name], weight=weight, origin="command")
    await bucket.put(f"station.{name}", encode_record(record))


async def remove_station(bucket: FleetBucket, name: str) -> None:
    """Removes a station. Daemons that have it in their files do not add it again.

    Raises:
        FleetError: there is no such station.
    """
    found = await bucket.get(f"station.{name}")
    if found is None or decode_fleet_record(found.key, found.value, StationRecord).table is None:
        raise FleetError(f"fleet: expected the name of a station, got {name!r}; see fleet status")
    await bucket.put(found.key, encode_record(StationRecord(table=None, origin="command")))


async def admit_configuration(bucket: FleetBucket, config: Config) -> None:
    """Lets daemons with this configuration join, whatever the fleet had in common until now.

    Raises:
        FleetError: another lease is wanted while daemons run.
    """
    assert config.fleet is not None
    found = await fleet_status(bucket, config.fleet.lease_seconds)
    running = [one["name"] for one in found["daemons"] if one["state"] in ("serving", "draining")]
    stations = station_records(config.fleet, station_tables(config))
    await admit(bucket, config.fleet.lease_seconds, models_of(config), stations, running)


async def drain(bucket: FleetBucket, name: str, *, undo: bool) -> None:
    """Makes a daemon give up its stations until it is started again.

    Raises:
        FleetError: there is no such daemon.
    """
    found = await bucket.get(f"daemon.{name}")
    if found is None:
        raise FleetError(f"fleet: expected the name of a daemon, got {name!r}; see fleet status")
    session = decode_fleet_record(found.key, found.value, DaemonRecord).session
    await bucket.put(f"drain.{name}", encode_record(DrainRecord(session="" if undo else session)))


async def request_rebalance(bucket: FleetBucket) -> None:
    """Asks daemons that are over their quota to give up stations."""
    await bucket.put("rebalance", encode_record(RebalanceRecord(id=secrets.token_hex(8))))


def parse_table(text: str) -> dict[str, Any]:
    """Parses a station's table: JSON, or only its source.

    Raises:
        FleetError: it is not a table.
    """
    if not text.lstrip().startswith("{"):
        return {"source": text}
    try:
        table = json.loads(text)
    except ValueError as error:
        raise FleetError(f"fleet: expected JSON or a source, got {text[:60]!r}: {error}") from None
    return dict(table)
