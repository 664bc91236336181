"""Where audio comes from: files, standard input, the sound card."""

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Protocol

import numpy as np

from streamtag.audio.block import Block, mono

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceTitle:
    """What the next block of a source belongs to: a song, or a file of a folder."""

    title: str


class AudioSource(Protocol):
    """One source of audio; iterate over it once.

    Iteration raises SourceError where the source fails. `close` may be called from any thread,
    more than once, and ends an iteration that is under way.
    """

    rate: int
    """Hz, of every block."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    live: bool
    """Audio comes at its own pace, so a slow consumer loses some; else it waits to be read."""

    def __iter__(self) -> Iterator[Block | SourceTitle]: ...

    def close(self) -> None: ...


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
    """Raw samples from a pipe, such as standard input.

    It takes what comes and waits for as long as nothing comes; whoever writes faster than the
    engine works is held up by the pipe, so nothing is lost here.

    Args:
        format: of the samples.
        rate: Hz.
        channels: interleaved.
        name: of the stream; for messages.
        pipe: where from; None for standard input.
    """

    live = False
    duration: float | None = None

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
        size, start, rest = self._format.dtype.itemsize * self._channels, 0, b""
        while data := self._read(size * max(1, self.rate // 10)):
            data = rest + data
            whole = len(data) - len(data) % size
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
            if select.select([self._fd], [], [], 0.2)[0]:
                return os.read(self._fd, n)
        return b""
