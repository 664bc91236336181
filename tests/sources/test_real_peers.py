"""Real peers: Icecast, HLS, RTSP, RTP, UDP. Frozen, killed, restarted."""

import functools
import http.server
import itertools
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.faulty_server import CODECS
from support.peers import (
    RTSP,
    SINE,
    Icecast,
    Processes,
    free_port,
    require_programs,
    start_on_free_port,
    wait_until,
)
from support.ports import blocks_of

from streamtag._core import PcmPort
from streamtag.audio.block import Block
from streamtag.config.backoff import BackoffPolicy
from streamtag.engine.events import Cause, SourceState, SourceStatusChanged
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.sources.queue import BlockQueue, SourceConnected
from streamtag.sources.reconnect import ReconnectingReader
from streamtag.sources.source import ConnectionLimits, SourceTitle
from streamtag.sources.url import UrlSource

SECONDS = 60
RATE = 16000
PATIENT = ConnectionLimits(connect=60, stall=60)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@pytest.fixture(scope="module")
def icecast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Icecast]:
    require_programs("icecast2")
    server = Icecast(tmp_path_factory.mktemp("icecast"), root=os.geteuid() == 0)
    yield server
    server.close()


def is_the_tone(samples: np.ndarray) -> bool:
    """Whether the last second is 440 Hz."""
    spectrum = np.abs(np.fft.rfft(samples[-RATE:] * np.hanning(RATE)))
    return abs(int(np.argmax(spectrum)) - 440) <= 2


def record(url: str, seconds: float = 1.5) -> np.ndarray:
    """The first seconds of a URL."""
    source, parts = UrlSource(url, rate=RATE, limits=PATIENT), list[np.ndarray]()
    for item in blocks_of(source):
        if isinstance(item, Block):
            parts.append(item.samples)
            if item.end >= seconds * RATE:
                source.close()
    return np.concatenate(parts)


class Watched:
    """A supervised URL, and what it says."""

    def __init__(self, url: str, stall: float) -> None:
        self.queue, self.items, self.ports = BlockQueue(), list[object](), list[PcmPort]()
        limits = ConnectionLimits(connect=10, stall=stall)
        self.thread = ReconnectingReader(
            "s",
            lambda rate: UrlSource(url, rate=rate or RATE, limits=limits),
            self.queue,
            backoff=BackoffPolicy(first=0.2, longest=0.5, slow=0.5),
        )
        self.thread.start()

    def until(self, state: SourceState, cause: Cause = Cause.NONE) -> None:
        """Returns when the source has come to this state."""

        def there() -> bool:
            new = self.take()
            return any(
                isinstance(i, SourceStatusChanged) and (i.state, i.cause) == (state, cause)
                for i in new
            )

        wait_until(there, lambda: f"{state} {cause} not among {self.said()}")

    def take(self) -> list[object]:
        """What has come since the last time; the audio of its ports as blocks."""
        new: list[object] = [item for _, item in self.queue.get(0.1)]
        self.ports += [item.port for item in new if isinstance(item, SourceConnected)]
        for port in self.ports:
            while found := port.take(RATE):
                new.append(Block(found[1], found[0], RATE))
        self.items += new
        return new

    def said(self) -> list[tuple[str, str, str]]:
        return [
            (i.state, i.cause, i.detail) for i in self.items if isinstance(i, SourceStatusChanged)
        ]

    def close(self) -> None:
        self.thread.stop()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()

    def lost(self) -> int:
        """How often it was lost so far."""
        self.take()
        return sum(bool(cause) for _, cause, _ in self.said())

    def samples(self) -> np.ndarray:
        """The newest second and a half."""
        last = len(self.items)

        def enough() -> bool:
            self.take()
            new = [item for item in self.items[last:] if isinstance(item, Block)]
            return sum(len(block.samples) for block in new) > 1.5 * RATE

        wait_until(enough, "no audio")
        blocks = [item.samples for item in self.items[last:] if isinstance(item, Block)]
        return np.concatenate(blocks)

    def has_a_gap(self) -> bool:
        self.take()
        return bool(self.gaps())

    def gaps(self) -> list[int]:
        """Samples missing, each time."""
        blocks = [item for item in self.items if isinstance(item, Block)]
        pairs = itertools.pairwise(blocks)
        return [b.start - a.end for a, b in pairs if b.start > a.end]


@pytest.mark.parametrize("codec", CODECS)
def test_icecast(icecast: Icecast, codec: str) -> None:
    assert is_the_tone(record(icecast.play(codec)))


def test_the_playlists_that_icecast_gives(icecast: Icecast) -> None:
    icecast.play("opus")
    for ending in ("m3u", "xspf"):
        assert is_the_tone(record(f"{icecast.url}/a.opus.{ending}"))


def test_titles_of_icecast(icecast: Icecast) -> None:
    source = UrlSource(icecast.play("mp3"), rate=RATE, limits=PATIENT)
    titles: list[str] = []
    for number, item in enumerate(blocks_of(source)):
        if number == 5:
            icecast.title("/a.mp3", "Artist – Käse 'n' Brot")
        if isinstance(item, SourceTitle):
            titles.append(item.title)
        if titles and titles[-1] == "Artist – Käse 'n' Brot":
            source.close()
    assert titles


def test_an_icecast_that_freezes_is_killed_and_comes_back(icecast: Icecast) -> None:
    watched = Watched(icecast.play("mp3"), stall=1.5)
    try:
        watched.until(SourceState.UP)
        icecast.server.send_signal(signal.SIGSTOP)
        watched.until(SourceState.STALLED, Cause.STALLED)
        icecast.server.send_signal(signal.SIGCONT)
        icecast.server.kill()
        icecast.server.wait()
        watched.until(SourceState.RETRYING, Cause.REFUSED)
        icecast.start()
        watched.until(SourceState.RETRYING, Cause.NOT_FOUND)  # the mount has no source yet
        icecast.play("mp3")
        watched.until(SourceState.UP)
    finally:
        watched.close()


def test_hls(processes: Processes, tmp_path: Path) -> None:
    folder = tmp_path / "hls"
    folder.mkdir()
    writer = processes.ffmpeg(
        *SINE, "-c:a", "aac", "-f", "hls", "-hls_time", "1", "-hls_list_size", "5",
        "-hls_flags", "delete_segments", str(folder / "a.m3u8"),
    )  # fmt: skip

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/a.m3u8"
        wait_until((folder / "a.m3u8").exists, f"no playlist\n{processes.logs()}")
        watched = Watched(url, stall=4)
        try:
            watched.until(SourceState.UP)
            assert is_the_tone(record(url))
            writer.kill()
            watched.until(SourceState.STALLED, Cause.STALLED)
        finally:
            watched.close()
            server.shutdown()
            thread.join()


def test_udp(processes: Processes) -> None:
    url = f"udp://127.0.0.1:{free_port()}"
    sender = processes.ffmpeg(*SINE, "-c:a", "aac", "-f", "mpegts", url)
    watched = Watched(url, stall=1.5)
    try:
        watched.until(SourceState.UP)
        sender.kill()
        watched.until(SourceState.STALLED, Cause.STALLED)
        processes.ffmpeg(*SINE, "-c:a", "aac", "-f", "mpegts", url)
        watched.until(SourceState.UP)
        wait_until(watched.has_a_gap, "no gap")
    finally:
        watched.close()
    assert watched.gaps()[0] > 0.5 * RATE  # from the last sound to the first one


def test_srt(processes: Processes) -> None:
    known = subprocess.run([ffmpeg_path(), "-protocols"], capture_output=True, text=True).stdout
    if "srt" not in known.split():
        pytest.skip("this ffmpeg was built without SRT")
    url, phrase = f"srt://127.0.0.1:{free_port()}", "passphrase=a_long_secret"
    send = [*SINE, "-c:a", "aac", "-f", "mpegts", f"{url}?mode=listener&{phrase}"]
    sender = processes.ffmpeg(*send)
    watched = Watched(f"{url}?{phrase}", stall=3)
    try:
        watched.until(SourceState.UP)
        sender.kill()
        sender.wait()
        wait_until(lambda: watched.lost() > 0, lambda: str(watched.said()))
        sender = processes.ffmpeg(*send)
        watched.until(SourceState.UP)
        assert is_the_tone(watched.samples())
    finally:
        watched.close()
    assert "secret" not in str(watched.said())


def test_multicast(processes: Processes, tmp_path: Path) -> None:
    group, port = f"239.255.42.{os.getpid() % 250 + 1}", free_port()
    if not multicast_comes(group, port):
        pytest.skip("this machine has no network that carries multicast")
    url = f"udp://{group}:{port}"
    processes.ffmpeg(*SINE, "-c:a", "aac", "-f", "mpegts", f"{url}?ttl=0")
    assert is_the_tone(record(url))
    path = tmp_path / "a.sdp"
    processes.ffmpeg(
        *SINE, "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "rtp",
        "-sdp_file", str(path), f"rtp://{group}:{free_port()}?ttl=0",
    )  # fmt: skip
    wait_until(lambda: path.exists() and path.stat().st_size > 0, "no session description")
    assert is_the_tone(record(f"sdp:{path}"))


def multicast_comes(group: str, port: int) -> bool:
    """Whether a datagram to a group comes back to this machine."""
    kind = socket.SOCK_DGRAM
    with socket.socket(type=kind) as receiver, socket.socket(type=kind) as sender:
        receiver.settimeout(1)
        try:
            receiver.bind((group, port))
            member = socket.inet_aton(group) + socket.inet_aton("0.0.0.0")
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
            sender.sendto(b"?", (group, port))
            return receiver.recv(1) == b"?"
        except OSError:
            return False


def test_rtp(processes: Processes, tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "a.sdp"
    processes.ffmpeg(
        *SINE, "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "rtp",
        "-sdp_file", str(path), f"rtp://127.0.0.1:{port}",
    )  # fmt: skip
    wait_until(lambda: path.exists() and path.stat().st_size > 0, "no session description")
    assert is_the_tone(record(f"sdp:{path}"))


def test_rtsp(processes: Processes) -> None:
    python = "/usr/bin/python3"
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([python, "-c", check], capture_output=True).returncode:
        pytest.skip("gir1.2-gst-rtsp-server-1.0 is not installed; `.ci/run` lists the packages")

    def start(port: int) -> bool:
        nonlocal server
        server = processes.start(python, "-c", RTSP, str(port))
        wait_until(lambda: "ready" in processes.logs() or server.poll() is not None, processes.logs)
        return server.poll() is None

    server: subprocess.Popen[bytes]
    url = f"rtsp://127.0.0.1:{start_on_free_port(start)}"
    assert is_the_tone(record(f"{url}/mic"))
    missing = Watched(f"{url}/none", stall=5)
    missing.until(SourceState.RETRYING, Cause.NOT_FOUND)
    missing.close()
    watched = Watched(f"{url}/mic", stall=1.5)
    try:
        watched.until(SourceState.UP)
        server.send_signal(signal.SIGSTOP)
        watched.until(SourceState.STALLED, Cause.STALLED)
        server.send_signal(signal.SIGCONT)
        watched.until(SourceState.UP)
        server.kill()
        server.wait()
        watched.until(SourceState.RETRYING, Cause.REFUSED)
    finally:
        watched.close()
