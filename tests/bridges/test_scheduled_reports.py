"""Reports on a schedule: which is due when, what is sent, and that it is sent once."""

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bridges.test_notifier import Mailbox, configuration, feed, mail_to, mailbox
from support.feeds import Feed
from support.paths import ROOT
from support.peers import wait_until
from support.web_server import Feed as PastFeed
from typer.testing import CliRunner

from streamtag.bridges.notifier import UNDELIVERED, AppriseSender, Notifier, _schedule
from streamtag.bridges.scheduled_reports import ReportSchedule
from streamtag.cli.main import app
from streamtag.config.config import load_config, parse_config
from streamtag.config.report import ReportConfig
from streamtag.daemon.check import complaints_about
from streamtag.errors import ConfigError

__all__ = ["feed", "mailbox"]  # fixtures


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("every", "now", "key"),
    [
        ("day", "2026-11-23T04:59:59+00:00", "day 2026-11-21"),  # 05:59:59 in Berlin
        ("day", "2026-11-23T05:00:00+00:00", "day 2026-11-22"),
        ("day", "2026-07-23T04:00:00+00:00", "day 2026-07-22"),
        ("week", "2026-11-23T04:59:59+00:00", "week 2026-11-09"),
        ("week", "2026-11-23T05:00:00+00:00", "week 2026-11-16"),
        ("week", "2026-11-29T23:00:00+00:00", "week 2026-11-16"),
        ("month", "2026-12-01T04:59:59+00:00", "month 2026-10-01"),
        ("month", "2026-12-01T05:00:00+00:00", "month 2026-11-01"),
        ("month", "2027-01-15T05:00:00+00:00", "month 2026-12-01"),
    ],
)
def test_the_newest_report_that_is_due(every: Any, now: str, key: str) -> None:
    config = ReportConfig(every=every, zone="Europe/Berlin")
    schedule = ReportSchedule(config, Path("none"), Path("none"), Path("none"))
    assert schedule.due(ns(now)) == key


@pytest.fixture
def past(tmp_path: Path) -> Path:
    """A configuration with the journal of 2026-11-21."""
    journal = tmp_path / "past.db"
    made = PastFeed(journal)
    made.up("radio")
    made.on("radio", "calm", 600)
    made.off("radio", "calm", 600, 1800)
    made.down("radio", 3600)
    made.up("a/b")
    made.close()
    path = tmp_path / "past.toml"
    path.write_text('streams.radio.source = "device:"\nfeed.journal = "past.db"\n')
    return path


def test_pages_and_tables_of_the_streams_that_are_wanted(past: Path, tmp_path: Path) -> None:
    config = ReportConfig(every="day", streams=("rad*",), lang="de")
    schedule = ReportSchedule(config, past, past.with_suffix(".db"), tmp_path / "reports")
    now = ns("2026-11-22T06:00:00+00:00")
    wait_until(lambda: schedule.made(now) is not None, "no report")
    made = schedule.made(now)
    assert made is not None
    assert (made.key, made.title) == ("day 2026-11-21", "[REPORT] 2026-11-21")
    assert made.body.startswith("radio: received 4.2 %, lost 0 min, silence 0 min")
    folder = tmp_path / "reports" / "2026-11-21"
    page = folder / "radio_2026-11-21.html"
    assert made.files == (str(page),)
    assert "Samstag, 21. November 2026" in page.read_text()
    assert page.with_suffix(".csv").read_text().startswith("from,to,kind")
    assert sorted(p.name for p in (tmp_path / "reports").iterdir()) == ["2026-11-21"]


def test_a_report_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    config = ReportConfig(every="day")
    (tmp_path / "c.toml").write_text('streams.radio.source = "device:"\n')
    schedule = ReportSchedule(config, tmp_path / "c.toml", tmp_path / "no.db", tmp_path / "r")
    now = ns("2026-11-22T06:00:00+00:00")
    wait_until(lambda: schedule.made(now) is not None, "no report")
    made = schedule.made(now)
    assert made is not None
    assert "It could not be made: journal" in made.body


def notifier_of(path: Path, stop: Any) -> Notifier:
    daemon = load_config(path)
    assert daemon.notify is not None
    assert daemon.report is not None
    schedule = ReportSchedule(
        daemon.report, path, Path(daemon.feed.journal), path.parent / "reports"
    )
    sender = AppriseSender("mail", daemon.notify.targets["mail"])
    return Notifier(daemon, daemon.notify, "mail", sender, stop, schedule)


def scheduled(folder: Path, feed: Feed, port: int, more: str = "") -> Path:
    path = configuration(folder, feed.publisher.address, mail_to(port), more)
    later = (time.gmtime().tm_hour + 12) % 24  # no new one is due while the test runs
    path.write_text(path.read_text() + f'[report]\nevery = "day"\nat = "{later:02}:00"\n')
    return path


def test_it_is_sent_once_also_over_restarts(
    tmp_path: Path, feed: Feed, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.refusals = 1
    path = scheduled(tmp_path, feed, port)
    state = tmp_path / "j.db.notify" / "mail.json"

    def run_until(done: Callable[[Notifier], object]) -> None:
        stop = threading.Event()
        notifier = notifier_of(path, stop)
        thread = threading.Thread(target=notifier.run)
        thread.start()
        try:
            wait_until(lambda: bool(done(notifier)), lambda: str(box.texts()))
        finally:
            stop.set()
            thread.join()

    run_until(lambda _: state.exists())  # the first start: nothing is due yet
    kept = json.loads(state.read_text())
    assert kept["reported"].startswith("day 20")
    assert not box.letters
    state.write_text(json.dumps(kept | {"reported": "day 2020-01-01"}))
    run_until(lambda notifier: notifier.state.reported >= kept["reported"])
    run_until(lambda notifier: notifier.state._saved)
    (letter,) = box.letters
    assert letter["Subject"].startswith("[REPORT] 20")
    assert json.loads(state.read_text())["delivered"] == 1


def test_a_report_that_is_given_up_is_listed(
    tmp_path: Path, feed: Feed, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.refusals = 1000
    path = scheduled(tmp_path, feed, port, "give_up_seconds = 0.01")
    notifier = notifier_of(path, threading.Event())
    notifier.state.reported = "day 2020-01-01"
    listed = tmp_path / "j.db.notify" / UNDELIVERED

    def settled() -> bool:
        notifier._send_report()
        return listed.exists()

    wait_until(settled, "not listed")
    (row,) = map(json.loads, listed.read_text().splitlines())
    assert (row["target"], row["type"]) == ("mail", "report")
    assert time.strptime(row["id"], "day %Y-%m-%d")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"every": "year"}, "report.every: expected 'day', 'week' or 'month', got 'year'"),
        ({"every": "day", "at": "6"}, "report.at: "),
        ({"every": "day", "zone": "Mars"}, "zone: expected a time zone such as Europe/Berlin"),
        ({"every": "day", "notify": ["desk"]}, "report.notify: no target 'desk'; there are: mail"),
        ({}, "missing key report.every"),
    ],
)
def test_faults_are_named(table: dict[str, Any], words: str, tmp_path: Path) -> None:
    whole = {
        "streams": {"radio": {"source": "device:"}},
        "feed": {"journal": "j.db"},
        "notify": {"targets": {"mail": {"url": "json://127.0.0.1"}}},
        "report": table,
    }
    with pytest.raises(ConfigError) as error:
        parse_config(whole, tmp_path)
    assert words in str(error.value)
    assert parse_config(whole | {"report": {"every": "day"}}, tmp_path).report is not None
    bare = {"streams": whole["streams"], "report": {"every": "day"}}
    with pytest.raises(ConfigError, match="notify: expected a table") as error:
        parse_config(bare, tmp_path)
    assert "feed.journal: expected a path" in str(error.value)


PAGE = (ROOT / "docs" / "reports.md").read_text()


def recipes() -> list[str]:
    return [part.partition("```")[0] for part in PAGE.split("```toml\n")[1:]]


@pytest.mark.parametrize("text", recipes())
def test_the_recipes_make_reports(text: str, past: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OFFICE_URL", "ARCHIVE_URL", "MANAGER_URL"):
        monkeypatch.setenv(name, "json://127.0.0.1/")
    path = past.with_name("recipe.toml")
    path.write_text(text)
    assert not list(complaints_about(path))
    config = load_config(path)
    assert config.report is not None
    schedule = _schedule(config, config.notify, path) if config.notify else None
    assert schedule is not None
    past.with_suffix(".db").rename(Path(config.feed.journal))
    now = ns("2026-12-01T12:00:00+00:00")
    wait_until(lambda: schedule.made(now) is not None, "no report")
    made = schedule.made(now)
    assert made is not None
    assert made.key == schedule.due(now)
    assert "could not be made" not in made.body


def test_the_table_of_options_shows_every_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", PAGE, re.M)
    shown = dict(rows)
    for name in ("at", "zone", "lang"):
        assert shown[name].strip('"') == ReportConfig.model_fields[name].default


@pytest.mark.parametrize("line", re.findall(r"^streamtag (report [^#\n]*)", PAGE, re.M))
def test_the_commands_of_the_page(line: str, past: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(past.parent)
    words = ["radio" if w == "radio1" else past.name if w == "my.toml" else w for w in line.split()]
    done = CliRunner().invoke(app, words)
    assert done.exception is None, done.output
