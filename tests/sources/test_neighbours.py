"""Every fault of the list at the same time, on the whole way from sources to messages: whoever is
beside it says what it says alone, and each faulty stream tells what its listeners would expect."""

import os
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from support.chain import contents, daemon, daemon_process, receive_until, states
from support.faulty_server import (
    OK,
    Answer,
    Connection,
    Server,
    encoded,
    redirect_loop,
    sends,
    status,
)
from support.sounds import tone, write_wav

from streamtag.feed.messages import (
    Gap,
    JournalStatus,
    Message,
    Scores,
    StreamDown,
    StreamStatus,
    StreamUp,
    TagOff,
    TagOn,
)
from streamtag.sources.reconnect import AHEAD_SECONDS
from streamtag.sources.tcp_traffic import CONNECTIONS

RATE = 22050
SECONDS = 200
QUICK = "retry_seconds = 0.1, longest_retry_seconds = 0.2, slow_retry_seconds = 0.3"
NEIGHBOURS = ("file", "radio")


@dataclass
class Heard:
    """What one stream has said so far."""

    all: list[Message] = field(default_factory=list)

    def of(self, kind: type[Message]) -> list[Message]:
        return [m for m in self.all if isinstance(m, kind)]

    @property
    def states(self) -> list[tuple[str, str]]:
        return states(self.all)

    @property
    def causes(self) -> list[str]:
        return [cause for _, cause in self.states if cause]

    @property
    def ups(self) -> int:
        return [state for state, _ in self.states].count("up")

    @property
    def gaps(self) -> list[float]:
        """Seconds, each."""
        return [m.end - m.t for m in self.all if isinstance(m, Gap)]

    @property
    def reasons(self) -> list[str]:
        """Of every OFF."""
        return [m.reason for m in self.all if isinstance(m, TagOff)]

    def brief(self) -> list[str]:
        """Everything but the scores, for people."""
        return [str(m) for m in self.all if not isinstance(m, Scores)]

    def came_back(self) -> bool:
        """It was up twice, and its tag was on again."""
        last = max((i for i, m in enumerate(self.all) if _is_up(m)), default=0)
        return self.ups >= 2 and any(isinstance(m, TagOn) for m in self.all[last:])


def _is_up(message: Message) -> bool:
    return isinstance(message, StreamStatus) and message.state == "up"


@dataclass
class Fault:
    """A stream that has one."""

    keys: str
    """Of its configuration."""
    done: Callable[[Heard], bool]
    """Whether everything has happened that is to happen."""
    act: Callable[[Heard], None] = lambda heard: None
    """Called whenever it has said something."""


class Songs:
    """The tone that the toy model calls `low`, as it comes from different encoders."""

    def __init__(self, folder: Path) -> None:
        low = tone(2.5, RATE, 200, 0.4)
        self.samples = low
        self.mp3 = encoded(folder, low, RATE)
        self.aac = encoded(folder, low, RATE, "aac")
        self.ogg = encoded(folder, low, RATE, "ogg")
        self.wide = encoded(folder, np.stack([tone(2.5, 44100, 200, 0.4)] * 2, 1), 44100, "aac")
        self.raw = (low * 32767).astype("<i2").tobytes()


class Killed:
    """A server that is killed when its tag is on, and comes back when that was noticed."""

    def __init__(self, song: bytes) -> None:
        self._answer = sends(OK, song, freeze=True)
        self._servers = [Server(self._answer)]
        self.url = self._servers[0].url

    def act(self, heard: Heard) -> None:
        if len(self._servers) == 1 and heard.of(TagOn):
            self._servers[0].close()
            self._servers.append(self._servers[0])
        elif len(self._servers) == 2 and "refused" in heard.causes:
            self._servers.append(Server(self._answer, port=self._servers[0].port))

    def close(self) -> None:
        if len(self._servers) != 2:
            self._servers[-1].close()


class Circle:
    """A server that sends its clients round in circles until they have given up."""

    def __init__(self, song: bytes) -> None:
        self._song, self._given_up = sends(OK, song, freeze=True), threading.Event()
        self.server = Server(self._answer)

    def act(self, heard: Heard) -> None:
        if ("failed", "redirect") in heard.states:
            self._given_up.set()

    def _answer(self, connection: Connection) -> None:
        (self._song if self._given_up.is_set() else redirect_loop)(connection)


def changes(first: bytes, second: bytes) -> Answer:
    """One song, and then another kind of one, little by little."""

    def answer(connection: Connection) -> None:
        connection.send(OK + first)
        while not connection.closing.wait(0.25):
            connection.send(second[:1000])

    return answer


def drips(raw: bytes, speed: float) -> Answer:
    """Samples at a clock of its own, again and again."""
    step = 2 * RATE // 20

    def answer(connection: Connection) -> None:
        at = 0
        while not connection.closing.wait(0.05 / speed if speed < 10 else 0):
            connection.send((raw + raw)[at : at + step])
            at = (at + step) % len(raw)

    return answer


def faults(songs: Songs, stack: ExitStack) -> dict[str, Fault]:
    """All streams that have one, with their servers."""
    song = songs.mp3

    def serve(*answers: Answer, http: bool = True) -> Server:
        return stack.enter_context(Server(*answers, http=http))

    def net(url: str, stall: float = 10 * SECONDS, more: str = "") -> str:
        """Only where a stall is the fault may it end a connection, however long the test takes."""
        return f'source = "{url}", rate = {RATE}, stall_seconds = {stall}, {QUICK}{more}'

    def raw(*answers: Answer) -> str:
        return net(f"tcp://127.0.0.1:{serve(*answers, http=False).port}")

    lasting, other = sends(OK, song, freeze=True), sends(OK, songs.aac, freeze=True)
    killed, circle = Killed(song), Circle(song)
    stack.callback(killed.close)
    stack.callback(circle.server.close)
    garbage = sends(OK, bytes(range(200)) * 1000)
    lost = status("404 Not Found")
    half = sends(b"HTTP/1.0 200 OK\r\nContent-Ty")
    return {
        "killed": Fault(net(killed.url), Heard.came_back, killed.act),
        "frozen": Fault(net(serve(lasting).url, stall=1), Heard.came_back),
        "lost": Fault(net(serve(sends(OK, song), lost, lost, lasting).url), Heard.came_back),
        "circle": Fault(net(circle.server.url), lambda h: bool(h.of(TagOn)), circle.act),
        "garbage": Fault(
            net(serve(garbage, garbage, garbage, lasting).url), lambda h: bool(h.of(TagOn))
        ),
        "half": Fault(net(serve(half, half, lasting).url), lambda h: bool(h.of(TagOn))),
        "rate": Fault(
            net(serve(sends(OK, songs.wide, songs.aac, freeze=True)).url),
            lambda h: bool(h.gaps) and h.of(Scores)[-1].t > 4,
        ),
        "codec": Fault(
            net(serve(sends(OK, song, songs.aac, freeze=True), other).url),
            Heard.came_back,
        ),
        "search": Fault(net(serve(changes(songs.ogg, song), other).url, stall=8), Heard.came_back),
        "drift": Fault(
            raw(drips(songs.raw, 0.9)) + ', format = "s16le"',
            lambda h: bool(h.of(Scores)) and h.of(Scores)[-1].t > 3,
        ),
        "fast": Fault(
            raw(drips(songs.raw, 10)) + ', format = "s16le"',
            lambda h: bool(h.of(Scores)) and h.of(Scores)[-1].t > 8,
        ),
        "memory": Fault(
            net("http://127.0.0.1:1/eats", more=", decoder_mb = 300"),
            lambda h: h.causes.count("memory") >= 2,
        ),
    }  # fmt: skip


NAMES = (
    "killed", "frozen", "lost", "circle", "garbage", "half", "rate", "codec", "search", "drift",
    "fast", "memory",
)  # fmt: skip


def ffmpeg_that_eats(folder: Path) -> None:
    """ffmpeg, but for one URL whose decoder wants ever more memory."""
    eats = "x = []\nwhile True: x.append(bytearray(2**24))"
    path = folder / "ffmpeg"
    path.write_text(
        f"#!/bin/sh\ncase \"$*\" in */eats*) exec {sys.executable} -c '{eats}';; esac\n"
        f'exec {imageio_ffmpeg.get_ffmpeg_exe()} "$@"\n'
    )
    path.chmod(0o755)


def neighbours(folder: Path, songs: Songs, stack: ExitStack) -> str:
    """A file and a station, both at the speed at which they sound, that change in the middle."""
    parts = [songs.samples, tone(1, RATE, 3000, 0.4), songs.samples]
    wav = write_wav(folder / "good.wav", np.concatenate(parts), RATE)
    song = encoded(folder, np.concatenate(parts), RATE)
    head = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: %d\r\n\r\n" % len(song)
    server = stack.enter_context(Server(sends(head, song)))
    return (
        f'file = {{ source = "file:{wav}", pace = true }}\n'
        f'radio = {{ source = "{server.url}", rate = {RATE} }}\n'
    )


def ended(messages: list[Message]) -> bool:
    """Whether both neighbours were heard to their end."""
    return {m.stream for m in messages if isinstance(m, StreamDown)} >= set(NEIGHBOURS)


def fill_disk(pid: int, journal: Path) -> None:
    """From now on no file of that process may grow beyond what the journal has."""
    size = max(path.stat().st_size for path in journal.parent.glob(journal.name + "*"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))


@dataclass
class Run:
    """What was said alone, and amid all faults."""

    alone: list[Message]
    amid: list[Message]
    seconds: float
    """How long that took."""

    def stream(self, name: str) -> Heard:
        return Heard([m for m in self.amid if m.stream == name])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Iterator[Run]:
    """All of it, once."""
    folder = tmp_path_factory.mktemp("chain")
    songs, journal = Songs(folder), folder / "journal.db"
    keys = f'journal = "{journal}"\njournal_scores = true'
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.delenv("http_proxy", raising=False)
        patch.delenv("HTTP_PROXY", raising=False)
        with ExitStack() as first:
            good = neighbours(folder, songs, first)
            with daemon(folder, toy_bundle, good) as feed:
                alone = receive_until(feed, ended)
        (hungry := folder / "bin").mkdir()
        ffmpeg_that_eats(hungry)
        patch.setenv("PATH", f"{hungry}:{os.environ['PATH']}")
        good, bad = neighbours(folder, songs, stack), faults(songs, stack)
        assert tuple(bad) == NAMES
        lines = "".join(f"{name} = {{ {fault.keys} }}\n" for name, fault in bad.items())
        heard, deadline = defaultdict[str, Heard](Heard), time.monotonic() + SECONDS

        def enough(messages: list[Message]) -> bool:
            if messages and (name := messages[-1].stream) in bad:
                heard[name].all.append(messages[-1])
                bad[name].act(heard[name])
            open_ends = [name for name in bad if not bad[name].done(heard[name])]
            late = time.monotonic() > deadline
            assert not late, {name: heard[name].brief() for name in open_ends}
            return ended(messages) and not open_ends

        begun = time.monotonic()
        with daemon_process(folder, toy_bundle, good + lines, keys) as (feed, pid):
            fill_disk(pid, journal)
            amid = receive_until(feed, enough)
        yield Run(alone, amid, time.monotonic() - begun)


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_neighbours_send_the_same_messages_as_alone(run: Run, neighbour: str) -> None:
    alone, amid = contents(run.alone, neighbour), contents(run.amid, neighbour)
    assert amid == alone
    kinds = {kind for kind, _, _ in alone}
    assert kinds >= {"stream_up", "tag_on", "tag_off", "scores", "stream_down"}
    assert len(alone) > 20


@pytest.mark.parametrize("name", NAMES)
def test_every_on_has_one_off_and_nothing_is_on_while_it_is_lost(run: Run, name: str) -> None:
    on: dict[str, float] = {}
    for message in run.stream(name).all:
        if isinstance(message, TagOn):
            assert message.tag not in on
            on[message.tag] = message.t
        elif isinstance(message, TagOff):
            assert on.pop(message.tag) == message.since
        elif isinstance(message, StreamStatus) and message.cause:
            assert not on


EXPECTED = {
    "frozen": ["stalled"],
    "lost": ["ended", "not_found", "not_found"],
    "circle": ["redirect"] * 3,
    "garbage": ["format"] * 3,
    "half": ["ended"] * 2,
    "codec": ["format"],
    "search": ["stalled" if CONNECTIONS.received(os.getpid()) is None else "format"],
    "rate": [],
    "drift": [],
    "fast": [],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_has_its_causes(run: Run, name: str) -> None:
    causes = run.stream(name).causes
    assert causes[: len(EXPECTED[name])] == EXPECTED[name]
    assert set(causes) == set(EXPECTED[name])


def test_a_server_that_was_killed_and_started_anew(run: Run) -> None:
    heard = run.stream("killed")
    assert heard.causes[0] == "ended"
    assert set(heard.causes[1:]) == {"refused"}


@pytest.mark.parametrize("name", ["killed", "frozen", "lost", "codec", "search"])
def test_a_stream_that_comes_back_stays_one_stream_with_a_gap(run: Run, name: str) -> None:
    heard = run.stream(name)
    assert len(heard.of(StreamUp)) == 1
    assert not heard.of(StreamDown)
    assert heard.gaps
    assert heard.reasons[0] == "stream_lost"
    (up, *_, again) = [m for m in heard.all if _is_up(m)]
    assert again.t >= up.t
    # Before and after the loss its positions go on.
    scores = [m.t for m in heard.of(Scores)]
    assert scores == sorted(scores)


@pytest.mark.parametrize("name", ["circle", "garbage"])
def test_what_waiting_does_not_cure_is_given_up_and_still_tried(run: Run, name: str) -> None:
    heard = run.stream(name)
    state = [state for state, _ in heard.states if state != "connecting"]
    assert state[:4] == ["retrying", "retrying", "failed", "up"]
    assert len(heard.of(StreamUp)) == 1
    assert not heard.gaps


def test_another_rate_is_a_gap_of_a_sample_and_no_loss(run: Run) -> None:
    heard = run.stream("rate")
    assert heard.ups == 1
    assert all(gap == pytest.approx(1 / RATE, abs=1e-6) for gap in heard.gaps)
    assert {m.tag for m in heard.all if isinstance(m, TagOn)} == {"low"}
    assert "stream_lost" not in heard.reasons


def test_a_clock_that_is_a_little_slow_is_no_fault(run: Run) -> None:
    heard = run.stream("drift")
    assert (heard.ups, heard.gaps, len(heard.of(TagOn))) == (1, [], 1)


def test_a_source_that_is_too_fast_is_held_up(run: Run) -> None:
    heard = run.stream("fast")
    assert (heard.ups, heard.gaps, len(heard.of(TagOn))) == (1, [], 1)
    assert max(m.t for m in heard.of(Scores)) < run.seconds + AHEAD_SECONDS + 1


def test_a_decoder_that_eats_memory_never_comes_up(run: Run) -> None:
    heard = run.stream("memory")
    assert heard.ups == 0
    assert set(heard.causes) == {"memory"}
    assert not heard.of(StreamUp)


def test_a_full_disk_is_reported(run: Run) -> None:
    said = [m for m in run.amid if isinstance(m, JournalStatus)]
    assert said
    assert not said[0].working
    assert said[0].detail
