"""A daemon's view of its fleet, and when it considers another daemon dead.

Only this daemon's own clock is used: another daemon is alive while its record keeps changing. The
clocks of servers and other daemons do not matter, as in the leader election of Kubernetes.
"""

from dataclasses import dataclass, field

from streamtag.daemon.fleet.assignment import FleetMember, Plan, plan
from streamtag.daemon.fleet.records import (
    ClaimRecord,
    DaemonRecord,
    DrainRecord,
    StationRecord,
    decode_fleet_record,
)

REBALANCE_SECONDS = 60.0
"""How long a request to rebalance is in force."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the bucket with its value."""

    key: str
    revision: int
    value: bytes


@dataclass(slots=True)
class SeenDaemon:
    """A daemon's record, and when this daemon last saw it change."""

    record: DaemonRecord
    revision: int
    seen_at: float


@dataclass(slots=True)
class FleetView:
    """The records that a daemon has read. Times are seconds of its own clock.

    Args:
        lease_seconds: a daemon whose record does not change for this time is dead.
    """

    lease_seconds: float
    daemons: dict[str, SeenDaemon] = field(default_factory=dict)
    stations: dict[str, StationRecord] = field(default_factory=dict)
    claims: dict[str, tuple[ClaimRecord, int]] = field(default_factory=dict)
    """Claims with their revisions, by station."""
    revisions: dict[str, int] = field(default_factory=dict)
    """The newest known revision of each key."""
    _drains: dict[str, DrainRecord] = field(default_factory=dict)
    _ordered_at: float = -REBALANCE_SECONDS

    def apply(self, entry: Entry, now: float) -> None:
        """Applies a record, unless a newer one of its key is known.

        Raises:
            FleetError: the record has another version.
        """
        if entry.revision <= self.revisions.get(entry.key, 0):
            return
        self.revisions[entry.key] = entry.revision
        kind, _, name = entry.key.partition(".")
        if kind == "daemon":
            daemon = decode_fleet_record(entry.key, entry.value, DaemonRecord)
            self.daemons[name] = SeenDaemon(daemon, entry.revision, now)
        elif kind == "station":
            self.stations[name] = decode_fleet_record(entry.key, entry.value, StationRecord)
        elif kind == "claim":
            claim = decode_fleet_record(entry.key, entry.value, ClaimRecord)
            self.claims[name] = (claim, entry.revision)
        elif kind == "drain":
            self._drains[name] = decode_fleet_record(entry.key, entry.value, DrainRecord)
        elif kind == "rebalance":
            self._ordered_at = now

    def refresh(self, now: float) -> None:
        """Gives every daemon a whole lease again, after a time without any records."""
        for daemon in self.daemons.values():
            daemon.seen_at = now

    def is_alive(self, name: str, now: float) -> bool:
        """Whether a daemon's lease may still hold."""
        found = self.daemons.get(name)
        return (
            found is not None
            and found.record.state != "left"
            and now < found.seen_at + self.lease_seconds
        )

    def is_draining(self, name: str) -> bool:
        """Whether a daemon was asked to give up its stations."""
        drain = self._drains.get(name)
        return (
            drain is not None
            and name in self.daemons
            and drain.session == self.daemons[name].record.session
        )

    def members(self, now: float) -> list[FleetMember]:
        """The daemons that are alive."""
        return [
            FleetMember(name, seen.record.capacity, not self.is_draining(name))
            for name, seen in self.daemons.items()
            if self.is_alive(name, now)
        ]

    def weights(self) -> dict[str, float]:
        """The load of each station."""
        return {n: one.weight for n, one in self.stations.items() if one.table is not None}

    def holders(self) -> dict[str, str]:
        """The daemon that has each station. Claims of earlier sessions hold nothing."""
        return {
            name: claim.daemon
            for name, (claim, _) in self.claims.items()
            if claim.daemon in self.daemons
            and claim.session == self.daemons[claim.daemon].record.session
        }

    def plan(self, me: str, now: float, *, rebalance: bool) -> Plan:
        """The changes that a daemon should make now."""
        is_ordered = now < self._ordered_at + REBALANCE_SECONDS
        plans = plan(
            self.weights(), self.members(now), self.holders(), rebalance=rebalance or is_ordered
        )
        return plans.get(me, Plan())
