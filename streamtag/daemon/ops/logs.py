"""Log formats for people and for programs, and a rate limit for lines that repeat."""

import json
import logging
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Literal, TextIO

LogStyle = Literal["text", "keyvalue", "json"]

BURST, PER_SECONDS = 10, 60.0
"""The rate limit passes so many lines of one kind about one stream in so many seconds."""
_STREAM = re.compile(r"^stream '?([A-Za-z0-9._-]{1,64})'?: ")


def stream_of(record: logging.LogRecord) -> str:
    """The stream that a line is about. Empty where it is about none."""
    match = _STREAM.match(record.getMessage())
    return match[1] if match else ""


class RateLimit(logging.Filter):
    """Passes ten lines a minute of each kind about each stream, and counts the others.

    A kind is the place in the program that wrote the line. The next line that passes has the
    number of suppressed ones.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._began: dict[tuple[str, str], float] = {}
        self._lines: defaultdict[tuple[str, str], int] = defaultdict(int)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line passes. Adds `suppressed` to it."""
        kind = (stream_of(record), f"{record.pathname}:{record.lineno}")
        now = self._clock()
        suppressed = 0
        if now - self._began.get(kind, -PER_SECONDS) >= PER_SECONDS:
            suppressed = max(0, self._lines[kind] - BURST)
            self._began[kind], self._lines[kind] = now, 0
        self._lines[kind] += 1
        record.suppressed = suppressed
        return self._lines[kind] <= BURST


class PlainFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        more = getattr(record, "suppressed", 0)
        return super().format(record) + (f" ({more} more like this before)" if more else "")


class KeyValueFormatter(logging.Formatter):
    """`ts=… level=… module=… stream=… msg="…"`, one line each (logfmt)."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in _fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record), ensure_ascii=False)


FORMATTERS: dict[LogStyle, type[logging.Formatter]] = {
    "text": PlainFormatter,
    "keyvalue": KeyValueFormatter,
    "json": JsonFormatter,
}


def configure_logging(style: LogStyle, *, verbose: bool = False, out: TextIO | None = None) -> None:
    """Sends the log of the whole process to standard error, or to `out`."""
    handler = logging.StreamHandler(out or sys.stderr)
    handler.setFormatter(FORMATTERS[style]())
    handler.addFilter(RateLimit())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


def _fields(record: logging.LogRecord) -> dict[str, str | int]:
    seconds = time.gmtime(record.created)
    fields: dict[str, str | int] = {
        "ts": f"{time.strftime('%Y-%m-%dT%H:%M:%S', seconds)}.{int(record.msecs):03}Z",
        "level": record.levelname.lower(),
        "module": record.module,
    }
    message = record.getMessage()
    if stream := stream_of(record):
        fields["stream"] = stream
        message = message[_STREAM.match(message).end() :]  # type: ignore[union-attr]
    fields["msg"] = message
    if suppressed := getattr(record, "suppressed", 0):
        fields["suppressed"] = suppressed
    if record.exc_info:
        fields["trace"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _quoted(value: str | int) -> str:
    text = str(value)
    return text if re.fullmatch(r"[\w.:+/-]+", text) else json.dumps(text, ensure_ascii=False)
