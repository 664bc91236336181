"""What goes out is what Python's own json writes; whatever comes in is a message or an error."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from feed.test_event_encoder import new_wire
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamtag.engine import events
from streamtag.feed import messages
from streamtag.feed.codec import decode, encode
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.messages import dump, parse

TEXT = st.text(max_size=8) | st.sampled_from([",5e-6,", '[1e-6]"', "\\", '\\"5e-6,', "\x7f\u2028"])
NUMBERS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(-(10**9), 10**9).map(lambda n: round(n / 1e6, 6))
    | st.integers(-20, 20).map(lambda n: round(n / 1e6, 6))
)
VALUES = st.recursive(
    TEXT | NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@example([5e-6, -5e-6, ",5e-6,", 1e-6])
@example({'\\",5e-6': [1e-6, '"', 2e-6]})
def test_json_is_what_pythons_own_writer_writes(value: Any) -> None:
    body = encode({"x": value})
    assert json.loads(body) == {"x": value}
    text = json.dumps({"x": value}, ensure_ascii=False, separators=(",", ":"))
    for n in range(1, 100):  # Python has exponents below 0.0001
        text = text.replace(f"{n / 1e6!r}", f"{n / 1e6:.6f}".rstrip("0"))
    if "e-" not in str(value):  # in text they stay
        assert body.decode() == text


@given(st.integers(1, 9), st.booleans())
def test_a_few_millionths_have_no_exponent(n: int, negative: bool) -> None:
    number = -n / 1e6 if negative else n / 1e6
    sign = "-" * negative
    title = f",{n}e-6,\\"
    expected = f'{{"a":{sign}0.00000{n},"b":[{sign}0.00000{n}],"c":",{n}e-6,\\\\","d":1.{n}e-6}}'
    assert encode({"a": number, "b": [number], "c": title, "d": float(f"1.{n}e-6")}) == (
        expected.encode()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(value: float) -> None:
    assert encode([value]) == b"[null]"


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_text_that_is_no_unicode_is_replaced(encoding: Any) -> None:
    wire = new_wire()
    wire.message(events.StreamOpened("a", 0, 1000, 0, ()))
    message = wire.message(events.TitleChanged("a", 3, "\ud800 – x"))
    heard = parse(dump(message, encoding))
    assert isinstance(heard, messages.Title)
    assert heard.title == "? – x"
    assert (heard.seq, heard.utc) == (message.seq, message.utc)


def scored(values: tuple[float, ...]) -> messages.Scores:
    """The message about a window with these values."""
    wire = EventEncoder({"m": tuple(map(str, range(len(values))))}, 0)
    wire.message(events.StreamOpened("a", 0, 1000, 0, ("m",)))
    message = wire.message(events.WindowScored("a", "m", 0, 1, values, values, False))
    assert isinstance(message, messages.Scores)
    return message


@given(st.lists(st.floats(0, 1), max_size=9).map(tuple))
@example((0.0000005, 0.0000015, 2.5e-7, 2.5e-6, 0.0078125, 0.0000625))
def test_scores_are_rounded_as_python_rounds(values: tuple[float, ...]) -> None:
    message = scored(values)
    assert message.values == message.smoothed == tuple(round(value, 6) for value in values)


def test_scores_of_a_few_millionths_have_no_exponent_either() -> None:
    message = scored((0.0, 3e-6, 0.5, 9.4e-6, 9.6e-6))
    assert b'"values":[0.0,0.000003,0.5,0.000009,0.00001],' in dump(message)
    odd = replace(message, title="\ud800")
    for one, encoding in itertools.product((message, odd), ("json", "msgpack")):
        heard = parse(dump(one, encoding))  # type: ignore[arg-type]
        assert heard == replace(one, title=one.title and "?")


def test_a_millionth_is_the_nearest_also_halfway_between_two() -> None:
    rng = np.random.default_rng(0)
    halves = (rng.integers(0, 10**6, 20_000) + 0.5) / 1e6
    near = np.nextafter(halves, rng.integers(0, 2, 20_000))
    for some in (halves, near, rng.random(20_000), rng.random(20_000, np.float32)):
        values = tuple(some.astype(float).tolist())
        assert scored(values).values == tuple(round(value, 6) for value in values)


@given(st.integers(0, 2**40), st.sampled_from([8000, 22050, 44100, 48000, 96000]))
def test_times_are_rounded_to_the_microsecond(at: int, rate: int) -> None:
    wire = EventEncoder({}, 0)
    wire.message(events.StreamOpened("a", 0, rate, 0, ()))
    message = wire.message(events.TagStarted("a", "m", "tag", at, at + 7, 1 / 3, False))
    assert isinstance(message, messages.TagOn)
    assert (message.t, message.decided) == (round(at / rate, 6), round((at + 7) / rate, 6))
    assert message.probability == 0.333333
    assert parse(dump(message)) == message


def test_the_heads_of_the_feed_are_checked_too() -> None:
    head = messages.FeedState(epoch="e", replay="", last={"beat/": ("e", 3)})
    body = b'{"v":1,"type":"state","epoch":"e","replay":"","last":{"beat/":["e",3]}}'
    assert encode(head) == body
    assert messages.parse_head(body, messages.FeedState) == head
    request = messages.ReplayRequest(id=7, topic="event/a/", epoch="e", first=1, last=9)
    assert encode(request) == (
        b'{"v":1,"type":"replay","id":7,"topic":"event/a/","epoch":"e","from":1,"to":9}'
    )
    for wrong in (b'"v":2', b'"v":1,"type":"replay"', b'"v":1,"type":"state","epoch":3'):
        with pytest.raises(messages.FeedError, match="expected"):
            messages.parse_head(b"{" + wrong + b"}", messages.FeedState)
    assert decode(b'{"a":[1,{"b":2.5}]}', dict[str, Any]) == {"a": [1, {"b": 2.5}]}
