"""What a worker has left on is ended where it was last heard of, once."""

from streamtag.daemon.open_streams import OpenStreams
from streamtag.engine.events import (
    GapFound,
    Reason,
    SilenceEnded,
    SilenceStarted,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
)

LOST, WHY = Reason.WORKER_LOST, "why"


def opened(stream: str) -> StreamOpened:
    return StreamOpened(stream, 0, 100, 0, ("toy",))


def test_tags_silences_and_streams_end_where_the_last_event_was() -> None:
    streams = OpenStreams()
    streams.observe(
        [
            opened("a"),
            opened("b"),
            TagStarted("a", "toy", "low", 50, 80, 0.9, False),
            TagStarted("a", "toy", "high", 60, 90, 0.8, False),
            TagEnded("a", "toy", "low", 120, 130, 50, 0.95, Reason.BELOW_THRESHOLD),
            WindowScored("a", "toy", 100, 200, (), (), False),
            SilenceStarted("b", 300, 400),
            GapFound("b", 400, 450),
        ]
    )
    assert streams.end(LOST, WHY) == [
        TagEnded("a", "toy", "high", 200, 200, 60, 0.8, LOST),
        StreamClosed("a", 200, LOST, WHY),
        SilenceEnded("b", 450, 450, 300),
        StreamClosed("b", 450, LOST, WHY),
    ]
    assert streams.end(LOST, WHY) == []


def test_what_has_ended_is_not_ended_again() -> None:
    streams = OpenStreams()
    streams.observe(
        [
            opened("a"),
            TagStarted("a", "toy", "low", 50, 80, 0.9, False),
            SilenceStarted("a", 60, 70),
            SilenceEnded("a", 90, 95, 60),
            TagEnded("a", "toy", "low", 120, 130, 50, 0.95, Reason.STREAM_CLOSED),
            StreamClosed("a", 200, Reason.STREAM_CLOSED),
        ]
    )
    assert streams.end(LOST, WHY) == []


def test_a_tag_never_ends_before_its_decision() -> None:
    streams = OpenStreams()
    streams.observe([opened("a"), TagStarted("a", "toy", "low", 50, 80, 0.9, True)])
    (ended, closed) = streams.end(LOST, WHY)
    assert isinstance(ended, TagEnded)
    assert ended.at == 80
    assert closed == StreamClosed("a", 80, LOST, WHY)
