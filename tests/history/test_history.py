"""`streamtag history`: what a journal knows, searched, exported, added up by hand, and drawn."""

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.feeds import topic_events
from support.web_server import START_NS, Feed
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.engine import events
from streamtag.errors import FeedError, StreamtagError
from streamtag.feed.journal.retention import Retention
from streamtag.feed.timestamps import parse_hour, parse_moment
from streamtag.history import taggram
from streamtag.history.history import History
from streamtag.history.intervals import HOUR, shares, stream_intervals
from streamtag.history.taggram import draw_hour


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j.db"


@pytest.fixture
def feed(path: Path) -> Iterator[Feed]:
    feed = Feed(path)
    yield feed
    feed.close()


def title(feed: Feed, stream: str, at: float) -> None:
    feed.publish(events.TitleChanged(stream, int(at * 1000), "a title"))


def added(path: Path, stream: str, end: int | None = None) -> list[tuple[int, str, float, float]]:
    """Hour of the day, tag, seconds on, seconds heard."""
    history = History(path)
    try:
        intervals = stream_intervals(topic_events(history, f"event/{stream}/"), end)
    finally:
        history.close()
    return [
        (one.hour // HOUR % 24, one.tag, one.on, one.received)
        for one in shares(stream, intervals, 0, 2**62)
    ]


def test_shares_across_hours_a_crash_a_restart_and_missing_audio(path: Path) -> None:
    feed = Feed(path)
    feed.up("radio")  # 10:00
    feed.on("radio", "calm", 3000)  # 10:50
    feed.off("radio", "calm", 3000, 4800)  # 11:20
    feed.on("radio", "loud", 5400)  # 11:30
    title(feed, "radio", 5700)  # 11:35, the last thing known
    feed.close()  # `loud` is on
    feed = Feed(path)  # and is ended as recovered
    assert [message.type for message in feed.published] == ["tag_off", "stream_down"]
    feed.up("radio", START_NS + 2 * HOUR)  # 12:00
    feed.publish(events.GapFound("radio", 300_000, 600_000))  # 12:05 to 12:10
    feed.on("radio", "calm", 1800)  # 12:30
    feed.off("radio", "calm", 1800, 2700)  # 12:45
    feed.down("radio", 3000)  # 12:50
    feed.close()
    assert added(path, "radio") == [
        (10, "calm", 600, 3600),
        (11, "calm", 1200, 2100),
        (11, "loud", 300, 2100),
        (12, "calm", 900, 2700),
    ]


def test_shares_count_nothing_where_messages_are_missing(feed: Feed, path: Path) -> None:
    feed.up("a")
    feed.on("a", "calm", 600)
    for at in (900, 1200):  # never kept: who knows
        feed.wire.message(events.GapFound("a", at * 1000, at * 1000 + 1))
    title(feed, "a", 1800)
    feed.off("a", "calm", 600, 2400)
    feed.down("a", 3000)
    assert added(path, "a") == [(10, "calm", 600, 1800)]  # heard 0-600 and 1800-3000


def test_shares_begin_where_retention_ends(feed: Feed, path: Path) -> None:
    feed.up("a")
    feed.on("a", "calm", 600)
    feed.off("a", "calm", 600, 1200)
    feed.on("a", "calm", 1800)
    journal = feed.publisher._journal
    assert journal is not None
    journal.retention = Retention(seconds=1e-9)
    assert journal.prune(time.time_ns() + 10**9) == 2
    journal.retention = Retention()
    title(feed, "a", 2400)
    feed.off("a", "calm", 1800, 3000)
    feed.down("a", 3600)
    assert added(path, "a") == [(10, "calm", 600, 1200)]  # known from 2400 on


def test_an_active_tag_lasts_as_long_as_the_daemon_runs(path: Path) -> None:
    feed = Feed(path)
    feed.up("a")
    feed.on("a", "calm", 600)
    title(feed, "a", 1200)
    assert added(path, "a", START_NS + 1800 * 10**9) == [(10, "calm", 1200, 1800)]
    history = History(path)
    assert history.being_written
    feed.close()
    assert not history.being_written
    history.close()
    assert added(path, "a") == [(10, "calm", 600, 1200)]  # up to the last thing known


def test_shares_of_a_part_of_an_hour(feed: Feed, path: Path) -> None:
    feed.up("a")
    feed.on("a", "calm", 600)
    feed.off("a", "calm", 600, 1200)
    feed.down("a", 3000)
    history = History(path)
    intervals = stream_intervals(topic_events(history, "event/a/"), None)
    history.close()
    begin = START_NS + 900 * 10**9
    (one,) = shares("a", intervals, begin, begin + 600 * 10**9)
    assert (one.on, one.received, one.share) == (300, 600, 0.5)
    assert not shares("a", intervals, 0, 2**62, frozenset(["loud"]))


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["history", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def feed_of_two(feed: Feed) -> Feed:
    feed.up("a")
    feed.on("a", "calm", 60)
    feed.off("a", "calm", 60, 120)
    feed.up("b")
    feed.on("b", "loud", 180)
    feed.scores("b", 181, 0.25, 0.5)
    feed.down("a", 240)
    return feed


def test_search_and_export_while_it_is_written(
    feed_of_two: Feed, path: Path, tmp_path: Path
) -> None:
    rows = list(csv.DictReader(run("-j", path, "--csv").splitlines()))
    assert [(row["stream"], row["type"]) for row in rows] == [
        ("a", "stream_up"),
        ("a", "tag_on"),
        ("a", "tag_off"),
        ("b", "stream_up"),
        ("b", "tag_on"),
        ("a", "stream_down"),
    ]
    assert (rows[2]["tag"], rows[2]["peak"]) == ("calm", "0.9")
    assert rows[2]["since_utc"] == "2026-11-21T10:01:00.000000Z"
    lines = [json.loads(line) for line in run("-j", path, "--json", "--tag", "calm").splitlines()]
    assert [(line["seq"], line["type"], line["reason"]) for line in lines[1:]] == [
        (3, "tag_off", "below_threshold")
    ]
    span = ("--from", "2026-11-21T10:03", "--to", "2026-11-21T10:04:00Z")
    assert len(run("-j", path, "--json", *span, "--stream", "b").splitlines()) == 1
    assert run("-j", path, "--json", "--from", "-2h", "--to", "-1h") == ""
    table = run("-j", path, "--type", "tag_off")
    assert "calm after 60.0 s, peak 0.90, below_threshold" in table
    parquet = pytest.importorskip("pyarrow.parquet")
    run("-j", path, "--parquet", tmp_path / "a.parquet")
    found = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["seq"] for row in found] == [1, 2, 3, 1, 2, 4]
    assert found[1]["utc"].isoformat() == "2026-11-21T10:01:00+00:00"
    assert json.loads(found[1]["message"])["probability"] == 0.75


def test_shares_by_command(feed_of_two: Feed, path: Path) -> None:
    feed_of_two.off("b", "loud", 180, 360)
    feed_of_two.down("b", 720)
    rows = list(csv.DictReader(run("shares", "-j", path, "--csv").splitlines()))
    assert [(r["hour"], r["stream"], r["tag"], r["share"]) for r in rows] == [
        ("2026-11-21T10:00:00Z", "a", "calm", "0.25"),
        ("2026-11-21T10:00:00Z", "b", "loud", "0.25"),
    ]
    lines = run("-j", path, "shares", "--json", "--stream", "b").splitlines()
    assert [json.loads(line)["on_seconds"] for line in lines] == [180.0]
    assert "25.0 %" in run("-j", path, "shares")


def test_wrong_options_are_errors(
    feed_of_two: Feed, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "a.toml"
    config.write_text('streams.a.source = "device:"\n')
    for wrong, words in (
        ((), "--journal: expected a journal's file"),
        (("-j", tmp_path / "none.db"), "expected the file that feed.journal names, got none"),
        (("-j", config), "feed.journal: expected a path, got none"),
        (("-j", "nats://host:4222"), "expected a file, got nats:/host:4222, a server; a gateway"),
        (("-j", path, "--from", "monday"), "--from: expected a UTC time such as"),
        (("-j", path, "--from", "-1h", "--to", "-2h"), "--to: expected a moment not before"),
        (("-j", path, "--type", "tag"), "--type: expected one of "),
        (("-j", path, "taggram", "a", "--hour", "10"), "--hour: expected an hour in UTC such as"),
        (("-j", path, "taggram", "x", "--hour", "2026-11-21T10"), "it knows the streams a, b"),
    ):
        with pytest.raises(StreamtagError, match=words.replace(".", r"\.")):
            run(*wrong)
    (tmp_path / "text.db").write_text("This is not a database at all, only text." * 30)
    with pytest.raises(FeedError, match="got file is not a database"):
        run("-j", tmp_path / "text.db")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StreamtagError, match=r"pip install \"streamtag\[parquet\]\""):
        run("-j", path, "--parquet", tmp_path / "x.parquet")


def test_a_configuration_names_its_journal(feed_of_two: Feed, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text('streams.a.source = "device:"\nfeed.journal = "j.db"\n')
    assert len(run("-j", config, "--json").splitlines()) == 6


def test_a_taggram_of_a_past_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores where they are kept, spans cut at the hour, and nothing over what was not heard."""
    path = tmp_path / "scores.db"
    feed = Feed(path, keeps=("event/", "scores/"))
    feed.up("a")
    feed.on("a", "calm", 3000)
    for at in (3590, 3595, 3600, 3605, 3610, 3615, 3635, 3640):
        feed.scores("a", at, 0.75, 0.25)
    feed.off("a", "calm", 3000, 4000)
    feed.down("a", 4500)
    feed.close()
    drawn = []
    monkeypatch.setattr(taggram, "draw", lambda *given, **more: drawn.append((given, more)))
    history = History(path)
    draw_hour(history, "a", parse_hour("2026-11-21T11"), tmp_path / "x.png", None)
    monkeypatch.undo()
    ((_, name, tags, times, smoothed, spans, duration), more) = drawn[0]
    assert (name, tags, duration) == ("a, 2026-11-21 11:00 UTC", ["calm", "loud"], 3600)
    # The window that ends at 3600 has its middle before the hour.
    np.testing.assert_allclose(times, [4.5, 9.5, 14.5, 19.5, 29.5, 34.5, 39.5])
    np.testing.assert_array_equal(np.isnan(smoothed[:, 0]), [False] * 3 + [True] * 2 + [False] * 2)
    assert [(span.tag, span.on, span.off) for span in spans] == [("calm", 0, 400)]
    assert more["unknown"] == [(900, 3600)]
    draw_hour(history, "a", parse_hour("2026-11-21T11:00Z"), tmp_path / "a.png", None)
    history.close()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_taggram_without_scores(feed_of_two: Feed, path: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    run("-j", path, "taggram", "a", "--hour", "2026-11-21T10", "-o", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", 0),
        ("-2h", -7200),
        ("-1.5m", -90),
        ("-1w", -604800),
        ("2026-11-21T10:00:01", 1),
        ("2026-11-21T11:00:01+01:00", 1),
        ("2026-11-21", -36000),
    ],
)
def test_moments_are_parsed(text: str, seconds: float) -> None:
    assert parse_moment(text, START_NS) == START_NS + int(seconds * 10**9)


@pytest.mark.parametrize("text", ["", "2h", "-2y", "0001-01-01T00:00+14:00", "9999-12-31", "-٣h"])
def test_other_texts_are_no_moments(text: str) -> None:
    with pytest.raises(ValueError, match="expected a UTC time"):
        parse_moment(text, START_NS)
