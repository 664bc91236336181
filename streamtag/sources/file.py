"""Audio files through an ffmpeg process: whatever it can decode, at the rate of the file."""

import itertools
import logging
import os
import re
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from streamtag.audio.block import Block
from streamtag.errors import SourceError
from streamtag.sources.child_process import ChildProcess
from streamtag.sources.confinement import confine, decoder_environment
from streamtag.sources.ffmpeg import ffmpeg_path

log = logging.getLogger(__name__)

BLOCK_SECONDS = 1.0
"""Length of a block from a file that is read as fast as possible."""
PACED_BLOCK_SECONDS = 0.1
"""Length of a block from a file that is played like a live stream."""
_CHUNK = 16384
"""Samples that pass through the end of ffmpeg together; its threads wake each other per chunk."""
_CHANNELS = 64
"""The mean is that of so many channels at most; ffmpeg knows no layout with more."""
_NEXT_CPU = itertools.count(os.getpid())
"""Decoders take the CPUs in turn; those of several processes do not all begin with the same."""
_DURATION = re.compile(r"\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+)")
_ERROR = re.compile(r"(?:\[[^]]*\] )*?\[(?:error|fatal)\] (.*)")


class FileDecoder:
    """One run of ffmpeg over one file, mixed to one channel. For the arguments see `FileSource`.

    Raises:
        SourceError: the file cannot be read, or has no audio.
    """

    def __init__(
        self, path: Path, stall: float = 30.0, rate: int | None = None, *, live: bool = False
    ) -> None:
        self.path, self._stall = path, stall
        self.duration: float | None = None
        """Seconds, as the file says; None where it does not."""
        self._errors: deque[str] = deque(maxlen=50)
        self._n_errors, self._estimated = 0, False
        self._header_logged = threading.Event()  # ffmpeg has logged the duration, or has ended
        self.process = ChildProcess(
            _command(path, rate), env=decoder_environment(), on_line=self._add_line
        )
        confine(self.process.pid)
        if not live:
            _prefer_throughput(self.process.pid)
        try:
            self.rate = self._read_header()
            self._ahead = self._read_bytes(4)
            if len(self._ahead) < 4:
                raise self._failure("it decodes to 0 samples")
            self._header_logged.wait(stall)  # the log may come later than the first samples
        except BaseException:
            self.process.close()
            raise

    def read(self, n: int) -> np.ndarray:
        """The next `n` samples, (n,) float32; fewer, or none, at the end.

        Raises:
            SourceError: ffmpeg failed or hangs.
        """
        data = self._ahead + self._read_bytes(4 * n - len(self._ahead))
        self._ahead = b""
        return np.frombuffer(data, "<f4", len(data) // 4)

    def check(self, n: int) -> None:
        """Compares the `n` samples that came with what the file promised.

        Raises:
            SourceError: ffmpeg failed, or left out what it could not decode: what followed came
                too early, so no position after it can be trusted.
        """
        status = self.process.wait()
        if self.process.closed:
            return
        if status:
            raise self._failure(f"ffmpeg ended with status {status}")
        got, promised = n / self.rate, None if self._estimated else self.duration
        short = promised is not None and got < promised - 0.1
        if self._n_errors and short:
            raise self._failure(f"only {got:.2f} of {promised:.2f} s could be decoded")
        if self._n_errors:
            log.warning("%s: damaged in %d places (%s)", self.path, self._n_errors, self._last())
        elif promised is not None and got < promised - 1.0:
            log.warning("%s: promises %.2f s, ends after %.2f s", self.path, promised, got)

    def _read_header(self) -> int:
        """The rate, from the WAV header."""
        rate = 0
        if self._read_bytes(12)[:4] == b"RIFF":
            while len(head := self._read_bytes(8)) == 8:
                size = struct.unpack("<I", head[4:])[0]
                if head[:4] == b"data":
                    return rate
                body = self._read_bytes(size + size % 2)
                if head[:4] == b"fmt ":
                    rate = struct.unpack("<I", body[4:8])[0]
        raise self._failure("it cannot be decoded")

    def _read_bytes(self, n: int) -> bytes:
        """`n` bytes; fewer only at the end of the stream."""
        parts: list[bytes] = []
        while n > 0 and (part := self.process.read(n, self._stall)) != b"":
            if part is None:
                raise self._failure(f"ffmpeg gave nothing for {self._stall:g} s")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def _add_line(self, line: str | None) -> None:
        """Keeps what matters in a line of the log of ffmpeg; None is the end of the log."""
        if line is None or "Duration:" in line:
            self._parse_duration(line or "")
            self._header_logged.set()
        elif "Estimating duration" in line:
            self._estimated = True
        elif match := _ERROR.match(line):
            self._n_errors += 1
            self._errors.append(match[1])

    def _parse_duration(self, line: str) -> None:
        if match := _DURATION.match(line):
            hours, minutes, seconds = match.groups()
            self.duration = int(hours) * 3600 + int(minutes) * 60 + float(seconds)

    def _last(self) -> str:
        """The last error that ffmpeg logged before its final words."""
        telling = [text for text in self._errors if not text.startswith("Error opening input file")]
        return (telling or list(self._errors) or ["it said nothing"])[-1]

    def _failure(self, problem: str) -> SourceError:
        self.process.close()
        if any("matches no streams" in text for text in self._errors):
            return SourceError(f"{self.path}: expected audio, got a file without an audio stream")
        words = f" (ffmpeg: {self._last()})" if self._errors else ""
        return SourceError(f"{self.path}: expected audio, but {problem}{words}")


def _prefer_throughput(pid: int) -> None:
    """Lets the threads of ffmpeg take turns on one CPU, each for as long as it has work.

    They hand on frames of 26 ms. By default each one wakes the next on another CPU, and the waking
    takes as long as the decoding.
    """
    cpus = sorted(os.sched_getaffinity(0))
    with suppress(OSError):  # it may have ended, and a sandbox may forbid it
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setaffinity(pid, {cpus[next(_NEXT_CPU) % len(cpus)]})


def _command(path: Path, rate: int | None) -> list[str]:
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info", "-threads", "1"]
    # `file:` keeps a name with a colon or a leading dash from being read as something else, and
    # the whitelist keeps a playlist from fetching anything.
    source = ["-protocol_whitelist", "file,pipe,data,crypto", "-i", f"file:{path}"]
    # `<` makes the gains of the channels that there are add up to 1.
    mean = "pan=mono|c0<" + "+".join(f"c{i}" for i in range(_CHANNELS))
    filters = f"aformat=sample_fmts=flt|fltp|dbl,{mean},asetnsamples={_CHUNK}:p=0"
    convert = ["-map", "0:a:0", "-vn", "-af", filters, "-c:a", "pcm_f32le"]
    convert += ["-ar", str(rate)] if rate else []
    return [ffmpeg_path(), *quiet, *source, *convert, "-bitexact", "-f", "wav", "pipe:1"]


class FileSource:
    """Any file that ffmpeg can decode.

    Args:
        path: the file.
        pace: deliver blocks when they would be heard, like a live stream; else at once.
        loop: begin again at the end, for ever; positions go on.
        stall: seconds without a byte from ffmpeg after which it is killed.
        rate: Hz, wanted; None for that of the file.
        block_seconds: length of the blocks; None for the usual one.

    Raises:
        SourceError: the file cannot be read, or has no audio.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        pace: bool = False,
        loop: bool = False,
        stall: float = 30.0,
        rate: int | None = None,
        block_seconds: float | None = None,
    ) -> None:
        self.path, self.live = Path(path), pace
        self._loop, self._stall = loop, stall
        self._block_seconds = block_seconds or (PACED_BLOCK_SECONDS if pace else BLOCK_SECONDS)
        if not self.path.exists() or self.path.is_dir():
            got = "a folder" if self.path.is_dir() else "nothing there"
            raise SourceError(f"{self.path}: expected an audio file, got {got}")
        self._stopped = threading.Event()
        self._decoder = FileDecoder(self.path, stall, rate, live=pace)
        self.rate, self.duration = self._decoder.rate, self._decoder.duration
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block]:
        begun, start = time.monotonic(), 0
        try:
            while True:
                for samples in self._read_once():
                    block = Block(samples, start, self.rate)
                    start = block.end
                    if self.live:
                        self._stopped.wait(begun + start / self.rate - time.monotonic())
                    if self._stopped.is_set():
                        return
                    yield block
                if not self._loop or self._stopped.is_set():
                    return
                self._restart()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the iteration, also from another thread, and ffmpeg."""
        self._stopped.set()
        self._decoder.process.close()

    def _read_once(self) -> Iterator[np.ndarray]:
        """The samples of one run through the file."""
        n = max(1, round(self.rate * self._block_seconds))
        total = 0
        while len(samples := self._decoder.read(n)):
            total += len(samples)
            yield samples
        self._decoder.check(total)

    def _restart(self) -> None:
        """Starts a new decoder for the next run."""
        self._decoder.process.close()
        decoder = FileDecoder(self.path, self._stall, self.rate, live=self.live)
        if decoder.rate != self.rate:
            decoder.process.close()
            raise SourceError(
                f"{self.path}: expected {self.rate} Hz as before, got {decoder.rate} Hz; "
                "the file was replaced while it was played in a loop"
            )
        self._decoder = decoder
        if self._stopped.is_set():
            decoder.process.close()
