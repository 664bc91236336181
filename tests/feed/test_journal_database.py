"""The journal's file: damaged, of another layout, or of another program."""

import logging
import sqlite3
from pathlib import Path

import pytest
from feed.test_journal import GAP, NOW, TOPIC, UP, write

from streamtag.errors import FeedError
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.reader import JournalReader, MissingRange
from streamtag.feed.messages import parse


def places(data: bytes, damage: str) -> bytes:
    """A journal's file with bytes overwritten."""
    whole = bytearray(data)
    if damage == "head":
        whole[:100] = b"no database".ljust(100)
    elif damage == "pages":
        for at in range(8192, len(whole), 65536):
            whole[at : at + 2048] = b"\xa5" * 2048
    elif damage == "letters":  # inside of messages: no page of the database is broken
        for n, at in enumerate(range(whole.index(b'"gap"'), len(whole) // 2, 30_000)):
            found = whole.index(b'"gap"', at)
            whole[found + 1] = ord("a") + n
    elif damage == "cut":
        del whole[len(whole) // 2 :]
    return bytes(whole)


@pytest.mark.parametrize("damage", ["head", "pages", "letters", "cut"])
def test_a_damaged_journal_is_set_aside(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path, now_ns=NOW)
    write(journal, [UP, *[GAP] * 3000])
    journal.close()
    damaged = places(path.read_bytes(), damage)
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with caplog.at_level(logging.ERROR):
        anew = Journal(path, now_ns=NOW - 1)
    assert anew.epoch > journal.epoch
    assert anew.last() == {}
    anew.close()
    (aside,) = tmp_path.glob("journal.db.damaged-*")
    assert aside.read_bytes()[:4096] == damaged[:4096]
    assert "damaged" in caplog.text
    assert aside.name in caplog.text


def test_a_message_damaged_on_disk_is_reported_as_missing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    write(journal, [UP, GAP, GAP])
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE event SET body=CAST(replace(body, 'gap', 'gas') AS BLOB) WHERE seq=2")
    db.close()
    reader = JournalReader(journal.path)
    found = reader.read(TOPIC, journal.epoch, 1, 3, 9)
    assert found.missing == [MissingRange(2, 2, "damaged")]
    assert [parse(body).seq for body in found.bodies] == [1, 3]
    reader.close()
    journal.close()


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("CREATE TABLE songs (name TEXT)", "expected a journal or no file, got a database with"),
        ("UPDATE meta SET value='9' WHERE name='layout'", "expected layout 2, got 9"),
        ("UPDATE meta SET value='1' WHERE name='layout'", "expected layout 2, got 1"),
    ],
)
def test_other_databases_and_layouts_are_refused_and_left_alone(
    tmp_path: Path, statement: str, why: str
) -> None:
    path = tmp_path / "j"
    if "meta" in statement:
        Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()
    before = path.read_bytes()
    with pytest.raises(FeedError, match=why):
        Journal(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.parametrize("there", [b"OggS" + bytes(range(256)) * 40, b"SQLite format 3\0" * 999])
def test_a_file_that_never_was_a_journal_is_left_alone(tmp_path: Path, there: bytes) -> None:
    """Where no daemon has had a journal nothing of ours can be damaged: a wrong path was given."""
    path = tmp_path / "song.ogg"
    path.write_bytes(there)
    for _ in range(2):
        with pytest.raises(FeedError, match="expected a journal or no file, got another"):
            Journal(path)
    assert path.read_bytes() == there
    assert not list(tmp_path.glob("*damaged*"))


def test_a_locked_journal_is_not_taken_for_damaged(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    write(journal, [UP])
    journal.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(FeedError, match="got database is locked"):
        Journal(path)
    db.execute("ROLLBACK")
    db.close()
    again = Journal(path)
    assert again.last() == {TOPIC: 1}
    again.close()
