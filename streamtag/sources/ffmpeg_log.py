"""What a running ffmpeg says on standard error, and what of it matters."""

import re
import time
from collections import deque
from dataclasses import dataclass, field

SPOILT_SECONDS = 2.0
"""Without audio after words of data that cannot be decoded: another codec, most likely."""
MAX_TITLE = 500
"""Characters of a title that are kept."""
_TITLE = re.compile(r"Metadata update for (?:StreamTitle|title): (.*)", re.IGNORECASE)
_DURATION = re.compile(r"  Duration: (\d{1,6}):(\d\d):(\d\d\.\d{1,9})", re.ASCII)
_LINE = re.compile(r"(?:\[[^]]* @ [^]]*\] )*\[(\w+)\] ?(.*)")
_FORMAT = re.compile(r"Input #0, (\S+), from ")
_FIRST_TITLE = re.compile(r" {4,8}StreamTitle +: (.*)")
"""Of a station, where ffmpeg read it before it began: it is not said as an update then."""
_COMMENT = re.compile(r" {4,8}(title|artist) +: (.*)", re.IGNORECASE)
_NEW_COMMENT = re.compile(r"(title|artist)=(.*)", re.IGNORECASE)
_SONGS = ("ogg", "flac", "mp3", "aac", "wav", "mov,mp4,m4a,3gp,3g2,mj2")
"""Formats whose title is a song's, not the name of a session or a programme."""
LEFT_OUT = re.compile(r"skipping \d+ segments ahead|failed too many times, skipping")
"""Parts of a play list (HLS) that cannot be had, so that what follows is not what followed."""
FORGET_SECONDS = 10.0
"""Of audio after the last words, which explain nothing any more."""
SETTLED_SECONDS = 0.2
"""After which a title's artist, if it has one, has been said."""
_LAYOUT = re.compile(r"tb:\S+ samplefmt:\S+ .*chlayout:(\S+)")
_SPOILT = re.compile(r"Error (submitting packet to decoder|while decoding)|Header missing")


@dataclass(slots=True)
class FfmpegLog:
    """What a running ffmpeg has said so far."""

    lines: deque[str]
    """Connections, warnings and errors, the newest ones."""
    titles: deque[str]
    """Not handed out yet."""
    duration: float | None = None
    """Seconds, where the audio has an end."""
    spoilt: float | None = None
    """When something came that could not be decoded; audio a second later takes it back."""
    layout: str = ""
    """The source's channels."""
    format: str = ""
    """What the audio comes in, as ffmpeg calls it: `ogg`, `mp3`, `hls` …"""
    left_out: int = 0
    """How often something was left out, so that what comes next is not what followed."""
    said: float = 0.0
    """When the newest of the lines came."""
    comments: dict[str, str] = field(default_factory=dict)
    """Title and artist, as they are being said."""
    commented: float | None = None
    """When the last of them came, if they were not made a title yet."""
    song: str = ""
    """The newest title."""

    def take(self, line: str) -> None:
        """Keeps what matters of one line."""
        match = _LINE.match(line)
        level, text = (match[1], match[2]) if match else ("", line)
        if self._comment(line, text):
            return
        self.settle(0.0)
        if found := _TITLE.search(text):
            self._tell(_printable(found[1]))
        elif found := _DURATION.match(text):  # not in a station's own words
            hours, minutes, seconds = found.groups()
            self.duration = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        elif not self.format and (found := _FORMAT.match(text)):
            self.format = found[1]
        elif found := _LAYOUT.search(text):
            self.layout = found[1]
        elif level in ("", "warning", "error", "fatal") or "Starting connection" in text:
            self.lines.append(text[:MAX_TITLE])
            self.said = time.monotonic()
            self.left_out += LEFT_OUT.search(text) is not None
            if _SPOILT.search(text):
                self.spoilt = time.monotonic()

    def settle(self, seconds: float = SETTLED_SECONDS) -> None:
        """Makes a title of what was said of a song, so many seconds after the last word of it."""
        if self.commented is None or time.monotonic() < self.commented + seconds:
            return
        parts = [self.comments[key] for key in ("artist", "title") if self.comments.get(key)]
        self.commented = None
        if parts:
            self._tell(" - ".join(parts)[:MAX_TITLE])

    def _tell(self, title: str) -> None:
        if title != self.song:
            self.song = title
            self.titles.append(title)

    def _comment(self, line: str, text: str) -> bool:
        """Takes the title or the artist of a song that begins (Ogg: in the middle, too)."""
        new = line.startswith("[Parsed_ametadata")
        if new and text.startswith("frame:"):
            self.settle(0.0)
            self.comments.clear()
        found = (_NEW_COMMENT if new else _COMMENT).match(text)
        if not new and (first := _FIRST_TITLE.match(text)):
            self._tell(_printable(first[1]))
            return True
        if found and (new or self.format in _SONGS):
            self.comments[found[1].lower()] = _printable(found[2])
            self.commented = time.monotonic()
        return new or found is not None

    def heard(self) -> None:
        """Audio has come, perhaps on its way since before the last words."""
        if self.spoilt is not None and time.monotonic() > self.spoilt + SPOILT_SECONDS / 2:
            self.spoilt = None
        if self.lines and time.monotonic() > self.said + FORGET_SECONDS:
            self.lines.clear()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:MAX_TITLE]
