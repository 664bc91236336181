"""Audio files through an ffmpeg process: whatever it can decode, at the file's own rate.

The process is an edge: it can hang, fail or be killed, and nothing but its own stream notices.
"""

import logging
import re
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from streamtag.audio.block import Block, mono
from streamtag.errors import SourceError

log = logging.getLogger(__name__)

BLOCK_SECONDS = 1.0
"""Length of a block from a file that is read as fast as possible."""
PACED_BLOCK_SECONDS = 0.1
"""Length of a block from a file that is played like a live stream."""
_DURATION = re.compile(r"\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+)")
_FAULT = re.compile(r"(?:\[[^]]*\] )*?\[(?:error|fatal)\] (.*)")


@cache
def ffmpeg_path() -> str:
    """An ffmpeg to run: the one on the PATH, else the one that imageio-ffmpeg brings.

    Raises:
        SourceError: there is none.
    """
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise SourceError(
            f"ffmpeg: expected on the PATH or from the package imageio-ffmpeg, got {error}; "
            "install ffmpeg"
        ) from None


class FileDecoder:
    """One run of ffmpeg over one file.

    Args:
        path: the file.
        stall: seconds without a byte after which the process is given up.
        rate: Hz, wanted; None for the file's own.

    Raises:
        SourceError: the file cannot be read, or has no audio.
    """

    def __init__(self, path: Path, stall: float = 30.0, rate: int | None = None) -> None:
        self.path, self._stall = path, stall
        self.duration: float | None = None
        """Seconds, as the file says; None where it does not."""
        self._faults: deque[str] = deque(maxlen=50)
        self._n_faults, self._estimated, self._closed = 0, False, False
        self._process = subprocess.Popen(
            _command(path, rate),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us; we end ffmpeg ourselves
        )
        self._introduced = threading.Event()  # ffmpeg has said how long the file is, or nothing
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self.channels, self.rate = self._read_header()
            self._ahead = self._read_some(4 * self.channels)
            if len(self._ahead) < 4 * self.channels:
                raise self._failure("it decodes to 0 samples")
            self._introduced.wait(self._stall)  # said before the first sample, perhaps heard later
        except BaseException:
            self.release()
            raise

    def read(self, n: int) -> np.ndarray:
        """The next `n` samples, (n,) float32; fewer, or none, at the end.

        Raises:
            SourceError: ffmpeg failed or hangs, or what it gave is not all of the file.
        """
        data = self._ahead + self._read_some(4 * self.channels * n - len(self._ahead))
        self._ahead = b""
        whole = len(data) - len(data) % (4 * self.channels)
        return mono(np.frombuffer(data[:whole], "<f4").reshape(-1, self.channels))

    def check(self, n: int) -> None:
        """Compares the `n` samples that came with what the file promised.

        Raises:
            SourceError: ffmpeg failed, or left out what it could not decode: what followed came
                too early, so no position after it can be trusted.
        """
        status = self._process.wait()
        self._listener.join()
        if self._closed:
            return
        if status:
            raise self._failure(f"ffmpeg ended with status {status}")
        got, promised = n / self.rate, None if self._estimated else self.duration
        short = promised is not None and got < promised - 0.1
        if self._n_faults and short:
            raise self._failure(f"only {got:.2f} of {promised:.2f} s could be decoded")
        if self._n_faults:
            log.warning("%s: damaged in %d places (%s)", self.path, self._n_faults, self._words())
        elif promised is not None and got < promised - 1.0:
            log.warning("%s: promises %.2f s, ends after %.2f s", self.path, promised, got)

    def close(self) -> None:
        """Kills ffmpeg; a `read` that is waiting in another thread comes back."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        self._listener.join()

    def release(self) -> None:
        """Closes the pipe; when nobody reads any more."""
        self.close()
        if self._process.stdout:
            self._process.stdout.close()

    def _read_header(self) -> tuple[int, int]:
        """Channels and rate, from the WAV header."""
        channels = rate = 0
        if self._read_some(12)[:4] == b"RIFF":
            while len(head := self._read_some(8)) == 8:
                size = struct.unpack("<I", head[4:])[0]
                if head[:4] == b"data":
                    return channels, rate
                body = self._read_some(size + size % 2)
                if head[:4] == b"fmt ":
                    channels, rate = struct.unpack("<HI", body[2:8])
        raise self._failure("it cannot be decoded")

    def _read_some(self, n: int) -> bytes:
        """`n` bytes; fewer only at the end of the stream."""
        pipe = self._process.stdout
        assert pipe is not None
        parts: list[bytes] = []
        while n > 0:
            if not select.select([pipe], [], [], self._stall)[0]:
                raise self._failure(f"ffmpeg gave nothing for {self._stall:g} s")
            if not (part := pipe.read(n)):
                break
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def _listen(self) -> None:
        """Keeps what matters of ffmpeg's words; runs in a thread until it ends."""
        assert self._process.stderr is not None
        with self._process.stderr as words:
            for line in iter(words.readline, b""):
                text = line.decode(errors="replace").rstrip()
                if "Estimating duration" in text:
                    self._estimated = True
                elif match := _DURATION.match(text):
                    hours, minutes, seconds = match.groups()
                    self.duration = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
                elif match := _FAULT.match(text):
                    self._n_faults += 1
                    self._faults.append(match[1])
                if "Duration:" in text:
                    self._introduced.set()
        self._introduced.set()

    def _words(self) -> str:
        """What ffmpeg said last, without its repeated good-byes."""
        telling = [f for f in self._faults if not f.startswith("Error opening input file")]
        return (telling or list(self._faults) or ["it said nothing"])[-1]

    def _failure(self, problem: str) -> SourceError:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        if any("matches no streams" in fault for fault in self._faults):
            return SourceError(f"{self.path}: expected audio, got a file without an audio stream")
        words = f" (ffmpeg: {self._words()})" if self._faults else ""
        return SourceError(f"{self.path}: expected audio, but {problem}{words}")


def _command(path: Path, rate: int | None) -> list[str]:
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info", "-threads", "1"]
    # `file:` keeps a name with a colon or a leading dash from being taken for something else, and
    # the white list keeps a play list from fetching anything.
    source = ["-protocol_whitelist", "file,pipe,data,crypto", "-i", f"file:{path}"]
    convert = ["-map", "0:a:0", "-vn", "-c:a", "pcm_f32le", *(["-ar", str(rate)] if rate else [])]
    return [ffmpeg_path(), *quiet, *source, *convert, "-bitexact", "-f", "wav", "pipe:1"]


class FileSource:
    """Any file that ffmpeg can decode.

    Args:
        path: the file.
        name: of the stream; for messages.
        pace: deliver blocks when they would be heard, like a live stream; else at once.
        loop: begin again at the end, for ever; positions go on.
        stall: seconds without a byte from ffmpeg after which it is given up.
        rate: Hz, wanted; None for the file's own.

    Raises:
        SourceError: the file cannot be read, or has no audio.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str = "",
        pace: bool = False,
        loop: bool = False,
        stall: float = 30.0,
        rate: int | None = None,
    ) -> None:
        self.path, self.name = Path(path), name or Path(path).name
        self.live, self._loop, self._stall = pace, loop, stall
        if not self.path.exists() or self.path.is_dir():
            got = "a folder" if self.path.is_dir() else "nothing there"
            raise SourceError(f"{self.path}: expected an audio file, got {got}")
        self._stopped, self._reading = threading.Event(), False
        self._decoder = FileDecoder(self.path, stall, rate)
        self.rate, self.duration = self._decoder.rate, self._decoder.duration
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block]:
        self._reading = True
        begun, start = time.monotonic(), 0
        try:
            while True:
                for samples in self._once():
                    block = Block(samples, start, self.rate)
                    start = block.end
                    if self.live:
                        self._stopped.wait(begun + start / self.rate - time.monotonic())
                    if self._stopped.is_set():
                        return
                    yield block
                if not self._loop or self._stopped.is_set():
                    return
                self._again()
        finally:
            self._stopped.set()
            self._decoder.release()

    def close(self) -> None:
        """Ends the iteration, also from another thread, and ffmpeg."""
        self._stopped.set()
        if self._reading:
            self._decoder.close()
        else:
            self._decoder.release()

    def _once(self) -> Iterator[np.ndarray]:
        """The samples of one run through the file."""
        n = max(1, round(self.rate * (PACED_BLOCK_SECONDS if self.live else BLOCK_SECONDS)))
        total = 0
        while len(samples := self._decoder.read(n)):
            total += len(samples)
            yield samples
        self._decoder.check(total)

    def _again(self) -> None:
        """A fresh decoder for the next run."""
        self._decoder.release()
        fresh = FileDecoder(self.path, self._stall, self.rate)
        if fresh.rate != self.rate:
            fresh.release()
            raise SourceError(
                f"{self.path}: expected {self.rate} Hz as before, got {fresh.rate} Hz; "
                "the file was replaced while it was played in a loop"
            )
        self._decoder = fresh
        if self._stopped.is_set():
            fresh.close()
