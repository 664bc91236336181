"""Sections of a programme: the rule, what is said live, restarts, and the log of a journal."""

import json
import random
from pathlib import Path

import pytest
from support.paths import ROOT
from support.toy import card
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.config.feed import FeedConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.engine import events
from streamtag.engine.events import Event, Reason, StreamOpened
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.feed.messages import Message, Section
from streamtag.history.history import History
from streamtag.history.query import Query
from streamtag.model.card import Card
from streamtag.monitoring.programme_log import sections_in
from streamtag.monitoring.section_observer import DELAY_SECONDS, SectionObserver, sections_of
from streamtag.monitoring.sections import BOTH, MUSIC, OTHER, SILENCE, SPEECH, Piece, merge

RATE = 1000
START_NS = 1_795_255_200_000_000_000  # 2026-11-21T10:00:00Z
TAGS = ("speech", "music", "jazz", "calm", "piano")
CATEGORIES = {"jazz": "genre", "calm": "mood", "piano": "instrument"}


@pytest.fixture(scope="module")
def cards() -> dict[str, Card]:
    """Of a tagger whose windows are so short that borders need no correction worth a word."""
    n = len(TAGS)
    made = card(
        tags=TAGS, on_thresholds=(0.55,) * n, off_thresholds=(0.45,) * n, categories=CATEGORIES
    )
    return {"m": made}


def pieces(*lengths: tuple[str, float]) -> list[Piece]:
    found, at = [], 0.0
    for kind, seconds in lengths:
        found.append(Piece(at, at + seconds, kind))
        at += seconds
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(MUSIC, 60), (BOTH, 8), (MUSIC, 30)], [(MUSIC, 98)]),
        ([(SPEECH, 30), (BOTH, 8), (MUSIC, 60)], [(SPEECH, 30), (MUSIC, 68)]),
        ([(MUSIC, 60), (BOTH, 5), (SPEECH, 30)], [(MUSIC, 60), (SPEECH, 35)]),
        ([(MUSIC, 60), (BOTH, 20), (SPEECH, 30)], [(MUSIC, 80), (SPEECH, 30)]),
        ([(SPEECH, 30), (BOTH, 25), (SPEECH, 30)], [(SPEECH, 85)]),
        ([(MUSIC, 60), (SPEECH, 3), (MUSIC, 60)], [(MUSIC, 123)]),
        ([(MUSIC, 60), (OTHER, 5), (SPEECH, 30)], [(MUSIC, 65), (SPEECH, 30)]),
        ([(MUSIC, 60), (SILENCE, 5), (MUSIC, 60)], [(MUSIC, 60), (SILENCE, 5), (MUSIC, 60)]),
        ([(MUSIC, 60), (SILENCE, 2), (SPEECH, 60)], [(MUSIC, 62), (SPEECH, 60)]),
        ([(SPEECH, 4)], [(SPEECH, 4)]),
        ([], []),
    ],
)
def test_pieces_become_sections(
    given: list[tuple[str, float]], expected: list[tuple[str, float]]
) -> None:
    assert merge(pieces(*given)) == pieces(*expected)


def test_forty_words_over_an_intro_are_one_section() -> None:
    talk = [(BOTH, 2.0), (MUSIC, 1.0)] * 40
    assert merge(pieces((SPEECH, 30), *talk, (MUSIC, 60))) == pieces((SPEECH, 30), (MUSIC, 180))


def up(at: float = 0) -> Event:
    return StreamOpened("a", int(at * RATE), RATE, START_NS, ("m",))


def on(tag: str, at: float) -> Event:
    k = int(at * RATE)
    return events.TagStarted("a", "m", tag, k, k, 0.75, False)


def off(tag: str, since: float, at: float) -> Event:
    n = int(at * RATE)
    why = Reason.BELOW_THRESHOLD
    return events.TagEnded("a", "m", tag, n, n, int(since * RATE), 0.9, why)


def down(at: float) -> Event:
    return events.StreamClosed("a", int(at * RATE), Reason.STREAM_CLOSED, "")


PROGRAMME = [
    (0, up()), (0, on("speech", 0)), (40, off("speech", 0, 40)), (40, on("music", 40)),
    (45, on("jazz", 45)), (50, on("piano", 50)), (60, events.TitleChanged("a", 40 * RATE, "Blue")),
    (200, off("jazz", 45, 200)), (240, off("music", 40, 240)), (240, off("piano", 50, 240)),
    (240, on("speech", 240)), (300, off("speech", 240, 300)), (301, on("music", 301)),
    (400, off("music", 301, 400)), (400, down(400)),
]  # fmt: skip
EXPECTED = [("speech", 0, 40), ("music", 40, 240), ("speech", 240, 301), ("music", 301, 400)]


def opened(journal: Path, cards: dict[str, Card]) -> EventOutput:
    config = FeedConfig(bind=f"ipc://{journal}.s", journal=str(journal), sections=True)
    output = EventOutput(config, Monitor(), [SectionObserver(cards)])
    output._encoder.taggers["m"] = TaggerInfo(TAGS)
    return output


def play(output: EventOutput, first: float, last: float) -> None:
    """Publishes what happens in [first, last), and lets the time pass at every second."""
    for second in range(int(first), int(last)):
        output.publish([event for at, event in PROGRAMME if at == second])
        now = START_NS + second * 10**9
        output._send([])
        output.publisher.publish(*output._derivation.tick(now))


def said(journal: Path) -> list[Section]:
    history = History(journal)
    try:
        query = Query(types=frozenset({"section"}))
        return [e.message for e in history.entries(query) if isinstance(e.message, Section)]
    finally:
        history.close()


def short(sections: list[Section], error: float) -> list[tuple[str, float, float]]:
    """Kind, begin and end, the expected ones where they are within an error."""
    found = []
    for one, (kind, begin, end) in zip(sections, EXPECTED, strict=False):
        near = abs(one.t - begin) <= error and abs(one.end - end) <= error
        found.append((one.kind, begin, end) if near else (one.kind, one.t, one.end))
        assert kind
    return found + [(one.kind, one.t, one.end) for one in sections[len(EXPECTED) :]]


def test_sections_are_said_live_with_what_was_on(tmp_path: Path, cards: dict[str, Card]) -> None:
    output = opened(tmp_path / "j", cards)
    play(output, 0, 40 + DELAY_SECONDS - 1)
    assert said(tmp_path / "j") == []
    play(output, 40 + DELAY_SECONDS - 1, 401)
    output.close(0)
    found = said(tmp_path / "j")
    assert short(found, 1.0) == EXPECTED
    song = found[1]
    assert (song.title, song.genre, song.instruments) == ("Blue", "jazz", ("piano",))
    assert song.certainty > 0.95
    assert [s.seq for s in found] == [1, 2, 3, 4]


def test_a_crash_at_any_moment_neither_loses_nor_doubles_a_section(
    tmp_path: Path, cards: dict[str, Card]
) -> None:
    rng = random.Random(5)
    for number in range(12):
        journal, at = tmp_path / f"j{number}", rng.randrange(1, 400)
        output = opened(journal, cards)
        play(output, 0, at)
        output.publisher.close()  # as a crash: nothing ends
        opened(journal, cards).close(0)
        found = said(journal)
        assert [a.end_utc for a in found[:-1]] == [b.utc for b in found[1:]]
        assert not found or found[0].t == 0
        assert [s.kind for s in found] == [kind for kind, *_ in EXPECTED][: len(found)]


def test_the_log_of_a_journal_without_sections_is_the_same(
    tmp_path: Path, cards: dict[str, Card]
) -> None:
    output = opened(tmp_path / "live", cards)
    play(output, 0, 401)
    output.close(0)
    config = FeedConfig(bind=f"ipc://{tmp_path}/s", journal=str(tmp_path / "plain"))
    plain = EventOutput(config, Monitor())
    plain._encoder.taggers["m"] = TaggerInfo(TAGS)
    plain.publish([event for _, event in PROGRAMME])
    plain.close(0)

    def rows(journal: Path) -> list[tuple[object, ...]]:
        history = History(journal)
        try:
            found = sections_in(history, Query(), cards)
        finally:
            history.close()
        return [(s.kind, s.t, s.end, s.title, s.genre, s.certainty) for s in found]

    assert rows(tmp_path / "plain") == rows(tmp_path / "live")
    assert len(rows(tmp_path / "live")) == 4


def test_history_log_prints_and_writes_it(tmp_path: Path, cards: dict[str, Card]) -> None:
    journal = tmp_path / "j.db"
    output = opened(journal, cards)
    play(output, 0, 401)
    output.close(0)
    run = CliRunner()
    table = run.invoke(app, ["history", "log", "-j", str(journal)])
    assert table.exit_code == 0, table.output
    assert "Blue, jazz, piano" in table.output
    lines = run.invoke(app, ["history", "log", "-j", str(journal), "--json"]).output.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [kind for kind, *_ in EXPECTED]
    text = run.invoke(app, ["history", "log", "-j", str(journal), "--csv", "-s", "a"]).output
    assert text.splitlines()[0].startswith("stream,begin_utc,end_utc,seconds,kind")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    file = tmp_path / "log.parquet"
    run.invoke(app, ["history", "log", "-j", str(journal), "--parquet", str(file)])
    assert parquet.read_table(file).column("kind").to_pylist() == [kind for kind, *_ in EXPECTED]


def test_a_section_without_end_is_said_in_pieces(cards: dict[str, Card]) -> None:
    observer = SectionObserver(cards)
    output = [up(), on("music", 0)]
    encoder, found = EventEncoder({"m": TAGS}, START_NS), list[Message]()
    for event in output:
        found += observer.observe(encoder.message(event), START_NS)
    for minute in range(60 * 13):
        found += observer.tick(START_NS + minute * 60 * 10**9)
    assert len(found) == 2
    assert sections_of([], cards) == []


def test_the_commands_of_the_page_run(tmp_path: Path, cards: dict[str, Card]) -> None:
    journal = tmp_path / "events.db"
    output = opened(journal, cards)
    play(output, 0, 401)
    output.close(0)
    lines = (ROOT / "docs" / "programme-log.md").read_text().splitlines()
    commands = [line.split()[1:] for line in lines if line.startswith("streamtag history log")]
    assert len(commands) == 2
    for words in commands:
        found = [str(journal) if word == "events.db" else word for word in words]
        done = CliRunner().invoke(app, found)
        assert done.exit_code == 0, done.output
