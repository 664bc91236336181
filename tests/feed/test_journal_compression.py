"""Scores in the journal: small, and given back byte by byte."""

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.feeds import topic_events

from streamtag.engine import events
from streamtag.feed.current_state import JournalRow
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.feed.journal.compression import TABLE, Compressor, Decompressor
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.reader import JournalReader, MissingRange
from streamtag.feed.journal.retention import Retention
from streamtag.feed.messages import dump
from streamtag.history.history import History
from streamtag.history.query import Query

TOPIC = "scores/radio1/"


def scores(n: int, tags: int = 50, stream: str = "radio1", model: str = "m") -> list[bytes]:
    """Payloads of windows of music that changes slowly."""
    wire, rng = EventEncoder({}, 10**18), np.random.default_rng(0)
    wire.taggers[model] = TaggerInfo(tuple(f"{model} tag {i}" for i in range(tags)))
    wire.message(events.StreamOpened(stream, 0, 1000, 10**18, (model,)))
    bodies = []
    for i in range(n):
        values = tuple(float(p) for p in rng.beta(0.5, 3, tags))
        event = events.WindowScored(
            stream, model, i * 500, i * 500 + 3000, values, values[::-1], False
        )
        bodies.append(dump(wire.message(event)))
    return bodies


def keep(journal: Journal, topic: str, bodies: list[bytes], first: int = 1) -> None:
    journal.append([JournalRow(topic, first + i, body) for i, body in enumerate(bodies)], 1)


def test_scores_are_restored_exactly_and_need_less_than_half(tmp_path: Path) -> None:
    bodies, mood = scores(400), [b'{"v":1,"type":"mood","seq":%d}' % i for i in range(9)]
    bodies += [*scores(20, model="other"), b"", b"x", b"\x78\x20"]
    journal = Journal(tmp_path / "j")
    keep(journal, TOPIC, bodies[:200])
    keep(journal, TOPIC, bodies[200:], 201)
    keep(journal, "mood/radio1/", mood)
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.last() == {TOPIC: len(bodies), "mood/radio1/": 9}
    assert again.size() < sum(map(len, bodies)) / 2
    reader = JournalReader(again.path)
    assert reader.read(TOPIC, again.epoch, 1, len(bodies), 999).bodies == bodies
    assert reader.read("mood/radio1/", again.epoch, 1, 9, 99).bodies == mood
    reader.close()
    again.close()


def test_events_are_kept_as_they_are(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    keep(journal, "event/radio1/", scores(3))
    journal.close()
    with sqlite3.connect(journal.path) as db:
        assert [body for (body,) in db.execute("SELECT body FROM event")] == scores(3)
    db.close()


def test_a_dictionary_of_a_failed_transaction_is_written_again(tmp_path: Path) -> None:
    journal, bodies = Journal(tmp_path / "j"), scores(4)
    with pytest.raises(TypeError):
        keep(journal, TOPIC, [bodies[0], None])  # type: ignore[list-item]
    keep(journal, TOPIC, bodies)
    reader = JournalReader(journal.path)
    assert reader.read(TOPIC, journal.epoch, 1, 4, 9).bodies == bodies
    reader.close()
    journal.close()


def test_messages_without_their_dictionary_are_reported_as_damaged(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    keep(journal, TOPIC, scores(2))
    with sqlite3.connect(journal.path) as db:
        db.execute("DELETE FROM dictionary")
    db.close()
    reader = JournalReader(journal.path)
    found = reader.read(TOPIC, journal.epoch, 1, 2, 9)
    assert found.missing == [MissingRange(1, 1, "damaged"), MissingRange(2, 2, "damaged")]
    reader.close()
    journal.close()


def test_dictionaries_of_the_same_checksum_are_told_apart() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLE)
        first, second = (b'{"values":[0.%d]}' % n for n in (131, 212))
        assert zlib.adler32(first) == zlib.adler32(second)
        packed = [Compressor(db).compress("scores/a/", body) for body in (first, second, first)]
        restore = Decompressor(db).decompress
        assert [restore(body) for body in packed] == [first, second, first]
        assert db.execute("SELECT count(*) FROM dictionary").fetchone() == (2,)


def test_dictionaries_are_removed_with_the_last_message_that_needs_them(tmp_path: Path) -> None:
    bodies = scores(60)
    for first in range(0, 60, 20):  # each time the daemon begins anew
        journal = Journal(tmp_path / "j", Retention(seconds=1), now_ns=first + 1)
        keep(journal, TOPIC, bodies[first : first + 20], first + 1)
        if first == 20:
            journal.append([JournalRow("event/radio1/", 1, b"{}")], 10**10)
            assert journal.prune(2 * 10**9) == 40
        journal.close()
    journal = Journal(tmp_path / "j")
    reader = JournalReader(journal.path)
    assert reader.read(TOPIC, journal.epoch, 41, 60, 99).bodies == bodies[40:]
    reader.close()
    with closing(sqlite3.connect(journal.path)) as db:
        query = "SELECT count(*), sum(body!=x'') FROM dictionary"
        assert db.execute(query).fetchone() == (3, 1)
    journal.close()


def test_few_dictionaries_serve_many_messages() -> None:
    """Also where two models speak in turns on one topic."""
    db = sqlite3.connect(":memory:")
    db.executescript(TABLE)
    compressor, restore = Compressor(db), Decompressor(db).decompress
    both = [
        body for two in zip(scores(300), scores(300, model="other"), strict=True) for body in two
    ]
    packed = [compressor.compress(TOPIC, body) for body in both]
    assert [restore(body) for body in packed] == both
    (n,) = db.execute("SELECT count(*) FROM dictionary").fetchone()
    assert n <= 6
    alone = Compressor(db)
    best = [len(alone.compress("scores/x/", body)) for body in scores(200)]
    assert sum(map(len, packed[-200:])) < 1.05 * sum(best[-200:])
    db.close()


def test_history_decompresses_scores(tmp_path: Path) -> None:
    journal, bodies = Journal(tmp_path / "j"), scores(5)
    keep(journal, TOPIC, bodies)
    history = History(journal.path)
    assert [entry.body for entry in history.select(Query()).entries] == bodies
    assert [dump(message) for _, _, message in topic_events(history, TOPIC).rows] == bodies
    history.close()
    journal.close()
