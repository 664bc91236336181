"""Changes to a real daemon, from other processes; streams they are not about notice nothing."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon.test_daemon import (
    SECONDS,
    Process,
    check_contract,
    events_of,
    expected,
    running,
    stretches,
)
from support.forked import run
from support.sounds import tone, write_wav

from streamtag.config.control_socket import send_command
from streamtag.engine.offline import tag_blocks
from streamtag.errors import ControlError
from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.messages import (
    Message,
    Scores,
    StreamDown,
    StreamStatus,
    StreamUp,
    TaggersChanged,
    TagOff,
    TagOn,
)
from streamtag.model.tagger import Tagger
from streamtag.sources.file import FileSource

RATE = 22050


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low and high in turns, 12 s."""
    parts = [tone(1.5, RATE, hertz, 0.4) for hertz in (200, 3000)] * 4
    return write_wav(tmp_path_factory.mktemp("audio") / "song.wav", np.concatenate(parts), RATE)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low all the time, high in turns, 6 s."""
    high = [level * tone(1.5, RATE, 3000, 0.4) for level in (1, 0, 1, 0)]
    sound = tone(6, RATE, 200, 0.4) + np.concatenate(high)
    return write_wav(tmp_path_factory.mktemp("audio") / "steady.wav", sound, RATE)


@pytest.fixture
def twin(tmp_path: Path, toy_bundle: Path) -> Path:
    """The same model in another file."""
    return Path(shutil.copy(toy_bundle, tmp_path / "twin.pt"))


class Feed:
    """All messages so far, and waiting for one."""

    def __init__(self, feed: Subscriber) -> None:
        self._feed = feed
        self.messages: list[Message] = []

    def until(self, found: Callable[[Message], bool]) -> Message:
        while True:
            message = self._feed.receive(SECONDS)
            assert message is not None, self.messages[-5:]
            assert not isinstance(message, MissedMessages)
            self.messages.append(message)
            if found(message):
                return message


def is_up(name: str) -> Callable[[Message], bool]:
    return lambda m: isinstance(m, StreamUp) and m.stream == name


def is_down(name: str) -> Callable[[Message], bool]:
    return lambda m: isinstance(m, StreamDown) and m.stream == name


def write(path: Path, bundles: dict[str, Path], streams: str) -> Path:
    taggers = "".join(f"{t}.bundle = {json.dumps(str(b))}\n" for t, b in bundles.items())
    path.write_text(
        'exit_when_done = false\n[feed]\nbind = "tcp://127.0.0.1:0"\n'
        f"wait_for_subscriber_seconds = {SECONDS}\n"
        '[engine]\ndevice = "cpu"\nthreads = 1\n[control]\nsocket = "c.sock"\n'
        f"[taggers]\n{taggers}\n[streams]\n{streams}\n"
    )
    return path


def ctl(path: Path, *words: str) -> Any:
    """`streamtag ctl` as a process of its own."""
    done = run("-m", "streamtag", "ctl", *words, "--socket", path, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stop(daemon: Process, feed: Feed, *names: str) -> None:
    """Ends the daemon, and receives until these streams are down, in whatever order."""
    daemon.popen.send_signal(signal.SIGTERM)
    left = set(names)
    while left:
        message = feed.until(lambda m: isinstance(m, StreamDown))
        left.discard(message.stream)
    assert daemon.end() == 0


def test_changes_do_not_affect_other_streams(
    tmp_path: Path, song: Path, steady: Path, toy_bundle: Path, twin: Path
) -> None:
    neighbour = f'neighbour = {{ source = "file:{song}", pace = true, taggers = ["toy"] }}\n'
    other = (
        f'other = {{ source = "file:{steady}", pace = true, loop = true, taggers = ["twin"] }}\n'
    )
    config = write(tmp_path / "d.toml", {"toy": toy_bundle, "twin": twin}, neighbour + other)
    socket = tmp_path / "c.sock"
    with running(config) as daemon, Subscriber(daemon.address, scores=True) as subscriber:
        feed = Feed(subscriber)
        feed.until(is_up("other"))
        feed.until(lambda m: isinstance(m, TagOn) and m.stream == "other" and m.tag == "low")
        ctl(socket, "set", "streams.other.tuning.twin.deny", '["low"]')
        off = feed.until(lambda m: isinstance(m, TagOff) and m.stream == "other" and m.tag == "low")
        assert off.reason == "configuration"  # type: ignore[attr-defined]
        in_force = send_command(socket, {"command": "config"}, SECONDS)["streams"]["other"]
        assert in_force["tuning"]["twin"]["deny"] == ["low"]
        assert ctl(socket, "add", "third", f"file:{song}", "loop=true", "pace=true") == {
            "added": ["third"]
        }
        feed.until(is_up("third"))
        send_command(socket, {"command": "pause", "name": "other"}, SECONDS)
        paused = feed.until(lambda m: isinstance(m, StreamStatus) and m.stream == "other")
        assert paused.state == "paused"  # type: ignore[attr-defined]
        rows = send_command(socket, {"command": "list"}, SECONDS)
        states = {row["name"]: row["state"] for row in rows}
        assert states | {"neighbour": ""} == {"neighbour": "", "other": "paused", "third": "up"}
        send_command(socket, {"command": "resume", "name": "other"}, SECONDS)
        feed.until(is_up("other"))
        for faulty in ("streams = 1", config.read_text() + "x.source = 'file:'"):
            good = config.read_text()
            config.write_text(faulty)
            with pytest.raises(ControlError, match="streams"):
                send_command(socket, {"command": "reload"}, SECONDS)
            config.write_text(good)
        wrong = {"source": "file:x", "taggers": ["none"]}
        with pytest.raises(ControlError, match="no tagger 'none'"):
            send_command(socket, {"command": "add", "name": "x", "stream": wrong}, SECONDS)
        daemon.popen.send_signal(signal.SIGHUP)  # the file knows no third stream
        feed.until(is_down("third"))
        swap = {"command": "swap", "tagger": "twin", "bundle": str(toy_bundle)}
        assert send_command(socket, swap, SECONDS) == {"taggers_swapped": ["twin"]}
        changed = feed.until(lambda m: isinstance(m, TaggersChanged) and m.stream == "other")
        assert changed.reason == "model_swapped"  # type: ignore[attr-defined]
        if not any(map(is_down("neighbour"), feed.messages)):
            feed.until(is_down("neighbour"))
        stop(daemon, feed, "other")
    check_contract(feed.messages)
    source = FileSource(song)
    alone = tag_blocks(source, source.rate, {"toy": Tagger.load(toy_bundle, "cpu")})["toy"]
    heard = events_of(feed.messages, "neighbour")
    assert stretches(heard) == expected(alone)
    scores = [(m.t, m.values) for m in heard if isinstance(m, Scores)]
    assert scores == [(round(r.end, 6), tuple(round(v, 6) for v in r.values)) for r in alone.scores]


def test_a_shadow_is_compared_and_takes_over_between_two_windows(
    tmp_path: Path, steady: Path, toy_bundle: Path, twin: Path
) -> None:
    stream = f'a = {{ source = "file:{steady}", pace = true, loop = true }}\n'
    config = write(tmp_path / "d.toml", {"toy": toy_bundle}, stream)
    socket = tmp_path / "c.sock"
    with running(config) as daemon, Subscriber(daemon.address, scores=True) as subscriber:
        feed = Feed(subscriber)
        feed.until(is_up("a"))
        report = ctl(socket, "shadow", "toy", str(twin))
        assert report == {"listening": "toy", "model": "toy-1"}
        while True:
            feed.until(lambda m: isinstance(m, Scores))
            shadow = send_command(socket, {"command": "status"}, SECONDS)["shadows"]["toy"]
            if shadow["windows"] >= 12:
                break
        assert shadow["mean_differences"] == {"low": 0, "high": 0, "never": 0}
        assert shadow["equal_decisions"] > 0.8
        config.write_text(config.read_text().replace(str(toy_bundle), str(twin)))
        assert ctl(socket, "reload") == {"taggers_swapped": ["toy"]}
        feed.until(lambda m: isinstance(m, TaggersChanged))
        feed.until(lambda m: isinstance(m, TagOff) and m.reason == "below_threshold")
        assert send_command(socket, {"command": "status"}, SECONDS)["shadows"] == {}
        stop(daemon, feed, "a")
    check_contract(feed.messages)
    ends = [m.t for m in feed.messages if isinstance(m, Scores)]
    steps = np.diff(ends[:-1])  # the very last one ends with the stream
    assert steps == pytest.approx(0.25, abs=1e-3)  # every window once
    swapped = [m for m in feed.messages if isinstance(m, TagOff) and m.reason == "model_swapped"]
    at = next(i for i, m in enumerate(feed.messages) if isinstance(m, TaggersChanged))
    again = [m.tag for m in feed.messages[at + 1 : at + 1 + len(swapped)] if isinstance(m, TagOn)]
    assert again == [m.tag for m in swapped]
    assert swapped
    assert all(
        m.model == "toy-1" and len(m.checksum) == 12 for m in feed.messages if isinstance(m, TagOn)
    )


def test_invalid_commands_are_refused(tmp_path: Path, song: Path, toy_bundle: Path) -> None:
    stream = f'a = {{ source = "file:{song}", pace = true, loop = true }}\n'
    config = write(tmp_path / "d.toml", {"toy": toy_bundle}, stream)
    (tmp_path / "no.pt").write_text("no bundle")
    with running(config) as daemon, Subscriber(daemon.address) as subscriber:
        feed = Feed(subscriber)
        feed.until(is_up("a"))

        def refused(words: str, **command: object) -> None:
            with pytest.raises(ControlError, match=words):
                send_command(tmp_path / "c.sock", command, SECONDS)

        refused("expected one of a; got none", command="remove", name="b")
        refused(
            r"streams\.a: expected a valid table, got 1", command="set", table={"streams": {"a": 1}}
        )
        refused("engine.max_batch: expected 32", command="set", table={"engine": {"max_batch": 2}})
        refused("not a bundle", command="swap", tagger="toy", bundle=str(tmp_path / "no.pt"))
        refused("not a bundle", command="shadow", tagger="toy", bundle="no.pt")
        refused("expected a shadow", command="shadow", tagger="toy")
        refused(
            "unknown tag", command="set", table={"taggers": {"toy": {"tuning": {"deny": ["x"]}}}}
        )
        refused("expected a paused one", command="resume", name="a")
        refused("expected a new name", command="add", name="a", stream={"source": "file:x"})
        (row,) = send_command(tmp_path / "c.sock", {"command": "list"}, SECONDS)
        assert (row["state"], row["taggers"]) == ("up", ["toy"])
        stop(daemon, feed, "a")
    assert sum(isinstance(m, StreamUp) for m in feed.messages) == 1


def of_state(name: str, state: str) -> Callable[[Message], bool]:
    return lambda m: isinstance(m, StreamStatus) and (m.stream, m.state) == (name, state)


def test_streams_that_are_not_up_are_published_as_down_when_removed_or_at_the_end(
    tmp_path: Path, steady: Path, toy_bundle: Path
) -> None:
    """Nobody who comes later hears of it, and nothing is recovered after a clean end."""
    usual = f'here = {{ source = "file:{steady}", pace = true, loop = true }}\n'
    config = write(tmp_path / "d.toml", {"toy": toy_bundle}, usual)
    text = config.read_text().replace("[engine]", 'journal = "j.db"\n[engine]')
    config.write_text(text)
    socket, nowhere = tmp_path / "c.sock", "tcp://127.0.0.1:1"
    raw = ("rate=8000", "channels=1", "format=s16le")
    with running(config) as daemon, Subscriber(daemon.address) as subscriber:
        feed = Feed(subscriber)
        for name in ("refused", "kept"):
            ctl(socket, "add", name, nowhere, *raw)
            feed.until(of_state(name, "retrying"))
        ctl(socket, "add", "idle", f"file:{steady}", "pace=true")
        feed.until(is_up("idle"))
        ctl(socket, "pause", "idle")
        feed.until(of_state("idle", "paused"))
        for name in ("refused", "idle"):
            ctl(socket, "remove", name)
            assert feed.until(lambda m: isinstance(m, StreamDown) and m.removed).stream == name
        with Subscriber(daemon.address) as late:
            seen = Feed(late)
            seen.until(is_up("here"))
            ctl(socket, "pause", "here")
            seen.until(of_state("here", "paused"))
            assert {m.stream for m in seen.messages} <= {"here", "kept"}
        daemon.popen.send_signal(signal.SIGTERM)
        for name in ("here", "kept"):
            down = feed.until(lambda m: isinstance(m, StreamDown) and m.reason == "shutdown")
            assert down.stream == name
        assert daemon.end() == 0
        check_contract(feed.messages)
    with running(config) as daemon, Subscriber(daemon.address) as subscriber:
        feed = Feed(subscriber)
        feed.until(is_up("here"))
        assert [(m.stream, m.type) for m in feed.messages] == [("here", "stream_up")]
        stop(daemon, feed, "here")
