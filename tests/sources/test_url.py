"""URLs through ffmpeg against a server that fails in every way: the right cause, never a hang."""

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from support.faulty_server import (
    CODECS,
    OK,
    Answer,
    Connection,
    Server,
    encoded,
    icy,
    redirect_loop,
    sends,
    status,
)
from support.ports import blocks_of
from support.sounds import tone

from streamtag._core import PcmPort
from streamtag.audio.block import Block
from streamtag.config.backoff import BackoffPolicy
from streamtag.engine.events import Cause, SourceState, SourceStatusChanged
from streamtag.sources import ffmpeg
from streamtag.sources import url as network
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.queue import BlockQueue, SourceConnected
from streamtag.sources.reconnect import ReconnectingReader
from streamtag.sources.source import ConnectionLimits, SourceTitle
from streamtag.sources.tcp_traffic import CONNECTIONS, MIN_BYTES
from streamtag.sources.url import UrlSource

RATE = 22050
PATIENT = ConnectionLimits(connect=60, stall=60)
"""Longer than anything takes here, so that only what must run out does."""


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Four seconds of a tone as MP3."""
    return encoded(tmp_path_factory.mktemp("song"), tone(4, RATE, 440, 0.4), RATE)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def read_all(
    source: UrlSource, on_title: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, list[tuple[int, str]], SourceLost | None]:
    """All samples, titles with their positions, and how it ended."""
    parts, titles, end = [np.zeros(0, np.float32)], [], 0
    try:
        for item in blocks_of(source):
            if isinstance(item, SourceTitle):
                titles.append((end, item.title))
                on_title()
            else:
                assert (item.start, item.rate) == (end, source.rate)
                parts.append(item.samples)
                end = item.end
    except SourceLost as error:
        return np.concatenate(parts), titles, error
    finally:
        source.close()
    return np.concatenate(parts), titles, None


def pitch(samples: np.ndarray, rate: int) -> float:
    """Hz of the strongest tone."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_decodes_to_its_tone(tmp_path: Path, codec: str) -> None:
    samples = np.stack([tone(2, 48000, 440, 0.4), tone(2, 48000, 440, 0.2)], axis=1)
    data = encoded(tmp_path, samples, 48000, codec)
    with Server(sends(OK, data)) as server:
        got, _, lost = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert lost is not None
    assert lost.cause is Cause.ENDED
    assert len(got) == pytest.approx(32000, abs=2000)
    middle = got[8000:24000]
    assert pitch(middle, 16000) == pytest.approx(440, abs=2)
    # The mean of the channels, not their sum.
    assert np.abs(middle).max() == pytest.approx(0.3, rel=0.15)


FAULTS = [
    ("not found", status("404 Not Found"), Cause.NOT_FOUND),
    ("gone", status("410 Gone"), Cause.NOT_FOUND),
    ("password", status("401 No", 'WWW-Authenticate: Basic realm="x"'), Cause.AUTH),
    ("forbidden", status("403 Forbidden"), Cause.AUTH),
    ("busy", status("503 Busy"), Cause.HTTP),
    ("circle", redirect_loop, Cause.REDIRECT),
    ("nothing", sends(b""), Cause.ENDED),
    ("no body", sends(OK), Cause.ENDED),
    ("half a header", sends(b"HTTP/1.0 200 OK\r\nContent-Ty"), Cause.ENDED),
    ("a page", sends(OK, b"<html>We are sorry</html>" * 99), Cause.FORMAT),
    ("garbage", sends(OK, bytes(range(200)) * 1000), Cause.FORMAT),
    ("garbage without a header", sends(bytes(range(256)) * 99), Cause.FORMAT),
    ("zeros", sends(OK, bytes(200_000)), Cause.FORMAT),
    ("to a file", status("302 Found", "Location: file:///etc/passwd"), Cause.FORMAT),
    ("list of a file", sends(OK, b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"
     b"#EXT-X-ENDLIST\n"), Cause.FORMAT),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "cause"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_has_its_cause(answer: Answer, cause: Cause) -> None:
    with Server(answer) as server:
        got, _, lost = read_all(UrlSource(server.url, limits=PATIENT))
    assert not len(got)
    assert lost is not None
    assert (lost.cause, server.url in str(lost)) == (cause, True), str(lost)


def test_garbage_that_looks_like_audio_for_a_moment_is_over_soon() -> None:
    with Server(sends(OK, np.random.default_rng(1).bytes(200_000))) as server:
        got, _, lost = read_all(UrlSource(server.url, limits=PATIENT))
    assert len(got) < network.DEFAULT_RATE
    assert lost
    assert lost.cause in (Cause.ENDED, Cause.FORMAT)


def test_connection_refused() -> None:
    with Server(status("404 Not Found")) as server:
        url = server.url
    assert (lost := read_all(UrlSource(url, limits=PATIENT))[2])
    assert lost.cause is Cause.REFUSED


def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (lost := read_all(UrlSource("http://nowhere.invalid/a", limits=PATIENT))[2])
    assert lost.cause is Cause.DNS


def test_a_server_that_speaks_no_tls() -> None:
    with Server(sends(b"SSH-2.0-OpenSSH\r\n" * 50), http=False) as server:
        url = server.url.replace("http", "https")
        assert (lost := read_all(UrlSource(url, limits=PATIENT))[2])
    assert lost.cause is Cause.TLS


@pytest.mark.parametrize("head", [b"", b"HTTP/1.0 200 OK\r\nContent-Ty", OK])
def test_a_server_that_freezes_at_once(head: bytes) -> None:
    with Server(sends(head, freeze=True)) as server:
        got, _, lost = read_all(
            UrlSource(server.url, limits=ConnectionLimits(connect=0.5, stall=60))
        )
    assert not len(got)
    assert lost
    assert lost.cause is Cause.TIMEOUT


def test_a_server_that_freezes_later(song: bytes) -> None:
    with Server(sends(OK, song, freeze=True)) as server:
        got, _, lost = read_all(
            UrlSource(server.url, limits=ConnectionLimits(connect=60, stall=1.5))
        )
    assert len(got) / network.DEFAULT_RATE > 3
    assert lost
    assert lost.cause is Cause.STALLED


def test_a_header_that_never_ends_is_given_up() -> None:
    def drip(connection: object) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\n")  # type: ignore[attr-defined]
        while not connection.closing.wait(0.05):  # type: ignore[attr-defined]
            connection.send(b"X-Header: value\r\n")  # type: ignore[attr-defined]

    with Server(drip) as server:
        assert (lost := read_all(UrlSource(server.url, limits=ConnectionLimits(connect=1)))[2])
    assert lost.cause is Cause.TIMEOUT


def test_a_recording_ends_for_good_and_one_that_is_cut_does_not(song: bytes) -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: %d\r\n\r\n" % len(song)
    with Server(sends(head, song), sends(head, song[: len(song) // 2])) as server:
        whole, _, lost = read_all(UrlSource(server.url, limits=PATIENT))
        assert lost is None
        half, _, lost = read_all(UrlSource(server.url, limits=PATIENT))
    assert lost
    assert lost.cause is Cause.ENDED
    assert len(half) == pytest.approx(len(whole) / 2, rel=0.1)


def test_garbage_in_the_middle_costs_only_itself(song: bytes) -> None:
    garbage = np.random.default_rng(2).bytes(20_000)
    with Server(sends(OK, song, garbage, song)) as server:
        got, _, lost = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert lost
    assert lost.cause is Cause.ENDED
    assert len(got) / 16000 > 7.5
    assert pitch(got[-32000:-16000], 16000) == pytest.approx(440, abs=2)


def seams(
    source: UrlSource, heard: threading.Event | None = None
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """All samples, and where some are said to be missing. `heard` is set at the first ones."""
    parts, holes, end = [np.zeros(0, np.float32)], [], 0
    try:
        for item in blocks_of(source):
            if isinstance(item, Block):
                holes += [(end, item.start)] if item.start != end else []
                parts.append(item.samples)
                end = item.end
                if heard:
                    heard.set()
    except SourceLost:
        pass
    finally:
        source.close()
    return np.concatenate(parts), holes


@pytest.mark.parametrize("codec", ["mp3", "aac", "flac"])
@pytest.mark.parametrize("other", [(22050, 1), (44100, 2)], ids=["rate", "channels"])
def test_another_sample_rate_or_channel_keeps_the_pitch_and_is_no_silent_splice(
    tmp_path: Path, codec: str, other: tuple[int, int]
) -> None:
    rate, channels = other
    data = encoded(tmp_path, tone(4, 44100, 440, 0.4), 44100, codec)
    second = np.stack([tone(4, rate, 440, 0.4)] * channels, axis=1)
    with Server(sends(OK, data, encoded(tmp_path, second, rate, codec)), sends(OK, data)) as server:
        got, holes = seams(UrlSource(server.url, rate=16000, limits=PATIENT))
        first, none = seams(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert not none
    assert len(got) / 16000 == pytest.approx(8, abs=0.3)
    for at in (16000, 100_000):
        assert pitch(got[at : at + 16000], 16000) == pytest.approx(440, abs=2)
    # MP3 has two: its second decoder first takes one frame for something else.
    assert 1 <= len(holes) <= 2
    for begin, end in holes:
        assert end == begin + 1
        # ffmpeg drops what its filters hold at a change: at most the tenth of a second of a write.
        assert begin / 16000 == pytest.approx(4.0, abs=0.16)
    np.testing.assert_array_equal(got[: holes[0][0] - 800], first[: holes[0][0] - 800])


@pytest.mark.parametrize("codec", ["aac", "ogg"])
def test_another_codec_after_mp3_is_noticed_at_once_and_decoded_by_the_next_connection(
    tmp_path: Path, song: bytes, codec: str
) -> None:
    after = encoded(tmp_path, tone(4, RATE, 1000, 0.4), RATE, codec)
    with Server(sends(OK, song, after, freeze=True), sends(OK, after)) as server:
        first, _, lost = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
        second, _, _ = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert lost
    assert lost.cause is Cause.FORMAT  # and not after the minute that a stall may take here
    assert "of another kind" in str(lost)
    assert pitch(first[16000:32000], 16000) == pytest.approx(440, abs=2)
    assert pitch(second[16000:32000], 16000) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize(
    ("codecs", "seconds"), [("ogg opus", 1), ("flac ogg", 1), ("aac mp3", 4), ("ogg mp3", 12)]
)
def test_another_codec_at_once_ends_other_connections(
    tmp_path: Path, codecs: str, seconds: int
) -> None:
    """ffmpeg itself gives up: at once, or (Ogg) after 64 kB without a page."""
    first, second = (
        encoded(tmp_path, tone(s, RATE, hertz, 0.4), RATE, codec)
        for codec, hertz, s in zip(codecs.split(), (440, 1000), (4, seconds), strict=True)
    )
    with Server(sends(OK, first, second, freeze=True)) as server:
        got, _, lost = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert lost
    assert lost.cause is Cause.FORMAT, str(lost)
    assert "of another kind" in str(lost)
    assert pitch(got[16000:32000], 16000) == pytest.approx(440, abs=2)
    assert len(got) / 16000 < 5


@pytest.mark.parametrize("codecs", ["ogg mp3", "flac aac"])
def test_another_codec_that_comes_little_by_little_costs_seconds_and_is_a_gap(
    tmp_path: Path, codecs: str
) -> None:
    """ffmpeg says nothing and waits: what shows it are bytes that come while no audio does."""
    if CONNECTIONS.received(os.getpid()) is None:
        pytest.skip("this system does not tell how much has come")
    first, second = (
        encoded(tmp_path, tone(seconds, RATE, hertz, 0.4), RATE, codec)
        for codec, hertz, seconds in zip(codecs.split(), (440, 1000), (1.5, 4), strict=True)
    )

    def changes(connection: Connection) -> None:
        connection.send(OK + first)
        while not connection.closing.wait(0.25):
            connection.send(second[:1000])  # 32 kbit/s

    queue, items = BlockQueue(), list[object]()
    with Server(changes, sends(OK, second, freeze=True)) as server:
        thread = ReconnectingReader(
            "s",
            lambda rate: UrlSource(server.url, rate=rate or 16000, limits=PATIENT),
            queue,
            backoff=BackoffPolicy(first=0.2),
        )
        thread.start()
        ports, deadline = list[PcmPort](), time.monotonic() + 60
        while len(ports) < 2:
            assert time.monotonic() < deadline, items
            items += [item for _, item in queue.get(1)]
            ports = [item.port for item in items if isinstance(item, SourceConnected)]
        thread.stop()
        thread.join()
    said = [(i.state, i.cause) for i in items if isinstance(i, SourceStatusChanged) and i.cause]
    assert said == [(SourceState.RETRYING, Cause.FORMAT)]
    (start, samples, _), again = ports[0].take(10**6) or (0, np.zeros(0), None), ports[1].take(1)
    assert again
    # Three seconds until it is noticed, and the wait; less what came at once in the beginning.
    assert 1.5 < (again[0] - start - len(samples)) / 16000 < 30


def test_rare_ogg_pages_are_no_codec_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "def sound(): sys.stdout.buffer.write(bytes(3200)); sys.stdout.buffer.flush()\n"
        "print(\"[info] Input #0, ogg, from 'x':\", file=sys.stderr, flush=True)\n"
        "for pause in 0, 0.9, 1.6: time.sleep(pause); sound()"
    )
    fake_ffmpeg(monkeypatch, tmp_path, script)
    monkeypatch.setattr(network, "LOOK_SECONDS", 0.5)
    came = itertools.count(0, MIN_BYTES)
    monkeypatch.setattr(CONNECTIONS, "received", lambda process: next(came))
    got, _, lost = read_all(UrlSource("http://127.0.0.1:1/", rate=8000, limits=PATIENT))
    assert len(got) == 3 * 800
    assert lost
    assert lost.cause is Cause.ENDED


def test_malformed_recordings_give_audio_or_a_cause(decoder_cases: Path) -> None:
    """Files of the Essentia collection, each as an endless stream that ends."""
    got: dict[str, Cause | int] = {}
    for path in sorted(decoder_cases.iterdir()):
        if path.suffix == ".md":
            continue
        with Server(sends(OK, path.read_bytes())) as server:
            samples, _, lost = read_all(UrlSource(server.url, limits=PATIENT))
        assert np.isfinite(samples).all()
        assert len(samples) or lost, path.name
        got[path.name] = lost.cause if lost and not len(samples) else len(samples)
    silent = {name for name, result in got.items() if isinstance(result, Cause)}
    assert silent == {"empty_empty.aiff", "empty_empty.ogg", "empty_empty.wav", "unsupported.sd2"}
    assert {got[name] for name in silent} == {Cause.FORMAT}


# Titles


def test_titles_come_where_they_change(song: bytes) -> None:
    titles = {
        0: b"StreamTitle='First';",
        4: "StreamTitle='Käse - D'Artagnan; ‘x’';StreamUrl='http://x';".encode(),
        6: b"StreamTitle='';",
        8: b"StreamTitle='caf\xe9 \x07';",
    }
    with Server(icy(song, titles, freeze=False)) as server:
        got, heard, _ = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert len(got) > 3 * 16000
    words = [title for _, title in heard]
    assert words[0] == "First"
    assert "Käse - D'Artagnan; ‘x’" in words[1]
    assert [at for at, _ in heard] == sorted(at for at, _ in heard)
    assert all(word.isprintable() for word in words)


@pytest.mark.parametrize("interval", [500, 2000, 8000, 16_000])
def test_the_title_that_plays_already_is_delivered(song: bytes, interval: int) -> None:
    """However much of the stream ffmpeg reads before it begins."""
    data = song * (1 + 40_000 // len(song))
    titles = {0: b"StreamTitle='First - a: b';"}
    with Server(icy(data, titles, interval, freeze=False)) as server:
        _, heard, _ = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert [title for _, title in heard] == ["First - a: b"]


@pytest.mark.parametrize("codec", ["ogg", "opus", "flac"])
def test_titles_of_ogg_streams_one_after_the_other(tmp_path: Path, codec: str) -> None:
    songs = [{"title": "First", "artist": "Käse"}, {"title": "a = b: c"}, {"title": "a = b: c"}, {}]
    songs += [{"title": "Last", "artist": "Käse"}]
    data = [encoded(tmp_path, tone(2, 48000, 440, 0.4), 48000, codec, **song) for song in songs]
    told = threading.Event()

    def answer(connection: Connection) -> None:
        connection.send(OK + data[0])
        told.wait(60)  # a station sends no faster than people hear
        connection.send(b"".join(data[1:]))

    with Server(answer) as server:
        _, heard, _ = read_all(UrlSource(server.url, rate=16000, limits=PATIENT), told.set)
    assert [title for _, title in heard] == ["Käse - First", "a = b: c", "Käse - Last"]
    assert heard[0][0] <= 32000  # within its song


@pytest.mark.parametrize(
    "block",
    [b"", b"StreamTitle=", b"StreamTitle='x", b"'" * 4000, b"\xff" * 4080, b"\n\r\n[error] oh"],
)
def test_metadata_out_of_order_harms_nothing(song: bytes, block: bytes) -> None:
    with Server(icy(song, {1: block, 3: block}, freeze=False)) as server:
        got, _, lost = read_all(UrlSource(server.url, rate=16000, limits=PATIENT))
    assert len(got) > 3 * 16000
    assert lost
    assert lost.cause is Cause.ENDED


# The parts of a playlist


def hls(folder: Path, *names: str) -> None:
    """A playlist of parts of 6 s."""
    parts = "".join(f"#EXTINF:6.0,\n{name}\n" for name in names)
    text = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n{parts}#EXT-X-ENDLIST\n"
    (folder / "list.m3u8").write_text(text)


def test_a_missing_segment_is_no_silent_splice(tmp_path: Path) -> None:
    for name in ("1.aac", "3.aac"):
        (tmp_path / name).write_bytes(encoded(tmp_path, tone(6, RATE, 440, 0.4), RATE, "aac"))
    hls(tmp_path, "1.aac", "2.aac", "3.aac")
    heard = threading.Event()

    def files(connection: Connection) -> None:
        path = tmp_path / connection.last_request.split()[1].decode().lstrip("/")
        if not path.exists():
            heard.wait(30)
            connection.send(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        data = path.read_bytes()
        connection.send(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)

    with Server(files) as server:
        url = server.url.replace("/a", "/list.m3u8")
        got, holes = seams(UrlSource(url, rate=16000, limits=PATIENT), heard)
    assert 11 < len(got) / 16000 < 13
    assert [end - begin for begin, end in holes] == [1]


def test_old_messages_explain_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "def sound(): sys.stdout.buffer.write(bytes(3200)); sys.stdout.buffer.flush()\n"
        "print('[error] HTTP error 404 Not Found', file=sys.stderr, flush=True)\n"
        "for _ in range(5): time.sleep(0.2); sound()"
    )
    fake_ffmpeg(monkeypatch, tmp_path, script)
    for seconds, cause in ((60, Cause.NOT_FOUND), (0.3, Cause.ENDED)):
        monkeypatch.setattr(ffmpeg, "KEEP_SECONDS", seconds)
        lost = read_all(UrlSource("http://127.0.0.1:1/", rate=8000, limits=PATIENT))[2]
        assert lost
        assert lost.cause is cause


# The process


def fake_ffmpeg(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{script}")
    path.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "ffmpeg_path", lambda: str(path))


def test_a_decoder_that_eats_memory_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "x = []\nwhile True: time.sleep(0.01); x.append(bytearray(2**24))"
    fake_ffmpeg(monkeypatch, tmp_path, script)
    limits = ConnectionLimits(connect=60, stall=60, memory=300)
    assert (lost := read_all(UrlSource("http://127.0.0.1:1/", limits=limits))[2])
    assert lost.cause is Cause.MEMORY


def test_a_real_decoder_without_memory_has_cause_memory(
    song: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each build fails in its own way: the one that is the same everywhere.
    monkeypatch.setattr(ffmpeg, "ffmpeg_path", imageio_ffmpeg.get_ffmpeg_exe)
    confined = threading.Event()

    def answer(connection: Connection) -> None:
        confined.wait(30)
        connection.send(OK + song)

    with Server(answer) as server:
        limits = ConnectionLimits(connect=60, stall=60, memory=20)
        source = UrlSource(server.url, limits=limits)
        confined.set()
        assert (lost := read_all(source)[2])
    assert lost.cause is Cause.MEMORY, str(lost)


def test_a_pause_long_after_a_decoder_error_is_just_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 8.0  # so that the log and the audio are in order even on a busy machine
    monkeypatch.setattr(ffmpeg, "UNDECODABLE_SECONDS", seconds)
    monkeypatch.setattr(network, "LOOK_SECONDS", seconds / 2)
    script = (
        "out, spoilt = sys.stdout.buffer, '[mp3float @ 0x1] [error] Header missing\\n'\n"
        "def sound(): out.write(bytes(3200)); out.flush()\n"
        "def spoil(): sys.stderr.write(spoilt); sys.stderr.flush()\n"
        f"sound(); spoil(); time.sleep({0.75 * seconds}); sound()\n"
        f"time.sleep({1.05 * seconds}); sound(); spoil(); time.sleep(999)\n"
    )
    fake_ffmpeg(monkeypatch, tmp_path, script)
    got, _, lost = read_all(UrlSource("http://127.0.0.1:1/", rate=8000, limits=PATIENT))
    assert len(got) == 2400
    assert lost
    assert lost.cause is Cause.FORMAT


@pytest.mark.parametrize(
    ("script", "memory", "cause", "said"),
    [
        ("os.kill(os.getpid(), 9)", 1024, Cause.OTHER, "somebody killed ffmpeg"),
        ("os.kill(os.getpid(), 15)", 1024, Cause.OTHER, "somebody ended ffmpeg"),
        ("os.kill(os.getpid(), 11)", 1024, Cause.OTHER, "crashed .SIGSEGV"),
        ("os.kill(os.getpid(), 11)", 0, Cause.OTHER, "crashed .SIGSEGV"),
        ("os.kill(os.getpid(), 11)", 100, Cause.MEMORY, "too little memory.*decoder_mb is 100"),
        (
            "sys.stderr.write('std::bad_alloc\\n'); sys.stderr.flush(); os.abort()",
            1024, Cause.MEMORY, "no memory left.*decoder_mb is 1024",
        ),
    ],
)  # fmt: skip
def test_a_signal_has_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    script: str, memory: int, cause: Cause, said: str,
) -> None:  # fmt: skip
    fake_ffmpeg(monkeypatch, tmp_path, f"import os\n{script}")
    limits = ConnectionLimits(connect=60, stall=60, memory=memory)
    lost = read_all(UrlSource("http://127.0.0.1:1/", limits=limits))[2]
    assert lost
    assert lost.cause is cause
    with pytest.raises(SourceLost, match=said):
        raise lost


def test_the_kernel_that_ends_it_for_want_of_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ffmpeg(monkeypatch, tmp_path, "import os\nos.kill(os.getpid(), 9)")
    kills = iter([3, 4])
    monkeypatch.setattr(network, "oom_kills", lambda: next(kills))
    assert (lost := read_all(UrlSource("http://127.0.0.1:1/", limits=PATIENT))[2])
    assert lost.cause is Cause.MEMORY
    assert ffmpeg.oom_kills() >= 0


def test_the_limit_of_memory_leaves_room_for_real_audio(song: bytes) -> None:
    with Server(sends(OK, song)) as server:
        got, _, _ = read_all(
            UrlSource(server.url, limits=ConnectionLimits(60, 60, memory=ConnectionLimits().memory))
        )
    assert len(got) / network.DEFAULT_RATE > 3


def test_an_endless_log_line_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(monkeypatch, tmp_path, "sys.stderr.write('x' * 10**7); sys.exit(3)")
    source = UrlSource("http://127.0.0.1:1/", limits=PATIENT)
    assert (lost := read_all(source)[2])
    assert len(str(lost)) < 1000
    assert sum(map(len, source._log.lines)) < 100_000


def test_close_ends_it_from_another_thread(song: bytes) -> None:
    with Server(sends(OK, song, freeze=True)) as server:
        source = UrlSource(server.url, limits=PATIENT)
        blocks: Iterator[Block | SourceTitle] = blocks_of(source)
        next(blocks)
        threading.Timer(0.05, source.close).start()
        begun = time.monotonic()
        for _ in blocks:
            pass
        assert time.monotonic() - begun < 30
    assert source._process._process.poll() is not None


def test_a_source_that_is_never_read_leaves_nothing() -> None:
    source = UrlSource("http://127.0.0.1:1/", limits=PATIENT)
    source.close()
    source.close()
    assert source._process._process.poll() is not None
    pipe = source._process._process.stdout
    assert pipe is not None
    assert pipe.closed


def test_bytes_come_in_any_pieces_and_samples_stay_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import struct\nout = sys.stdout.buffer\n"
        "data = struct.pack('<5000f', *range(5000)) + b'xy'\n"
        "for i in range(0, len(data), 777): out.write(data[i:i + 777]); out.flush()\n"
        "time.sleep(0.3); out.write(b'zz' + struct.pack('<f', 1)); out.flush()\n"
    )
    fake_ffmpeg(monkeypatch, tmp_path, script)
    got, _, lost = read_all(UrlSource("http://127.0.0.1:1/", rate=8000, limits=PATIENT))
    np.testing.assert_array_equal(got[:5000], np.arange(5000, dtype=np.float32))
    assert (len(got), got[-1]) == (5002, 1.0)
    assert lost
    assert lost.cause is Cause.ENDED
