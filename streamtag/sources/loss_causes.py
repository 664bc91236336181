"""Why a source was lost: the messages of ffmpeg or the system, as one of a few causes."""

import re
import signal
import socket
import ssl
from collections.abc import Iterable

from streamtag.engine.events import Cause
from streamtag.errors import SourceError

PERSISTENT = frozenset({Cause.NOT_FOUND, Cause.AUTH, Cause.TLS, Cause.REDIRECT, Cause.FORMAT})
"""Causes that trying again seldom cures."""
MAX_REDIRECTS = 8
"""Number of redirects after which ffmpeg gives up with only an input/output error."""

_PATTERNS = [
    (Cause.FORMAT, r"not on whitelist|not in allowed"),  # it lists protocols, such as tls
    (
        Cause.MEMORY,
        r"cannot allocate memory|failed to map segment|out of memory|MemoryError|bad_alloc",
    ),
    (Cause.AUTH, r"\b40[137] |unauthorized|forbidden|authorization failed"),
    (Cause.NOT_FOUND, r"\b404 |\b410 |not found|no such file"),
    (Cause.HTTP, r"HTTP error \d|server returned [345]|failed: \d{3} "),
    (Cause.DNS, r"resolve hostname|name or service not known|name resolution|no address assoc"),
    (Cause.REFUSED, r"connection refused"),
    (Cause.UNREACHABLE, r"unreachable|no route to host|reset by peer|broken pipe"),
    (Cause.TLS, r"\btls\b|\bssl\b(?!.*unexpected eof)|certificate|handshake"),
    (Cause.TIMEOUT, r"timed out"),
    (
        Cause.FORMAT,
        r"invalid data found|matches no streams|does not contain any stream|unsupported"
        r"|could not find codec|unknown (format|decoder)",
    ),
]
_CAUSES = [(cause, re.compile(pattern, re.IGNORECASE)) for cause, pattern in _PATTERNS]
_CODEC_CHANGED = re.compile(r"(Error during demuxing|^https?://\S+): Invalid (data found|argument)")
"""ffmpeg gives up in the middle of a stream; the second form is that of versions before 6."""
_BODY_LENGTH = re.compile(r"Stream ends prematurely at (\d+)")
_SECRET = re.compile(r"(?<=://)[^/@\s]*@|(?<=passphrase=)[^&\s]*")
_UNTELLING = re.compile(
    r"Error opening input files?\b(?!: )|Exiting with|Nothing was written|^\s*$"
)


class SourceLost(SourceError):
    """A source was lost, or could not be reached, and may come back."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(without_secrets(message))
        self.cause = cause


def without_secrets(text: str) -> str:
    """The text without the user names, passwords and pass phrases of the URLs in it."""
    return _SECRET.sub("", text)


def classify(lines: Iterable[str], had_audio: bool) -> Cause:
    """The cause in the log of an ffmpeg that ended.

    The lines are its warnings and errors and, from `-loglevel verbose`, its connections.
    """
    lines = list(lines)
    if had_audio and any(_CODEC_CHANGED.search(line) for line in lines):
        return Cause.FORMAT
    for cause, pattern in _CAUSES:
        if any(pattern.search(line) for line in lines if "Stream ends" not in line):
            # After audio, invalid data is the last packet that was cut, and a TLS error is an end
            # without a closing handshake.
            return Cause.ENDED if cause in (Cause.FORMAT, Cause.TLS) and had_audio else cause
    if had_audio:
        return Cause.ENDED
    if sum("Starting connection attempt" in line for line in lines) > MAX_REDIRECTS:
        return Cause.REDIRECT
    bodies = [int(match[1]) for line in lines if (match := _BODY_LENGTH.search(line))]
    if any(bodies):
        return Cause.FORMAT  # it ended before ffmpeg had found out what it is
    ended = bodies or any("End of file" in line for line in lines)
    return Cause.ENDED if ended else Cause.OTHER


def telling_line(lines: Iterable[str]) -> str:
    """The last line that explains why ffmpeg failed."""
    telling = [line for line in lines if not _UNTELLING.search(line)]
    return without_secrets(telling[-1]) if telling else "it said nothing"


def cause_of_error(error: BaseException) -> Cause:
    """The cause of a failed socket."""
    if isinstance(error, ssl.SSLError):
        return Cause.TLS
    if isinstance(error, socket.gaierror):
        return Cause.DNS
    if isinstance(error, TimeoutError):
        return Cause.TIMEOUT
    if isinstance(error, ConnectionRefusedError):
        return Cause.REFUSED
    return Cause.UNREACHABLE


def cause_of_status(code: int) -> Cause:
    """The cause of an HTTP status."""
    if code in (401, 403, 407):
        return Cause.AUTH
    if code in (404, 410):
        return Cause.NOT_FOUND
    return Cause.REDIRECT if 300 <= code < 400 else Cause.HTTP


def cause_of_signal(
    number: int, lines: Iterable[str], *, oom_kill: bool, little_memory: bool
) -> tuple[Cause, str]:
    """The cause, and a message, where a signal ended ffmpeg.

    Args:
        number: of the signal.
        lines: the log of ffmpeg.
        oom_kill: the kernel has killed a process meanwhile because the system had no memory.
        little_memory: ffmpeg was given less memory than it needs to start.
    """
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if classify(lines, had_audio=False) is Cause.MEMORY:
        return Cause.MEMORY, f"ffmpeg had no memory left, and was ended by {name}"
    if number == signal.SIGKILL and oom_kill:
        return Cause.MEMORY, "the kernel ended ffmpeg, because the system had no memory left"
    if number == signal.SIGKILL:
        return Cause.OTHER, "somebody killed ffmpeg (SIGKILL)"
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        return Cause.OTHER, f"somebody ended ffmpeg ({name})"
    if little_memory:
        return Cause.MEMORY, f"ffmpeg had too little memory to begin with, and crashed ({name})"
    return Cause.OTHER, f"ffmpeg crashed ({name})"


def resolves(host: str) -> bool:
    """Whether the name of a host can be resolved; may take the time of the resolver."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True
