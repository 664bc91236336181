"""The ffmpeg that fetches and decodes a URL: its command line, its environment and its log."""

import contextlib
import re
import shutil
import time
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from streamtag.errors import SourceError
from streamtag.sources.confinement import decoder_environment
from streamtag.sources.source import ConnectionLimits
from streamtag.sources.tls import TlsSettings, ffmpeg_for_tls

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtp", "udp", "sdp", "srt")
TLS_PORTS = {"https": 443, "rtsps": 322}
"""Schemes over TLS, and their ports."""
_WEB = "http,https,httpproxy,tls,tcp,crypto,data"
_PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtsps,tls,rtp,rtcp,udp,tcp",
    "rtp": "rtp,rtcp,udp",
    "udp": "udp",
    "sdp": "file,rtp,rtcp,udp",
    "srt": "srt,udp",
}
"""What ffmpeg may open: a playlist from outside must not make it read files."""
SEAM = 1e30
"""A sample value that no audio has. ffmpeg starts with one, and inserts one wherever it had to
start anew because sample rate or channels changed, so that the place can be found."""

UNDECODABLE_SECONDS = 2.0
"""Without audio after errors of the decoder: most likely the codec has changed."""
MAX_TITLE = 500
"""Characters of a title that are kept."""
KEEP_SECONDS = 10.0
"""Of audio, after which earlier messages explain nothing any more."""
TITLE_SECONDS = 0.2
"""After the last comment of a song, by which its artist, if any, has been logged."""
_LINE = re.compile(r"(?:\[[^]]* @ [^]]*\] )*\[(\w+)\] ?(.*)")
_TITLE = re.compile(r"Metadata update for (?:StreamTitle|title): (.*)", re.IGNORECASE)
_DURATION = re.compile(r"  Duration: (\d{1,6}):(\d\d):(\d\d\.\d{1,9})", re.ASCII)
_FORMAT = re.compile(r"Input #0, (\S+), from ")
_FIRST_TITLE = re.compile(r" {4,8}StreamTitle +: (.*)")
"""The title of a station that ffmpeg read before it began; it logs no update for that one."""
_COMMENT = re.compile(r" {4,8}(title|artist) +: (.*)", re.IGNORECASE)
_NEW_COMMENT = re.compile(r"(title|artist)=(.*)", re.IGNORECASE)
_SONG_FORMATS = ("ogg", "flac", "mp3", "aac", "wav", "mov,mp4,m4a,3gp,3g2,mj2")
"""Formats whose title is that of a song, not the name of a session or a programme."""
_SKIPPED = re.compile(r"skipping \d+ segments ahead|failed too many times, skipping")
"""Segments of an HLS playlist that cannot be had, so that what follows is a gap later."""
_LAYOUT = re.compile(r"tb:\S+ samplefmt:\S+ .*chlayout:(\S+)")
_UNDECODABLE = re.compile(r"Error (submitting packet to decoder|while decoding)|Header missing")


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


def command(
    url: str, rate: int, limits: ConnectionLimits, tls: TlsSettings, *, watch: bool = False
) -> list[str]:
    """The command that writes samples, little-endian float32, to standard output.

    They are mono; with `watch` there are three channels: left, right, and what mono would be.
    """
    scheme = urlsplit(url).scheme
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose", "-threads", "1"]
    source = ["-protocol_whitelist", _PROTOCOLS[scheme], "-fflags", "+discardcorrupt"]
    # If we are gone, ffmpeg ends itself; our own limits are shorter.
    timeout = str(round(2e6 * max(limits.connect, limits.stall) + 1e6))
    if scheme in ("http", "https"):
        source += ["-rw_timeout", timeout, "-icy", "1", "-user_agent", "streamtag"]
        source += ["-probesize", "131072", "-analyzeduration", "3000000"]
    elif scheme in ("rtsp", "rtsps"):
        source += ["-timeout", timeout, "-rtsp_flags", "prefer_tcp"]
    elif scheme == "udp":
        source += ["-overrun_nonfatal", "1", "-analyzeduration", "1000000"]
    elif scheme == "srt":
        source += ["-rw_timeout", timeout, "-connect_timeout", str(round(1000 * limits.connect))]
        source += ["-analyzeduration", "1000000"]
    ffmpeg = ffmpeg_path()
    if scheme in TLS_PORTS:
        source += ["-tls_verify", str(int(tls.verify))]
        if tls.verify:
            source += ["-ca_file", tls.authorities]
            ffmpeg = ffmpeg_for_tls(ffmpeg)
    place = "file:" + url.removeprefix("sdp:") if scheme == "sdp" else url
    sink = ["-c:a", "pcm_f32le", "-flush_packets", "1", "-f", "f32le", "pipe:1"]
    return [ffmpeg, *quiet, *source, "-i", place, *_filter(rate, watch), *sink]


def environment(tls: TlsSettings) -> dict[str, str]:
    """The environment of ffmpeg: the segments of an HLS playlist do not inherit its options."""
    return decoder_environment(SSL_CERT_FILE=tls.authorities)


def oom_kills() -> int:
    """How often the kernel has killed a process for want of memory, in our cgroup if it says."""
    for found in (_cgroup_events, lambda: Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(found().read_text().split("oom_kill ", 1)[1].split()[0])
    return 0


def _cgroup_events() -> Path:
    group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
    return Path(f"/sys/fs/cgroup{group}/memory.events")


def _filter(rate: int, watch: bool) -> list[str]:
    """A seam, then the mean of the channels at a rate, beside left and right if wanted."""
    log = "ametadata=print"  # logs the comments of each song of an Ogg stream
    mono = f"aresample={rate}:ochl=mono:osf=flt:rematrix_maxval=1"
    if watch:
        # amerge puts front left and right before the centre.
        audio = (
            f"[0:a:0]{log},asplit[a][b];[a]{mono}[centre];"
            f"[b]aresample={rate}:ochl=stereo:osf=flt[sides];[sides][centre]amerge[sound]"
        )
    else:
        audio = f"[0:a:0]{log},{mono}[sound]"
    n, layout = (3, "3.0") if watch else (1, "mono")
    values = "|".join([f"{SEAM:.0e}"] * n)
    # Without aformat its samples would be doubles, and all that follows would be converted twice.
    seam = f"aevalsrc={values}:s={rate}:c={layout},aformat=flt,atrim=end_sample=1[seam]"
    # A write for each tenth of a second, not for each frame of the codec.
    sound = f"[seam][sound]concat=n=2:v=0:a=1,asetnsamples={rate // 10}:p=0[out]"
    graph = f"{seam};{audio};{sound}"
    return ["-filter_complex_threads", "1", "-filter_complex", graph, "-map", "[out]"]


@dataclass(slots=True)
class FfmpegLog:
    """What matters in the log of a running ffmpeg."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    """The newest connections, warnings and errors."""
    titles: deque[str] = field(default_factory=lambda: deque(maxlen=10))
    """New titles, for the reader to remove."""
    duration: float | None = None
    """Seconds, where the audio has an end."""
    undecodable_since: float | None = None
    """When something came that could not be decoded; audio a second later resets it."""
    layout: str = ""
    """The channels of the source."""
    format: str = ""
    """The container, as ffmpeg calls it: `ogg`, `mp3`, `hls` …"""
    skipped: int = 0
    """How often segments were left out, so that what comes next is not what followed."""
    line_at: float = 0.0
    """When the newest of `lines` came."""
    comments: dict[str, str] = field(default_factory=dict)
    """Title and artist of a song, as they come."""
    comment_at: float | None = None
    """When the last of them came, if no title was made of them yet."""
    title: str = ""
    """The newest title."""

    def add(self, line: str | None) -> None:
        """Keeps what matters in a line; None is the end of the log."""
        match = _LINE.match(line or "")
        level, text = (match[1], match[2]) if match else ("", line or "")
        if self._add_comment(line or "", text):
            return
        self.finish_title(0.0)
        if line is None:
            return
        if found := _TITLE.search(text):
            self._add_title(_printable(found[1]))
        elif found := _DURATION.match(text):  # the words of a station do not start like this
            hours, minutes, seconds = found.groups()
            self.duration = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        elif not self.format and (found := _FORMAT.match(text)):
            self.format = found[1]
        elif found := _LAYOUT.search(text):
            self.layout = found[1]
        elif level in ("", "warning", "error", "fatal") or "Starting connection" in text:
            self._add_message(text)

    def finish_title(self, seconds: float = TITLE_SECONDS) -> None:
        """Makes a title of the comments of a song, so many seconds after the last of them."""
        if self.comment_at is None or time.monotonic() < self.comment_at + seconds:
            return
        parts = [self.comments[key] for key in ("artist", "title") if self.comments.get(key)]
        self.comment_at = None
        if parts:
            self._add_title(" - ".join(parts)[:MAX_TITLE])

    def audio_came(self, at: float) -> None:
        """Audio has come at a monotonic time, perhaps on its way since before the last message."""
        if self.undecodable_since and at > self.undecodable_since + UNDECODABLE_SECONDS / 2:
            self.undecodable_since = None
        if self.lines and at > self.line_at + KEEP_SECONDS:
            self.lines.clear()

    def _add_message(self, text: str) -> None:
        self.lines.append(text[:MAX_TITLE])
        self.line_at = time.monotonic()
        self.skipped += _SKIPPED.search(text) is not None
        if _UNDECODABLE.search(text):
            self.undecodable_since = self.line_at

    def _add_title(self, title: str) -> None:
        if title != self.title:
            self.title = title
            self.titles.append(title)

    def _add_comment(self, line: str, text: str) -> bool:
        """Keeps the title or the artist of a song (in Ogg also in the middle of the stream)."""
        new = line.startswith("[Parsed_ametadata")
        if new and text.startswith("frame:"):
            self.finish_title(0.0)
            self.comments.clear()
        found = (_NEW_COMMENT if new else _COMMENT).match(text)
        if not new and (first := _FIRST_TITLE.match(text)):
            self._add_title(_printable(first[1]))
            return True
        if found and (new or self.format in _SONG_FORMATS):
            self.comments[found[1].lower()] = _printable(found[2])
            self.comment_at = time.monotonic()
        return new or found is not None


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:MAX_TITLE]
