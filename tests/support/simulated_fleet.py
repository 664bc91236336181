"""A fleet in simulated time: the real view, plan and gate, and a simulated bucket."""

import random as random_module
from typing import Any

from streamtag.daemon.fleet.assignment import Plan
from streamtag.daemon.fleet.gate import LeaseGate
from streamtag.daemon.fleet.records import ClaimRecord, DaemonRecord, StationRecord, encode_record
from streamtag.daemon.fleet.view import Entry, FleetView

LEASE, RENEW, MARGIN, STEP = 6.0, 1.5, 1.0, 0.5


class SimulatedBucket:
    """Keys with revisions: compare and set."""

    def __init__(self) -> None:
        self.keys: dict[str, Entry] = {}
        self.log: list[Entry] = []

    def update(self, key: str, value: bytes, last: int) -> int:
        """Its new revision, or 0 if another is last."""
        found = self.keys.get(key)
        if (found.revision if found else 0) != last:
            return 0
        entry = self.keys[key] = Entry(key, len(self.log) + 1, value)
        self.log.append(entry)
        return entry.revision


class SimulatedDaemon:
    """A daemon whose clock is wrong by `offset` seconds."""

    def __init__(self, fleet: "SimulatedFleet", name: str, offset: float) -> None:
        self.fleet, self.name, self.offset = fleet, name, offset
        self.is_cut = self.is_frozen = self.is_dead = False
        self.started = 0
        self.start()

    def now(self) -> float:
        return self.fleet.now + self.offset

    def start(self) -> None:
        """As a new process."""
        self.started += 1
        self.is_dead = self.is_frozen = False
        self.session = f"{self.name}-{self.started}"
        self.view, self.gate = FleetView(LEASE), LeaseGate(self.now)
        self.held: dict[str, int] = {}
        self.position, self.revision, self.due = 0, 0, 0.0

    def kill(self) -> None:
        self.is_dead = True
        self.held = {}

    def step(self) -> None:
        """Half a second of its life."""
        if self.is_dead or self.is_frozen:
            return
        if not self.gate.is_open and self.revision:  # its lease has ended
            self.held, self.revision = {}, 0
            self.started += 1
            self.session = f"{self.name}-{self.started}"
            self.gate.shut()
            self.view.refresh(self.now())
        if self.is_cut:
            return
        for entry in self.fleet.bucket.log[self.position :]:
            self.view.apply(entry, self.now())
        self.position = len(self.fleet.bucket.log)
        if not self.revision:
            self.view.refresh(self.now())
        self._renew()
        if self.gate.is_open:
            self._act(self.fleet.plan_of(self))

    def _renew(self) -> None:
        now, key = self.now(), f"daemon.{self.name}"
        if self.revision and now < self.due:
            return
        record = encode_record(DaemonRecord(session=self.session))
        last = self.revision or self.view.revisions.get(key, 0)
        if revision := self.fleet.bucket.update(key, record, last):
            self.revision, self.due = revision, now + RENEW
            self.gate.renew(now + LEASE - MARGIN)

    def _act(self, plan: Plan) -> None:
        for station in plan.release:
            if station in self.held:
                del self.held[station]
                self._claim(station, ClaimRecord())
        for station in plan.take:
            claim = ClaimRecord(daemon=self.name, session=self.session)
            if lease := self._claim(station, claim):
                self.held[station] = lease
                self.fleet.moves += 1

    def _claim(self, station: str, claim: ClaimRecord) -> int:
        key = f"claim.{station}"
        last = self.view.revisions.get(key, 0)
        return self.fleet.bucket.update(key, encode_record(claim), last)


class SimulatedFleet:
    """Daemons d0, d1, … and stations s0, s1, …"""

    def __init__(self, stations: int, daemons: int, random: Any = None) -> None:
        self.random = random or random_module.Random(0)
        self.now, self.moves, self.doubled = 1000.0, 0, 0
        self.bucket = SimulatedBucket()
        for i in range(stations):
            self.bucket.update(f"station.s{i}", encode_record(StationRecord(table={})), 0)
        self.stations = {f"s{i}" for i in range(stations)}
        offsets = [self.random.uniform(-600, 600) for _ in range(daemons)]
        self.daemons = {f"d{i}": SimulatedDaemon(self, f"d{i}", o) for i, o in enumerate(offsets)}
        self._plans: dict[Any, Any] = {}

    def plan_of(self, daemon: SimulatedDaemon) -> Plan:
        """Its plan; daemons that see the same share the computation."""
        view, now = daemon.view, daemon.now()
        members = tuple(sorted(view.members(now), key=lambda m: m.name))
        sessions = tuple((n, d.record.session) for n, d in sorted(view.daemons.items()))
        key = (self.now, members, sessions, daemon.position)
        if key not in self._plans:
            from streamtag.daemon.fleet.assignment import plan

            self._plans = {key: plan(view.weights(), members, view.holders())}
        return self._plans[key].get(daemon.name, Plan())  # type: ignore[no-any-return]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            for daemon in self.daemons.values():
                daemon.step()
            said: set[str] = set()
            for daemon in self.daemons.values():
                # One that is frozen says nothing; one that is cut off does as long as it may.
                if daemon.gate.is_open and not daemon.is_frozen and not daemon.is_dead:
                    self.doubled += len(said & daemon.held.keys())
                    said |= daemon.held.keys()

    def misfortune(self) -> None:
        """Something happens to one daemon."""
        daemon = self.random.choice(list(self.daemons.values()))
        what = self.random.choice(["kill", "freeze", "thaw", "cut", "mend", "start"])
        if what == "kill":
            daemon.kill()
        elif what == "start" and daemon.is_dead:
            daemon.start()
        elif what in ("freeze", "thaw"):
            daemon.is_frozen = what == "freeze"
        elif what in ("cut", "mend"):
            daemon.is_cut = what == "cut"

    def heal(self) -> None:
        """Everything works again."""
        for daemon in self.daemons.values():
            daemon.is_cut = daemon.is_frozen = False
            if daemon.is_dead:
                daemon.start()

    def is_balanced(self) -> bool:
        alive = [d for d in self.daemons.values() if not d.is_dead]
        counts = [len(d.held) for d in alive if d.gate.is_open]
        held = [s for d in alive for s in d.held]
        return (
            len(counts) == len(alive)
            and sorted(held) == sorted(self.stations)
            and max(counts) - min(counts) <= 1
        )

    def seconds_until_balanced(self) -> float:
        began = self.now
        while not self.is_balanced():
            self.run(STEP)
            assert self.now < began + 120, {n: len(d.held) for n, d in self.daemons.items()}
        return self.now - began
