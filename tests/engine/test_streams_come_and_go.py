"""Streams come and go as they like; nobody inherits anything, and nobody is disturbed."""

import numpy as np
import pytest
from support.toy import alone, cut, events_of, music, tagger

from streamtag.engine.engine import Engine
from streamtag.engine.events import (
    Event,
    Reason,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
)
from streamtag.model.tagger import Tagger


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tagger]:
    on = {"on_thresholds": (0.35, 0.4, 0.5), "off_thresholds": (0.33, 0.38, 0.48)}
    return {"toy": tagger(tmp_path_factory.mktemp("taggers"), **on)}


def lives(events: list[Event], name: str) -> list[list[Event]]:
    """The events of a name, from each StreamUp to its StreamDown."""
    out: list[list[Event]] = []
    for event in events:
        if event.stream == name:
            if isinstance(event, StreamOpened):
                out.append([])
            out[-1].append(event)
    return out


def test_every_life_of_a_name_has_the_events_of_its_own_audio(taggers: dict[str, Tagger]) -> None:
    rng = np.random.default_rng(7)
    engine = Engine(taggers, sizes=(1,), max_wait=0.1)
    got: list[Event] = []
    playing: dict[str, list] = {}
    played: dict[str, list[tuple[int, int]]] = {"a": [], "b": [], "c": []}
    for step in range(250):
        name = str(rng.choice(["a", "b", "c"]))
        if name not in playing:
            seed, rate = int(rng.integers(0, 20)), int(rng.choice([8000, 22050]))
            got += engine.open(name, rate)
            samples = music(float(rng.uniform(0.01, 1.5)), rate, seed)
            playing[name] = cut(samples, rate, [int(rng.integers(100, 9000))])
            played[name].append((seed, rate, len(samples)))  # type: ignore[arg-type]
        elif playing[name]:
            got += engine.feed(name, playing[name].pop(0), step * 0.02)
        else:
            got += engine.close(name)
            del playing[name]
        if rng.random() < 0.3:
            got += engine.step(step * 0.02)
    for name in list(playing):
        for block in playing.pop(name):
            got += engine.feed(name, block)
    got += engine.close_many(engine.streams)
    for name, recordings in played.items():
        assert len(recordings) > 5
        for life, (seed, rate, n) in zip(lives(got, name), recordings, strict=True):  # type: ignore[misc]
            samples = music(1.5, rate, seed)
            samples = next(s for s in (music(k / rate, rate, seed) for k in (n,)) if len(s) == n)
            expected = alone(taggers, samples, rate, name)
            assert events_of(life, name, "toy") == events_of(expected, name, "toy")
            assert (life[0], life[-1]) == (expected[0], expected[-1])


def test_a_newcomer_inherits_no_tag_and_no_result(taggers: dict[str, Tagger]) -> None:
    engine = Engine(taggers)
    events = engine.open("radio", 8000)
    for block in cut(music(2.0, 8000, 0), 8000, [800]):
        events += engine.feed("radio", block)  # due windows wait: nobody calls step
    events += engine.close("radio")
    on = [e for e in events if isinstance(e, TagStarted)]
    off = [e for e in events if isinstance(e, TagEnded)]
    assert on
    assert len(on) == len(off)
    assert events[-1] == StreamClosed("radio", 16000, Reason.STREAM_CLOSED)
    assert engine.stats()["waiting"] == 0
    silent = engine.open("radio", 8000)
    assert engine.step() == []
    silent += engine.close("radio")
    assert [type(e) for e in silent] == [StreamOpened, StreamClosed]


def test_what_was_on_ends_where_the_stream_ends_with_its_reason(
    taggers: dict[str, Tagger],
) -> None:
    for reason in (Reason.STREAM_LOST, Reason.SHUTDOWN):
        engine = Engine(taggers)
        engine.open("a", 8000)
        events = engine.feed("a", cut(music(1.0, 8000, 0), 8000, [10**6])[0])
        events += engine.close("a", reason, "the cable was cut")
        ended = [e for e in events if isinstance(e, TagEnded) and e.reason is reason]
        assert ended
        assert {e.at for e in ended} == {e.decided for e in ended} == {8000}
        assert events[-1] == StreamClosed("a", 8000, reason, "the cable was cut")


def test_closing_many_is_closing_each(taggers: dict[str, Tagger]) -> None:
    ways = []
    for together in (True, False):
        engine = Engine(taggers)
        events: list[Event] = []
        for i in range(4):
            events += engine.open(f"s{i}", 8000)
            events += engine.feed(f"s{i}", cut(music(0.7, 8000, i), 8000, [10**6])[0])
        if together:
            events += engine.close_many([f"s{i}" for i in range(4)])
        else:
            for i in range(4):
                events += engine.close(f"s{i}")
        ways.append([lives(events, f"s{i}") for i in range(4)])
        assert engine.streams == ()
    assert ways[0] == ways[1]
    assert all(any(isinstance(e, WindowScored) for e in life[0]) for life in ways[0])
