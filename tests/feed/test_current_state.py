"""What is in force: what opens it, what closes it."""

import pytest
from msgspec.structs import replace

from streamtag.feed import messages
from streamtag.feed.current_state import CurrentState
from streamtag.feed.messages import dump

PAUSED = messages.StreamStatus(
    epoch="e", seq=2, stream="s", t=0, utc="2027-01-15T08:00:00.000000Z",
    state="paused", cause="", detail="", retry_seconds=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "detail", "stays"),
    [
        ("stream_closed", "paused", True),
        ("stream_lost", "gone", True),
        ("stream_closed", "removed", False),
        ("shutdown", "", False),
        ("recovered", "", False),
    ],
)
def test_a_pause_outlives_its_stream_but_not_its_removal_or_the_daemon(
    reason: str, detail: str, stays: bool
) -> None:
    state = CurrentState()
    state.update(PAUSED, dump(PAUSED))
    down = messages.StreamDown(
        epoch="e", seq=3, stream="s", t=0, utc=PAUSED.utc, reason=reason, detail=detail
    )
    row = state.update(down, dump(down))
    assert ([kept.seq for kept in state], row.closes) == (([2], ()) if stays else ([], (2,)))


def test_a_stream_that_is_up_again_is_not_paused() -> None:
    state = CurrentState()
    state.update(PAUSED, dump(PAUSED))
    up = messages.StreamUp(
        epoch="e", seq=3, stream="s", t=0, utc=PAUSED.utc, rate=8000, taggers=("m",)
    )
    assert state.update(up, dump(up)).closes == (2,)
    assert [kept.seq for kept in state] == [3]
    working = replace(PAUSED, seq=4, state="up")
    state.update(working, dump(working))
    again = replace(up, seq=5)
    assert state.update(again, dump(again)).closes == (3,)  # what is so now stays
