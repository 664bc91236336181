"""The page of a report: what it says, in which zone and language, and that everything is text."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from support.web_server import RATE, Feed, Server, serving

from streamtag.bridges.web.html import Html, element, join
from streamtag.bridges.web.report_page import ReportView, report_page
from streamtag.bridges.web.texts import LANGUAGES, Texts, best_language
from streamtag.engine import events
from streamtag.history.days import find_zone, hours_of
from streamtag.history.intervals import HOUR, Labelled, StreamIntervals
from streamtag.history.report import CONDITIONS, make_report

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("reports")
    feed = Feed(folder / "j.db")
    feed.up("radio")  # 2026-11-21, 10:00 UTC
    feed.publish(events.TitleChanged("radio", 60 * RATE, EVIL))
    feed.on("radio", "calm", 120)
    feed.off("radio", "calm", 120, 1320)
    feed.down("radio", 2400)
    with serving(folder, feed, folder / "j.db") as server:
        yield server
    feed.close()


def test_a_day_of_a_stream(server: Server) -> None:
    answer = server.get("/report/radio?day=2026-11-21&tz=UTC")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    text = answer.text
    assert "Saturday, 21 November 2026 · UTC" in text
    assert "<td>50.0 %</td><td>20 min</td>" in text  # calm: 20 of 40 minutes
    assert "&lt;img src=x" in text
    assert "<img" not in text
    assert "<script" not in text
    assert re.search(r'<th scope="row">10:00</th>', text)
    assert server.get("/report/radio?day=2026-11-20&tz=UTC").status_code == 200


def test_zone_language_and_clock_are_those_of_the_settings(server: Server) -> None:
    cookie = "streamtag-settings=lang=de&mode=dark&zone=Asia%2FTokyo&clock=12"
    text = server.get("/report/radio?day=2026-11-21", headers={"Cookie": cookie}).text
    assert '<html lang="de" data-mode="dark">' in text
    assert "Samstag, 21. November 2026 · Asia/Tokyo" in text
    assert '<th scope="row">7:00 PM</th>' in text
    text = server.get("/report/radio", headers={"Accept-Language": "xx, fr-CA;q=0.9"}).text
    assert '<html lang="fr" data-mode="auto">' in text
    for nonsense in ("zone=Mars%2FOlympus&mode=%22x&lang=xx", "=%00&&;", "x" * 3000):
        cookie = f"streamtag-settings={nonsense}"
        answer = server.get("/report/radio", headers={"Cookie": cookie})
        assert '<html lang="en" data-mode="auto">' in answer.text


@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("radio?day=someday", 400, "day"),
        ("radio?tz=Mars", 400, "tz"),
        ("radio?day=2011-12-30&tz=Pacific/Apia", 400, "day"),
        ("radio?date=2026-11-21", 400, "date"),
        ("nobody", 404, "stream"),
    ],
)
def test_wrong_addresses_are_explained(
    server: Server, path: str, status: int, parameter: str
) -> None:
    answer = server.get(f"/report/{path}")
    assert (answer.status_code, answer.json()["error"]["parameter"]) == (status, parameter)


def test_without_a_journal_there_is_no_report(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "j.db")
    with serving(tmp_path, feed, None) as server:
        assert server.get("/report/radio").json()["error"]["expected"].startswith("feed.journal")
    feed.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_in_every_language_on_a_day_of_25_hours(language: str) -> None:
    zone, day = find_zone("Europe/Berlin"), date(2026, 10, 25)
    hours = hours_of(day, zone)
    begin, end = hours[0][0], hours[-1][1]
    intervals = StreamIntervals(
        [(begin, end - 2 * HOUR)],
        {("m", f"genre---{EVIL}"): [(begin, end)], ("m", "speech"): [(begin, begin + HOUR)]},
        [(begin + HOUR, begin + 2 * HOUR)],
        [Labelled(begin, begin + HOUR, EVIL)],
        [Labelled(end - 2 * HOUR, end - HOUR, "retrying")],
        [(begin + 3 * HOUR, begin + 4 * HOUR)],
    )
    report = make_report(EVIL, intervals, hours, {}, end)
    for half_days in (False, True):
        view = ReportView(day, zone, end, Texts(language), half_days=half_days, static="../s")
        page = report_page(report, view)
        assert page.count('<th scope="row">') >= 25
        assert "CEST</th>" in page and " CET</th>" in page  # noqa: PT018
        assert "{" not in page
        assert "<img" not in page
        assert page.count("&lt;img") >= 4
    for name in CONDITIONS:
        assert Texts(language)[f"report_{name}"]


def test_text_is_escaped_unless_it_was_made_here() -> None:
    made = element("p", "a < b", element("b", '"&'), title='">', data_x=1, hidden=None)
    assert made == '<p title="&quot;&gt;" data-x="1">a &lt; b<b>&quot;&amp;</b></p>'
    assert element("br") == "<br>"
    assert join("<", Html("<")) == "&lt;<"


def test_languages() -> None:
    assert best_language("", "de-AT, en") == "de"
    assert best_language("es", "de") == "es"
    assert best_language("tlh", "", "xx;q=1") == "en"
    assert Texts("de").tag("mood---dark") == Texts("de").tag("dark") == "düster"
    assert Texts("en").tag("genre---unheard") == "unheard"
