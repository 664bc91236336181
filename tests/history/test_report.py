"""The report of a day, added up by hand, and computed from a journal."""

import csv
import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support.web_server import RATE, Feed
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.engine import events
from streamtag.feed.messages import AlertCleared, AlertRaised
from streamtag.feed.timestamps import SECOND, ns_of, rfc3339
from streamtag.history.days import find_zone, hours_of, hours_of_days
from streamtag.history.export import REPORT
from streamtag.history.history import History
from streamtag.history.intervals import (
    HOUR,
    Labelled,
    StreamIntervals,
    difference,
    intersection,
    union,
    within,
)
from streamtag.history.report import CONDITIONS, HEARD, StreamReport, by_day, make_report
from streamtag.history.report_parts import alerts_of
from streamtag.history.timeline import read_timeline

MINUTE = HOUR // 60
CATEGORIES = {"piano": "instrument", "calm": "mood", "music": "kind", "speech": "kind"}


def spans(*minutes: tuple[float, float]) -> list[tuple[int, int]]:
    return [(int(a * MINUTE), int(b * MINUTE)) for a, b in minutes]


def hours(n: int) -> list[tuple[int, int]]:
    return [(i * HOUR, (i + 1) * HOUR) for i in range(n)]


def minutes(report: StreamReport, hour: int | None = None) -> dict[str, float]:
    found = report.seconds if hour is None else report.hours[hour].seconds
    return {name: value / 60 for name, value in found.items() if value}


def test_every_moment_has_one_condition() -> None:
    intervals = StreamIntervals(
        received=spans((0, 50), (60, 170)),
        on={
            ("a", "music"): spans((0, 30), (60, 120)),
            ("b", "music"): spans((20, 40)),  # two models agree for ten minutes
            ("a", "speech"): spans((25, 35), (110, 130)),
        },
        silent=spans((40, 45), (120, 125)),  # silence is stronger than what smoothing keeps on
        states=[Labelled(*span, "retrying") for span in spans((50, 55))]
        + [Labelled(*span, "paused") for span in spans((170, 175))],
        gaps=spans((55, 58)),
    )
    report = make_report("s", intervals, hours(4), CATEGORIES, 200 * MINUTE)
    assert minutes(report, 0) == {
        **{"music": 30, "both": 10, "silence": 5, "other": 5},
        **{"lost": 8, "unknown": 2},
    }
    assert minutes(report, 1) == {"music": 50, "both": 10}
    assert minutes(report, 2) == {"silence": 5, "speech": 5, "other": 40, "paused": 5, "unknown": 5}
    assert minutes(report, 3) == {"unknown": 20}  # nothing is said about the future
    assert report.heard == 60 * (50 + 110)
    assert [one.begin for one in report.segments][1:] == [one.end for one in report.segments][:-1]


def test_a_report_of_random_intervals_adds_up() -> None:
    dice = random.Random(3)

    def some() -> list[tuple[int, int]]:
        starts = [dice.randrange(4 * HOUR) for _ in range(20)]
        return [(a, a + dice.randrange(1, 20 * MINUTE)) for a in starts]

    for _ in range(30):
        states = [Labelled(*one, dice.choice(("paused", "stalled"))) for one in some()]
        on = {("m", tag): some() for tag in ("music", "speech", "calm")}
        intervals = StreamIntervals(union(some()), on, some(), [], states, some())
        now = dice.randrange(4 * HOUR)
        report = make_report("s", intervals, hours(4), CATEGORIES, now)
        assert sum(report.seconds.values()) == pytest.approx(now / 1e9)
        stalled = union((a, b) for a, b, state in states if state == "stalled")
        for a, b, condition in report.segments:
            for at in (a, (a + b) // 2, b - 1):
                assert _condition(intervals, stalled, at) == condition


def _condition(found: StreamIntervals, stalled: list[tuple[int, int]], at: int) -> str:
    """The truth, moment by moment."""

    def lies_in(some: list[tuple[int, int]]) -> bool:
        return any(a <= at < b for a, b in some)

    if lies_in(found.received) and not lies_in(stalled):
        music, speech = (lies_in(found.on["m", tag]) for tag in ("music", "speech"))
        if lies_in(found.silent):
            return "silence"
        return {(1, 1): "both", (1, 0): "music", (0, 1): "speech"}.get((music, speech), "other")
    if lies_in(found.gaps):
        return "lost"
    states = [state for a, b, state in found.states if a <= at < b]
    return "paused" if "paused" in states else "lost" if states else "unknown"


def test_sums_of_intervals_against_moments() -> None:
    dice = random.Random(1)
    for _ in range(200):
        one, other = (
            union(
                (a, a + dice.randrange(1, 9)) for a in dice.choices(range(40), k=dice.randrange(6))
            )
            for _ in range(2)
        )
        inside = [{at for a, b in some for at in range(a, b)} for some in (one, other)]
        for found, truth in (
            (intersection(one, other), inside[0] & inside[1]),
            (difference(one, other), inside[0] - inside[1]),
        ):
            assert {at for a, b in found for at in range(a, b)} == truth
            assert found == union(found)


def test_a_model_of_instruments_alone_says_music() -> None:
    intervals = StreamIntervals(spans((0, 60)), {("a", "piano"): spans((0, 30))})
    instruments = {"piano": "instrument", "harp": "instrument"}
    report = make_report("s", intervals, hours(1), instruments, HOUR)
    assert minutes(report) == {"music": 30, "other": 30}
    report = make_report("s", intervals, hours(1), CATEGORIES, HOUR)  # here music was not on
    assert minutes(report) == {"other": 60}


def test_tags_by_hour_and_category() -> None:
    intervals = StreamIntervals(
        spans((0, 100)),
        {
            ("a", "piano"): spans((50, 70)),
            ("b", "piano"): spans((60, 80)),
            ("a", "harp"): spans((75, 85), (110, 120)),  # nothing counts that was not received
            ("a", "genre---rock"): spans((0, 10)),
            ("a", "music"): spans((0, 100)),
        },
    )
    report = make_report("s", intervals, hours(2), {**CATEGORIES, "harp": "instrument"}, 2 * HOUR)
    assert list(report.tags) == ["genre", "instrument"]
    whole, piano, harp = report.tags["instrument"]
    assert (whole.tag, [second / 60 for second in whole.on]) == ("", [10, 25])
    assert (piano.tag, [second / 60 for second in piano.on]) == ("piano", [10, 20])
    assert (harp.tag, [second / 60 for second in harp.on]) == ("harp", [0, 10])
    assert report.tags["genre"][1].tag == "genre---rock"


def test_songs_have_the_tags_that_lasted() -> None:
    titles = [
        ("One", 0, 4),
        ("One", 6, 10),
        ("Jingle", 10, 10.4),
        ("Two", 10.4, 20),
        ("One", 50, 55),
    ]
    intervals = StreamIntervals(
        spans((0, 60)),
        {
            ("a", "calm"): spans((0, 3), (7, 8)),
            ("a", "piano"): spans((0, 1), (18, 20)),
            ("a", "speech"): spans((12, 20)),
        },
        titles=[Labelled(int(a * MINUTE), int(b * MINUTE), title) for title, a, b in titles],
    )
    report = make_report("s", intervals, hours(1), CATEGORIES, HOUR)
    one, two, again = report.songs
    assert (one.title, one.begin, one.end, one.heard) == ("One", 0, 10 * MINUTE, 480)
    assert one.tags == {"mood": [("calm", 0.5)]}
    assert two.title == "Two"
    assert two.tags == {"kind": [("speech", pytest.approx(8 / 9.6))]}
    assert (again.title, again.begin) == ("One", 50 * MINUTE)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """2026-11-21, UTC: up from 10:00 to 11:30, then refused, with a silence over noon before."""
    path = tmp_path / "j.db"
    feed = Feed(path)
    feed.up("radio")
    feed.on("radio", "calm", 600)
    feed.publish(events.TitleChanged("radio", 1200 * RATE, "A <b>Song</b> & more"))
    feed.publish(events.SilenceStarted("radio", 3000 * RATE, 3000 * RATE))
    feed.publish(events.SilenceEnded("radio", 4200 * RATE, 4200 * RATE, 3000 * RATE))
    feed.publish(events.GapFound("radio", 4500 * RATE, 4800 * RATE))
    feed.off("radio", "calm", 600, 5000)
    feed.down("radio", 5400)
    feed.close()
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_command_prints_the_hours(journal: Path) -> None:
    command = ("report", "-j", journal, "-s", "radio", "--day", "2026-11-21")
    rows = [line.split() for line in run(*command, "--tz", "UTC").splitlines()]
    assert rows[0] == ["hour", *CONDITIONS]
    by_hour = {row[0]: [float(cell) for cell in row[1:]] for row in rows[1:]}
    music, other, silence, lost, unknown = 0, 3, 4, 5, 7
    assert by_hour["10:00"][silence] == by_hour["11:00"][silence] == 10
    assert by_hour["10:00"][other] + by_hour["10:00"][music] == 50
    assert by_hour["11:00"][lost] == 5
    assert by_hour["11:00"][unknown] == 30
    assert by_hour["09:00"][unknown] == 60
    assert sum(by_hour["all"]) == 24 * 60
    rows = [line.split() for line in run(*command, "--tz", "Asia/Kathmandu").splitlines()]
    assert (rows[17][0], float(rows[17][silence + 1])) == ("16:00", 20)  # 16:35 to 16:55 there
    assert HEARD[-1] == "silence"


def test_the_command_writes_a_page_of_its_own(journal: Path, tmp_path: Path) -> None:
    page = tmp_path / "day.html"
    command = ("report", "-j", journal, "-s", "radio", "--day", "2026-11-21", "--tz", "UTC")
    run(*command, "--lang", "de", "--html", page)
    text = page.read_text()
    assert "Samstag, 21. November 2026" in text
    assert "A &lt;b&gt;Song&lt;/b&gt; &amp; more" in text
    assert "<b>" not in text
    assert "://" not in text  # it loads nothing
    assert "<script" not in text


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--day", "someday", "--day: expected a day such as 2026-11-21"),
        ("--tz", "Mars", "--tz: expected a time zone such as"),
        ("--lang", "la", "--lang: expected one of de, en, es, fr, got 'la'"),
        ("-s", "tv", "--stream: expected one of radio, got 'tv'"),
        ("--html", "/nowhere/a.html", "/nowhere/a.html: cannot be written"),
    ],
)
def test_wrong_options_are_named(journal: Path, option: str, value: str, complaint: str) -> None:
    with pytest.raises(Exception, match=complaint):
        run("report", "-j", journal, "-s", "radio", "--day", "2026-11-21", option, value)


def test_the_part_of_a_report_is_right_within_its_day() -> None:
    whole = StreamIntervals(spans((-100, 200)), {("a", "calm"): spans((-50, 90))})
    report = make_report("s", whole, hours(1), {"music": "kind"}, 3 * HOUR)
    assert minutes(report) == {"other": 60}
    assert report.tags[""][0].on == [3600]
    assert within(whole.received, 0, HOUR) == [(0, HOUR)]


def test_weeks_and_months_by_day(journal: Path, tmp_path: Path) -> None:
    command = ("report", "-j", journal, "-s", "radio", "--tz", "UTC")
    rows = [line.split() for line in run(*command, "--week", "2026-11-21").splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["Monday", "2026-11-16"], ["Tuesday", "2026-11-17"]]
    assert rows[6][:2] == ["Saturday", "2026-11-21"]
    silence, lost = 4, 5
    assert (float(rows[6][silence + 2]), float(rows[6][lost + 2])) == (20, 5)
    page = tmp_path / "month.html"
    run(*command, "--month", "2026-11", "--html", page)
    text = page.read_text()
    assert "Sunday, 1 November 2026 to Monday, 30 November 2026" in text
    assert text.count('<th scope="row">') >= 30
    assert ">11-21 10:20<" in text  # the title
    for words in (("--day",), ("--week",), ("--month", "--lang", "de")):
        assert run(*command, *words)  # the last one
    with pytest.raises(Exception, match="--month: expected a day such as"):
        run(*command, "--month", "2026-13")
    done = CliRunner().invoke(app, [*map(str, command), "--week", "--month"])
    assert "one of --day, --week, --month" in done.output


def test_everything_as_csv(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    run("report", "-j", journal, "-s", "radio", "--day", "2026-11-21", "--tz", "UTC", "--csv", path)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == list(REPORT)
    of = {(row["from"], row["kind"], row["name"]): row for row in rows}
    assert of["2026-11-21T10:00:00Z", "condition", "silence"]["seconds"] == "600.0"
    assert of["2026-11-21T11:00:00Z", "condition", "lost"]["share"] == "0.0833"
    assert of["2026-11-21T10:00:00Z", "tag", "calm"]["seconds"] == "3000.0"
    assert of["2026-11-21T10:20:00Z", "title", ""]["title"].startswith("A <b>Song")


def test_one_sided_time_alerts_and_the_log(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    feed = Feed(path, keeps=("event/", "alert/"))
    feed.up("radio")
    feed.publish(events.ChannelsChanged("radio", 60 * RATE, 60 * RATE, "left_silent"))
    feed.publish(events.ChannelsChanged("radio", 660 * RATE, 660 * RATE, "stereo"))
    feed.down("radio", 1200)
    begin = ns_of("2026-11-21T10:00:00Z")
    feed.publisher.publish(
        alert(1, begin + 70 * SECOND, ("radio", "tv")),
        alert(2, begin + 80 * SECOND, ("tv",)),
        AlertCleared(
            **head(3, begin + 700 * SECOND),
            streams=("radio",),
            remaining=("tv",),
            since_utc=rfc3339(begin + 70 * SECOND),
            why="over",
            detail="over",
            notify=(),
        ),
    )
    feed.close()
    history = History(path)
    hours = hours_of(date(2026, 11, 21), find_zone("UTC"))
    report = make_report(
        "radio",
        read_timeline(history, "radio", hours[0][0], hours[-1][1], None),
        hours,
        {},
        begin * 2,
    )
    assert report.one_sided == 600
    (one,) = alerts_of(history, "radio", hours[0][0], hours[-1][1])
    assert (one.id, one.since, one.over) == ("sided@1", begin + 70 * SECOND, begin + 700 * SECOND)
    assert alerts_of(history, "radio", begin + 800 * SECOND, hours[-1][1]) == []
    history.close()
    page = tmp_path / "day.html"
    run("report", "-j", path, "-s", "radio", "--day", "2026-11-21", "--tz", "UTC", "--html", page)
    text = page.read_text()
    assert "One side only</dt><dd>10 min<small>50.0 %" in text
    assert "sided@1" in text
    assert "sided@2" not in text


def alert(number: int, at: int, streams: tuple[str, ...]) -> AlertRaised:
    return AlertRaised(
        **head(number, at),
        streams=streams,
        severity="warning",
        since_utc=rfc3339(at),
        detail="only one side",
        notify=(),
        quiet_until="",
        remind_seconds=0.0,
    )


def head(number: int, at: int) -> dict[str, Any]:
    fields = {"epoch": "e", "seq": number, "stream": "", "t": 0.0, "utc": rfc3339(at)}
    return fields | {"alert": "sided", "id": "sided@1" if number != 2 else "sided@2"}


def test_hours_become_days() -> None:
    zone = find_zone("Europe/Berlin")
    days = [date(2026, 10, 24), date(2026, 10, 25)]
    found = hours_of_days(days, zone)
    whole = StreamIntervals([(found[0][0], found[-1][1])], one_sided=[found[30]])
    report = by_day(make_report("s", whole, found, CATEGORIES, found[-1][1]), zone)
    assert [day.heard for day in report.hours] == [24 * 3600, 25 * 3600]
    assert [day.one_sided for day in report.hours] == [0, 3600]
