"""Which stations each daemon should have: properties, and a fleet that is simulated."""

import itertools
import os

import hypothesis.strategies as st
from hypothesis import given, settings
from support.simulated_fleet import SimulatedFleet

from streamtag.daemon.fleet.assignment import FleetMember, Plan, plan

WEIGHTS = st.dictionaries(
    st.integers(0, 60).map("s{}".format), st.sampled_from([0.5, 1.0, 1.0, 2.0, 3.5]), max_size=40
)
MEMBERS = st.lists(
    st.builds(FleetMember, st.integers(0, 9).map("d{}".format), st.floats(0.5, 50), st.booleans()),
    max_size=6,
    unique_by=lambda m: m.name,
)
PLACES = st.dictionaries(st.integers(0, 70).map("s{}".format), st.integers(0, 9).map("d{}".format))


def settle(
    weights: dict[str, float], members: list[FleetMember], holders: dict[str, str]
) -> tuple[dict[str, str], int]:
    """Who has what once nobody has anything to do; and how many changes that took."""
    moves = 0
    holders = dict(holders)
    for _ in range(10 + 2 * len(weights)):
        plans = plan(weights, members, holders)
        if not any(one != Plan() for one in plans.values()):
            return holders, moves
        for name, one in plans.items():
            for station in one.release:
                assert holders.pop(station) == name
            for station in one.take:
                assert holders.get(station) not in {m.name for m in members}
                holders[station] = name
                moves += 1
    raise AssertionError("it does not settle")


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, MEMBERS, PLACES)
def test_every_station_is_taken_once_and_it_settles(
    weights: dict[str, float], members: list[FleetMember], holders: dict[str, str]
) -> None:
    plans = plan(weights, members, holders)
    taken = [s for one in plans.values() for s in one.take]
    serving = {m.name: m.capacity for m in members if m.serving}
    held = {s for s, d in holders.items() if d in {m.name for m in members}}
    assert sorted(taken) == (sorted(set(weights) - held) if serving else [])
    assert all(not one.take for name, one in plans.items() if name not in serving)
    after, _ = settle(weights, members, holders)
    if serving:
        assert {s for s in weights if after.get(s) in serving} == set(weights)
        loads = {n: sum(w for s, w in weights.items() if after[s] == n) for n in serving}
        share = sum(weights.values()) / sum(serving.values())
        slack = max(weights.values(), default=0)
        assert all(loads[n] - share * c <= 2 * slack for n, c in serving.items())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 80), st.lists(st.floats(0.5, 9), min_size=2, max_size=7))
def test_a_lost_daemon_moves_its_stations_and_a_new_one_takes_its_share(
    n: int, capacities: list[float]
) -> None:
    weights = {f"s{i}": 1.0 for i in range(n)}
    members = [FleetMember(f"d{i}", c) for i, c in enumerate(capacities)]
    before, _ = settle(weights, members, {})
    lost = sum(d == "d0" for d in before.values())
    after, moves = settle(weights, members[1:], before)
    assert moves == lost
    assert all(after[s] == d for s, d in before.items() if d != "d0")
    back, moves = settle(weights, members, after)
    assert moves == sum(d == "d0" for d in back.values())
    share = n * capacities[0] / sum(capacities)
    assert int(share) <= moves <= share + 1


def test_a_daemon_that_drains_gives_up_all_and_takes_nothing() -> None:
    weights = {f"s{i}": 1.0 for i in range(9)}
    holders = {s: "a" for s in weights}
    plans = plan(weights, [FleetMember("a", 1, serving=False), FleetMember("b")], holders)
    assert plans["a"] == Plan(release=tuple(sorted(weights)))
    alone = plan(weights, [FleetMember("a", 1, serving=False)], holders)
    assert alone["a"] == Plan()  # nobody could take them


def test_without_rebalancing_only_free_stations_move() -> None:
    weights = {f"s{i}": 1.0 for i in range(9)}
    plans = plan(
        weights, [FleetMember("a"), FleetMember("b")], {s: "a" for s in weights}, rebalance=False
    )
    assert plans == {"a": Plan(), "b": Plan()}


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_two_daemons_speak_of_a_station_whatever_happens(random: object) -> None:
    """Clocks that disagree by minutes, partitions, frozen and killed daemons."""
    fleet = SimulatedFleet(24, 4, random)
    for _ in range(12):
        fleet.misfortune()
        fleet.run(random.choice([1.0, 4.0, 8.0, 15.0]))  # type: ignore[attr-defined]
    fleet.heal()
    assert fleet.seconds_until_balanced() < 25
    assert fleet.doubled == 0


def test_twenty_thousand_stations_on_sixty_daemons() -> None:
    weights = {f"station-{i}": 1.0 for i in range(20_000)}
    members = [FleetMember(f"machine-{i}", 200.0 + 10 * (i % 20)) for i in range(60)]
    before, _ = settle(weights, members, {})
    share = sum(d == "machine-17" for d in before.values())
    after, moves = settle(weights, [m for m in members if m.name != "machine-17"], before)
    assert moves == share
    back, moves = settle(weights, members, after)
    assert moves == sum(d == "machine-17" for d in back.values())
    assert abs(moves - share) <= 1


def test_a_large_fleet_balances_in_seconds_and_takes_over_within_ten() -> None:
    """STREAMTAG_FLEET_STATIONS=20000 is the real size; it takes half a minute."""
    n = int(os.environ.get("STREAMTAG_FLEET_STATIONS", "1200"))
    fleet = SimulatedFleet(n, 60)
    balance = fleet.seconds_until_balanced()
    share = len(fleet.daemons["d7"].held)
    fleet.daemons["d7"].kill()
    fleet.moves = 0
    seconds = fleet.seconds_until_balanced()
    print(f"{n} stations: balanced after {balance} s, {share} taken over after {seconds} s")
    assert fleet.moves == share
    assert seconds <= 10
    fleet.daemons["d7"].start()
    fleet.moves = 0
    fleet.seconds_until_balanced()
    assert abs(fleet.moves - share) <= 1
    assert fleet.doubled == 0


def test_the_hashes_are_the_same_everywhere() -> None:
    weights = {f"s{i}": 1.0 for i in range(12)}
    members = [FleetMember(name, capacity) for name, capacity in (("a", 1), ("b", 2), ("c", 3))]
    plans = [plan(weights, list(order), {}) for order in itertools.permutations(members)]
    assert all(one == plans[0] for one in plans)
    assert {n: len(p.take) for n, p in plans[0].items()} == {"a": 2, "b": 4, "c": 6}
    assert plans[0]["a"].take == ("s0", "s10")
