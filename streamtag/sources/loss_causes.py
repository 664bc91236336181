"""Why a source was lost: ffmpeg's words, or the system's, as one of a few causes."""

import re
import signal
import socket
from collections.abc import Iterable

from streamtag.engine.events import Cause
from streamtag.errors import SourceError

PERSISTENT = frozenset({Cause.NOT_FOUND, Cause.AUTH, Cause.TLS, Cause.REDIRECT, Cause.FORMAT})
"""Causes that trying again seldom cures."""
MAX_HOPS = 8
"""Redirects that ffmpeg follows before it gives up with nothing but an input/output error."""

_SIGNS = [
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
_SIGNS_OF = [(cause, re.compile(pattern, re.IGNORECASE)) for cause, pattern in _SIGNS]
_OTHER_KIND = re.compile(r"(Error during demuxing|^https?://\S+): Invalid (data found|argument)")
"""ffmpeg gives up in the middle; the second form is that of versions before 6."""
_BODY = re.compile(r"Stream ends prematurely at (\d+)")
_SECRET = re.compile(r"(?<=://)[^/@\s]*@|(?<=passphrase=)[^&\s]*")
_DULL = re.compile(r"Error opening input files?\b(?!: )|Exiting with|Nothing was written|^\s*$")


class SourceLost(SourceError):
    """A source that was lost, or could not be reached, and may come back.

    Args:
        cause: why.
        message: what was expected and what was got.
    """

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(without_secrets(message))
        self.cause = cause


def without_secrets(text: str) -> str:
    """The text without the user names and passwords, and the pass phrases, of the URLs in it."""
    return _SECRET.sub("", text)


def classify(lines: Iterable[str], heard: bool) -> Cause:
    """The cause in what ffmpeg said.

    Args:
        lines: its words, warnings and errors and, from `-loglevel verbose`, connections.
        heard: whether any audio had come.
    """
    lines = list(lines)
    if heard and any(_OTHER_KIND.search(line) for line in lines):
        return Cause.FORMAT
    for cause, pattern in _SIGNS_OF:
        if any(pattern.search(line) for line in lines if "Stream ends" not in line):
            # Garbage in the middle of a stream is what it was lost in, not what it is; and who
            # was trusted until now did not say good-bye.
            return Cause.ENDED if cause in (Cause.FORMAT, Cause.TLS) and heard else cause
    if heard:
        return Cause.ENDED
    if sum("Starting connection attempt" in line for line in lines) > MAX_HOPS:
        return Cause.REDIRECT
    bodies = [int(match[1]) for line in lines if (match := _BODY.search(line))]
    if any(bodies):
        return Cause.FORMAT  # it ended before ffmpeg had found out what it is
    ended = bodies or any("End of file" in line for line in lines)
    return Cause.ENDED if ended else Cause.OTHER


def words(lines: Iterable[str]) -> str:
    """The most telling line: the last one that says more than that it is over."""
    telling = [line for line in lines if not _DULL.search(line)]
    return without_secrets(telling[-1]) if telling else "it said nothing"


def of_error(error: OSError) -> Cause:
    """The cause of a failed socket."""
    if isinstance(error, socket.gaierror):
        return Cause.DNS
    if isinstance(error, TimeoutError):
        return Cause.TIMEOUT
    if isinstance(error, ConnectionRefusedError):
        return Cause.REFUSED
    return Cause.UNREACHABLE


def of_signal(
    number: int, lines: Iterable[str], *, starved: bool, cramped: bool
) -> tuple[Cause, str]:
    """The cause, and words for people, where a signal ended ffmpeg.

    Args:
        number: of the signal.
        lines: what ffmpeg had said.
        starved: whether the kernel has ended a process for want of memory meanwhile.
        cramped: whether ffmpeg had less memory than it needs to begin with.
    """
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if classify(lines, heard=False) is Cause.MEMORY:
        return Cause.MEMORY, f"ffmpeg had no memory left, and was ended by {name}"
    if number == signal.SIGKILL and starved:
        return Cause.MEMORY, "the kernel ended ffmpeg, because the system had no memory left"
    if number == signal.SIGKILL:
        return Cause.OTHER, "somebody killed ffmpeg (SIGKILL)"
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        return Cause.OTHER, f"somebody ended ffmpeg ({name})"
    if cramped:
        return Cause.MEMORY, f"ffmpeg had too little memory to begin with, and crashed ({name})"
    return Cause.OTHER, f"ffmpeg crashed ({name})"


def is_known(host: str) -> bool:
    """Whether the host's name can be resolved; may take the resolver's time."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True
