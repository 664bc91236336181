"""Audio from a URL, through one ffmpeg process per connection that can be killed at any time.

ffmpeg fetches, decodes, mixes down and resamples, so that whatever a station changes in the middle
of its stream (codec, rate, channels) comes out as the same kind of samples. It says on standard
error why it failed and what is playing (ICY and Ogg titles).
"""

import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit

import numpy as np

from streamtag.audio.block import Block
from streamtag.engine.events import Cause
from streamtag.sources.ffmpeg_command import (
    SCHEMES,
    SECURE,
    ConnectionLimits,
    command,
    environment,
    limit_memory,
    memory_kills,
    stretches,
)
from streamtag.sources.ffmpeg_log import SPOILT_SECONDS, FfmpegLog
from streamtag.sources.loss_causes import (
    SourceLost,
    classify,
    is_known,
    of_signal,
    without_secrets,
    words,
)
from streamtag.sources.playlist import is_play_list, station
from streamtag.sources.source import SourceTitle
from streamtag.sources.tcp_traffic import TcpTraffic
from streamtag.sources.tls import PARTS, TlsSettings, complaint, is_safe, too_old

__all__ = ["SCHEMES", "ConnectionLimits", "TlsSettings", "UrlSource"]

RATE = 48_000
"""Hz, of the samples that ffmpeg is asked for where nobody says otherwise."""
BLOCK_SECONDS = 0.1
LOOK_SECONDS = SPOILT_SECONDS / 2
"""How often it is looked whether something comes, while no audio does."""
SEARCHING = ("ogg", "flac", "mp3", "aac")
"""Formats of nothing but audio in which ffmpeg looks for its next piece as long as it takes."""
SAFE_FORMATS = ("mp3", "aac", "ogg", "flac", "wav")
"""Formats that lead nowhere else, as play lists do."""
WORDS_SECONDS = 1.0
"""That ffmpeg's words may be behind its audio."""
OTHER = "what comes is of another kind now: "
LEAST_MEMORY = 256
"""MiB of address space, below which ffmpeg may crash before it can say why."""


class UrlSource:
    """One connection to a URL; it starts at once, and is over when the iteration is.

    Args:
        url: of one of `SCHEMES`; `sdp:PATH` is a file that describes an RTP session, and a play
            list (.pls, .m3u) leads to one of the stations in it.
        name: of the stream; for messages.
        rate: Hz, wanted.
        limits: what it may take.
        trust: whom to believe, over TLS.
        watch: bring both channels, too, where there are two.

    Raises:
        SourceLost: a play list cannot be had.
    """

    live = True
    duration: float | None = None

    def __init__(
        self,
        url: str,
        *,
        name: str = "",
        rate: int | None = None,
        limits: ConnectionLimits | None = None,
        trust: TlsSettings | None = None,
        watch: bool = False,
    ) -> None:
        self._limits, self._trust = limits or ConnectionLimits(), trust or TlsSettings()
        self.url, self.name, self.rate = without_secrets(url), name or url, rate or RATE
        if is_play_list(url):
            url = station(url, self._limits.connect, self._trust)
            self.url += f" ({without_secrets(url)})"
        self._place = urlsplit(url)
        self._words = FfmpegLog(deque(maxlen=50), deque(maxlen=10))
        self._closed, self._reading = threading.Event(), False
        self._kills, self._channels = memory_kills(), 3 if watch else 1
        line = command(url, self.rate, self._limits, self._trust, watch=watch)
        self._ffmpeg, secure = line[0], self._place.scheme in SECURE
        self._lax = secure and self._trust.verify and not is_safe(self._ffmpeg)
        self._process = subprocess.Popen(
            line,
            env=environment(self._trust),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us; we end ffmpeg ourselves
        )
        self._arrivals, self._pause = TcpTraffic(self._process.pid), 0.0  # the longest one so far
        limit_memory(self._process.pid, self._limits.memory)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block | SourceTitle]:
        """The audio; ends by itself only where the audio has an end that was reached.

        Raises:
            SourceLost: it failed, stalled, or the other side ended what has no end.
        """
        self._reading, start, ahead, left_out = True, 0, b"", 0
        frame = 4 * self._channels
        size = frame * max(1, round(self.rate * BLOCK_SECONDS))
        try:
            while data := self._fill(ahead, size, first=not start):
                if not start:
                    self._before_audio()
                whole = len(data) // frame * frame
                frames, ahead = np.frombuffer(data[:whole], "<f4"), data[whole:]
                self._words.settle()
                while self._words.titles:
                    yield SourceTitle(self._words.titles.popleft())
                if self._words.left_out != left_out:
                    start, left_out = start + 1 if start else 0, self._words.left_out
                for number, part in enumerate(stretches(frames.reshape(-1, self._channels))):
                    start += 1 if number and start else 0  # a seam: never a silent splice
                    if len(part):
                        yield (block := self._block(part, start))
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

    def _block(self, frames: np.ndarray, start: int) -> Block:
        samples = np.ascontiguousarray(frames[:, -1])
        both = self._channels > 1 and self._words.layout == "stereo"
        return Block(samples, start, self.rate, frames[:, :2] if both else None)

    def _fill(self, ahead: bytes, size: int, *, first: bool) -> bytes:
        """A block's bytes, less where no more are near; none at the end."""
        pipe, data = self._await(first=first), ahead
        while len(data) < size and select.select([pipe], [], [], BLOCK_SECONDS)[0]:
            if not (part := os.read(pipe.fileno(), size - len(data))):
                return data if len(data) >= 4 * self._channels else b""
            data += part
            self._words.heard()
        return data

    def _await(self, *, first: bool) -> IO[bytes]:
        """The pipe, as soon as something has come.

        Raises:
            SourceLost: nothing came for too long, or nothing that can be decoded.
        """
        pipe = self._process.stdout
        assert pipe is not None
        seconds = self._limits.connect if first else self._limits.stall
        begun = time.monotonic()
        self._arrivals.forget()
        while (left := seconds - (waited := time.monotonic() - begun)) > 0:
            if select.select([pipe], [], [], min(left, LOOK_SECONDS))[0]:
                self._pause = max(self._pause, 0.0 if first else time.monotonic() - begun)
                return pipe
            if not first and self._is_other(waited):
                raise SourceLost(Cause.FORMAT, f"{self.url}: {OTHER}{words(self._words.lines)}")
        cause = Cause.TIMEOUT if first else Cause.STALLED
        raise SourceLost(cause, f"{self.url}: expected audio, got none for {seconds:g} s")

    def _is_other(self, waited: float) -> bool:
        """Whether what comes cannot be decoded: ffmpeg says so, or there is much without audio.

        Args:
            waited: seconds without audio, up to a `LOOK_SECONDS` ago.
        """
        if self._words.spoilt is not None and waited > LOOK_SECONDS:
            return True
        if self._words.format not in SEARCHING:
            return False
        # Twice in a row: what has just come may be on its way through ffmpeg.
        return self._arrivals.look() >= 2 and waited > 2 * self._pause

    def _check(self, seconds: float) -> None:
        """What the end of ffmpeg means, after so many seconds of audio."""
        status = self._process.wait()
        self._listener.join()
        if self._closed.is_set():
            return
        lines, duration = list(self._words.lines), self._words.duration
        if status == 0 and duration is not None and 0 < seconds >= duration - 1:
            return
        if status < 0:
            raise self._killed(-status, lines, heard=seconds > 0)
        cause, said = classify(lines, heard=seconds > 0), words(lines)
        host = self._place.hostname
        if cause is Cause.OTHER and host and not is_known(host):
            cause = Cause.DNS
        elif cause is Cause.FORMAT and seconds:
            said = f"{OTHER}{said}"
        elif status == 0 and seconds:
            said = "the other side ended it"
        elif cause is Cause.TLS:
            said = self._mistrust(lines) or said
        raise SourceLost(cause, f"{self.url}: {said}")

    def _mistrust(self, lines: list[str]) -> str:
        """Whose certificate is not to be trusted, and why; empty where nothing was found."""
        if any("segment" in line for line in lines):
            whose = "the certificate of a part of its play list is not to be trusted"
            return whose if self._trust.verify else f"{whose}: {PARTS}"
        host, scheme = self._place.hostname, self._place.scheme
        if host is None or scheme not in SECURE or not self._trust.verify:
            return ""
        return complaint(host, self._place.port or SECURE[scheme], self._trust)

    def _before_audio(self) -> None:
        """What must be known of the first audio, and was said before it came.

        Raises:
            SourceLost: whoever was to be checked was not, for this ffmpeg is too old for it.
        """
        deadline, said, watch = time.monotonic() + WORDS_SECONDS, self._words, self._channels > 1
        while (self._lax and not said.format) or (watch and not said.layout):
            if self._closed.wait(0.001) or time.monotonic() > deadline:
                break  # words come by another way than the audio
        safe = self._place.scheme != "rtsps" and said.format in SAFE_FORMATS
        if self._lax and not safe:
            raise SourceLost(Cause.TLS, f"{self.url}: {too_old(self._ffmpeg)}")

    def _killed(self, number: int, lines: list[str], *, heard: bool) -> SourceLost:
        """ffmpeg was ended by a signal, not by us."""
        mebibytes = self._limits.memory
        cramped = 0 < mebibytes < LEAST_MEMORY and not heard
        starved = memory_kills() > self._kills
        cause, said = of_signal(number, lines, starved=starved, cramped=cramped)
        hint = f" (decoder_mb is {mebibytes})" if cause is Cause.MEMORY and mebibytes else ""
        return SourceLost(cause, f"{self.url}: {said}{hint}")

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
