"""Sound cards, through sounddevice and PortAudio, each device in a process that can be killed.

PortAudio lists the devices once, when it is loaded, and may hang for ever in a device whose server
or cable is gone. A new process finds what was plugged in since. It writes records to its standard
output: `_HEAD`, then samples (little-endian float32) or JSON. What does not fit in its queue, and
what PortAudio had to drop, is a gap of known length in the sample positions.
"""

import contextlib
import json
import os
import queue
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

from streamtag.audio.block import Block, mono, sides
from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources.child_process import ChildProcess
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.source import ConnectionLimits, StallTimer

BLOCKS_PER_SECOND = 20
QUEUE_SECONDS = 10
"""Audio that may wait for the engine before some is dropped."""
OPEN_SECONDS = 20.0
"""Until a device must be open, or its process must have said why not."""
_HEAD = struct.Struct("<qi")
"""Position of the first sample, and how many bytes follow."""
_OPENED, _FAILED = -1, -2
"""Instead of a position: JSON follows that describes the device, or why it failed."""


def _sounddevice() -> Any:
    """The module sounddevice; a SourceError if it, or PortAudio, is not installed."""
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
    """It is used when no device is named."""


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
    """Part of its name, or its number; empty for the default of the system."""
    rate: int | None = None
    """Hz; None for that of the device."""
    channels: int | None = None
    """To record and mix down; None for two, or one where there is no second."""
    stall: float = 10.0
    """Seconds without audio after which the device counts as lost."""
    watch: bool = False
    """Deliver both channels as well, where there are two."""

    def __str__(self) -> str:
        return f"device {self.device or 'default'!r}"


class SoundCardSource:
    """A device of a sound card.

    Raises:
        SourceError: PortAudio is missing; `SourceLost` where the device cannot be opened.
    """

    live = True

    def __init__(self, wanted: DeviceSettings) -> None:
        self._wanted = wanted
        self._stall = StallTimer(str(wanted), ConnectionLimits(stall=OPEN_SECONDS), "; it is stuck")
        module = "streamtag.sources.soundcard"
        self._process = ChildProcess([sys.executable, "-m", module, json.dumps(asdict(wanted))])
        try:
            record = self._read_record()
        except BaseException:
            self.close()
            raise
        assert record is not None  # nobody can close it yet
        opened: dict[str, int] = json.loads(record[1])
        self.rate, self._channels = opened["rate"], opened["channels"]
        limits = ConnectionLimits(stall=wanted.stall)
        self._stall = StallTimer(str(wanted), limits, "; is it still connected?")
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block]:
        try:
            while record := self._read_record():
                start, data = record
                frames = np.frombuffer(data, "<f4").reshape(-1, self._channels)
                yield Block(mono(frames), start, self.rate, sides(frames))
        finally:
            self.close()

    def close(self) -> None:
        """Ends the iteration, also from another thread, and the process."""
        self._process.close()

    def _read_record(self) -> tuple[int, bytes] | None:
        """Position and content of the next record; None once closed."""
        self._stall.start(first=False)
        head = self._read(_HEAD.size)
        start, size = _HEAD.unpack(head) if head else (0, 0)
        data = self._read(size)
        if self._process.closed:
            return None
        if start == _FAILED:
            cause, got = json.loads(data)
            raise SourceLost(Cause(cause), got) if cause else SourceError(got)
        return start, data

    def _read(self, n: int) -> bytes:
        """`n` bytes; none once closed."""
        data = b""
        while len(data) < n:
            part = self._process.read(n - len(data), self._stall.left)
            if part is None:
                self._stall.check()
            elif part:
                data += part
            elif self._process.closed:
                return b""
            else:
                status = self._process.wait()
                raise SourceLost(Cause.DEVICE, f"{self._wanted}: its process ended with {status}")
        return data


class PortAudioRecorder:
    """Records a device, in the process of its own.

    Raises:
        SourceError: PortAudio is missing; `SourceLost` where the device cannot be opened.
    """

    def __init__(self, wanted: DeviceSettings) -> None:
        sounddevice = _sounddevice()
        self._queue: queue.Queue[tuple[int, np.ndarray]] = queue.Queue(
            QUEUE_SECONDS * BLOCKS_PER_SECOND
        )
        self._position, self._frames, self._last = 0, 0, 0.0
        device = int(wanted.device) if wanted.device.isdigit() else wanted.device or None
        try:
            found = sounddevice.query_devices(device, "input")
            self.rate = wanted.rate or round(found["default_samplerate"])
            channels = wanted.channels or min(2, found["max_input_channels"])
            self.both = wanted.watch and channels == 2
            self._stream = sounddevice.InputStream(
                device=device,
                samplerate=self.rate,
                channels=channels,
                dtype="float32",
                blocksize=max(1, self.rate // BLOCKS_PER_SECOND),
                callback=self._on_audio,
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise SourceLost(
                Cause.DEVICE,
                f"{wanted}: cannot be opened: {error}; `streamtag devices` lists what there is",
            ) from None

    def read(self) -> tuple[int, np.ndarray]:
        """Position and samples of the next block: mono, or both channels, as float32."""
        start, samples = self._queue.get()
        return start, samples if self.both else mono(samples)

    def _on_audio(self, samples: np.ndarray, frames: int, times: Any, status: Any) -> None:
        """PortAudio's callback: (frames, channels) float32 that must be copied at once."""
        now = times.inputBufferAdcTime or time.monotonic()
        if status.input_overflow and self._frames:
            # The clock says how much was dropped since the last call; it was not nothing.
            lost = round((now - self._last) * self.rate) - self._frames
            self._position += max(1, lost)
        self._last, self._frames = now, frames
        # If the queue is full, the position goes on all the same: the next block shows the gap.
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait((self._position, samples.copy()))
        self._position += frames


def record(wanted: str, pipe: BinaryIO) -> None:
    """Records a device into a pipe until that is closed: what the process of a device does.

    `wanted` is a `DeviceSettings` as JSON.
    """

    def put(start: int, data: bytes) -> None:
        pipe.write(_HEAD.pack(start, len(data)) + data)
        pipe.flush()

    with contextlib.suppress(BrokenPipeError):
        try:
            recorder = PortAudioRecorder(DeviceSettings(**json.loads(wanted)))
            opened = {"rate": recorder.rate, "channels": 2 if recorder.both else 1}
            put(_OPENED, json.dumps(opened).encode())
            while True:
                start, samples = recorder.read()
                put(start, samples.astype("<f4").tobytes())
        except SourceLost as error:
            put(_FAILED, json.dumps([error.cause.value, str(error)]).encode())
        except SourceError as error:
            put(_FAILED, json.dumps(["", str(error)]).encode())


if __name__ == "__main__":
    record(sys.argv[1], sys.stdout.buffer)
    os._exit(0)  # PortAudio may hang in its own clean-up
