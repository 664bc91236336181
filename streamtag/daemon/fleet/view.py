"""What a daemon knows of its fleet, and when it takes another daemon for dead.

No clock but this daemon's own counts. A daemon lives as long as its record changes; the clocks of
servers and other daemons may say what they like. That is how the leader election of Kubernetes
tolerates clocks that disagree.
"""

from dataclasses import dataclass, field

from streamtag.daemon.fleet.assignment import FleetMember, Plan, plan
from streamtag.daemon.fleet.records import (
    ClaimRecord,
    DaemonRecord,
    DrainRecord,
    StationRecord,
    decode_record,
)

REBALANCE_SECONDS = 60.0
"""An order to rebalance holds so long."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the bucket."""

    key: str
    revision: int
    value: bytes


@dataclass(slots=True)
class SeenDaemon:
    """A daemon's record, and when it was seen to change."""

    record: DaemonRecord
    revision: int
    seen_at: float


@dataclass(slots=True)
class FleetView:
    """The records that a daemon has seen. Times are seconds of its own clock.

    Args:
        lease_seconds: a daemon whose record does not change for so long is dead.
    """

    lease_seconds: float
    daemons: dict[str, SeenDaemon] = field(default_factory=dict)
    stations: dict[str, StationRecord] = field(default_factory=dict)
    claims: dict[str, tuple[ClaimRecord, int]] = field(default_factory=dict)
    """With their revisions."""
    revisions: dict[str, int] = field(default_factory=dict)
    """Of all keys."""
    _drains: dict[str, DrainRecord] = field(default_factory=dict)
    _ordered_at: float = -REBALANCE_SECONDS

    def apply(self, entry: Entry, now: float) -> None:
        """Takes a record into account, unless a newer one of its key is known.

        Raises:
            FleetError: it is of another version.
        """
        if entry.revision <= self.revisions.get(entry.key, 0):
            return
        self.revisions[entry.key] = entry.revision
        kind, _, name = entry.key.partition(".")
        if kind == "daemon":
            daemon = decode_record(entry.key, entry.value, DaemonRecord)
            self.daemons[name] = SeenDaemon(daemon, entry.revision, now)
        elif kind == "station":
            self.stations[name] = decode_record(entry.key, entry.value, StationRecord)
        elif kind == "claim":
            claim = decode_record(entry.key, entry.value, ClaimRecord)
            self.claims[name] = (claim, entry.revision)
        elif kind == "drain":
            self._drains[name] = decode_record(entry.key, entry.value, DrainRecord)
        elif kind == "rebalance":
            self._ordered_at = now

    def refresh(self, now: float) -> None:
        """Gives every daemon a whole lease again: nothing was seen for a while."""
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
        """Whether a daemon is to give up its stations."""
        drain = self._drains.get(name)
        return (
            drain is not None
            and name in self.daemons
            and drain.session == self.daemons[name].record.session
        )

    def members(self, now: float) -> list[FleetMember]:
        """The daemons that live."""
        return [
            FleetMember(name, seen.record.capacity, not self.is_draining(name))
            for name, seen in self.daemons.items()
            if self.is_alive(name, now)
        ]

    def weights(self) -> dict[str, float]:
        """All stations and their loads."""
        return {n: one.weight for n, one in self.stations.items() if one.table is not None}

    def holders(self) -> dict[str, str]:
        """Who has each station. The claim of an earlier session holds nothing."""
        return {
            name: claim.daemon
            for name, (claim, _) in self.claims.items()
            if claim.daemon in self.daemons
            and claim.session == self.daemons[claim.daemon].record.session
        }

    def plan(self, me: str, now: float, *, rebalance: bool) -> Plan:
        """What a daemon is to do."""
        is_ordered = now < self._ordered_at + REBALANCE_SECONDS
        plans = plan(
            self.weights(), self.members(now), self.holders(), rebalance=rebalance or is_ordered
        )
        return plans.get(me, Plan())
