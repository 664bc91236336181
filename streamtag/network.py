"""Audio from a URL, through one ffmpeg process per connection that can be killed at any time.

ffmpeg fetches, decodes, mixes down and resamples, so that whatever a station changes in the middle
of its stream (codec, rate, channels) comes out as the same kind of samples. It says on standard
error why it failed and what is playing (ICY and Ogg titles).
"""

import contextlib
import os
import re
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from streamtag.audio import Block
from streamtag.causes import Lost, classify, is_known, without_secrets, words
from streamtag.decoder import ffmpeg_path
from streamtag.events import Cause
from streamtag.sources import Titled

RATE = 48_000
"""Hz, of the samples that ffmpeg is asked for where nobody says otherwise."""
BLOCK_SECONDS = 0.1
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtp", "udp", "sdp")
_WEB = "http,https,httpproxy,tls,tcp,crypto,data"
_PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtsps,tls,rtp,rtcp,udp,tcp",
    "rtp": "rtp,rtcp,udp",
    "udp": "udp",
    "sdp": "file,rtp,rtcp,udp",
}
"""What ffmpeg may open: a play list from outside must not make it read files."""
_TITLE = re.compile(r"Metadata update for (?:StreamTitle|title): (.*)", re.IGNORECASE)
_DURATION = re.compile(r"  Duration: (\d{1,6}):(\d\d):(\d\d\.\d{1,9})", re.ASCII)
_LINE = re.compile(r"(?:\[[^]]* @ [^]]*\] )*\[(\w+)\] ?(.*)")
MAX_TITLE = 500
"""Characters of a title that are kept."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take; times in seconds."""

    connect: float = 10.0
    """Until the first audio."""
    stall: float = 10.0
    """Without audio, afterwards."""
    memory: int = 1024
    """Address space of the decoder, in MiB; 0 for no limit."""


@dataclass(slots=True)
class Words:
    """What a running ffmpeg has said so far."""

    lines: deque[str]
    """Connections, warnings and errors, the newest ones."""
    titles: deque[str]
    """Not handed out yet."""
    duration: float | None = None
    """Seconds, where the audio has an end."""

    def take(self, line: str) -> None:
        """Keeps what matters of one line."""
        match = _LINE.match(line)
        level, text = (match[1], match[2]) if match else ("", line)
        if found := _TITLE.search(text):
            title = "".join(c if c.isprintable() else " " for c in found[1]).strip()
            self.titles.append(title[:MAX_TITLE])
        elif found := _DURATION.match(text):  # not in a station's own words
            hours, minutes, seconds = found.groups()
            self.duration = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        elif level in ("", "warning", "error", "fatal") or "Starting connection" in text:
            self.lines.append(text[:MAX_TITLE])


class NetworkSource:
    """One connection to a URL; it starts at once, and is over when the iteration is.

    Args:
        url: of one of `SCHEMES`; `sdp:PATH` is a file that describes an RTP session.
        name: of the stream; for messages.
        rate: Hz, wanted.
        limits: what it may take.
    """

    live = True
    duration: float | None = None

    def __init__(
        self, url: str, *, name: str = "", rate: int | None = None, limits: Limits | None = None
    ) -> None:
        self.url, self.name, self.rate = without_secrets(url), name or url, rate or RATE
        self._host, self._limits = urlsplit(url).hostname, limits or Limits()
        self._words = Words(deque(maxlen=50), deque(maxlen=10))
        self._closed, self._reading = threading.Event(), False
        self._process = subprocess.Popen(
            _command(url, self.rate, self._limits),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us; we end ffmpeg ourselves
        )
        _limit_memory(self._process.pid, self._limits.memory)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block | Titled]:
        """The audio; ends by itself only where the audio has an end that was reached.

        Raises:
            Lost: it failed, stalled, or the other side ended what has no end.
        """
        self._reading, start, size = True, 0, 4 * max(1, round(self.rate * BLOCK_SECONDS))
        ahead = b""
        try:
            while data := self._fill(ahead, size, first=not start):
                whole = len(data) // 4 * 4
                samples, ahead = np.frombuffer(data[:whole], "<f4"), data[whole:]
                while self._words.titles:
                    yield Titled(self._words.titles.popleft())
                if whole:
                    yield (block := Block(samples, start, self.rate))
                    start = block.end
            self._check(start / self.rate)
        finally:
            self._release()

    def close(self) -> None:
        """Ends the iteration, also from another thread, and ffmpeg."""
        self._closed.set()
        if self._reading:
            self._process.kill()
        else:
            self._release()

    def _fill(self, ahead: bytes, size: int, *, first: bool) -> bytes:
        """A block's bytes, less where no more are near; none at the end."""
        pipe, limits = self._process.stdout, self._limits
        assert pipe is not None
        seconds, data = limits.connect if first else limits.stall, ahead
        if not select.select([pipe], [], [], seconds)[0]:
            cause = Cause.TIMEOUT if first else Cause.STALLED
            raise Lost(cause, f"{self.url}: expected audio, got none for {seconds:g} s")
        while len(data) < size and select.select([pipe], [], [], BLOCK_SECONDS)[0]:
            if not (part := os.read(pipe.fileno(), size - len(data))):
                return data if len(data) >= 4 else b""
            data += part
        return data

    def _check(self, seconds: float) -> None:
        """What the end of ffmpeg means, after so many seconds of audio."""
        status = self._process.wait()
        self._listener.join()
        if self._closed.is_set():
            return
        lines, duration = list(self._words.lines), self._words.duration
        if status == 0 and duration is not None and 0 < seconds >= duration - 1:
            return
        cause = classify(lines, heard=seconds > 0)
        if status < 0:  # not by us: the kernel, or itself, mostly for want of memory
            said = f"ffmpeg was ended by signal {-status}; decoder_mb bounds its memory"
            raise Lost(Cause.MEMORY, f"{self.url}: {said}")
        if cause is Cause.OTHER and self._host and not is_known(self._host):
            cause = Cause.DNS
        said = "the other side ended it" if status == 0 and seconds else words(lines)
        raise Lost(cause, f"{self.url}: {said}")

    def _listen(self) -> None:
        """Takes ffmpeg's words, in a thread, until it ends."""
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            rest = b""
            while data := os.read(pipe.fileno(), 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._words.take(line.decode(errors="replace"))
                rest = rest[-8192:]  # a line without an end must not grow

    def _release(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _command(url: str, rate: int, limits: Limits) -> list[str]:
    scheme = urlsplit(url).scheme
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose", "-threads", "1"]
    source = ["-protocol_whitelist", _PROTOCOLS[scheme], "-fflags", "+discardcorrupt"]
    # Should we be gone, ffmpeg ends itself; else our own times are shorter.
    patience = str(round(2e6 * max(limits.connect, limits.stall) + 1e6))
    if scheme in ("http", "https"):
        source += ["-rw_timeout", patience, "-icy", "1", "-user_agent", "streamtag"]
        source += ["-probesize", "131072", "-analyzeduration", "3000000"]
    elif scheme in ("rtsp", "rtsps"):
        source += ["-timeout", patience, "-rtsp_flags", "prefer_tcp"]
    elif scheme == "udp":
        source += ["-overrun_nonfatal", "1", "-analyzeduration", "1000000"]
    place = "file:" + url.removeprefix("sdp:") if scheme == "sdp" else url
    mix = ["-map", "0:a:0", "-vn", "-ac", "1", "-ar", str(rate), "-rematrix_maxval", "1"]
    sink = ["-c:a", "pcm_f32le", "-flush_packets", "1", "-f", "f32le", "pipe:1"]
    return [ffmpeg_path(), *quiet, *source, "-i", place, *mix, *sink]


def _limit_memory(pid: int, mebibytes: int) -> None:
    """Bounds the address space of a process, where the system can."""
    import resource

    if mebibytes and hasattr(resource, "prlimit"):
        size = mebibytes * 2**20
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
