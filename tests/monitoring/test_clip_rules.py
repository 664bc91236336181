"""Which events make clips, where they begin and end; and a maker that fails."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from monitoring.test_alerts import at, head, on, status, up
from support.peers import wait_until

from streamtag.config.clips import ClipsConfig
from streamtag.config.config import parse_config
from streamtag.errors import ConfigError
from streamtag.feed.messages import (
    AlertCleared,
    AlertRaised,
    Channels,
    Clip,
    Clipping,
    Gap,
    Message,
    SilenceOff,
    SilenceOn,
    StreamDown,
    TagOff,
    Title,
)
from streamtag.feed.timestamps import rfc3339
from streamtag.monitoring import clip_maker
from streamtag.monitoring.clip_files import HEAD, ClipRequest, Spool, all_clips, find_clip
from streamtag.monitoring.clip_maker import ClipMaker
from streamtag.monitoring.clips import ClipObserver, clip_message

RULES = {"before_seconds": 10, "after_seconds": 5, "longest_seconds": 100}


class Taker:
    def __init__(self) -> None:
        self.wanted: dict[str, ClipRequest] = {}

    def request(self, request: ClipRequest) -> None:
        self.wanted[request.name] = request

    def recall(self, unfinished: Sequence[Clip], finished: Iterable[str]) -> None: ...


def clips_of(*some: Message, on: Sequence[str], deny: str = "") -> list[tuple[Any, ...]]:
    """Stream, event, begin and end of each clip, in this order."""
    taker, begun = Taker(), list[Message]()
    config = ClipsConfig(on=tuple(on), **RULES)
    observer = ClipObserver(config, taker, lambda stream: stream != deny)
    for i, message in enumerate(some):
        numbered = type(message)(**{**_fields(message), "seq": i + 1})
        begun += observer.observe(numbered, at(message.t))
    assert [m.id for m in begun if isinstance(m, Clip)] == list(taker.wanted)
    assert {m.stage for m in begun if isinstance(m, Clip)} <= {"begun"}
    return [(r.stream, r.event, r.begin, r.end) for r in taker.wanted.values()]


def _fields(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__ if name != "type"}


def off(seconds: float, tag: str = "speech") -> Message:
    ended = {"since": 0.0, "since_utc": rfc3339(at(0)), "peak": 0.9, "reason": "silence"}
    return TagOff(**head(seconds), tagger="t", tag=tag, decided=seconds, **ended)


def tag(seconds: float, name: str) -> Message:
    return type(started := on(seconds, name))(**{**_fields(started), "tagger": "t"})


def silence_off(seconds: float) -> Message:
    return SilenceOff(**head(seconds), decided=seconds, since=0.0, since_utc=rfc3339(at(0)))


def balance(seconds: float, what: str) -> Message:
    return Channels(**head(seconds), balance=what, decided=seconds)


def alert(seconds: float, since: float, *streams: str) -> Message:
    common = head(seconds, "") | {"alert": "dead-air", "id": "1", "streams": streams}
    rest: dict[str, Any] = {"severity": "warning", "detail": "", "notify": (), "quiet_until": ""}
    return AlertRaised(**common, since_utc=rfc3339(at(since)), remind_seconds=0, **rest)


def cleared(seconds: float, *streams: str, left: Sequence[str] = ()) -> Message:
    common = head(seconds, "") | {"alert": "dead-air", "id": "1", "streams": streams}
    rest: dict[str, Any] = {"why": "over", "detail": "", "notify": (), "remaining": tuple(left)}
    return AlertCleared(**common, since_utc=rfc3339(at(0)), **rest)


DOWN = StreamDown(**head(90), reason="stream_lost", detail="")
CASES: dict[str, tuple[list[str], list[Message], list[tuple[Any, ...]]]] = {
    "a silence": (
        ["silence_on"],
        [SilenceOn(**head(30), decided=35), silence_off(50)],
        [("a", "silence_on", 20, 55)],
    ),
    "at the begin": (["clipping"], [Clipping(**head(3), samples=9)], [("a", "clipping", 0, 8)]),
    "often": (
        ["clipping"],
        [Clipping(**head(t), samples=9) for t in (20, 24, 60)],
        [("a", "clipping", 10, 29), ("a", "clipping", 50, 65)],
    ),
    "a gap": (["gap"], [Gap(**head(20), end=31)], [("a", "gap", 10, 36)]),
    "some tags": (
        ["tag_on:sp*"],
        [tag(20, "speech"), tag(21, "music"), off(25, "music"), off(30)],
        [("a", "tag_on speech", 10, 35)],
    ),
    "a stream that ends": (
        ["silence_on", "stream_down:stream_lost"],
        [SilenceOn(**head(80), decided=85), DOWN],
        [("a", "silence_on", 70, 95), ("a", "stream_down stream_lost", 80, 95)],
    ),
    "one channel": (
        ["channels:*_silent"],
        [balance(20, "mono"), balance(30, "left_silent"), balance(40, "stereo")],
        [("a", "channels left_silent", 20, 45)],
    ),
    "a source that fails": (
        ["stream_status:failed"],
        [status(20, "retrying"), status(30, "failed"), status(60, "up")],
        [("a", "stream_status failed", 20, 65)],
    ),
    "a title": (
        ["title:*News*"],
        [Title(**head(20), title="The News"), Title(**head(30), title="x")],
        [("a", "title The News", 10, 25)],
    ),
    "an alert": (
        ["alert_raised"],
        [up(0, "b"), alert(60, 30, "a", "b"), cleared(70, "b", left=["a"]), cleared(80, "a")],
        [("a", "alert_raised dead-air", 20, 85), ("b", "alert_raised dead-air", 20, 75)],
    ),
    "an old alert": (
        ["alert_raised:dead*"], [alert(600, 30, "a")], [("a", "alert_raised dead-air", 545, None)]
    ),
    "another alert": (["alert_raised:x"], [alert(600, 30, "a")], []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_clip_goes_from_before_its_event_to_after_it(name: str) -> None:
    causes, some, wanted = CASES[name]
    assert clips_of(up(), *some, on=causes) == wanted
    assert clips_of(up(), *some, on=causes, deny="a") == [w for w in wanted if w[0] != "a"]
    assert clips_of(*some, on=causes) == [w for w in wanted if w[0] == "b"]  # it is not up


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"on": ["silence"]}, r"clips.on.0: expected a type \(tag_on, .*; got 'silence'"),
        ({"on": ["gap:x"]}, r"clips.on.0: expected a type .*; got 'gap:x'"),
        ({"on": []}, "clips.on: expected"),
        ({"rate": 44100}, "clips.rate: expected .*got 44100"),
        ({"before_seconds": 60.0}, "before_seconds: expected at least half a second less"),
        ({"longest_seconds": 5.0}, "longest_seconds: expected at least before_seconds"),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_config({"streams": {"a": {"source": "device:"}}, "clips": table}, tmp_path)


NAME = "a-20260302T120000Z-0123abcd"


def spooled(folder: Path, samples: bytes | None, **changes: Any) -> ClipRequest:
    """A clip in the spool; None for no audio."""
    request = ClipRequest(NAME, "a", "gap", 1.0, 3.0, 60.0, at(0), at(1))
    request = ClipRequest(**asdict(request) | changes)
    spool = Spool(folder)
    spool.request(request)
    if samples is not None:
        spool.file(NAME, "part").write_bytes(HEAD.pack(8000, 8000) + samples)
    return request


def made(config: ClipsConfig, *recalled: Clip) -> tuple[list[Message], list[str]]:
    """What a maker says of what an earlier life has left."""
    messages, notices = list[Message](), list[str]()
    maker = ClipMaker(config)
    maker.recall(recalled, ())
    maker.start(messages.append, notices.append)
    wait_until(lambda: bool(messages), "no message")
    maker.close(10)
    maker.clean()
    return messages, notices


def test_what_a_crash_left_is_made_or_missing_once(tmp_path: Path) -> None:
    config = ClipsConfig(folder=str(tmp_path), format="flac")
    request = spooled(tmp_path, bytes(8000))
    begun = clip_message(request, "begun", end=3.0)
    assert isinstance(begun, Clip)
    (ready,), _ = made(config, begun)
    assert isinstance(ready, Clip)
    assert (ready.stage, ready.t, ready.end, ready.complete) == ("ready", 1.0, 1.5, False)
    assert find_clip(tmp_path, NAME) == tmp_path / ready.file
    assert not Spool(tmp_path).names()
    (missing,), _ = made(config, clip_message(ClipRequest(**asdict(request) | {
        "name": NAME.replace("0123", "4567")}), "begun", end=3.0))  # fmt: skip
    assert isinstance(missing, Clip)
    assert (missing.stage, missing.id[-8:]) == ("missing", "4567abcd")
    assert "ended before any audio was written" in missing.detail


@pytest.mark.parametrize("samples", [None, b""])
def test_a_clip_without_audio_is_missing(tmp_path: Path, samples: bytes | None) -> None:
    spooled(tmp_path, samples)
    (missing,), _ = made(ClipsConfig(folder=str(tmp_path)))
    assert isinstance(missing, Clip)
    assert (missing.stage, missing.file, missing.bytes) == ("missing", "", 0)
    assert not list(all_clips(tmp_path))


def test_an_encoder_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"
    broken = tmp_path / "ffmpeg"
    broken.write_text(f"#!/bin/sh\necho x >> {tries}\necho no space left >&2\nkill -9 $$\n")
    broken.chmod(0o755)
    monkeypatch.setattr("streamtag.monitoring.clip_encoder.ffmpeg_path", lambda: str(broken))
    spooled(tmp_path / "clips", bytes(8000))
    (missing,), notices = made(ClipsConfig(folder=str(tmp_path / "clips")))
    assert isinstance(missing, Clip)
    assert missing.detail == "ffmpeg: ended with status -9: no space left"
    assert len(tries.read_text()) == 2 * clip_maker.TRIES
    assert notices == [f"clips: none is made: {missing.detail}"]
    assert not list(all_clips(tmp_path / "clips"))


def test_old_and_many_clips_are_removed(tmp_path: Path) -> None:
    day = tmp_path / "2026-03-02"
    day.mkdir()
    names = [NAME[:-1] + str(i) for i in range(5)]
    for age, name in enumerate(names):
        (path := day / f"{name}.flac").write_bytes(bytes(400_000))
        moment = time.time() - 3600 * (5 - age)
        os.utime(path, (moment, moment))
    os.utime(day / f"{names[0]}.flac", (0, 0))
    (other := day / "mine.flac").write_bytes(bytes(5_000_000))
    maker = ClipMaker(ClipsConfig(folder=str(tmp_path), megabytes=1.0))
    maker.start(lambda _: None, lambda _: None)
    wait_until(lambda: len(list(all_clips(tmp_path))) == 2, "they are still there")
    maker.close(10)
    assert {path.stem for path in all_clips(tmp_path)} == {*names[3:]}
    assert other.exists()


def test_a_spool_survives_nonsense(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.folder.mkdir(parents=True)
    for text in ("", "{", "[]", json.dumps({"name": NAME})):
        spool.file(NAME, "json").write_text(text)
        assert spool.read(NAME) is None
    assert find_clip(tmp_path, "../spool/x") is None
