import pytest

from streamtag.feed import messages
from streamtag.feed.client.tracker import FeedTracker
from streamtag.feed.codec import encode
from streamtag.feed.messages import dump


def state(seq: int, beat: int) -> list[bytes]:
    last = {"event/a/": ["e", seq], "beat/": ["r", beat]}
    return [
        b"hello/x/",
        encode({"v": 1, "type": "state", "epoch": "r", "replay": "", "last": last}),
    ]


def beat(seq: int, **last: float) -> list[bytes]:
    named = {f"event/{name}/": number for name, number in last.items()}
    head = {"epoch": "r", "seq": seq, "stream": "", "t": 0.0, "utc": "2026-01-01T00:00:00.000000Z"}
    return [b"beat/", dump(messages.Beat(**head, last=named))]


def asks_for_state(tracker: FeedTracker, parts: list[bytes]) -> bool:
    """Whether a message without consequences makes it ask for the state; it does then."""
    with pytest.raises(StopIteration):
        next(tracker.accept(parts))
    asks, tracker.state_needed = tracker.state_needed, False
    return asks


def test_a_beat_lost_after_the_state_is_noticed() -> None:
    """With it the news that it told of; the next beat says nothing of them."""
    tracker = FeedTracker(("event/",))
    asks_for_state(tracker, state(4, 7))
    assert not asks_for_state(tracker, beat(8, a=4))
    asks_for_state(tracker, state(4, 8))
    assert asks_for_state(tracker, beat(10))


def test_a_state_that_does_not_arrive_is_requested_again() -> None:
    tracker = FeedTracker(("event/",))
    assert [asks_for_state(tracker, beat(n)) for n in range(1, 11)] == [
        False,
        False,
        False,
        False,
        True,
    ] * 2
    asks_for_state(tracker, state(4, 10))
    assert asks_for_state(tracker, beat(11, a=5))
    assert [asks_for_state(tracker, beat(n)) for n in range(12, 17)] == [False] * 4 + [True]
    asks_for_state(tracker, state(4, 16))
    assert not asks_for_state(tracker, beat(17, a=4))
