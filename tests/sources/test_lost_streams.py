"""A stream that is lost and comes back: no tag stuck on, no silent splice, no harm to others."""

from pathlib import Path

import numpy as np
import pytest
from support.chain import contents, daemon, receive_until, states
from support.faulty_server import OK, Answer, Server, encoded, sends, status
from support.sounds import tone, write_wav
from support.toy import alone, music, tagger

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine
from streamtag.engine.events import (
    Event,
    GapFound,
    Reason,
    TagEnded,
    TagStarted,
    WindowScored,
)
from streamtag.feed.messages import Gap as GapMessage
from streamtag.feed.messages import Message
from streamtag.feed.messages import StreamDown as DownMessage
from streamtag.feed.messages import StreamUp as UpMessage
from streamtag.feed.messages import TagOff as OffMessage
from streamtag.feed.messages import TagOn as OnMessage

# In the engine


def shifted(events: list[Event], by: int) -> list[tuple[object, ...]]:
    """What matters of tags and scores, moved in time."""
    found: list[tuple[object, ...]] = []
    for e in events:
        if isinstance(e, WindowScored):
            found.append((e.start + by, e.end + by, e.values, e.smoothed, e.provisional))
        elif isinstance(e, TagStarted | TagEnded):
            found.append((type(e), e.tag, e.at + by, e.decided + by))
    return found


def test_a_lost_stream_switches_its_tags_off_and_begins_anew_where_it_comes_back(
    tmp_path: Path,
) -> None:
    taggers = {"toy": tagger(tmp_path)}
    first, second = music(3.0, seed=1), music(3.0, seed=2)
    engine = Engine(taggers)
    engine.open("a", 8000)
    before = engine.feed("a", Block(first, 0, 8000))
    before += engine.mark_lost("a")
    assert [e for e in before if isinstance(e, TagEnded) and e.reason is Reason.STREAM_LOST]
    assert not engine.mark_lost("a")  # nothing is on any more
    assert engine.streams == ("a",)
    after = engine.feed("a", Block(second, 40_000, 8000))
    assert after[0] == GapFound("a", 24_000, 40_000)
    after += engine.close("a")
    assert shifted(after, 0) == shifted(alone(taggers, second, 8000), 40_000)
    ons = [e for e in before + after if isinstance(e, TagStarted)]
    offs = [e for e in before + after if isinstance(e, TagEnded)]
    assert sorted((e.tag, e.at) for e in ons) == sorted((e.tag, e.since) for e in offs)


def test_lost_before_anything_came_and_without_any_gap(tmp_path: Path) -> None:
    taggers = {"toy": tagger(tmp_path)}
    engine, samples = Engine(taggers), music(2.0)
    engine.open("a", 8000)
    assert engine.mark_lost("a") == []
    events = engine.feed("a", Block(samples, 0, 8000)) + engine.close("a")
    assert shifted(events, 0) == shifted(alone(taggers, samples, 8000), 0)


# In the daemon


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def net(url: str) -> str:
    """A stream in a hurry."""
    quick = "retry_seconds = 0.1, longest_retry_seconds = 0.2, slow_retry_seconds = 0.3"
    return f'net = {{ source = "{url}", rate = 22050, stall_seconds = 2.0, {quick} }}\n'


def test_neighbours_lose_nothing_whatever_happens_to_a_stream(
    tmp_path: Path, toy_bundle: Path
) -> None:
    """The file beside a source with every fault says what it says alone, to the last digit."""
    parts = [tone(1.5, 22050, 200, 0.4), tone(1.5, 22050, 3000, 0.4)]
    wav = write_wav(tmp_path / "good.wav", np.concatenate(parts), 22050)
    good = f'good = {{ source = "file:{wav}", pace = true }}\n'

    def is_down(messages: list[Message]) -> bool:
        return any(isinstance(m, DownMessage) and m.stream == "good" for m in messages)

    with daemon(tmp_path, toy_bundle, good) as feed:
        undisturbed = receive_until(feed, is_down)
    song = encoded(tmp_path, tone(2.5, 22050, 200, 0.4), 22050)
    faults: list[Answer] = [
        sends(OK, song), sends(OK, song, freeze=True), status("503 Busy"), sends(b"HTTP/1.0 200"),
        sends(OK, bytes(range(200)) * 500), status("404 Not Found"),
        status("404 Not Found"), sends(OK, song, freeze=True),
    ]  # fmt: skip
    with Server(*faults) as server, daemon(tmp_path, toy_bundle, good + net(server.url)) as feed:
        disturbed = receive_until(
            feed, lambda got: is_down(got) and [s for s, _ in states(got)].count("up") == 3
        )
    assert contents(disturbed, "good") == contents(undisturbed, "good")
    assert [c for _, c in states(disturbed) if c] == [
        "ended", "stalled", "http", "ended", "format", "not_found", "not_found",
    ]  # fmt: skip
    # Three failures in a row that waiting does not cure: it was given up, and came back.
    own = [m for m in disturbed if m.stream == "net"]
    ups, downs = ([m for m in own if isinstance(m, k)] for k in (UpMessage, DownMessage))
    assert len(ups) == 2
    assert len(downs) >= 1
    assert isinstance(downs[0], DownMessage)
    assert downs[0].reason == "stream_lost"
    gaps = [m for m in own if isinstance(m, GapMessage)]
    assert len(gaps) == 1  # between the first and the second connection
    assert gaps[0].end > gaps[0].t


def test_every_on_gets_its_off_when_the_source_goes(tmp_path: Path, toy_bundle: Path) -> None:
    song = encoded(tmp_path, tone(3, 22050, 200, 0.4), 22050)
    with (
        Server(sends(OK, song)) as server,
        daemon(tmp_path, toy_bundle, net(server.url)) as feed,
    ):
        got = receive_until(feed, lambda got: sum(isinstance(m, OffMessage) for m in got) == 2)
    on = [m.t for m in got if isinstance(m, OnMessage)]
    off = [(m.since, m.reason) for m in got if isinstance(m, OffMessage)]
    assert off == [(t, "stream_lost") for t in on]
    # Off before the word of the loss, and the stream stays up.
    kinds = [m.type for m in got if m.type in ("tag_off", "stream_down", "gap")]
    assert kinds == ["tag_off", "gap", "tag_off"]
