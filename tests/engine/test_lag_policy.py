"""A model that is too slow loses the oldest windows, says how many, and nothing grows."""

import pytest
from support.toy import FEATURES, cut, events_of, music, tagger

from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import Event, WindowScored, WindowsDropped
from streamtag.engine.settings import TaggerSettings
from streamtag.model.tagger import Tagger

RATE = 8000


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return tagger(tmp_path_factory.mktemp("taggers"))


def due(n_samples: int) -> int:
    """Windows of a stream that has not been closed."""
    return max(0, FEATURES.n_frames(n_samples) // 10 - 1)


def test_what_is_dropped_is_counted_and_the_newest_survive(toy: Tagger) -> None:
    engine = Engine({"toy": toy}, lag_policy=LagPolicy.DROP, slack=1.0)
    engine.open("a", RATE)
    samples = music(20, RATE)
    events: list[Event] = []
    waiting = []
    for block in cut(samples, RATE, [800]):
        events += engine.feed("a", block)
        waiting.append(engine.stats()["waiting"])
    assert max(waiting) <= 14  # those before frame 150: the ring holds a window and 1 s
    assert set(waiting[100:]) <= {10, 11}  # a window every 0.1 s, 1 s of slack
    dropped = [e for e in events if isinstance(e, WindowsDropped)]
    assert len(dropped) > 100
    assert events == list(dropped)
    survivors = engine.step()
    lost = sum(e.windows for e in dropped)
    assert len(events_of(survivors, "a", "toy")) + lost >= due(len(samples))
    scores = [e for e in survivors if isinstance(e, WindowScored)]
    assert len(scores) + lost == due(len(samples))
    assert engine.counters.get("dropped", tagger="toy") == lost
    assert scores[0].end > dropped[-1].at
    assert scores[-1].end > len(samples) - 2 * 800
    assert [e.at for e in dropped] == sorted({e.at for e in dropped})


def test_many_streams_lose_alike(toy: Tagger) -> None:
    """Six streams, a model that manages a third: none is starved, none is favoured."""
    engine = Engine({"toy": toy}, lag_policy=LagPolicy.DROP, slack=1.0, max_wait=0.0)
    names = [f"s{i}" for i in range(6)]
    for name in names:
        engine.open(name, RATE)
    blocks = {name: cut(music(20, RATE, i), RATE, [800]) for i, name in enumerate(names)}
    events: list[Event] = []
    for k in range(200):
        events += engine.feed_many([(name, blocks[name][k]) for name in names], k * 0.1)
        events += engine.step(k * 0.1)
        events += engine.step(k * 0.1)
        assert engine.stats()["waiting"] <= 6 * 14
    scored = [
        sum(isinstance(e, WindowScored) for e in events_of(events, name, "toy")) for name in names
    ]
    assert sum(scored) == 2 * 198
    assert max(scored) - min(scored) <= 2
    ends = {
        n: [e.end for e in events_of(events, n, "toy") if isinstance(e, WindowScored)]
        for n in names
    }
    assert all(mine == sorted(set(mine)) for mine in ends.values())


def test_a_slow_tagger_leaves_the_others_alone(toy: Tagger) -> None:
    engine = Engine({"often": toy, "seldom": toy}, lag_policy=LagPolicy.DROP, slack=0.5)
    hops = {"often": TaggerSettings(hop_seconds=0.01), "seldom": TaggerSettings(hop_seconds=0.4)}
    engine.open("a", RATE, taggers=hops)
    events: list[Event] = []
    for k, block in enumerate(cut(music(10, RATE), RATE, [800])):
        events += engine.feed("a", block, k * 0.1)
        events += engine.step(k * 0.1)
    assert any(isinstance(e, WindowsDropped) for e in events_of(events, "a", "often"))
    assert not any(isinstance(e, WindowsDropped) for e in events_of(events, "a", "seldom"))
    assert sum(isinstance(e, WindowScored) for e in events_of(events, "a", "seldom")) == 1 + 24


def test_waiting_engines_lose_nothing_without_a_step(toy: Tagger) -> None:
    engine = Engine({"toy": toy}, lag_policy=LagPolicy.WAIT, slack=0.0)
    engine.open("a", RATE)
    samples = music(20, RATE)
    events = [e for b in cut(samples, RATE, [30000, 100]) for e in engine.feed("a", b)]
    assert engine.stats()["waiting"] <= 3
    events += engine.step()
    assert sum(isinstance(e, WindowScored) for e in events) == due(len(samples))
    assert not any(isinstance(e, WindowsDropped) for e in events)


def test_a_burst_within_the_slack_loses_nothing(toy: Tagger) -> None:
    """Six seconds at once, as from HLS, to a model that is quick enough."""
    engine = Engine({"toy": toy}, lag_policy=LagPolicy.DROP, slack=6.5)
    engine.open("a", RATE)
    samples = music(60, RATE)
    events: list[Event] = []
    for block in cut(samples, RATE, [6 * RATE]):
        events += engine.feed("a", block)
        events += engine.step()
    assert not any(isinstance(e, WindowsDropped) for e in events)
    assert sum(isinstance(e, WindowScored) for e in events) == due(len(samples))
