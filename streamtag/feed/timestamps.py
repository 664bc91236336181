"""Times as people write them (`2026-11-21T10:30`, `-2h`, `now`) and as messages hold them."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND = 10**9
"""Nanoseconds."""
FORMS = "a UTC time such as 2026-11-21T10:30:00, a date, -2h (s, m, h, d, w before now) or now"
_RELATIVE = re.compile(r"-(\d{1,9}(?:\.\d{1,6})?)([smhdw])", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_HOUR = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d(:00(:00)?)?Z?", re.ASCII)
_DIGITS = [f"{i:03}" for i in range(1000)]
_BORDERS = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def parse_moment(text: str, now_ns: int) -> int:
    """Nanoseconds since 1970; a time without a zone is UTC.

    Raises:
        ValueError: it is no moment.
    """
    if text == "now":
        return now_ns
    if found := _RELATIVE.fullmatch(text):
        return max(0, now_ns - int(float(found[1]) * _SECONDS[found[2]] * 1e9))
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if not _BORDERS[0] <= moment < _BORDERS[1]:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"expected {FORMS}, got {text!r}") from None
    return as_ns(moment)


def parse_hour(text: str) -> int:
    """The beginning of an hour, in nanoseconds since 1970, UTC.

    Raises:
        ValueError: it is no hour.
    """
    if not _HOUR.fullmatch(text):
        raise ValueError(f"expected an hour in UTC such as 2026-11-21T10, got {text!r}")
    return parse_moment(text[:13] + ":00", 0)


def as_ns(moment: datetime) -> int:
    """Nanoseconds since 1970 of a time with a zone, exact to the microsecond."""
    return (moment - _BORDERS[0]) // timedelta(microseconds=1) * 1000


def ns_of(utc: str) -> int:
    """Nanoseconds since 1970 of a message's `utc`."""
    return as_ns(datetime.fromisoformat(utc))


def rfc3339(ns: int) -> str:
    """Nanoseconds since 1970 as text, cut to microseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{_DIGITS[rest // 1_000_000]}{_DIGITS[rest // 1000 % 1000]}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def minutes_and_seconds(seconds: float) -> str:
    """A length of time for people: `75` as `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
