"""Raw samples over TCP and ZeroMQ, and folders: the right samples, or the right complaint."""

import threading
import wave
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.faults import Server, says
from support.sounds import tone, write_wav

from streamtag.audio.block import Block
from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources.file import FileDecoder
from streamtag.sources.folder import FolderSource
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.pcm import PcmFormat, TcpSource, ZmqSource
from streamtag.sources.source import ConnectionLimits, SourceTitle

PATIENT = ConnectionLimits(connect=60, stall=60)
F32, S16 = PcmFormat.F32LE, PcmFormat.S16LE


def hear(source: TcpSource | ZmqSource) -> tuple[np.ndarray, SourceLost | None]:
    parts = [np.zeros(0, np.float32)]
    try:
        for block in source:
            assert block.start == sum(map(len, parts))
            parts.append(block.samples)
    except SourceLost as error:
        return np.concatenate(parts), error
    finally:
        source.close()
    return np.concatenate(parts), None


def tcp(server: Server) -> str:
    return f"tcp://127.0.0.1:{server.port}"


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.binary(max_size=3000), max_size=8), st.integers(1, 3), st.sampled_from([F32, S16])
)
def test_any_bytes_in_any_pieces_are_samples(
    parts: list[bytes], channels: int, format: PcmFormat
) -> None:
    with Server(says(*parts), http=False) as server:
        source = TcpSource(tcp(server), format, 8000, channels, limits=PATIENT)
        got, lost = hear(source)
    data = b"".join(parts)
    frame = format.dtype.itemsize * channels
    # A block of a tenth of a second at a time; what is shorter at the end is lost with the source.
    whole = len(data) // (800 * frame) * 800 * frame
    expected = format.mono(data[:whole], channels)
    np.testing.assert_array_equal(got, expected)
    assert lost
    assert lost.cause is Cause.ENDED


def test_tcp_that_nobody_serves_or_that_falls_silent() -> None:
    with Server(says(bytes(32000), freeze=True), http=False) as server:
        url = tcp(server)
        got, lost = hear(TcpSource(url, S16, 8000, limits=ConnectionLimits(60, 0.3)))
        assert len(got) == 16000
        assert lost
        assert lost.cause is Cause.STALLED
    with Server(says(freeze=True), http=False) as server:
        assert (
            lost := hear(TcpSource(tcp(server), S16, 8000, limits=ConnectionLimits(0.3, 60)))[1]
        )
        assert lost.cause is Cause.TIMEOUT
    with pytest.raises(SourceLost, match="expected a TCP server") as refused:
        TcpSource(url, S16, 8000)
    assert refused.value.cause is Cause.REFUSED
    with pytest.raises(SourceLost) as unknown:
        TcpSource("tcp://nowhere.invalid:1", S16, 8000)
    assert unknown.value.cause is Cause.DNS


def test_zeromq_messages_are_samples_and_close_ends_it() -> None:
    samples = tone(1.0, 8000)
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        source = ZmqSource(f"zmq+tcp://127.0.0.1:{port}", F32, 8000, limits=PATIENT)
        assert publisher.poll(60_000)  # it has subscribed
        for at in range(0, 8000, 160):
            publisher.send_multipart([b"topic", samples[at : at + 160].tobytes()])
        got: list[Block] = []
        for block in source:
            got.append(block)
            if block.end == 8000:
                threading.Timer(0.01, source.close).start()
    np.testing.assert_array_equal(np.concatenate([b.samples for b in got]), samples)


def test_zeromq_messages_of_broken_frames_are_refused_and_silence_is_noticed() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        url = f"zmq+tcp://127.0.0.1:{port}"
        source = ZmqSource(url, S16, 8000, 2, limits=PATIENT)
        assert publisher.poll(60_000)
        publisher.send(b"12345")
        assert (lost := hear(source)[1])
        assert lost.cause is Cause.FORMAT
        assert "whole frames of 4 bytes" in str(lost)
        assert (lost := hear(ZmqSource(url, S16, 8000, limits=ConnectionLimits(0.1, 60)))[1])
        assert lost.cause is Cause.TIMEOUT
    with pytest.raises(SourceLost, match="expected a ZeroMQ address"):
        ZmqSource("zmq+tcp://", S16, 8000)


# Folders


def heard(source: FolderSource) -> tuple[list[str], list[tuple[int, int]], np.ndarray]:
    """Titles, positions of blocks, samples."""
    titles, spans, parts = [], [], []
    for item in source:
        if isinstance(item, SourceTitle):
            titles.append(item.title)
        else:
            spans.append((item.start, item.end))
            parts.append(item.samples)
    source.close()
    return titles, spans, np.concatenate(parts)


def test_a_folder_plays_its_files_one_after_the_other_at_one_rate(tmp_path: Path) -> None:
    write_wav(tmp_path / "b.wav", tone(0.5, 8000, 500), 8000)
    write_wav(tmp_path / "a.wav", tone(0.5, 16000, 1000), 16000)
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "inside").mkdir()
    source = FolderSource(tmp_path)
    assert (source.rate, source.live) == (16000, False)
    titles, spans, samples = heard(source)
    assert titles == ["a.wav", "b.wav"]
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert len(samples) == 16000
    assert np.argmax(np.abs(np.fft.rfft(samples[9000:15000]))) == pytest.approx(187, abs=2)


def test_a_folder_in_a_loop_goes_on_counting(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(0.5, 8000), 8000)
    source = FolderSource(tmp_path, loop=True)
    starts = []
    for item in source:
        if isinstance(item, Block):
            starts.append(item.start)
        if len(starts) == 3:
            source.close()
    assert starts == [0, 4000, 8000]


def test_a_file_that_breaks_off_leaves_a_gap_and_the_next_one_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, tone(2.5, 8000), 8000)
    real = FileDecoder.read

    def broken(self: FileDecoder, n: int) -> np.ndarray:
        if self.path.name == "a.wav" and getattr(self, "reads", 0) == 2:
            raise SourceError("a.wav: it breaks off")
        self.reads = getattr(self, "reads", 0) + 1  # type: ignore[attr-defined]
        return real(self, n)

    monkeypatch.setattr(FileDecoder, "read", broken)
    titles, spans, _ = heard(FolderSource(tmp_path))
    assert titles == ["a.wav", "b.wav"]
    audio = [(a, b) for a, b in spans if b > a]
    assert audio == [
        (0, 8000), (8000, 16000), (16001, 24001), (24001, 32001), (32001, 36001),
    ]  # fmt: skip


def test_new_files_are_picked_up_when_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtag.sources.folder.SCAN_SECONDS", 0.02)
    write_wav(tmp_path / "a.wav", tone(0.5, 8000), 8000)
    source = FolderSource(tmp_path, watch=True)
    titles: list[str] = []
    for item in source:
        if isinstance(item, SourceTitle):
            titles.append(item.title)
        elif titles == ["a.wav"]:
            write_wav(tmp_path / "new.wav", tone(0.5, 8000), 8000)
        else:
            source.close()
    assert titles == ["a.wav", "new.wav"]


def test_folders_that_cannot_be_played(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a folder, got nothing there"):
        FolderSource(tmp_path / "none")
    with pytest.raises(SourceError, match="expected audio files, got none"):
        FolderSource(tmp_path)
    with pytest.raises(SourceError, match="expected a key `rate`"):
        FolderSource(tmp_path, watch=True)
    with wave.open(str(tmp_path / "f.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
    with pytest.raises(SourceError, match="expected audio files, got none"):
        FolderSource(tmp_path)
    with pytest.raises(SourceError, match="expected a folder, got a file"):
        FolderSource(tmp_path / "f.wav")
