"""Which stations a daemon of a fleet should have: a pure function, the same in every daemon.

Every daemon has a quota: its share of all stations by its capacity. A station stays where it is
unless its daemon is gone or over its quota. Free stations go to daemons below their quota, by
weighted rendezvous hashing (Thaler and Ravishankar 1998, "Using name-based mappings to increase hit
rates"; weights as in Schindelhauer and Schomaker 2005, "Weighted distributed hash tables"), bounded
by the quota as in Mirrokni, Thorup and Zadimoghaddam 2018, "Consistent hashing with bounded loads".
So a lost daemon moves its own stations only, and a new one gets its share and no more. Daemons that
see the same compute the same; where they do not, the leases decide.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

EQUAL = 1e-9
"""Loads that differ by less are equal."""


@dataclass(frozen=True, slots=True)
class FleetMember:
    """A daemon of a fleet."""

    name: str
    capacity: float = 1.0
    """Number of stations that it can bear."""
    serving: bool = True
    """Whether it takes stations. A daemon that drains gives up those that it has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one daemon is to do."""

    take: tuple[str, ...] = ()
    """Stations that nobody has."""
    release: tuple[str, ...] = ()
    """Its own stations that another daemon should have, or that are no more."""


def plan(
    stations: Mapping[str, float],
    members: Sequence[FleetMember],
    holders: Mapping[str, str],
    *,
    rebalance: bool = True,
) -> dict[str, Plan]:
    """What each daemon should take and give up; it keeps the rest.

    Args:
        stations: name -> weight, 1 for a usual one.
        members: all daemons that live.
        holders: station -> the daemon that has it. A daemon that does not live holds nothing.
        rebalance: whether a daemon over its quota gives up stations. One that drains always does.
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
    """The load that each daemon should have. Whole stations, where all have one weight; the
    remainders go to those that have the stations already."""
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
    """The stations that a daemon over its quota gives up, those first that fit it worst.

    What it keeps is at least its quota, and another daemon has room for each. So every move makes
    the loads more even, and nothing moves to and fro.
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
    # The heaviest first: the small ones fill what is left.
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
