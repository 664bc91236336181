"""Makes a daemon a member of a fleet: it renews its lease, takes stations and gives them up.

There is no leader. Each daemon computes the same plan from the same records in JetStream, and a
compare-and-set decides which daemon gets a station. The revision of that claim is the lease: it is
in every message about the station. The agent works in a thread of its own.
"""

import asyncio
import logging
import secrets
import threading
from collections.abc import Collection, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import streamtag
from streamtag.config.fleet import FleetConfig
from streamtag.config.nats import NatsConfig
from streamtag.daemon.fleet.bucket import FleetBucket
from streamtag.daemon.fleet.endings import endings_left, wait_until_stored
from streamtag.daemon.fleet.gate import LeaseGate
from streamtag.daemon.fleet.identity import check_identity, check_stations, station_records
from streamtag.daemon.fleet.records import (
    ClaimRecord,
    DaemonRecord,
    decode_fleet_record,
    encode_record,
)
from streamtag.daemon.fleet.view import FleetView
from streamtag.errors import FeedError, FleetError, StreamtagError
from streamtag.feed.messages import Message
from streamtag.feed.nats.connection import ComplaintLog, NatsRefusedError, connect
from streamtag.feed.nats.consumer import ConsumerLostError

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
"""How often a daemon compares its stations with the plan."""
RENEWALS = 4
"""How many times a lease is renewed within its length."""
MARGIN = 1 / 6
"""A daemon stops publishing this share of the lease before it ends."""
TAKE_AT_ONCE = 200
"""The most stations that a daemon takes at a time."""
RELEASE_AT_ONCE = 20
"""The most stations that a daemon gives up at a time, so that few are without tags."""
STORED_SECONDS = 5.0
"""How long to wait until JetStream has stored the last messages of a station."""
RETRY_SECONDS = 60.0
"""How long to wait before a station is tried again that could not be opened."""
LEAVE_SECONDS = 5.0
"""The longest time for handing over the stations when the daemon ends."""
START_SECONDS = 20.0
"""The longest time for joining the fleet, in addition to the length of a lease."""


class StationHost(Protocol):
    """What the agent needs of its daemon."""

    def change(self, add: Mapping[str, Any], remove: Collection[str]) -> Future[object]:
        """Adds, replaces and removes streams."""

    def publish(self, messages: list[Message]) -> None:
        """Publishes messages that have no numbers yet."""

    def numbering(self, topic: str) -> tuple[str, int]:
        """Epoch and newest sequence number of a topic."""


@dataclass(frozen=True, slots=True)
class HeldStation:
    """A station that this daemon has claimed."""

    lease: int
    table: dict[str, Any]
    is_open: bool = True
    """Whether its stream is open; else opening it has failed."""
    retry_at: float = 0.0
    """When to try again to open it, by the gate's clock."""


class FleetAgent:
    """A daemon's membership in its fleet, in a thread of its own.

    Args:
        config: of the fleet.
        nats: how to reach JetStream.
        host: the daemon.
        gate: lets events pass while the lease holds. The agent keeps it up to date.
        capacity: number of stations that the daemon can process.
        stations: tables of the configuration file, by name of the station.
        models: fingerprint of the models.
        feed: address of the daemon's own feed, for `streamtag fleet status`.
    """

    def __init__(
        self,
        config: FleetConfig,
        nats: NatsConfig,
        host: StationHost,
        gate: LeaseGate,
        capacity: float,
        stations: Mapping[str, Any],
        models: str,
        feed: str = "",
    ) -> None:
        self._config, self._nats, self._host, self._gate = config, nats, host, gate
        self._options = nats.options()
        self.name = config.daemon_name
        self._capacity, self._file_stations, self._feed = capacity, dict(stations), feed
        self._models = models
        self._view = FleetView(config.lease_seconds)
        self._session, self._revision, self._ready = "", 0, False
        self._held: dict[str, HeldStation] = {}
        self._begun, self._leaving, self._stored_file = False, False, False
        self._complaints = ComplaintLog(log)
        self._started = Future[None]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="fleet", daemon=True)

    @property
    def held(self) -> dict[str, int]:
        """The leases of the daemon's stations, by name."""
        return {name: one.lease for name, one in list(self._held.items())}

    def obstacle(self) -> str:
        """Why it is not ready; empty while its lease holds."""
        return "" if self._gate.is_open else "its lease in the fleet has ended"

    def join(self) -> None:
        """Joins the fleet.

        Raises:
            StreamtagError: JetStream or the fleet cannot be used, or another daemon has the name.
        """
        self._thread.start()
        try:
            self._started.result(START_SECONDS + self._config.lease_seconds)
        except TimeoutError:
            self.close()
            raise FleetError(
                f"fleet {self._config.name}: expected JetStream at {self._options.place} to "
                "answer, got nothing; is the cluster whole?"
            ) from None
        except BaseException:
            self._thread.join(LEAVE_SECONDS)
            raise

    def begin(self) -> None:
        """Lets the daemon take stations from now on."""
        self._begun = True

    def use(self, stations: Mapping[str, Any], models: str) -> None:
        """Replaces the stations of the configuration file, and the models."""

        def change() -> None:
            self._file_stations, self._stored_file = dict(stations), False
            self._models = models

        with suppress(RuntimeError):  # it has left the fleet
            self._loop.call_soon_threadsafe(change)

    def close(self) -> None:
        """Hands over all stations, and leaves the fleet."""
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._request_leave)
            self._thread.join(LEAVE_SECONDS + 2.0)
        self._gate.shut()

    def _request_leave(self) -> None:
        self._leaving = True

    def _main(self) -> None:
        runner = asyncio.Runner(loop_factory=lambda: self._loop)
        try:
            runner.run(self._run())
        except StreamtagError as error:
            if self._started.done():
                log.error("%s", error)
            else:
                self._started.set_exception(error)
        except Exception as error:
            log.exception("fleet: failed in an unexpected way")
            if not self._started.done():
                self._started.set_exception(FleetError(f"fleet: {error}"))
        finally:
            self._gate.shut()
            runner.close()

    async def _run(self) -> None:
        self._connection = await connect(self._options)
        self._bucket = FleetBucket(self._connection, self._config.name, self._nats.replicas)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._bucket.open()
            tasks.append(asyncio.create_task(self._read()))
            await self._join_first()
            self._started.set_result(None)
            tasks.append(asyncio.create_task(self._keep_lease()))
            while not self._leaving:
                await self._guarded(self._tick())
                await asyncio.sleep(TICK_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._leave()
        finally:
            while running := [task for task in tasks if not task.done()]:
                for task in running:  # asyncio.wait_for, which nats-py uses, may swallow one
                    task.cancel()
                await asyncio.wait(running, timeout=0.5)
            await self._connection.close()

    async def _join_first(self) -> None:
        """Joins the fleet. JetStream may not answer for a bucket that was just created."""
        deadline = self._gate.clock() + START_SECONDS / 2
        while True:
            try:
                await check_stations(self._bucket, self._file_stations)
                return await self._join()
            except FeedError as error:
                if isinstance(error, NatsRefusedError) or self._gate.clock() >= deadline:
                    raise
                await asyncio.sleep(0.3)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Awaits something that is tried again if it fails, and logs its error."""
        try:
            await work
        except StreamtagError as error:
            self._complain(str(error))
        except Exception:
            log.exception("fleet: failed in an unexpected way; trying again")
            await asyncio.sleep(1.0)

    def _complain(self, what: str) -> None:
        text = f"fleet {self._config.name}: {what}; trying again"
        self._complaints.add(what, text, self._gate.clock())

    async def _read(self) -> None:
        """Reads the records of the fleet and all their changes, until it is cancelled."""
        while True:
            try:
                position = self._apply(await self._bucket.read())
                self._view.refresh(self._gate.clock())
                self._ready = True
                async with self._bucket.following(position) as pages:
                    async for page in pages:
                        self._apply(page)
            except ConsumerLostError as error:
                log.debug("fleet: %s", error)
            except StreamtagError as error:
                self._complain(str(error))
            self._ready = False
            await asyncio.sleep(0.2)

    def _apply(self, entries: Iterable[Any]) -> int:
        position = 0
        for entry in entries:
            self._view.apply(entry, self._gate.clock())
            position = max(position, entry.revision)
        return position

    async def _join(self) -> None:
        """Creates or takes over the daemon's record, with a new session.

        Raises:
            FleetError: another daemon of this name is alive, or this one does not fit the fleet.
        """
        await check_identity(self._bucket, self._config.lease_seconds, self._models)
        key = f"daemon.{self.name}"
        found = await self._bucket.get(key)
        if found is not None:
            record = decode_fleet_record(key, found.value, DaemonRecord)
            if record.state != "left" and record.session != self._session:
                deadline = self._gate.clock() + self._config.lease_seconds
                while self._gate.clock() < deadline:
                    await asyncio.sleep(0.3)
                    now = await self._bucket.get(key)
                    if now is not None and now.revision != found.revision:
                        raise FleetError(
                            f"fleet {self._config.name}: expected one daemon named {self.name!r}, "
                            "got a second one; set fleet.daemon"
                        )
        session, sent = secrets.token_hex(8), self._gate.clock()
        revision = await self._bucket.update(
            key, self._record(session), found.revision if found else 0
        )
        if not revision:
            raise FleetError(
                f"fleet {self._config.name}: expected one daemon named {self.name!r}, got two that "
                "start; set fleet.daemon"
            )
        self._session, self._revision = session, revision
        self._renewed(sent)
        log.info("fleet %s: joined as %s", self._config.name, self.name)

    def _record(self, session: str, *, left: bool = False) -> bytes:
        return encode_record(
            DaemonRecord(
                session=session,
                capacity=self._capacity,
                state="left" if left else "serving",
                version=streamtag.__version__,
                feed=self._feed,
            )
        )

    def _renewed(self, sent: float) -> None:
        """Extends the lease. It counts from before the request was sent, by the local clock."""
        self._gate.renew(sent + self._config.lease_seconds * (1 - MARGIN))

    async def _keep_lease(self) -> None:
        """Renews the lease at regular times, until it is cancelled."""
        while True:
            pause = 0.2
            try:
                if self._session and self._gate.is_open and await self._renew():
                    pause = self._config.lease_seconds / RENEWALS
            except StreamtagError as error:
                self._complain(str(error))
            except Exception:
                log.exception("fleet: a lease was not renewed")
            await asyncio.sleep(pause)

    async def _renew(self) -> bool:
        """Tries to renew the lease once; returns whether it was renewed."""
        key, sent = f"daemon.{self.name}", self._gate.clock()
        revision = await self._bucket.update(key, self._record(self._session), self._revision)
        if revision:
            self._revision = revision
            self._renewed(sent)
            return True
        found = await self._bucket.get(key)
        if found is not None:
            if decode_fleet_record(key, found.value, DaemonRecord).session == self._session:
                self._revision = found.revision  # our own change: only its answer was lost
                return False
            log.error(
                "fleet %s: another daemon is named %s; this one gives up its stations",
                self._config.name,
                self.name,
            )
        self._gate.shut()
        return False

    async def _tick(self) -> None:
        """Compares the daemon's stations with the plan, and takes and releases some."""
        if not self._gate.is_open:
            await self._begin_again()
            return
        if not self._ready or not self._begun:
            return
        if not self._stored_file:
            await self._store_file()
        await self._drop_lost()
        now = self._gate.clock()
        plan = self._view.plan(self.name, now, rebalance=self._config.rebalance)
        await self._follow_tables()
        if release := [name for name in plan.release if name in self._held]:
            await self._release(release[:RELEASE_AT_ONCE])
        ours = self._own_claims()
        if take := [*ours, *(name for name in plan.take if name not in ours)]:
            await self._take([name for name in take if name not in self._held][:TAKE_AT_ONCE])

    async def _begin_again(self) -> None:
        """After the lease has ended: gives up all stations and joins again."""
        if self._held:
            names = list(self._held)
            log.error(
                "fleet %s: the lease has ended; %d stations are given up",
                self._config.name,
                len(names),
            )
            await self._change({}, self._opened(names))
            for name in names:
                self._held.pop(name)
                self._gate.forget(name)
        if not self._ready:
            return
        self._view.refresh(self._gate.clock())
        await self._join()

    async def _drop_lost(self) -> None:
        """Gives up stations that another daemon has claimed since."""
        claims = self._view.claims
        lost = [
            name
            for name, one in self._held.items()
            if name in claims and claims[name][1] > one.lease
        ]
        if lost:
            log.warning("fleet %s: lost %s", self._config.name, ", ".join(lost[:20]))
            await self._change({}, self._opened(lost))
            for name in lost:
                self._held.pop(name)
                self._gate.forget(name)

    async def _follow_tables(self) -> None:
        """Opens stations again if their tables have changed, or if opening has failed before."""
        now, again = self._gate.clock(), list[str]()
        for name, one in self._held.items():
            record = self._view.stations.get(name)
            if record is None or record.table is None:
                continue
            if record.table != one.table or (not one.is_open and now >= one.retry_at):
                again.append(name)
        if again:
            await self._open({name: self._held[name].lease for name in again})

    def _own_claims(self) -> list[str]:
        """Stations whose claims name this daemon. It may not know of one whose answer was lost."""
        holders, weights = self._view.holders(), self._view.weights()
        return [n for n, d in holders.items() if d == self.name and n in weights]

    async def _take(self, names: list[str]) -> None:
        """Claims stations, ends the tags that their last daemons left on, and opens them."""
        names = await self._confirmed(names)
        found = await asyncio.gather(*map(self._claim, names), return_exceptions=True)
        leases = {n: one for n, one in zip(names, found, strict=True) if isinstance(one, int)}
        for error in found:
            if isinstance(error, StreamtagError):
                self._complain(str(error))
        leases = {name: lease for name, lease in leases.items() if lease}
        if not leases:
            return
        for name, lease in leases.items():
            self._gate.set(name, lease)
        await asyncio.gather(*(self._end_left(name, lease) for name, lease in leases.items()))
        if self._gate.is_open:
            await self._open(leases)
            log.info("fleet %s: took %s", self._config.name, _listed(leases))

    async def _confirmed(self, names: list[str]) -> list[str]:
        """The stations whose last daemon has not renewed its record, which is read once more."""
        daemons = {n: self._view.claims[n][0].daemon for n in names if n in self._view.claims}
        alive: set[str] = set()
        for name in set(daemons.values()) - {"", self.name}:
            known = self._view.daemons.get(name)
            found = await self._bucket.get(f"daemon.{name}")
            if found and known and found.revision > known.revision:
                alive.add(name)
                self._view.apply(found, self._gate.clock())
        return [name for name in names if daemons.get(name) not in alive]

    async def _claim(self, name: str) -> int:
        """Claims a station and returns its lease; 0 if another daemon was faster."""
        key = f"claim.{name}"
        known, revision = self._view.claims.get(name, (ClaimRecord(), 0))
        if known.session == self._session:
            return revision
        record = ClaimRecord(daemon=self.name, session=self._session)
        return await self._bucket.update(key, encode_record(record), revision)

    async def _end_left(self, name: str, lease: int) -> None:
        """Publishes the ends of the tags that the station's last daemon has left on."""
        epoch, _ = self._host.numbering(f"event/{name}/")
        while self._gate.is_open:
            try:
                endings = await endings_left(self._connection, name, epoch, lease)
            except FeedError as error:
                if "expected the stream" in str(error):
                    return  # nobody has ever published anything
                self._complain(str(error))
                await asyncio.sleep(0.2)
                continue
            if self._gate.is_open and endings:
                self._host.publish(endings)
            return

    async def _open(self, leases: Mapping[str, int]) -> None:
        """Opens stations. Those that cannot be opened are tried again later."""
        tables = {name: self._view.stations[name].table or {} for name in leases}
        failed: set[str] = set()
        try:
            await self._change(tables, [])
        except StreamtagError:
            for name, table in tables.items():
                try:
                    await self._change({name: table}, [])
                except StreamtagError as error:
                    failed.add(name)
                    log.error("fleet %s: station %s: %s", self._config.name, name, error)
        retry_at = self._gate.clock() + RETRY_SECONDS
        for name, lease in leases.items():
            self._held[name] = HeldStation(lease, tables[name], name not in failed, retry_at)

    async def _release(self, names: list[str]) -> None:
        """Closes stations, waits until JetStream has their last messages, and frees the claims."""
        await self._change({}, self._opened(names))
        topics = [f"event/{name}/" for name in names]
        positions = {topic: self._host.numbering(topic) for topic in topics}
        await asyncio.gather(
            *(
                wait_until_stored(self._connection, topic, *position, STORED_SECONDS)
                for topic, position in positions.items()
            )
        )
        await asyncio.gather(*map(self._give_back, names))
        log.info("fleet %s: gave up %s", self._config.name, _listed(names))

    async def _give_back(self, name: str) -> None:
        lease = self._held.pop(name).lease
        self._gate.forget(name)
        await self._bucket.update(f"claim.{name}", encode_record(ClaimRecord()), lease)

    def _opened(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self._held[name].is_open]

    async def _change(self, add: Mapping[str, Any], remove: Collection[str]) -> None:
        if add or remove:
            await asyncio.wrap_future(self._host.change(add, remove))

    async def _store_file(self) -> None:
        """Stores the stations of the configuration file that the fleet does not have yet."""
        wanted: dict[str, tuple[bytes, int]] = {}
        for name, record in station_records(self._config, self._file_stations).items():
            known = self._view.stations.get(name)
            is_ours = known is not None and known.table is not None and known.origin == "file"
            if known is None or (is_ours and known != record):
                last = self._view.revisions.get(f"station.{name}", 0)
                wanted[f"station.{name}"] = encode_record(record), last
        await asyncio.gather(*(self._bucket.update(key, *one) for key, one in wanted.items()))
        self._stored_file = True

    async def _leave(self) -> None:
        """Releases all stations, and records that the daemon has left."""
        if not (self._connection.is_up and self._gate.is_open):
            return
        with suppress(StreamtagError):
            if self._held:
                await self._release(list(self._held))
            key, record = f"daemon.{self.name}", self._record(self._session, left=True)
            while not await self._bucket.update(key, record, self._revision):
                found = await self._bucket.get(key)  # it was renewed in between
                self._revision = found.revision if found else 0
            log.info("fleet %s: left", self._config.name)


def _listed(names: Collection[str]) -> str:
    some = ", ".join(sorted(names)[:10])
    return f"{len(names)} stations: {some}{', …' if len(names) > 10 else ''}"
