"""Raw samples over the network: a TCP connection or ZeroMQ messages. No decoder is needed.

Both sides must agree on format, rate and channels. What comes faster than it plays is held up by
TCP, or lost in ZeroMQ's queue for slow subscribers: neither grows.
"""

import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from urllib.parse import urlsplit

import zmq

from streamtag.audio.block import Block, mono, sides
from streamtag.engine.events import Cause
from streamtag.sources.loss_causes import SourceLost, of_error
from streamtag.sources.source import PcmFormat
from streamtag.sources.url import BLOCK_SECONDS, ConnectionLimits

LOOK_SECONDS = 0.2
"""How soon `close` is noticed."""
HIGH_WATER = 100
"""ZeroMQ messages that may wait here."""


class _PcmSource(ABC):
    """Interleaved samples, however they come: time-outs, the end from another thread.

    Args:
        url: where from.
        format: of the samples.
        rate: Hz.
        channels: interleaved.
        name: of the stream; for messages.
        limits: times.
        watch: bring both channels, too, where there are two.

    Raises:
        SourceLost: it cannot be reached, or is no address.
    """

    live = True
    duration: float | None = None

    def __init__(
        self,
        url: str,
        format: PcmFormat,
        rate: int,
        channels: int = 1,
        *,
        name: str = "",
        limits: ConnectionLimits | None = None,
        watch: bool = False,
    ) -> None:
        self.url, self.name, self.rate, self._watch = url, name or url, rate, watch
        self._format, self._channels, self._limits = format, channels, limits or ConnectionLimits()
        self._frame = format.dtype.itemsize * channels
        self._closed = threading.Event()
        self.epoch_ns = time.time_ns()
        self._connect()

    @abstractmethod
    def _connect(self) -> None: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Block]: ...

    def close(self) -> None:
        """Ends the iteration, also from another thread."""
        self._closed.set()

    def _block(self, data: bytes, start: int) -> Block:
        frames = self._format.frames(data, self._channels)
        return Block(mono(frames), start, self.rate, sides(frames) if self._watch else None)

    def _silent(self, since: float, *, first: bool) -> None:
        """Raises SourceLost where nothing has come for too long."""
        seconds = self._limits.connect if first else self._limits.stall
        if time.monotonic() - since > seconds:
            cause = Cause.TIMEOUT if first else Cause.STALLED
            raise SourceLost(cause, f"{self.url}: expected samples, got none for {seconds:g} s")


class TcpSource(_PcmSource):
    """Interleaved samples from a TCP server, `tcp://HOST:PORT`."""

    def _connect(self) -> None:
        place = urlsplit(self.url)
        try:
            address = (place.hostname or "", place.port or 0)
            self._socket = socket.create_connection(address, self._limits.connect)
        except OSError as error:
            raise SourceLost(
                of_error(error), f"{self.url}: expected a TCP server, got {error}"
            ) from None

    def __iter__(self) -> Iterator[Block]:
        start, rest, size = 0, b"", max(1, round(self.rate * BLOCK_SECONDS)) * self._frame
        with self._socket:
            while not self._closed.is_set():
                # Whole blocks, so that a thousand small packets are not a thousand small blocks.
                rest += self._receive(size - len(rest), first=not (start or rest))
                if len(rest) < size and not self._closed.is_set():
                    continue
                whole = len(rest) - len(rest) % self._frame
                data, rest = rest[:whole], rest[whole:]
                if data:
                    yield (block := self._block(data, start))
                    start = block.end

    def _receive(self, n: int, *, first: bool) -> bytes:
        since = time.monotonic()
        try:
            while not self._closed.is_set():
                if select.select([self._socket], [], [], LOOK_SECONDS)[0]:
                    if data := self._socket.recv(n):
                        return data
                    raise SourceLost(Cause.ENDED, f"{self.url}: the other side ended it")
                self._silent(since, first=first)
        except OSError as error:
            raise SourceLost(of_error(error), f"{self.url}: {error}") from None
        return b""


class ZmqSource(_PcmSource):
    """Interleaved samples as ZeroMQ messages of whole frames, from a PUB socket.

    Its address is `zmq+tcp://HOST:PORT` or `zmq+ipc://PATH`. The last part of a message are the
    samples; parts before it, such as a topic, are ignored.
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
            what = f"{self.url}: expected a ZeroMQ address, got {error}"
            raise SourceLost(Cause.OTHER, what) from None

    def __iter__(self) -> Iterator[Block]:
        start, heard = 0, time.monotonic()
        try:
            while not self._closed.is_set():
                if not self._socket.poll(round(LOOK_SECONDS * 1000)):
                    self._silent(heard, first=not start)
                    continue
                data, heard = self._socket.recv_multipart()[-1], time.monotonic()
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
