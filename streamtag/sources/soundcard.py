"""The sound card, through sounddevice and PortAudio, which are loaded only when a device is wanted.

PortAudio's callback copies what it gets and returns. What does not fit in the queue, and what
PortAudio itself had to throw away, is a hole of known length in the sample positions: never two
ends put together.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamtag.audio.block import Block, mono, sides
from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources.loss_causes import SourceLost

BLOCKS_PER_SECOND = 20
QUEUE_SECONDS = 10
"""Audio that may wait for the engine before some is lost."""


def _sounddevice() -> Any:
    """The module sounddevice.

    Raises:
        SourceError: it, or PortAudio, is not installed.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise SourceError(
            f"sound card: expected the PortAudio library, got {error}; install it: "
            "`apt install libportaudio2` (Debian, Ubuntu), `dnf install portaudio` (Fedora), "
            "`brew install portaudio` (macOS)"
        ) from None
    return sounddevice


@dataclass(frozen=True, slots=True)
class Device:
    """A sound device that can record."""

    index: int
    name: str
    host: str
    """The system's interface to it, such as ALSA or Core Audio."""
    channels: int
    rate: int
    """Hz, its default."""
    default: bool
    """Taken when no device is named."""


def devices() -> list[Device]:
    """All devices that can record.

    Raises:
        SourceError: PortAudio is not installed, or fails.
    """
    sounddevice = _sounddevice()
    try:
        hosts = [host["name"] for host in sounddevice.query_hostapis()]
        default = sounddevice.default.device[0]
        return [
            Device(
                index=number,
                name=found["name"],
                host=hosts[found["hostapi"]],
                channels=found["max_input_channels"],
                rate=round(found["default_samplerate"]),
                default=number == default,
            )
            for number, found in enumerate(sounddevice.query_devices())
            if found["max_input_channels"] > 0
        ]
    except sounddevice.PortAudioError as error:
        raise SourceError(f"sound card: PortAudio cannot list the devices: {error}") from None


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What is to be recorded, and how."""

    device: str = ""
    """Part of its name, or its number; empty for the system's default."""
    rate: int | None = None
    """Hz; None for the device's own."""
    channels: int | None = None
    """To record and mix down; None for two, or one where there is no second."""
    stall: float = 10.0
    """Seconds without audio after which the device counts as lost."""
    watch: bool = False
    """Bring both channels, too, where there are two."""

    def __str__(self) -> str:
        return f"device {self.device or 'default'!r}"


class PortAudioSource:
    """A device of the sound card.

    Args:
        wanted: which, and how.

    Raises:
        SourceError: PortAudio is missing; `Lost` where the device cannot be opened.
    """

    def __init__(self, wanted: DeviceSettings) -> None:
        self._sounddevice, self._wanted = _sounddevice(), wanted
        self._stopped = threading.Event()
        self._position, self._frames, self._last = 0, 0, 0.0
        try:
            found = self._sounddevice.query_devices(_which(wanted.device), "input")
            self.rate = wanted.rate or round(found["default_samplerate"])
            size = max(1, self.rate // BLOCKS_PER_SECOND)
            self._queue: queue.Queue[tuple[int, np.ndarray]] = queue.Queue(
                QUEUE_SECONDS * BLOCKS_PER_SECOND
            )
            self._stream = self._sounddevice.InputStream(
                device=_which(wanted.device),
                samplerate=self.rate,
                channels=(channels := wanted.channels or min(2, found["max_input_channels"])),
                dtype="float32",
                blocksize=size,
                callback=self._take,
            )
            self.watched = wanted.watch and channels == 2
            self._stream.start()
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise SourceLost(
                Cause.DEVICE,
                f"{wanted}: cannot be opened: {error}; `streamtag devices` lists what there is",
            ) from None

    def __iter__(self) -> Iterator[Block]:
        heard = time.monotonic()
        while not self._stopped.is_set():
            try:
                start, samples = self._queue.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() - heard > self._wanted.stall:
                    raise SourceLost(
                        Cause.STALLED,
                        f"{self._wanted}: no audio for {self._wanted.stall:g} s; "
                        "is it still connected?",
                    ) from None
                continue
            heard = time.monotonic()
            both = sides(samples) if self.watched else None
            yield Block(mono(samples), start, self.rate, both)

    def close(self) -> None:
        """Stops recording and ends the iteration, also from another thread."""
        self._stopped.set()
        self._stream.close(ignore_errors=True)

    def _take(self, samples: np.ndarray, frames: int, times: Any, status: Any) -> None:
        """PortAudio's callback: (frames, channels) float32 that must be copied at once."""
        now = times.inputBufferAdcTime or time.monotonic()
        if status.input_overflow and self._frames:
            # The clock says how much was thrown away since the last call; it was not nothing.
            lost = round((now - self._last) * self.rate) - self._frames
            self._position += max(1, lost)
        self._last, self._frames = now, frames
        # When it is full, the position goes on all the same: the next block shows the hole.
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait((self._position, samples.copy()))
        self._position += frames


def _which(device: str) -> str | int | None:
    """A device as sounddevice wants it."""
    return int(device) if device.isdigit() else device or None
