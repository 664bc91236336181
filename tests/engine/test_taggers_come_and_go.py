"""The engine while its taggers change in mid-stream: nothing is lost, nothing comes twice."""

import numpy as np
import pytest
from support.toy import alone, cut, events_of, music, tagger

from streamtag.audio.feature_config import FeatureConfig
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, Reason, TagEnded, TagStarted, WindowScored
from streamtag.engine.settings import TaggerSettings
from streamtag.model.tagger import Tagger

RATE = 11025
OTHER = FeatureConfig(sample_rate=8000, n_fft=512, hop=160, n_mels=8, f_max=4000)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return tagger(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """The same, loaded again."""
    return tagger(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """Another front end, other windows."""
    changes = {"features": OTHER, "window_frames": 40, "hop_frames": 10, "first_frames": 20}
    return tagger(tmp_path_factory.mktemp("other"), name="other", **changes)


def scores(events: list[Event]) -> list[tuple[int, tuple[float, ...]]]:
    return [(e.end, tuple(e.values)) for e in events if isinstance(e, WindowScored)]


def check_switches(events: list[Event]) -> None:
    on: dict[str, int] = {}
    for event in events:
        if isinstance(event, TagStarted):
            assert event.tag not in on
            assert event.at <= event.decided
            on[event.tag] = event.at
        elif isinstance(event, TagEnded):
            assert on.pop(event.tag) == event.since <= event.at <= event.decided
    assert not on


def swapped(first: Tagger, second: Tagger, samples: np.ndarray, at: int) -> list[Event]:
    """All events of tagger `t` when another model takes over after `at` blocks."""
    engine, events = Engine({"t": first}), list[Event]()
    events += engine.open("a", RATE)
    for k, block in enumerate(cut(samples, RATE, [1800])):
        if k == at:
            engine.add_tagger(engine.prepare("t~", second))
            engine.attach("a", "t~", TaggerSettings())
        if (
            k >= at
            and "t~" in engine.stream_taggers("a")
            and engine.stream_taggers("a")["t~"].converged
        ):
            last, begun = engine.replace_tagger("t", "t~")
            events += last + begun
        events += engine.feed("a", block)
        events += engine.step()
    assert list(engine.stream_taggers("a")) == ["t"]
    events += engine.close("a")
    return events_of(events, "a", "t")


def test_the_same_model_again_gives_every_window_once_and_the_same(
    toy: Tagger, twin: Tagger
) -> None:
    samples = music(12, RATE, 3)
    events = swapped(toy, twin, samples, 17)
    plain = events_of(alone({"t": toy}, samples, RATE), "a", "t")
    assert scores(events) == scores(plain)
    check_switches(events)
    ended = [e for e in events if isinstance(e, TagEnded) and e.reason is Reason.MODEL_SWAPPED]
    assert ended
    begun = [e for e in events if isinstance(e, TagStarted) and e.at == ended[0].at]
    assert {e.tag for e in begun} == {e.tag for e in ended}  # warm: it knows what is on
    still = [(e.tag, e.at) for e in plain if isinstance(e, TagEnded)]
    assert [(e.tag, e.at) for e in events if isinstance(e, TagEnded) and e not in ended] == still


def test_another_front_end_takes_over_without_a_hole(toy: Tagger, other: Tagger) -> None:
    samples = music(12, RATE, 3)
    events = swapped(toy, other, samples, 17)
    check_switches(events)
    ends = [e.end for e in events if isinstance(e, WindowScored)]
    steps = np.diff(ends)
    assert steps.min() > 0
    hop = 0.2 * RATE  # of the slower one
    assert steps.max() <= hop + 2
    full = [e for e in events if isinstance(e, WindowScored)][3:]
    assert not any(e.provisional for e in full[10:])  # the new one was warm when it began


def test_a_newcomer_changes_nothing_for_who_was_there(
    toy: Tagger, twin: Tagger, other: Tagger
) -> None:
    samples = music(6, RATE, 5)
    engine, events = Engine({"t": toy}), list[Event]()
    events += engine.open("a", RATE)
    for k, block in enumerate(cut(samples, RATE, [777])):
        if k == 20:
            for name, model in (("twin", twin), ("other", other)):
                engine.add_tagger(engine.prepare(name, model))
                engine.attach("a", name, TaggerSettings())
        if k == 50:
            for name in ("twin", "other"):
                events += engine.detach("a", name, Reason.CONFIGURATION)
                engine.remove_tagger(name)
        events += engine.feed("a", block)
        events += engine.step()
    events += engine.close("a")
    assert events_of(events, "a", "t") == events_of(alone({"t": toy}, samples, RATE), "a", "t")
    # One that shares a front end is warm: its windows are those of the other.
    mine = scores(events_of(events, "a", "twin"))
    assert len(mine) > 5
    assert set(mine) <= set(scores(events_of(events, "a", "t")))
    check_switches(events_of(events, "a", "twin"))
    check_switches(events_of(events, "a", "other"))


def test_a_newcomer_with_its_own_front_end_knows_where_it_is(toy: Tagger, other: Tagger) -> None:
    """A click is heard at the same place by a front end that began late."""
    engine = Engine({"t": other, "u": other})
    events = engine.open("a", RATE, taggers={"t": TaggerSettings()})
    samples = music(8, RATE, 1)
    for k, block in enumerate(cut(samples, RATE, [RATE])):
        if k == 3:
            engine.attach("a", "u", TaggerSettings())  # shares
            engine.open("b", RATE, taggers={"u": TaggerSettings()}, start=3 * RATE)
        events += engine.feed("a", block)
        if k >= 3:
            events += engine.feed("b", block)
    events += engine.step()
    early = dict(scores(events_of(events, "a", "t")))
    late = dict(scores(events_of(events, "b", "u")))
    assert min(abs(a - b) for a in early for b in late) <= RATE * 160 / 8000


def test_other_settings_touch_only_their_tag(toy: Tagger) -> None:
    samples = music(12, RATE, 3)
    plain = events_of(alone({"t": toy}, samples, RATE), "a", "t")
    engine, events = Engine({"t": toy}), list[Event]()
    events += engine.open("a", RATE)
    for k, block in enumerate(cut(samples, RATE, [1800])):
        if k == 30:
            events += engine.update_settings("a", "t", TaggerSettings(deny=("low",)))
        events += engine.feed("a", block)
        events += engine.step()
    events += engine.close("a")
    heard = events_of(events, "a", "t")
    check_switches(heard)

    def but_low(events: list[Event]) -> list[Event]:
        return [e for e in events if getattr(e, "tag", "") != "low"]

    assert but_low(heard) == but_low(plain)
    low = [e for e in heard if isinstance(e, TagStarted | TagEnded) and e.tag == "low"]
    before = [e for e in plain if isinstance(e, TagStarted | TagEnded) and e.tag == "low"]
    assert low != before
    assert all(e.decided <= 30 * 1800 for e in low)


def test_another_hop_from_now_on(toy: Tagger) -> None:
    engine, events = Engine({"t": toy}), list[Event]()
    events += engine.open("a", 8000)
    blocks = cut(music(4), 8000, [8000])
    for k, block in enumerate(blocks):
        if k == 2:
            engine.update_settings("a", "t", TaggerSettings(hop_seconds=0.2))
        events += engine.feed("a", block)
        events += engine.step()
    ends = [e.end for e in events_of(events, "a", "t") if isinstance(e, WindowScored)]
    steps = np.diff(ends) / 8000
    assert set(steps.round(6).tolist()) == {0.1, 0.2}
    assert sorted(steps.round(6).tolist()) == steps.round(6).tolist()
