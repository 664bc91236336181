"""Assigns stations to the daemons of a fleet, by a pure function that every daemon computes.

Every daemon has a quota: its share of all stations by its capacity. A station stays where it is
unless its daemon is gone or over its quota. Free stations go to daemons below their quota, by
weighted rendezvous hashing (Thaler and Ravishankar 1998, "Using name-based mappings to increase hit
rates"; weights as in Schindelhauer and Schomaker 2005, "Weighted distributed hash tables"), bounded
by the quota as in Mirrokni, Thorup and Zadimoghaddam 2018, "Consistent hashing with bounded loads".
So only the stations of a lost daemon move, and a new daemon gets its share and no more. Daemons
that have read the same records compute the same plan. Where they differ, the leases decide.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

EQUAL = 1e-9
"""Loads that differ by less than this are equal."""


@dataclass(frozen=True, slots=True)
class FleetMember:
    """A daemon of a fleet."""

    name: str
    capacity: float = 1.0
    """Number of stations that it can process."""
    serving: bool = True
    """Whether it takes stations. A draining daemon gives up its stations."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that one daemon should make."""

    take: tuple[str, ...] = ()
    """Free stations to claim."""
    release: tuple[str, ...] = ()
    """Its own stations to give up, because they were removed or another daemon should have them."""


def plan(
    stations: Mapping[str, float],
    members: Sequence[FleetMember],
    holders: Mapping[str, str],
    *,
    rebalance: bool = True,
) -> dict[str, Plan]:
    """What each daemon should take and give up. It keeps its other stations.

    Args:
        stations: weight of each station by name; 1 is usual.
        members: all daemons that are alive.
        holders: name of the daemon that has a station, by station. Daemons that are not alive
            hold nothing.
        rebalance: whether a daemon over its quota gives up stations. A draining one always does.
    """
    serving = sorted((m for m in members if m.serving), key=lambda m: m.name)
    held: dict[str, list[str]] = {m.name: [] for m in members}
    release: dict[str, list[str]] = {m.name: [] for m in members}
    taken: dict[str, list[str]] = {m.name: [] for m in members}
    for station, daemon in sorted(holders.items()):
        if daemon in held:
            (held if station in stations else release)[daemon].append(station)
    if serving:
        loads = {name: sum(stations[s] for s in some) for name, some in held.items()}
        quotas = _quotas(stations, serving, loads)
        for name, some in held.items():
            if name not in quotas:
                release[name] += some
            elif rebalance:
                release[name] += _surplus(name, some, stations, loads, quotas)
        busy = {s for some in held.values() for s in some}
        free = sorted(s for s in stations if s not in busy)
        _place(free, stations, serving, loads, quotas, taken)
    return {m.name: Plan(tuple(taken[m.name]), tuple(release[m.name])) for m in members}


def _quotas(
    stations: Mapping[str, float], serving: Sequence[FleetMember], loads: Mapping[str, float]
) -> dict[str, float]:
    """The load that each daemon should have. If all weights are equal, it is a whole number of
    stations, and the remainder goes to daemons that have these stations already."""
    total, capacity = sum(stations.values()), sum(m.capacity for m in serving)
    shares = {m.name: total * m.capacity / capacity for m in serving}
    weights = set(stations.values())
    if len(weights) != 1:
        return shares
    unit = weights.pop()
    whole = {name: int(share / unit + EQUAL) for name, share in shares.items()}
    left = len(stations) - sum(whole.values())
    order = sorted(
        shares, key=lambda n: (loads[n] <= whole[n] * unit + EQUAL, whole[n] * unit - shares[n], n)
    )
    return {name: unit * (whole[name] + (name in order[:left])) for name in shares}


def _surplus(
    name: str,
    held: Sequence[str],
    stations: Mapping[str, float],
    loads: Mapping[str, float],
    quotas: Mapping[str, float],
) -> list[str]:
    """The stations that a daemon over its quota gives up, those with the smallest hash first.

    It keeps at least its quota, and some daemon has room for each station. So every move makes the
    loads more even, and no station moves back and forth.
    """
    budget = loads[name] - quotas[name]
    if budget <= EQUAL:
        return []
    room = max(quota - loads[n] for n, quota in quotas.items())
    fit = _hashes(held, [name])[:, 0]
    given: list[str] = []
    for i in np.argsort(fit, kind="stable"):
        weight = stations[held[i]]
        if weight <= min(budget, room) + EQUAL:
            given.append(held[i])
            budget -= weight
    return given


def _place(
    free: Sequence[str],
    stations: Mapping[str, float],
    serving: Sequence[FleetMember],
    loads: Mapping[str, float],
    quotas: Mapping[str, float],
    taken: Mapping[str, list[str]],
) -> None:
    """Gives each free station to a daemon in `taken`."""
    if not free:
        return
    capacities = np.array([m.capacity for m in serving])
    scores = -capacities / np.log(_hashes(free, [m.name for m in serving]))
    room = np.array([quotas[m.name] - loads[m.name] for m in serving])
    # The heaviest first: lighter stations fit into the room that is left.
    for i in sorted(range(len(free)), key=lambda i: -stations[free[i]]):
        weight = stations[free[i]]
        fits = room >= weight - EQUAL
        best = int(np.argmax(np.where(fits, scores[i], 0.0) if fits.any() else room / capacities))
        room[best] -= weight
        taken[serving[best].name].append(free[i])


def _hashes(stations: Sequence[str], daemons: Sequence[str]) -> np.ndarray:
    """(n_stations, n_daemons) numbers in (0, 1) that depend on the two names alone."""
    keys = np.array([_key(s) for s in stations], np.uint64)[:, None]
    mixed = keys ^ np.array([_key(d) for d in daemons], np.uint64)[None, :]
    # The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


@lru_cache(maxsize=1 << 17)
def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
