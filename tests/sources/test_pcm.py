"""Raw samples from a pipe, over TCP and ZeroMQ: the right samples, or the right cause."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.faulty_server import Server, sends
from support.ports import blocks_of
from support.sounds import tone

from streamtag.audio.block import Block
from streamtag.engine.events import Cause
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.pcm import PcmFormat, PcmSource, TcpSource, ZmqSource
from streamtag.sources.source import AudioSource, ConnectionLimits

PATIENT = ConnectionLimits(connect=60, stall=60)
F32, S16 = PcmFormat.F32LE, PcmFormat.S16LE


def collect(source: AudioSource) -> np.ndarray:
    """All samples; positions must follow on each other."""
    parts: list[np.ndarray] = []
    for block in blocks_of(source):
        assert block.start == sum(map(len, parts))
        assert (block.rate, block.samples.dtype) == (source.rate, np.float32)
        parts.append(block.samples)
    source.close()
    return np.concatenate(parts)


def read_all(source: TcpSource | ZmqSource) -> tuple[np.ndarray, SourceLost | None]:
    parts = [np.zeros(0, np.float32)]
    try:
        for block in blocks_of(source):
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
    with Server(sends(*parts), http=False) as server:
        source = TcpSource(tcp(server), format, 8000, channels, limits=PATIENT)
        got, lost = read_all(source)
    data = b"".join(parts)
    frame = format.dtype.itemsize * channels
    expected = format.mono(data[: len(data) // frame * frame], channels)
    np.testing.assert_array_equal(got, expected)
    assert lost
    assert lost.cause is Cause.ENDED


def test_tcp_without_a_server_or_without_data() -> None:
    with Server(sends(bytes(32000), freeze=True), http=False) as server:
        url = tcp(server)
        got, lost = read_all(TcpSource(url, S16, 8000, limits=ConnectionLimits(60, 0.3)))
        assert len(got) == 16000
        assert lost
        assert lost.cause is Cause.STALLED
    with Server(sends(freeze=True), http=False) as server:
        assert (
            lost := read_all(TcpSource(tcp(server), S16, 8000, limits=ConnectionLimits(0.3, 60)))[1]
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
        for block in blocks_of(source):
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
        assert (lost := read_all(source)[1])
        assert lost.cause is Cause.FORMAT
        assert "whole frames of 4 bytes" in str(lost)
        assert (lost := read_all(ZmqSource(url, S16, 8000, limits=ConnectionLimits(0.1, 60)))[1])
        assert lost.cause is Cause.TIMEOUT
    with pytest.raises(SourceLost, match="expected a ZeroMQ address"):
        ZmqSource("zmq+tcp://", S16, 8000)


# Pipes


@pytest.fixture
def pipe() -> Iterator[tuple[Any, Any]]:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as sink:
        yield source, sink


@pytest.mark.parametrize("cut", [1, 3, 7, 4096])
@pytest.mark.parametrize("format", PcmFormat)
def test_pcm_in_any_pieces(pipe: tuple[Any, Any], format: PcmFormat, cut: int) -> None:
    frames = np.round(np.stack([tone(0.05, 8000), tone(0.05, 8000, 99)], axis=1) * 32768) / 32768
    scale = 32768 if format is PcmFormat.S16LE else 1
    data = (frames * scale).astype(format.dtype).tobytes() + b"\0"  # and half a sample

    def write() -> None:
        with pipe[1] as sink:
            for i in range(0, len(data), cut):
                sink.write(data[i : i + cut])

    writer = threading.Thread(target=write)
    writer.start()
    got = collect(PcmSource(format, 8000, 2, pipe=pipe[0]))
    writer.join()
    np.testing.assert_allclose(got, frames.mean(axis=1), atol=1e-7)


def test_close_ends_a_pipe_that_is_silent(pipe: tuple[Any, Any]) -> None:
    source = PcmSource(PcmFormat.S16LE, 8000, 1, pipe=pipe[0])
    threading.Timer(0.05, source.close).start()
    assert list(source) == []
