"""A sound device in a process of its own, which can be killed.

PortAudio lists the devices once, when it is loaded, and may hang for ever in a device whose server
or cable is gone. A new process finds what was plugged in since, a killed one hangs no more, and no
other device notices anything.

What goes through the pipe are records: `_HEAD`, then samples (float32, little end first), or words.
"""

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import BinaryIO

import numpy as np

from streamtag.audio.block import Block, mono, sides
from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.soundcard import DeviceSettings, PortAudioSource

_HEAD = struct.Struct("<qi")
"""Position of the first sample, and how many bytes follow."""
_OPENED, _FAILED = -1, -2
"""Instead of a position: the words are about the device, or about why there is no more."""
OPEN_SECONDS = 20.0
"""Until a device must be open, or have said why not."""
GRACE_SECONDS = 5.0
"""After its own time limit, until the process counts as stuck."""
LOOK_SECONDS = 0.2
"""How soon `close` is noticed."""


class SoundCardSource:
    """A device of the sound card.

    Args:
        wanted: which, and how.
        name: of the stream; for messages.

    Raises:
        SourceError: PortAudio is missing; `Lost` where the device cannot be opened.
    """

    live = True
    duration: float | None = None

    def __init__(self, wanted: DeviceSettings, *, name: str = "") -> None:
        self._wanted, self.name = wanted, name or str(wanted)
        self._stopped, self._reading = threading.Event(), False
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "streamtag.sources.soundcard_process",
                json.dumps(asdict(wanted)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us; we end it ourselves
        )
        try:
            opened = json.loads(self._record(OPEN_SECONDS)[1])
        except BaseException:
            self._release()
            raise
        self.rate: int = opened["rate"]
        self._channels: int = opened["channels"]
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block]:
        self._reading = True
        try:
            while not self._stopped.is_set():
                start, data = self._record(self._wanted.stall + GRACE_SECONDS)
                if data:
                    frames = np.frombuffer(data, "<f4").reshape(-1, self._channels)
                    yield Block(mono(frames), start, self.rate, sides(frames))
        finally:
            self._release()

    def close(self) -> None:
        """Ends the iteration, also from another thread, and the process."""
        self._stopped.set()
        self._process.kill()
        self._process.wait()
        if not self._reading:
            self._release()

    def _record(self, seconds: float) -> tuple[int, bytes]:
        """The next one; nothing where it was closed.

        Raises:
            SourceLost: the device, or its process, failed.
            SourceError: another try would not help.
        """
        deadline = time.monotonic() + seconds
        start, size = _HEAD.unpack(self._read(_HEAD.size, deadline) or _HEAD.pack(0, 0))
        data = self._read(size, deadline)
        if start == _FAILED and data:
            cause, said = json.loads(data)
            raise SourceLost(Cause(cause), said) if cause else SourceError(said)
        return start, data

    def _read(self, n: int, deadline: float) -> bytes:
        """So many bytes; none where it was closed."""
        pipe, data = self._process.stdout, b""
        assert pipe is not None
        while len(data) < n and not self._stopped.is_set():
            if time.monotonic() > deadline:
                raise SourceLost(Cause.STALLED, f"{self._wanted}: it is stuck")
            if not select.select([pipe], [], [], LOOK_SECONDS)[0]:
                continue
            if not (part := os.read(pipe.fileno(), n - len(data))):
                if self._stopped.is_set():
                    break
                status = self._process.wait()
                raise SourceLost(Cause.DEVICE, f"{self._wanted}: its process ended with {status}")
            data += part
        return b"" if self._stopped.is_set() else data

    def _release(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def record(wanted: str, pipe: BinaryIO) -> None:
    """What the process does: records a device into a pipe until that is closed.

    Args:
        wanted: a `Recording` as JSON.
        pipe: where to.
    """

    def put(start: int, data: bytes) -> None:
        pipe.write(_HEAD.pack(start, len(data)) + data)
        pipe.flush()

    with contextlib.suppress(BrokenPipeError):
        try:
            source = PortAudioSource(DeviceSettings(**json.loads(wanted)))
            opened = {"rate": source.rate, "channels": 2 if source.watched else 1}
            put(_OPENED, json.dumps(opened).encode())
            for block in source:
                frames = block.samples if block.sides is None else block.sides
                put(block.start, frames.astype("<f4").tobytes())
        except SourceLost as error:
            put(_FAILED, json.dumps([error.cause.value, str(error)]).encode())
        except SourceError as error:
            put(_FAILED, json.dumps(["", str(error)]).encode())


if __name__ == "__main__":
    record(sys.argv[1], sys.stdout.buffer)
    os._exit(0)  # PortAudio may hang in what it would tidy up
