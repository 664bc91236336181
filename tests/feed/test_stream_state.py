"""What is so now, as the bridges keep it."""

from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.messages import Message, Scores, StreamDown, StreamStatus, StreamUp

HEAD = {"epoch": "e", "seq": 1, "stream": "s", "t": 0.0, "utc": "2027-01-15T08:00:00.000000Z"}


def up() -> Message:
    return StreamUp(**HEAD, rate=8000, taggers=("m",))  # type: ignore[arg-type]


def scores() -> Message:
    return Scores(
        **HEAD,  # type: ignore[arg-type]
        tagger="m", start=0, provisional=False, tags=("a",), values=(0.5,), smoothed=(0.5,),
        title="",
    )  # fmt: skip


def down(reason: str, detail: str = "") -> Message:
    return StreamDown(**HEAD, reason=reason, detail=detail)  # type: ignore[arg-type]


def test_late_scores_do_not_restore_a_removed_stream() -> None:
    """The journal's messages and those that are not in it come by two ways."""
    states = StreamStates()
    for message in (up(), scores()):
        assert states.update(message) == "s"
    assert states["s"].scores
    states.remove("s")
    states.update(scores())
    assert list(states) == []


def test_a_paused_stream_is_down_after_the_daemon_ended() -> None:
    states = StreamStates()
    paused = StreamStatus(
        **HEAD,
        state="paused",
        cause="",
        detail="",
        retry_seconds=0,  # type: ignore[arg-type]
    )
    for message in (up(), paused, down("stream_closed", "paused")):
        states.update(message)
    assert states["s"].status == "paused"
    states.update(down("shutdown"))
    assert states["s"].status == "down"
