"""Days and their hours, against the rules of the zones."""

from datetime import date
from pathlib import Path

import pytest

from streamtag.history import days
from streamtag.history.days import find_zone, hours_of, local_time, local_zone, parse_day
from streamtag.history.intervals import HOUR

NOON = 1_795_262_400_000_000_000  # 2026-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("zone", "day", "lengths"),
    [
        ("UTC", "2026-11-22", [1] * 24),
        ("Europe/Berlin", "2026-03-29", [1] * 23),
        ("Europe/Berlin", "2026-10-25", [1] * 25),
        ("Asia/Kathmandu", "2026-11-22", [1] * 24),
        ("America/Santiago", "2026-09-06", [1] * 23),  # it begins at one o'clock
        ("Australia/Lord_Howe", "2026-10-04", [1, 1, *[0.5], *[1] * 21]),
        ("Australia/Lord_Howe", "2026-04-05", [1, 1, *[0.5], *[1] * 22]),
    ],
)
def test_hours_of_a_day(zone: str, day: str, lengths: list[float]) -> None:
    hours = hours_of(date.fromisoformat(day), find_zone(zone))
    assert [(b - a) / HOUR for a, b in hours] == lengths
    assert [b for _, b in hours[:-1]] == [a for a, _ in hours[1:]]
    shown = [local_time(a, find_zone(zone)) for a, _ in hours]
    assert {moment.date().isoformat() for moment in shown} == {day}
    assert all(moment.minute in (0, 30) for moment in shown)
    after = local_time(hours[-1][1], find_zone(zone))
    assert (after.hour, after.minute) == (0, 0)


def test_the_hour_that_comes_twice_has_two_names() -> None:
    zone = find_zone("Europe/Berlin")
    hours = hours_of(date(2026, 10, 25), zone)
    shown = [f"{local_time(a, zone):%H %Z}" for a, _ in hours]
    assert shown[1:5] == ["01 CEST", "02 CEST", "02 CET", "03 CET"]


def test_days_as_people_write_them() -> None:
    zone = find_zone("Pacific/Auckland")
    assert parse_day("today", zone, NOON) == date(2026, 11, 22)
    assert parse_day("yesterday", zone, NOON) == date(2026, 11, 21)
    assert parse_day("2026-01-02", zone, NOON) == date(2026, 1, 2)
    for text in ("", "tomorrow", "2026-13-01", "20260101T10", "9999-12-31", "1969-01-01"):
        with pytest.raises(ValueError, match=r"expected a day such as 2026-11-21, .*got"):
            parse_day(text, zone, NOON)
    with pytest.raises(ValueError, match="expected a day that exists in Pacific/Apia"):
        parse_day("2011-12-30", find_zone("Pacific/Apia"), NOON)


def test_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Europe", "Middle/Earth", "../../etc/passwd", "", "a\0b"):
        with pytest.raises(ValueError, match="expected a time zone such as"):
            find_zone(name)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert local_zone().key == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "CET-1CEST")  # POSIX rules name no zone
    link = tmp_path / "localtime"
    monkeypatch.setattr(days, "LOCALTIME", link)
    assert local_zone().key == "UTC"
    link.symlink_to("/usr/share/zoneinfo/Europe/Lisbon")
    assert local_zone().key == "Europe/Lisbon"
