"""The real daemon as a process, spoken to over ZeroMQ on loopback."""

import json
import os
import re
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq
from support.logged_process import SECONDS, LoggedProcess
from support.sounds import tone, write_wav

from streamtag.config.config import load_config
from streamtag.daemon.daemon import Daemon
from streamtag.daemon.engine_loop import EngineLoop
from streamtag.daemon.model_registry import load_taggers
from streamtag.engine.events import Event
from streamtag.engine.offline import TaggerResult, tag_blocks
from streamtag.errors import ConfigError, FeedError
from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.messages import (
    Message,
    Scores,
    Stats,
    StreamDown,
    StreamUp,
    TagOff,
    TagOn,
)
from streamtag.feed.publisher import READY, Publisher
from streamtag.model.tagger import Tagger
from streamtag.model.watchdog import CallLimits
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.sources.file import FileSource

RATE = 22050


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low, high, silence, both; 1.5 s each and a little."""
    low, high = tone(1.5, RATE, 200, 0.4), tone(1.5, RATE, 3000, 0.4)
    parts = [low, high, 0 * low, low + high, np.zeros(77, np.float32)]
    return write_wav(tmp_path_factory.mktemp("audio") / "song.wav", np.concatenate(parts), RATE)


@pytest.fixture(scope="module")
def offline(song: Path, toy_bundle: Path) -> TaggerResult:
    """What the engine says to the song when nothing else happens."""
    source = FileSource(song)
    return tag_blocks(source, source.rate, {"toy": Tagger.load(toy_bundle, "cpu")})["toy"]


def configuration(folder: Path, bundle: Path, streams: str, feed: str = "") -> Path:
    path = folder / "daemon.toml"
    path.write_text(
        f'[feed]\nbind = "tcp://127.0.0.1:0"\nwait_for_subscriber_seconds = {SECONDS}\n{feed}\n'
        '[engine]\ndevice = "cpu"\nthreads = 1\n'
        f"[taggers.toy]\nbundle = {json.dumps(str(bundle))}\n[streams]\n{streams}\n"
    )
    return path


class Process(LoggedProcess):
    """A daemon."""

    def __init__(
        self, config: Path, stdin: int = subprocess.DEVNULL, *, fresh: bool = False
    ) -> None:
        words = ("-m", "streamtag", "run", config)
        super().__init__(*words, ready=READY, fresh=fresh, stdin=stdin)


@contextmanager
def running(
    config: Path, stdin: int = subprocess.DEVNULL, *, fresh: bool = False
) -> Iterator[Process]:
    process = Process(config, stdin, fresh=fresh)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.end(signal.SIGKILL)


def until(feed: Subscriber, enough: Callable[[list[Message]], bool]) -> list[Message]:
    """Everything that comes until it is enough; nothing may be missed."""
    messages: list[Message] = []
    while not enough(messages):
        message = feed.receive(SECONDS)
        assert message is not None, messages
        assert not isinstance(message, MissedMessages), message
        messages.append(message)
    return messages


def down(n: int) -> Callable[[list[Message]], bool]:
    """Enough when `n` streams have ended."""
    return lambda messages: sum(isinstance(m, StreamDown) for m in messages) == n


def events_of(messages: Sequence[Message], stream: str) -> list[Message]:
    return [m for m in messages if m.stream == stream]


def stretches(messages: Sequence[Message]) -> list[tuple[str, float, float, float, str]]:
    """The tags that were on: name, from, to, peak, reason."""
    found = [(m.tag, m.since, m.t, m.peak, m.reason) for m in messages if isinstance(m, TagOff)]
    return sorted(found, key=lambda s: (s[1], s[0]))


def expected(result: TaggerResult) -> list[tuple[str, float, float, float, str]]:
    return [
        (e.tag, round(e.on, 6), round(e.off, 6), round(e.peak, 6), e.reason.value)
        for e in result.events
    ]


def check_contract(messages: Sequence[Message]) -> None:
    """What holds for all that a feed ever says."""
    numbers: dict[str, int] = defaultdict(int)
    on: dict[tuple[str, str, str], float] = {}
    up: set[str] = set()
    for message in messages:
        numbers[message.topic] += 1
        assert message.seq == numbers[message.topic]
        key = (message.stream, getattr(message, "tagger", ""), getattr(message, "tag", ""))
        if isinstance(message, StreamUp):
            up.add(message.stream)
        elif isinstance(message, TagOn):
            assert message.stream in up
            assert key not in on
            assert message.decided >= message.t
            on[key] = message.t
        elif isinstance(message, TagOff):
            assert on.pop(key) == message.since
        elif isinstance(message, StreamDown):
            up.discard(message.stream)
            assert not [stream for stream, *_ in on if stream == message.stream]
    assert not on
    assert len({message.epoch for message in messages}) == 1


def test_a_healthy_stream_beside_faulty_ones_and_a_dead_subscriber(
    tmp_path: Path, song: Path, toy_bundle: Path, offline: TaggerResult
) -> None:
    """Its events are those of the file alone, to the last digit."""
    noisy = tone(20, RATE, 200, 0.4) + np.random.default_rng(1).uniform(-1e-3, 1e-3, 20 * RATE)
    flac = tmp_path / "cut.flac"
    wav = write_wav(tmp_path / "noisy.wav", noisy, RATE)
    command = [ffmpeg_path(), "-v", "error", "-i", wav, flac]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    (tmp_path / "words.txt").write_text("no audio")
    config = configuration(
        tmp_path,
        toy_bundle,
        f'good.source = "file:{song}"\n'
        f'live = {{ source = "file:{song}", pace = true }}\n'
        'cut.source = "file:cut.flac"\nwords.source = "file:words.txt"\n',
        "stats_seconds = 0.2\nhigh_water = 1000",
    )
    with running(config, fresh=True) as daemon, zmq.Context() as context:
        dead = context.socket(zmq.SUB)
        dead.rcvhwm, dead.linger = 1, 0
        with Subscriber(daemon.address, scores=True, stats=True) as feed:
            messages = until(feed, bool)
            dead.connect(daemon.address)
            dead.subscribe("")
            messages += until(feed, lambda more: down(4)([*messages, *more]))
        dead.close()
        assert daemon.end() == 1  # streams were lost
    check_contract(messages)
    for name in ("good", "live"):
        heard = events_of(messages, name)
        assert stretches(heard) == expected(offline)
        assert [
            (m.start, m.t, m.provisional, m.values, m.smoothed)
            for m in heard
            if isinstance(m, Scores)
        ] == [
            (
                round(r.start, 6),
                round(r.end, 6),
                r.provisional,
                tuple(round(v, 6) for v in r.values),
                tuple(round(v, 6) for v in r.smoothed),
            )
            for r in offline.scores
        ]
        assert isinstance(heard[-1], StreamDown)
        assert (heard[-1].reason, heard[-1].t) == ("stream_closed", round(offline.seconds, 6))
    cut = events_of(messages, "cut")
    assert [(s[0], s[4]) for s in stretches(cut)] == [("low", "stream_lost")]
    assert isinstance(cut[-1], StreamDown)
    assert cut[-1].reason == "stream_lost"
    assert "could be decoded" in cut[-1].detail
    (words,) = events_of(messages, "words")  # it never was up
    assert isinstance(words, StreamDown)
    assert "expected audio" in words.detail
    counters = [m.counters for m in messages if isinstance(m, Stats)]
    assert counters[-1]["streams"] >= 1
    assert all(name in counters[-1] for name in ("blocks", "toy.windows", "feed.sent"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_switches_every_tag_off_first(
    tmp_path: Path, toy_bundle: Path, number: signal.Signals, code: int
) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(3, RATE, 200) + tone(3, RATE, 3000, 0.4), RATE)
    streams = f'a = {{ source = "file:{wav}", pace = true, loop = true }}\n'
    config = configuration(tmp_path, toy_bundle, streams + streams.replace("a", "b", 1))
    with running(config) as daemon, Subscriber(daemon.address) as feed:
        messages = until(feed, lambda got: sum(isinstance(m, TagOn) for m in got) == 4)
        daemon.popen.send_signal(number)
        messages += until(feed, down(2))
        assert daemon.end() == code
    check_contract(messages)
    off = [(m.stream, m.tag, m.reason) for m in messages if isinstance(m, TagOff)]
    assert sorted(off) == [(s, t, "shutdown") for s in "ab" for t in ("high", "low")]
    assert {m.reason for m in messages if isinstance(m, StreamDown)} == {"shutdown"}


def test_standard_input(
    tmp_path: Path, song: Path, toy_bundle: Path, offline: TaggerResult
) -> None:
    config = configuration(tmp_path, toy_bundle, f'pcm = {{ source = "stdin:", rate = {RATE} }}')
    reading, writing = os.pipe()
    with running(config, reading) as daemon, Subscriber(daemon.address) as feed:
        os.close(reading)
        with open(writing, "wb") as pipe:
            pipe.write(song.read_bytes()[44:])
        messages = until(feed, down(1))
        assert daemon.end() == 0
    assert stretches(messages) == expected(offline)


def test_it_waits_for_a_subscriber_and_a_signal_ends_the_wait(
    tmp_path: Path, song: Path, toy_bundle: Path
) -> None:
    config = configuration(tmp_path, toy_bundle, f'a.source = "file:{song}"')
    with running(config) as daemon:
        daemon.popen.send_signal(signal.SIGTERM)
        assert daemon.end() == 0
        assert any("ended by SIGTERM" in line for line in daemon.log)


# In this process


def run_here(config: Path) -> list[Message]:
    """All messages of a daemon that ends by itself."""
    daemon = Daemon(load_config(config))
    with Subscriber(daemon.address, scores=True) as feed:
        worker = threading.Thread(target=daemon.run, args=(lambda: False,))
        worker.start()
        streams = len(load_config(config).streams)
        messages = until(feed, down(streams))
        worker.join(SECONDS)
        assert not worker.is_alive()
    assert not daemon.failed
    return messages


def test_tuning_of_a_stream_changes_no_other(
    tmp_path: Path, song: Path, toy_bundle: Path, offline: TaggerResult
) -> None:
    config = configuration(
        tmp_path,
        toy_bundle,
        f'[streams.plain]\nsource = "file:{song}"\n'
        f'[streams.tuned]\nsource = "file:{song}"\n'
        '[streams.tuned.tuning.toy]\ntags = ["high"]\nmin_on_seconds = 0\nhop_seconds = 0.5\n',
    )
    messages = run_here(config)
    assert stretches(events_of(messages, "plain")) == expected(offline)
    assert {s[0] for s in stretches(events_of(messages, "tuned"))} == {"high"}
    counts = [
        sum(isinstance(m, Scores) for m in events_of(messages, s)) for s in ("plain", "tuned")
    ]
    assert counts[0] == len(offline.scores)
    assert counts[1] == pytest.approx(counts[0] / 2, abs=1)


def test_scores_can_be_left_out(tmp_path: Path, song: Path, toy_bundle: Path) -> None:
    config = configuration(tmp_path, toy_bundle, f'a.source = "file:{song}"', "scores = false")
    assert not [m for m in run_here(config) if isinstance(m, Scores)]


def test_settings_that_do_not_fit_the_model_are_refused_before_anything_starts(
    tmp_path: Path, toy_bundle: Path
) -> None:
    stream = '[streams.a]\nsource = "file:a"\n[streams.a.tuning.toy]\n'
    config = configuration(tmp_path, toy_bundle, stream + 'tags = ["violin"]')
    with pytest.raises(ConfigError, match=r"streams.a, tagger 'toy': .*unknown tag 'violin'"):
        Daemon(load_config(config))


def test_one_bundle_under_two_names_is_loaded_once(tmp_path: Path, toy_bundle: Path) -> None:
    path = configuration(tmp_path, toy_bundle, 'a.source = "file:a"')
    path.write_text(f"{path.read_text()}\n[taggers.twin]\nbundle = {json.dumps(str(toy_bundle))}")
    taggers = load_taggers(load_config(path))
    assert taggers["toy"] is taggers["twin"]


def test_an_address_in_use_is_an_error(tmp_path: Path, song: Path, toy_bundle: Path) -> None:
    path = configuration(tmp_path, toy_bundle, f'a.source = "file:{song}"')
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        path.write_text(path.read_text().replace(":0", f":{port}"))
        with pytest.raises(FeedError, match="Address already in use"):
            Daemon(load_config(path))


@pytest.mark.parametrize(("sizes", "at_once"), [((2, 9), 1), ((1,), 3), (None, 3)])
def test_the_engine_gets_every_option(
    tmp_path: Path,
    toy_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    sizes: tuple[int, ...] | None,
    at_once: int,
) -> None:
    given: dict[str, object] = {}

    class Asked(Exception):
        pass

    def engine(_: object, **options: object) -> None:
        given.update(options)
        raise Asked

    monkeypatch.setattr("streamtag.daemon.engine_loop.Engine", engine)
    path = configuration(tmp_path, toy_bundle, 'a.source = "file:a"')
    options = "exact = true\nthreads = 3\nmax_batch = 9\nmax_wait_ms = 70\nslack_seconds = 8\n"
    options += f"batch_sizes = {list(sizes)}\n" if sizes else ""
    text = path.read_text().replace("threads = 1\n", options)
    path.write_text(re.sub('bind = ".*"', 'bind = "ipc:///nowhere"', text))
    publisher = Publisher("tcp://127.0.0.1:0")
    monkeypatch.setattr(
        "streamtag.daemon.output.open_feed", lambda *_, **__: (publisher, EventEncoder({}))
    )
    with pytest.raises(Asked):
        Daemon(load_config(path))
    publisher.close()
    assert given == {
        "max_batch": 9,
        "max_wait": 0.07,
        "calls": CallLimits(5.0, 80.0),
        "sizes": sizes,
        "slack": 8.0,
        "threads": at_once,
        "exact": True,
    }


class Counting:
    """An engine with windows that are due, each of which takes a while; and a feed."""

    def __init__(self, due: int, seconds: float) -> None:
        self.due, self.seconds, self.now, self.published = due, seconds, 100.0, 0

    def monotonic(self) -> float:
        return self.now

    def next_deadline(self) -> float | None:
        return 99.0 if self.due else None

    def step(self, now: float) -> list[Event]:
        assert now == self.now
        self.due -= self.due > 0
        self.now += self.seconds
        return []

    def publish(self, events: list[Event]) -> None:
        self.published += 1


@pytest.mark.parametrize(("due", "seconds", "left"), [(7, 0.001, 0), (100, 0.001, 80), (9, 1, 8)])
def test_windows_are_scored_until_new_audio_has_waited(
    monkeypatch: pytest.MonkeyPatch, due: int, seconds: float, left: int
) -> None:
    """A thousand streams need more than a window a round; a slow model keeps nothing waiting."""
    busy, loop = Counting(due, seconds), object.__new__(EngineLoop)
    vars(loop).update(engine=busy, _output=busy)
    monkeypatch.setattr("streamtag.daemon.engine_loop.time.monotonic", busy.monotonic)
    loop._score()
    assert abs(busy.due - left) <= 1
    assert busy.published == due - busy.due
