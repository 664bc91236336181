"""Writes the audio of clips from the rings of an engine's streams to the spool.

It works in a thread of the engine's process, which is the daemon or a worker. The requests are in
the spool, so that no process must know where a stream is, and the engine never waits for a disk.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from streamtag._core import AudioRing
from streamtag.monitoring.clip_files import HEAD, ClipRequest, Spool

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How often the spool is read."""
LAST_SECONDS = 0.3
"""How long after the end of the engine a request for a clip of its last audio may come."""
KEPT_SECONDS = 30.0
"""How long the audio of a stream is kept after its end."""
LIVES = 2
"""Number of rings of a stream that are kept: the present one, and the one before its last end."""
_CHUNK_SECONDS = 60


@dataclass(slots=True)
class _Job:
    """A clip that is being written."""

    ring: AudioRing
    file: BinaryIO
    next: int
    """Index of the next sample to write."""


class ClipRecorder:
    """Keeps the last seconds of each stream, and writes the requested audio.

    Args:
        folder: of the clips.
        seconds: length of audio that is kept.
        rate: Hz.
        is_open: whether a stream is open now. It is called from any thread.
    """

    def __init__(
        self, folder: Path, seconds: float, rate: int, is_open: Callable[[str], bool]
    ) -> None:
        self._spool, self._rate, self._is_open = Spool(folder), rate, is_open
        self._capacity = round(seconds * rate)
        self._rings: dict[str, list[AudioRing]] = {}  # by stream, the oldest first
        self._ended: dict[str, float] = {}  # when a stream was seen to be closed
        self._jobs: dict[str, _Job] = {}
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._thread.start()

    def open(self, stream: str, rate: int, start: int) -> AudioRing:
        """A new ring for a stream of `rate` Hz that begins with sample `start`."""
        ring = AudioRing(self._rate, self._capacity, start * self._rate // rate)
        with self._lock:
            self._rings[stream] = [*self._rings.get(stream, [])[1 - LIVES :], ring]
        return ring

    def stop(self, seconds: float) -> None:
        """Writes the present audio of all clips, and waits at most `seconds` for that."""
        self._stopped.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            self._look()
        self._look()
        time.sleep(LAST_SECONDS)
        self._look()

    def _look(self) -> None:
        """Writes the audio that has come for each request."""
        self._forget_old()
        for name in self._spool.names():
            if (request := self._spool.read(name)) is None:
                continue
            try:
                self._write(request)
            except OSError as error:
                self._give_up(name, error)

    def _forget_old(self) -> None:
        """Removes rings some time after their streams have ended or begun anew."""
        now, used = time.monotonic(), [job.ring for job in self._jobs.values()]
        with self._lock:
            for stream, rings in tuple(self._rings.items()):
                if self._is_open(stream) and rings[-1].end > rings[-1].begin:
                    self._ended.pop(stream, None)
                since = self._ended.setdefault(stream, now) if not self._is_open(stream) else now
                is_old = now - since > KEPT_SECONDS
                new_life = rings[-1].end - rings[-1].begin > KEPT_SECONDS * self._rate
                left = [] if is_old else rings[-1:] if new_life else rings
                self._rings[stream] = [r for r in rings if r in left or r in used]
                if not self._rings[stream]:
                    del self._rings[stream]
                    self._ended.pop(stream, None)

    def _write(self, request: ClipRequest) -> None:
        job = self._jobs.get(request.name) or self._begin(request)
        if job is None:
            return
        closed = self._is_closed(request.stream, job.ring)  # before the last audio is read
        end = round(request.last * self._rate)
        while job.next < end:
            most = min(end - job.next, _CHUNK_SECONDS * self._rate)
            first, samples = job.ring.read(job.next, most)
            if first >= end or not samples:
                break
            missing = first - job.next
            job.file.write(bytes(2 * missing) + samples[: 2 * (end - first)])
            job.next = min(end, first + len(samples) // 2)
        job.file.flush()
        if job.next >= end or closed or job.ring.begin > end:
            self._finish(request.name, job)

    def _begin(self, request: ClipRequest) -> _Job | None:
        """Begins a job; None if the clip was begun already, or no stream here has its audio."""
        done = any(
            self._spool.file(request.name, suffix).exists() for suffix in ("part", "pcm", "bad")
        )
        ring = None if done else self._ring(request)
        if ring is None:
            return None
        first = max(ring.begin, round(request.begin * self._rate))
        file = self._spool.file(request.name, "part").open("xb")
        file.write(HEAD.pack(first, self._rate))
        job = self._jobs[request.name] = _Job(ring, file, first)
        return job

    def _ring(self, request: ClipRequest) -> AudioRing | None:
        """The newest ring of the stream that reaches the begin of the clip."""
        with self._lock:
            rings = self._rings.get(request.stream, [])
        reaching = (r for r in reversed(rings) if r.end > request.begin * self._rate)
        return next(reaching, None)

    def _is_closed(self, stream: str, ring: AudioRing) -> bool:
        """Whether a ring gets no more audio."""
        with self._lock:
            newest = self._rings[stream][-1]
        return ring is not newest or not self._is_open(stream) or self._stopped.is_set()

    def _finish(self, name: str, job: _Job) -> None:
        with job.file:
            job.file.flush()
            os.fsync(job.file.fileno())
        del self._jobs[name]
        self._spool.file(name, "part").rename(self._spool.file(name, "pcm"))

    def _give_up(self, name: str, error: OSError) -> None:
        """Marks the audio of a clip as failed, which the `ClipMaker` will find."""
        log.error("clip %s: %s", name, error)
        if (job := self._jobs.pop(name, None)) is not None:
            with suppress(OSError):
                job.file.close()
        part = self._spool.file(name, "part")
        with suppress(OSError):
            part.rename(part.with_suffix(".bad")) if part.exists() else None
