"""Audio from a URL, through one ffmpeg process per connection that can be killed at any time.

ffmpeg fetches, decodes, mixes down and resamples. So whatever a station changes in the middle of
its stream (codec parameters, rate, channels) comes out as the same kind of samples. Its log says
why it failed and what is playing (ICY and Ogg titles).
"""

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from streamtag import _core
from streamtag.engine.events import Cause
from streamtag.sources.child_process import ChildProcess
from streamtag.sources.confinement import confine
from streamtag.sources.ffmpeg import (
    SEAM,
    TITLE_SECONDS,
    TLS_PORTS,
    UNDECODABLE_SECONDS,
    FfmpegLog,
    command,
    environment,
    oom_kills,
)
from streamtag.sources.loss_causes import (
    SourceLost,
    cause_of_signal,
    classify,
    resolves,
    telling_line,
    without_secrets,
)
from streamtag.sources.playlist import choose_station, is_playlist
from streamtag.sources.source import (
    PORT_SECONDS,
    AudioArrived,
    ConnectionLimits,
    SourceTitle,
    StallTimer,
)
from streamtag.sources.tcp_traffic import TcpTraffic
from streamtag.sources.tls import (
    UNVERIFIED_SEGMENTS,
    TlsSettings,
    certificate_problem,
    too_old,
    verifies_everything,
)

DEFAULT_RATE = 44_100
"""Hz, of the samples where no rate is given: that of most stations, which ffmpeg need not resample.
Its own filter down to the rate of a model costs more than ours, and is not flat enough."""
LOOK_SECONDS = UNDECODABLE_SECONDS / 2
"""How often the log and the TCP traffic are looked at while no audio comes."""
SEARCHING_FORMATS = ("ogg", "flac", "mp3", "aac")
"""Audio formats in which ffmpeg searches for the next packet as long as it takes."""
DIRECT_FORMATS = ("mp3", "aac", "ogg", "flac", "wav")
"""Formats that lead to no other address, as playlists do."""
LOG_SECONDS = 1.0
"""How far the log of ffmpeg may be behind its audio."""
CHANGED = "what comes is of another kind now: "
MIN_MEMORY = 256
"""MiB of address space, below which ffmpeg may crash before it can say why."""


class UrlSource:
    """One connection to a URL. It starts at once, and is over when the iteration is.

    Args:
        url: of one of `ffmpeg.SCHEMES`. `sdp:PATH` is a file that describes an RTP session, and a
            playlist (.pls, .m3u) leads to one of the stations in it.
        rate: Hz, wanted.
        limits: what it may take.
        tls: which servers to trust.
        watch: deliver both channels as well, where there are two.

    Raises:
        SourceLost: a playlist cannot be had.
    """

    live = True

    def __init__(
        self,
        url: str,
        *,
        rate: int | None = None,
        limits: ConnectionLimits | None = None,
        tls: TlsSettings | None = None,
        watch: bool = False,
    ) -> None:
        self._limits, self._tls = limits or ConnectionLimits(), tls or TlsSettings()
        self.url, self.rate = without_secrets(url), rate or DEFAULT_RATE
        if is_playlist(url):
            url = choose_station(url, self._limits.connect, self._tls)
            self.url += f" ({without_secrets(url)})"
        self._parts = urlsplit(url)
        self._log, self._watch = FfmpegLog(), watch
        self._oom_kills, self._ready = oom_kills(), threading.Event()
        line = command(url, self.rate, self._limits, self._tls, watch=watch)
        self._ffmpeg, over_tls = line[0], self._parts.scheme in TLS_PORTS
        self._unsafe = over_tls and self._tls.verify and not verifies_everything(self._ffmpeg)
        self._process = ChildProcess(line, env=environment(self._tls), on_line=self._add_line)
        self._port = _core.open_port(
            self._process.pipe,
            format="f32le",
            rate=self.rate,
            channels=3 if watch else 1,
            sides=watch,
            mixed=True,
            seam=SEAM,
            seconds=PORT_SECONDS,
        )
        self._ready.set()
        confine(self._process.pid, self._limits.memory)
        self._stall = StallTimer(self.url, self._limits)
        self._traffic, self._longest_pause = TcpTraffic(self._process.pid), 0.0
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[AudioArrived | SourceTitle]:
        """The audio; ends by itself only at the end of a recording.

        Raises:
            SourceLost: it failed, stalled, or the other side ended what has no end.
        """
        samples = skipped = 0
        try:
            while True:
                found = self._wait(samples, skipped)
                if found.samples and not samples:
                    self._check_log_before_audio()
                    yield from self._new_titles()
                if self._watch:
                    self._port.set_sides(self._log.layout == "stereo")
                if self._log.skipped != skipped:
                    self._port.skip(1 if samples else 0)
                    skipped = self._log.skipped
                if found.samples > samples:
                    samples = found.samples
                    yield AudioArrived(self._port, found)
                yield from self._new_titles()
                if found.closed:
                    return
                if found.ended:
                    break
            self._process.wait()
            yield from self._new_titles()  # of a song that came with the last audio
            self._check_end(samples / self.rate)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the iteration, also from another thread, and ffmpeg."""
        self._port.close()
        self._process.close()

    def _add_line(self, line: str | None) -> None:
        """Handles a line of the log. Titles are used at once."""
        log, skipped = self._log, self._log.skipped
        log.add(line)
        if log.titles or log.comment_at is not None or log.skipped > skipped:
            self._ready.wait()
            self._port.wake()

    def _new_titles(self) -> Iterator[SourceTitle]:
        self._log.finish_title()
        while self._log.titles:
            yield SourceTitle(self._log.titles.popleft())

    def _wait(self, samples: int, skipped: int) -> _core.Arrivals:
        """Waits for more audio, a title, or the end.

        Args:
            samples: that have come so far.
            skipped: how often segments were left out so far.

        Raises:
            SourceLost: nothing came for too long, or nothing that can be decoded.
        """
        while True:
            waited = self._stall.waited
            look = TITLE_SECONDS if self._log.comment_at is not None else LOOK_SECONDS
            found = self._port.wait(max(0.0, min(self._stall.left, look)))
            self._log.finish_title()
            if found.samples:
                self._stall.start(first=False, at=found.last)
            if found.samples > samples:
                self._log.audio_came(found.last)
                self._traffic.reset()
                self._longest_pause = found.pause
                return found
            if found.ended or found.closed:
                return found
            if self._log.titles or self._log.skipped != skipped:
                return found
            if samples and self._codec_changed(waited):
                got = telling_line(self._log.lines)
                raise SourceLost(Cause.FORMAT, f"{self.url}: {CHANGED}{got}")
            self._stall.check()

    def _codec_changed(self, waited: float) -> bool:
        """Whether what comes cannot be decoded: ffmpeg says so, or bytes come but no audio does.

        `waited` is the time without audio, in seconds, up to the last look.
        """
        if self._log.undecodable_since is not None and waited > LOOK_SECONDS:
            return True
        if self._log.format not in SEARCHING_FORMATS:
            return False
        # Twice in a row: what has just come may be on its way through ffmpeg.
        return self._traffic.look() >= 2 and waited > 2 * self._longest_pause

    def _check_log_before_audio(self) -> None:
        """Waits for what the log must say before the first audio is used. Raises SourceLost if a
        certificate was to be checked, and this ffmpeg is too old to do so."""
        deadline, log, watch = time.monotonic() + LOG_SECONDS, self._log, self._watch
        while (self._unsafe and not log.format) or (watch and not log.layout):
            if self._process.closed or time.monotonic() > deadline:
                break
            time.sleep(0.001)  # the log and the audio come through two pipes
        direct = self._parts.scheme != "rtsps" and log.format in DIRECT_FORMATS
        if self._unsafe and not direct:
            raise SourceLost(Cause.TLS, f"{self.url}: {too_old(self._ffmpeg)}")

    def _check_end(self, seconds: float) -> None:
        """Raises SourceLost unless ffmpeg was closed, or heard a recording to its end, whose length
        in seconds is given."""
        status = self._process.wait()
        if self._process.closed:
            return
        lines, duration = list(self._log.lines), self._log.duration
        if status == 0 and duration is not None and 0 < seconds >= duration - 1:
            return
        if status < 0:
            raise self._killed(-status, lines, had_audio=seconds > 0)
        cause, got = classify(lines, had_audio=seconds > 0), telling_line(lines)
        host = self._parts.hostname
        if cause is Cause.OTHER and host and not resolves(host):
            cause = Cause.DNS
        elif cause is Cause.FORMAT and seconds:
            got = f"{CHANGED}{got}"
        elif status == 0 and seconds:
            got = "the other side ended it"
        elif cause is Cause.TLS:
            got = self._certificate_problem(lines) or got
        raise SourceLost(cause, f"{self.url}: {got}")

    def _certificate_problem(self, lines: list[str]) -> str:
        """Whose certificate cannot be trusted, and why; empty where nothing was found."""
        if any("segment" in line for line in lines):
            got = "the certificate of a segment of its playlist is not to be trusted"
            return got if self._tls.verify else f"{got}: {UNVERIFIED_SEGMENTS}"
        host, scheme = self._parts.hostname, self._parts.scheme
        if host is None or scheme not in TLS_PORTS or not self._tls.verify:
            return ""
        return certificate_problem(host, self._parts.port or TLS_PORTS[scheme], self._tls)

    def _killed(self, number: int, lines: list[str], *, had_audio: bool) -> SourceLost:
        """The loss where a signal ended ffmpeg, and not we."""
        mebibytes = self._limits.memory
        little_memory = 0 < mebibytes < MIN_MEMORY and not had_audio
        oom_kill = oom_kills() > self._oom_kills
        cause, got = cause_of_signal(number, lines, oom_kill=oom_kill, little_memory=little_memory)
        hint = f" (decoder_mb is {mebibytes})" if cause is Cause.MEMORY and mebibytes else ""
        return SourceLost(cause, f"{self.url}: {got}{hint}")
