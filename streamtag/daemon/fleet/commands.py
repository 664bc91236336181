"""The work of the commands `streamtag fleet …`: status and changes of a fleet."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from streamtag.config.config import Config, parse_config
from streamtag.daemon.fleet.bucket import FleetBucket
from streamtag.daemon.fleet.records import (
    DaemonRecord,
    DrainRecord,
    RebalanceRecord,
    StationRecord,
    decode_record,
    encode_record,
)
from streamtag.daemon.fleet.view import FleetView
from streamtag.errors import FleetError
from streamtag.feed.nats.connection import connect

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
    view = await _read(bucket, lease_seconds)
    before = {name: seen.revision for name, seen in view.daemons.items()}
    serving = {n for n, seen in view.daemons.items() if seen.record.state == "serving"}
    deadline = asyncio.get_running_loop().time() + lease_seconds / 2
    while serving and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(lease_seconds / 20)
        view = await _read(bucket, lease_seconds)
        serving = {n for n in serving if view.daemons[n].revision == before[n]}
    return _table(view, lost=serving)


async def _read(bucket: FleetBucket, lease_seconds: float) -> FleetView:
    view = FleetView(lease_seconds)
    for entry in await bucket.read():
        view.apply(entry, 0.0)
    return view


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
    if found is None or decode_record(found.key, found.value, StationRecord).table is None:
        raise FleetError(f"fleet: expected the name of a station, got {name!r}; see fleet status")
    await bucket.put(found.key, encode_record(StationRecord(table=None, origin="command")))


async def drain(bucket: FleetBucket, name: str, *, undo: bool) -> None:
    """Makes a daemon give up its stations until it is started again.

    Raises:
        FleetError: there is no such daemon.
    """
    found = await bucket.get(f"daemon.{name}")
    if found is None:
        raise FleetError(f"fleet: expected the name of a daemon, got {name!r}; see fleet status")
    session = decode_record(found.key, found.value, DaemonRecord).session
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
