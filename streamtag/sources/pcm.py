"""Raw samples from standard input, a TCP connection or ZeroMQ messages. No decoder is needed.

Both sides must agree on format, rate and channels. A sender that is faster than the audio plays is
held up by the pipe or by TCP, or loses messages in ZeroMQ's queue for slow subscribers. Nothing
grows.
"""

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np
import zmq

from streamtag import _core
from streamtag.audio.block import Block, mono, sides
from streamtag.engine.events import Cause
from streamtag.sources.child_process import can_read
from streamtag.sources.loss_causes import SourceLost, cause_of_error
from streamtag.sources.source import PORT_SECONDS, AudioArrived, ConnectionLimits, StallTimer

log = logging.getLogger(__name__)

BLOCK_SECONDS = 0.1
LOOK_SECONDS = 0.2
"""How soon `close` is noticed."""
TICK_SECONDS = 1.0
"""How often somebody looks at a connection that the C++ reader reads."""
HIGH_WATER = 100
"""ZeroMQ messages that may wait in its queue."""


class PcmFormat(StrEnum):
    """How raw samples are written; full scale is ±1 for floats, ±32768 for integers."""

    S16LE = "s16le"
    F32LE = "f32le"

    @property
    def dtype(self) -> np.dtype[np.int16] | np.dtype[np.float32]:
        """As NumPy calls it."""
        return np.dtype("<i2") if self is PcmFormat.S16LE else np.dtype("<f4")

    def mono(self, data: bytes, channels: int) -> np.ndarray:
        """Whole frames of interleaved samples as their mean, (n,) float32."""
        return mono(self.frames(data, channels))

    def frames(self, data: bytes, channels: int) -> np.ndarray:
        """Whole frames of interleaved samples, (n, channels) float32."""
        samples = np.frombuffer(data, self.dtype).astype(np.float32)
        if self is PcmFormat.S16LE:
            samples /= 32768
        return samples.reshape(-1, channels)


class PcmSource:
    """Raw samples from a pipe, else standard input, at `rate` Hz, the channels interleaved.

    It reads what comes and waits for as long as nothing comes. The pipe holds up a writer that is
    faster than the engine, so nothing is lost.
    """

    live = False

    def __init__(
        self,
        format: PcmFormat,
        rate: int,
        channels: int,
        *,
        name: str = "stdin",
        pipe: BinaryIO | None = None,
    ) -> None:
        self.name, self.rate = name, rate
        self._format, self._channels = format, channels
        self._fd = (pipe or sys.stdin.buffer).fileno()
        self._closed = threading.Event()
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block]:
        frame, start, rest = self._format.dtype.itemsize * self._channels, 0, b""
        while data := self._read(frame * max(1, round(self.rate * BLOCK_SECONDS))):
            data = rest + data
            whole = len(data) - len(data) % frame
            data, rest = data[:whole], data[whole:]
            if data:
                block = Block(self._format.mono(data, self._channels), start, self.rate)
                start = block.end
                yield block
        if rest:
            log.warning("%s: %d bytes after the last whole frame ignored", self.name, len(rest))

    def close(self) -> None:
        """Ends the iteration, also from another thread."""
        self._closed.set()

    def _read(self, n: int) -> bytes:
        """Up to `n` bytes, as soon as there are some; none at the end or when closed."""
        while not self._closed.is_set():
            if can_read(self._fd, LOOK_SECONDS):
                return os.read(self._fd, n)
        return b""


class _NetworkPcm:
    """Raw samples over the network, at `rate` Hz, the channels interleaved.

    With `watch` both channels are delivered as well, where there are two.

    Raises:
        SourceLost: it cannot be reached, or is no address.
    """

    live = True

    def __init__(
        self,
        url: str,
        format: PcmFormat,
        rate: int,
        channels: int = 1,
        *,
        limits: ConnectionLimits | None = None,
        watch: bool = False,
    ) -> None:
        self.url, self.rate, self._watch = url, rate, watch
        self._format, self._channels, self._limits = format, channels, limits or ConnectionLimits()
        self._frame = format.dtype.itemsize * channels
        self._closed = threading.Event()
        self._stall = StallTimer(url, self._limits)
        self.epoch_ns = time.time_ns()
        self._connect()

    def _connect(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Ends the iteration, also from another thread."""
        self._closed.set()

    def _block(self, data: bytes, start: int) -> Block:
        frames = self._format.frames(data, self._channels)
        return Block(mono(frames), start, self.rate, sides(frames) if self._watch else None)


class TcpSource(_NetworkPcm):
    """Interleaved samples from a TCP server, `tcp://HOST:PORT`."""

    def _connect(self) -> None:
        parts = urlsplit(self.url)
        try:
            address = (parts.hostname or "", parts.port or 0)
            self._socket = socket.create_connection(address, self._limits.connect)
        except OSError as error:
            got = f"{self.url}: expected a TCP server, got {error}"
            raise SourceLost(cause_of_error(error), got) from None

        self._port = _core.open_port(
            self._socket.fileno(),
            format=self._format.value,
            rate=self.rate,
            channels=self._channels,
            sides=self._watch,
            mixed=False,
            seam=0.0,
            seconds=PORT_SECONDS,
        )

    def __iter__(self) -> Iterator[AudioArrived]:
        samples, port = 0, self._port
        with self._socket, contextlib.closing(port):
            while not (found := port.wait(max(0.0, min(TICK_SECONDS, self._stall.left)))).closed:
                if found.samples:
                    self._stall.start(first=False, at=found.last)
                if found.samples > samples:
                    samples = found.samples
                    yield AudioArrived(port, found)
                if found.ended:
                    raise self._ended(found.error)
                self._stall.check()

    def close(self) -> None:
        """Ends the iteration, also from another thread."""
        self._port.close()

    def _ended(self, number: int) -> SourceLost:
        if not number:
            return SourceLost(Cause.ENDED, f"{self.url}: the other side ended it")
        error = OSError(number, os.strerror(number))
        return SourceLost(cause_of_error(error), f"{self.url}: {error}")


class ZmqSource(_NetworkPcm):
    """Interleaved samples as ZeroMQ messages of whole frames, from a PUB socket.

    Its address is `zmq+tcp://HOST:PORT` or `zmq+ipc://PATH`. The last part of a message holds the
    samples. Parts before it, such as a topic, are ignored.
    """

    def _connect(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.linger, self._socket.rcvhwm = 0, HIGH_WATER
        self._socket.subscribe(b"")
        try:
            self._socket.connect(self.url.removeprefix("zmq+"))
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            got = f"{self.url}: expected a ZeroMQ address, got {error}"
            raise SourceLost(Cause.OTHER, got) from None

    def __iter__(self) -> Iterator[Block]:
        start = 0
        self._stall.start(first=True)
        try:
            while not self._closed.is_set():
                if not self._socket.poll(round(LOOK_SECONDS * 1000)):
                    self._stall.check()
                    continue
                data = self._socket.recv_multipart()[-1]
                self._stall.start(first=not (start or data))
                if len(data) % self._frame:
                    raise SourceLost(
                        Cause.FORMAT,
                        f"{self.url}: expected messages of whole frames of {self._frame} bytes "
                        f"({self._channels} channels of {self._format}), got {len(data)} bytes",
                    )
                if data:
                    yield (block := self._block(data, start))
                    start = block.end
        finally:
            self._context.destroy(linger=0)
