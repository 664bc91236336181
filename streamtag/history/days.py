"""Days and their hours in a time zone, also where the clock is changed."""

import os
from calendar import monthrange
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streamtag.feed.timestamps import as_ns
from streamtag.history.intervals import Interval

LOCALTIME = Path("/etc/localtime")
"""On most systems a link to the file of the zone of this machine."""
QUARTER = timedelta(minutes=15)
"""Offsets of zones are multiples of it today, and clocks are changed at multiples of it."""
YEARS = range(1971, 9000)


def find_zone(name: str) -> ZoneInfo:
    """A time zone by its name.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"expected a time zone such as Europe/Berlin or UTC, got {name!r:.60}"
        ) from None


def local_zone() -> ZoneInfo:
    """The zone of this machine (`TZ`, or the system's); UTC if it is not known."""
    names = [os.environ.get("TZ", "").lstrip(":")]
    if LOCALTIME.is_symlink():
        names.append(str(LOCALTIME.resolve()).partition("zoneinfo/")[2])
    for name in filter(None, names):
        try:
            return find_zone(name)
        except ValueError:
            continue
    return ZoneInfo("UTC")


def parse_day(text: str, zone: tzinfo, now_ns: int) -> date:
    """A day: `2026-11-21`, `today` or `yesterday`.

    Raises:
        ValueError: it is none, or the zone left it out.
    """
    today = local_time(now_ns, zone).date()
    words = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        day = words.get(text) or date.fromisoformat(text)
        if day.year not in YEARS or len(text) > len("2026-11-21"):
            raise ValueError
    except ValueError:
        expected = "expected a day such as 2026-11-21, today or yesterday"
        raise ValueError(f"{expected}, got {text!r:.60}") from None
    hours_of(day, zone)
    return day


def parse_period(kind: str, text: str, zone: tzinfo, now_ns: int) -> list[date]:
    """The days of a period.

    Args:
        kind: `day`, `week` (Monday to Sunday) or `month`.
        text: `last`, `this` or a day in it; also `yesterday` and `today`, and `2026-11` of a month.
        zone: in which days begin.
        now_ns: in nanoseconds since 1970.

    Raises:
        ValueError: it is none.
    """
    today = local_time(now_ns, zone).date()
    if text in ("last", "this"):
        day = _begin_of(kind, today)
        if text == "last":
            day = _begin_of(kind, day - timedelta(days=1))
    elif kind == "month" and len(text) == len("2026-11"):
        day = parse_day(f"{text}-01", zone, now_ns)
    else:
        day = _begin_of(kind, parse_day(text, zone, now_ns))
    length = {"day": 1, "week": 7, "month": monthrange(day.year, day.month)[1]}[kind]
    return [day + timedelta(days=i) for i in range(length)]


def _begin_of(kind: str, day: date) -> date:
    if kind == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if kind == "month" else day


def hours_of_days(days: Iterable[date], zone: tzinfo) -> list[Interval]:
    """The hours of some days; one that the zone left out has none."""
    found: list[Interval] = []
    for day in days:
        with suppress(ValueError):
            found += hours_of(day, zone)
    return found


def local_time(ns: int, zone: tzinfo) -> datetime:
    """Nanoseconds since 1970 as the clocks of a zone show them, cut to microseconds."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)
    return moment.astimezone(zone)


def hours_of(day: date, zone: tzinfo) -> list[Interval]:
    """The hours of a day: 24 of them, or 23 and 25 where the clock is changed.

    An hour begins where the clock shows a full hour, or where it is changed. It is shorter than an
    hour in a zone that changes its clock by half an hour.

    Raises:
        ValueError: the zone left the day out, as Samoa did with 2011-12-30.
    """
    begin = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC) - 4 * QUARTER
    starts, last = list[int](), None
    for step in range(4 * 28):
        moment = begin + step * QUARTER
        local = moment.astimezone(zone)
        hour = local.date(), local.hour, local.utcoffset()
        if hour != last and (local.date() == day or starts):
            starts.append(as_ns(moment))
        if starts and local.date() != day:
            break
        last = hour
    if not starts:
        raise ValueError(f"expected a day that exists in {zone}, got {day}")
    return list(pairwise(starts))
