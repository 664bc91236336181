"""The last hour of each stream: from looks at its state, and from the journal."""

from pathlib import Path

import pytest
from support.web_server import START_NS, Feed

from streamtag.bridges.web.past import timeline_json
from streamtag.bridges.web.past_hour import MINUTES, PastHour, read_past_hour
from streamtag.engine import events
from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.event_encoder import EventEncoder
from streamtag.history.intervals import HOUR, joined

MINUTE = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j.db"


def test_a_minute_is_what_most_looks_saw() -> None:
    states, past = StreamStates(), PastHour()
    wire = EventEncoder({"m": ("music", "type---speech")}, 0)

    def see(*some: events.Event) -> None:
        for event in some:
            states.update(wire.message(event))

    see(events.StreamOpened("a", 0, 1, 0, ("m",)))
    begin = 1_000_000 * MINUTE
    for k in range(0, 8 * MINUTE, 5):
        if k == 1 * MINUTE:
            see(events.TagStarted("a", "m", "music", k, k, 0.9, False))
        if k == 2 * MINUTE + 25:  # more than half of this minute
            see(events.TagStarted("a", "m", "type---speech", k, k, 0.9, False))
        if k == 3 * MINUTE:
            see(events.SilenceStarted("a", k, k))
        if k == 4 * MINUTE:
            see(events.StreamClosed("a", k, events.Reason.STREAM_LOST, ""))
        if k == 5 * MINUTE:
            paused = events.SourceState.PAUSED
            see(events.SourceStatusChanged("a", k, paused, events.Cause.NONE, "", 0))
        past.sample(states, alive=k < 7 * MINUTE, now=begin + k)
        past.sample(states, alive=True, now=begin + k + 1)  # too soon to count
    assert past.text("a") == "omsqx   ".rjust(MINUTES)
    past.fill("a", b"q" * MINUTES)
    assert past.text("a") == "omsqxqqq".rjust(MINUTES, "q")
    past.sample(states, alive=True, now=begin + 70 * MINUTE)
    assert past.text("a").strip() == ""
    past.remove("a")
    assert past.text("a") == " " * MINUTES


def programme(feed: Feed) -> None:
    """Two minutes of music with a title, one of silence, one of speech; then lost for two."""
    feed.up("a")
    feed.publish(events.TitleChanged("a", 0, "A Song"))
    feed.on("a", "music", 0)
    feed.off("a", "music", 0, 120)
    feed.publish(events.SilenceStarted("a", 120_000, 120_000))
    feed.publish(events.SilenceEnded("a", 180_000, 180_000, 120_000))
    feed.publish(events.GapFound("a", 181_000, 183_000))
    feed.on("a", "speech", 183)
    feed.off("a", "speech", 183, 240)
    feed.publish(events.StreamClosed("a", 240_000, events.Reason.STREAM_LOST, "Connection refused"))


def test_the_hour_comes_from_the_journal(path: Path) -> None:
    feed = Feed(path)
    programme(feed)
    now = START_NS + 6 * MINUTE * 10**9
    assert read_past_hour(path, "a", now) == b"mmqsxx ".rjust(MINUTES)
    assert read_past_hour(path, "nobody", now) == b" " * MINUTES
    feed.close()


def test_a_time_line(path: Path) -> None:
    feed = Feed(path)
    programme(feed)
    begin = START_NS // 10**6

    def at(*seconds: int) -> tuple[int, ...]:
        return tuple(begin + 1000 * second for second in seconds)

    found = timeline_json(path, "a", START_NS, START_NS + HOUR)
    assert found["received"] == [at(0, 181), at(183, 240)]
    assert found["silences"] == [at(120, 180)]
    assert found["gaps"] == [at(181, 183)]
    speech = {"tagger": "m", "tag": "speech", "spans": [at(183, 240)]}
    assert speech in found["tags"]
    assert found["titles"][-1] == (*at(183, 240), "A Song")
    part = timeline_json(path, "a", START_NS + 130 * 10**9, START_NS + 184 * 10**9)
    assert part["silences"] == [at(130, 180)]
    assert part["tags"] == [{"tagger": "m", "tag": "speech", "spans": [at(183, 184)]}]
    assert part["titles"][0] == (*at(130, 181), "A Song")
    assert timeline_json(path, "nobody", 0, START_NS)["received"] == []
    feed.close()


def test_intervals_near_each_other_are_joined() -> None:
    assert joined([(50, 60), (0, 10), (12, 20), (14, 16)], 5) == [(0, 20), (50, 60)]
    assert joined([(0, 10), (15, 20)], 5) == [(0, 10), (15, 20)]
