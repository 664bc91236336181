"""What C++ spells is what Python's own json spells, and what messages become."""

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamtag._core import Speller
from streamtag.engine import events
from streamtag.feed.current_state import CurrentState
from streamtag.feed.event_encoder import EventEncoder, Numbering, Voice
from streamtag.feed.json_writer import Spelt
from streamtag.feed.messages import dump, parse
from streamtag.feed.timestamps import rfc3339

EPOCH_NS = 1_793_000_000_123_456_789


@dataclass
class Holder:
    """Something with a field."""

    value: Any
    rate: int = 44100
    epoch_ns: int = EPOCH_NS


def spelt(value: object, unit: str = "") -> str | None:
    """A value alone, as it is spelt."""
    holder = Holder(value)
    body = Speller("{", [("x", "value", False, unit)]).spell(holder, holder)
    return None if body is None else body.decode().removeprefix('{,"x":').removesuffix("}")


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(0.0000005)
@example(0.0000015)
@example(2.5e-7)
@example(1e9)
@example(999_999_999.9999995)
@example(123_456_789.0000005)
@example(1e300)
@example(-0.0)
def test_numbers_are_rounded_as_python_rounds(value: float) -> None:
    text = spelt(value)
    assert text is not None
    assert float(text) == round(value, 6)
    assert math.copysign(1, float(text)) == math.copysign(1, value)


@given(st.integers(0, 10**15))
def test_a_millionth_is_the_nearest_also_halfway_between_two(n: int) -> None:
    value = (n + 0.5) / 1e6
    assert spelt(value) == spelt(round(value, 6))
    assert float(spelt(value) or "") == round(value, 6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(value: float) -> None:
    assert spelt(value) == "null"


SOME = st.one_of(
    st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.sampled_from(events.Reason)
)


@given(SOME | st.lists(SOME) | st.lists(SOME).map(tuple) | st.dictionaries(st.text(), SOME))
def test_anything_else_is_json(value: Any) -> None:
    text = spelt(value)
    assert text is not None
    assert json.loads(text) == (list(value) if isinstance(value, tuple) else value)
    assert " " not in text or " " in str(value)


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, {1: 2}, 2**63, None, b"x", ["\udfff"]])
def test_what_only_python_can_spell_is_left_to_it(value: object) -> None:
    assert spelt(value) is None


@given(st.integers(0, 2**63 - 1))
@example(0)
@example(44100 * 86400 * 365 * 100)
def test_positions_become_times(at: int) -> None:
    ns = EPOCH_NS + at * 10**9 // 44100
    assert spelt(at, "utc") == (f'"{rfc3339(ns)}"' if ns < 2**63 else None)
    assert spelt(at, "seconds") == spelt(at / 44100)


@pytest.mark.parametrize(
    "day", ["1970-01-01", "2000-02-29", "2024-02-29", "2100-03-01", "2026-12-31"]
)
def test_days_of_the_calendar(day: str) -> None:
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC, hour=23, minute=59, second=58)
    holder = Holder(0, epoch_ns=int(moment.timestamp()) * 10**9 + 999_999_999)
    body = Speller("{", [("x", "value", False, "utc")]).spell(holder, holder)
    assert body == f'{{,"x":"{day}T23:59:58.999999Z"}}'.encode()


@pytest.mark.parametrize("at", [-1, 0.5, "1", None, 2**63])
def test_what_is_no_position_is_left_to_python(at: object) -> None:
    assert spelt(at, "utc") is None
    assert spelt(at, "seconds") is None


def test_wrong_use_is_named() -> None:
    with pytest.raises(ValueError, match="expected seconds, utc or nothing, got 'hours'"):
        Speller("{", [("x", "x", False, "hours")])
    with pytest.raises(AttributeError, match="absent"):
        Speller("{", [("x", "absent", False, "")]).spell(Holder(1))
    with pytest.raises(TypeError, match="line: expected"):
        Speller("{", [("x", "value", False, "utc")]).spell(Holder(1))
    with pytest.raises(AttributeError, match="rate"):
        Speller("{", [("x", "value", False, "utc")]).spell(Holder(1), object())


def wire(encoding: Any = "json") -> EventEncoder:
    """One stream that is up and plays something, a voice, a display name."""
    made = EventEncoder({}, EPOCH_NS, Numbering("e1", {"event/a/": 7}), encoding)
    made.voices["m"] = Voice(("x",), "model", "0123456789abcdef")
    made.display["a", "m"] = {"tag 1": "Schlagwort"}
    made.message(events.StreamOpened("a", 0, 22050, EPOCH_NS, ("m",)))
    made.message(events.TitleChanged("a", 0, 'Ä "title"\n'))
    return made


POSITIONS = st.integers(0, 2**40)
ODDS = st.floats(0, 1)
TAGS = st.sampled_from(["tag 1", "tag 2", "ünï", '"', "\\"])
ABOUT_TAGS = st.builds(
    events.TagStarted, st.just("a"), st.sampled_from(["m", "other"]), TAGS, POSITIONS, POSITIONS,
    ODDS,
    st.booleans(),
) | st.builds(
    events.TagEnded, st.just("a"), st.just("m"), TAGS, POSITIONS, POSITIONS, POSITIONS, ODDS,
    st.sampled_from(events.Reason),
)  # fmt: skip


@given(st.lists(ABOUT_TAGS, max_size=8))
def test_tag_events_are_spelt_as_their_messages(happened: list[Any]) -> None:
    quick, slow = wire(), wire()
    first, second = CurrentState(), CurrentState()
    for event in happened:
        said, message = quick.spelt(event), slow.message(event)
        assert isinstance(said, Spelt)
        assert said.body == dump(message)
        assert (said.topic, said.epoch, said.seq) == (message.topic, message.epoch, message.seq)
        parse(said.body)
        assert first.take_tag(said) == second.take(message, said.body)
    assert list(first) == list(second)


def test_both_ways_may_take_turns() -> None:
    made, state = wire(), CurrentState()
    on = events.TagStarted("a", "m", "tag 1", 5, 6, 0.5, False)
    off = events.TagEnded("a", "m", "tag 1", 9, 9, 5, 0.5, events.Reason.SILENCE)
    made.message(events.TitleChanged("a", 3, "\ud800"))  # a title that is no Unicode
    message = made.spelt(on)
    assert not isinstance(message, Spelt)
    opened = state.take(message, dump(message))
    made.message(events.TitleChanged("a", 7, "fine"))
    said = made.spelt(off)
    assert isinstance(said, Spelt)
    assert said.seq == opened.seq + 2
    assert state.take_tag(said).closes == (opened.seq,)
    assert not list(state)


def test_messagepack_is_left_to_messages() -> None:
    on = events.TagStarted("a", "m", "tag 1", 5, 6, 0.5, False)
    assert wire("msgpack").spelt(on) == wire().message(on)


def test_an_event_of_a_stream_that_is_not_up_is_named() -> None:
    on = events.TagStarted("b", "m", "tag 1", 5, 6, 0.5, False)
    with pytest.raises(Exception, match="'b': expected StreamUp before"):
        wire().spelt(replace(on))
