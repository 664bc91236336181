"""What a running ffmpeg says on standard error, and what of it matters."""

import re
import time
from collections import deque
from dataclasses import dataclass

SPOILT_SECONDS = 2.0
"""Without audio after words of data that cannot be decoded: another codec, most likely."""
MAX_TITLE = 500
"""Characters of a title that are kept."""
_TITLE = re.compile(r"Metadata update for (?:StreamTitle|title): (.*)", re.IGNORECASE)
_DURATION = re.compile(r"  Duration: (\d{1,6}):(\d\d):(\d\d\.\d{1,9})", re.ASCII)
_LINE = re.compile(r"(?:\[[^]]* @ [^]]*\] )*\[(\w+)\] ?(.*)")
_FORMAT = re.compile(r"Input #0, (\S+), from ")
_LAYOUT = re.compile(r"tb:\S+ samplefmt:\S+ .*chlayout:(\S+)")
_SPOILT = re.compile(r"Error (submitting packet to decoder|while decoding)|Header missing")


@dataclass(slots=True)
class Words:
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
        elif found := _FORMAT.match(text):
            self.format = found[1]
        elif found := _LAYOUT.search(text):
            self.layout = found[1]
        elif level in ("", "warning", "error", "fatal") or "Starting connection" in text:
            self.lines.append(text[:MAX_TITLE])
            if _SPOILT.search(text):
                self.spoilt = time.monotonic()

    def heard(self) -> None:
        """Audio has come, perhaps on its way since before the last words."""
        if self.spoilt is not None and time.monotonic() > self.spoilt + SPOILT_SECONDS / 2:
            self.spoilt = None
