"""The journal: what it keeps, what it says of what it does not, and who may write it."""

import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.child import in_child

from streamtag.config.config import FeedConfig
from streamtag.daemon.output import open_feed
from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed.current_state import CurrentState, JournalRow
from streamtag.feed.event_encoder import EventEncoder, OpenStream, SequenceNumbers
from streamtag.feed.journal import journal as journal_module
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.lock_file import RESERVE
from streamtag.feed.journal.reader import JournalReader, MissingRange
from streamtag.feed.journal.retention import Retention
from streamtag.feed.messages import Message, dump, parse

NOW = 1_800_000_000_000_000_000
UP = events.StreamOpened("s", 0, 1000, 10**18, ("m",))
ON = events.TagStarted("s", "m", "a", 1, 2, 0.5, False)
OFF = events.TagEnded("s", "m", "a", 5, 6, 1, 0.5, events.Reason.SILENCE)
GAP = events.GapFound("s", 1, 2)
TOPIC = "event/s/"


def write(journal: Journal, happened: list[events.Event], now_ns: int = NOW) -> list[Message]:
    """Appends events; their messages."""
    state, wire = (
        CurrentState(),
        EventEncoder({}, NOW, SequenceNumbers(journal.epoch, journal.last())),
    )
    numbers = wire._numbers("event/s/"), wire._numbers("scores/s/")
    wire._streams["s"] = OpenStream(1000, 10**18, *numbers)
    for body in journal.current_state():
        state.restore(parse(body), body)
    messages = [wire.message(event) for event in happened]
    journal.append([state.update(m, dump(m)) for m in messages], now_ns)
    return messages


def test_a_restart_keeps_messages_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.db"
    first = Journal(path, now_ns=NOW)
    written = write(first, [UP, ON, GAP])
    first.close()
    second = Journal(path, now_ns=NOW + 1)
    assert (second.epoch, second.last()) == (first.epoch, {TOPIC: 3})
    assert second.current_state() == [dump(m) for m in written[:2]]
    write(second, [GAP])
    assert second.last() == {TOPIC: 4}
    second.close()


def test_a_page_names_every_missing_range(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    write(journal, [UP, ON, GAP, GAP, GAP, GAP])
    with sqlite3.connect(journal.path) as db:
        db.execute("DELETE FROM event WHERE seq IN (3, 6)")
    db.close()
    reader = JournalReader(journal.path)
    found = reader.read(TOPIC, journal.epoch, 2, 8, 100)
    assert len(found.bodies) == 3
    assert found.missing == [MissingRange(3, 3, "not_kept"), MissingRange(6, 8, "not_kept")]
    assert reader.read("event/x/", journal.epoch, 1, 2, 9).missing == [
        MissingRange(1, 2, "not_kept")
    ]
    assert reader.read(TOPIC, "other", 1, 2, 9).missing == [MissingRange(1, 2, "epoch")]
    pieces = [reader.read(TOPIC, journal.epoch, 1, 5, 2)]
    while pieces[-1].next:
        pieces.append(reader.read(TOPIC, journal.epoch, pieces[-1].next, 5, 2))
    assert [len(piece.bodies) for piece in pieces] == [2, 2]
    assert [hole for piece in pieces for hole in piece.missing] == [MissingRange(3, 3, "not_kept")]
    reader.close()
    journal.close()


def test_retention_keeps_what_was_in_force(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", Retention(seconds=10))
    old = write(journal, [UP, ON, GAP])
    new = write(journal, [GAP, OFF], NOW + 9 * 10**9)
    assert journal.prune(NOW + 9 * 10**9) == 0
    assert journal.prune(NOW + 11 * 10**9) == 1  # the gap alone: the tag was still on then
    reader = JournalReader(journal.path)
    found = reader.read(TOPIC, journal.epoch, 1, 5, 100)
    assert found.bodies == [dump(m) for m in (*old[:2], *new)]
    assert found.missing == [MissingRange(1, 3, "retention")]
    assert journal.prune(NOW + 60 * 10**9) == 2  # the newest of all stays: its rowid is an id
    assert journal.last() == {TOPIC: 5}
    assert journal.current_state() == [dump(old[0])]
    reader.close()
    journal.close()


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", Retention(seconds=10), now_ns=NOW)
    write(journal, [UP, GAP])
    write(journal, [GAP, GAP], NOW - 3600 * 10**9)
    assert journal.prune(NOW - 3600 * 10**9) == 0
    journal.close()
    again = Journal(tmp_path / "j", now_ns=NOW - 7200 * 10**9)
    assert (again.epoch, again.last()) == (journal.epoch, {TOPIC: 4})
    again.close()


def test_a_journal_that_is_too_large_loses_its_oldest_messages(tmp_path: Path) -> None:
    """Whatever their streams: a quiet one's few messages stay as long as they are young."""
    journal = Journal(tmp_path / "j", Retention(bytes=300_000))
    quiet = "event/quiet/"
    journal.append([JournalRow(quiet, 1, b"old", opens=True)], NOW)
    for i in range(20):
        journal.append(
            [JournalRow(TOPIC, i * 200 + k + 1, b"y" * 100) for k in range(200)], NOW + i
        )
    journal.append([JournalRow(quiet, 2, b"young")], NOW + 20)
    assert journal.size() > 300_000
    while journal.prune(NOW + 21):
        pass
    assert 100_000 < journal.size() <= 300_000
    assert journal.last() == {TOPIC: 4000, quiet: 2}
    reader = JournalReader(journal.path)
    assert reader.read(quiet, journal.epoch, 1, 2, 9).bodies == [b"old", b"young"]
    kept = reader.read(TOPIC, journal.epoch, 1, 4000, 9999)
    assert kept.missing == [MissingRange(1, 4000 - len(kept.bodies), "retention")]
    reader.close()
    journal.close()


def test_two_daemons_on_one_journal_are_refused(tmp_path: Path) -> None:
    config = FeedConfig(bind="tcp://127.0.0.1:0", journal=str(tmp_path / "j"))
    publisher, _ = open_feed(config)
    with pytest.raises(FeedError, match=r"journal .*: expected to be the only one.*another daemon"):
        open_feed(config)
    publisher.close()
    open_feed(config)[0].close()


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_reported_and_survived(tmp_path: Path) -> None:
    in_child(_fill_disk_and_free_it, tmp_path / "j")


def _fill_disk_and_free_it(path: Path) -> None:
    journal_module.RETRY_SECONDS = 0
    journal, state = Journal(path), CurrentState()
    wire = EventEncoder({}, NOW, SequenceNumbers(journal.epoch))

    def keep(*happened: events.Event) -> str:
        messages = [wire.message(event) for event in happened]
        rows = [state.update(m, dump(m)) for m in messages]
        return journal.try_append(rows, state, lambda: {TOPIC: messages[-1].seq})

    assert keep(UP, ON) == ""
    with full_disk(50_000):
        fault = keep(OFF, *[GAP] * 2000)
        assert fault
        assert not journal.working
        assert keep(ON)
    assert keep(GAP) == ""
    assert journal.working
    assert journal.last() == {TOPIC: 2005}
    assert journal.current_state() == [row.body for row in state]
    reader = JournalReader(journal.path)
    assert reader.read(TOPIC, journal.epoch, 3, 2005, 9999).missing == [
        MissingRange(3, 2003, "not_kept")
    ]
    reader.close()
    journal.close()


def test_a_crash_while_the_disk_is_full_keeps_what_was_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is set aside; no number is given twice, and what is missing is a hole."""
    epoch, up = in_child(_crash_while_disk_is_full, tmp_path / "j")
    anew = Journal(tmp_path / "j", now_ns=NOW + 1)
    assert "published and are not in it" in caplog.text
    (last,) = anew.last().values()
    assert 2001 <= last < 3100
    reader = JournalReader(anew.path)
    found = reader.read(TOPIC, epoch, 1, last, 9)
    assert found.bodies == up
    assert found.missing == [MissingRange(2, last, "not_kept")]
    assert anew.epochs() == {TOPIC: epoch}
    assert anew.epoch > epoch  # of topics whose every message was lost
    reader.close()
    anew.close()
    assert not list(tmp_path.glob("*damaged*"))


def _crash_while_disk_is_full(path: Path) -> tuple[int, list[bytes]]:
    """The epoch of the journal, and what it had kept."""
    journal = Journal(path, now_ns=NOW)
    up = write(journal, [UP])
    with full_disk(50_000):
        state = CurrentState()
        wire = EventEncoder({}, NOW, SequenceNumbers(journal.epoch, journal.last()))
        numbers = wire._numbers("event/s/"), wire._numbers("scores/s/")
        wire._streams["s"] = OpenStream(1000, 10**18, *numbers)
        rows = [state.update(m, dump(m)) for m in (wire.message(GAP) for _ in range(2000))]
        assert journal.try_append(rows, state, lambda: {TOPIC: 2001})
    die(journal)
    return journal.epoch, [dump(m) for m in up]


def die(journal: Journal) -> None:
    """What is left of a journal when its writer is killed."""
    journal._db.close()
    journal._lock.release()


def test_a_crash_skips_no_numbers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    row = JournalRow(TOPIC, 1, b"{}")
    assert journal.try_append([row], [], dict) == ""
    die(journal)
    anew = Journal(tmp_path / "j")
    assert (anew.epoch, anew.last()) == (journal.epoch, {TOPIC: 1})
    anew.close()


@pytest.mark.parametrize(("durable", "hole"), [(False, RESERVE), (True, 0)])
def test_after_a_power_cut_the_numbers_of_lost_messages_are_skipped(
    tmp_path: Path, durable: bool, hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j", durable=durable)
    assert journal.try_append([JournalRow(TOPIC, 1, b"{}")], [], dict) == ""
    die(journal)
    monkeypatch.setattr("streamtag.feed.journal.lock_file.boot_id", lambda: "another")
    anew = Journal(tmp_path / "j", durable=durable)
    assert anew.last() == {TOPIC: 1 + hole}
    assert anew.epochs() == {TOPIC: journal.epoch}
    anew.close()
    again = Journal(tmp_path / "j")
    assert again.last() == {TOPIC: 1 + hole}
    again.close()


def test_the_disk_is_waited_for_often_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than RESERVE messages are ever on their way to the disk."""
    waited: list[int] = []
    written = 0
    monkeypatch.setattr(
        "streamtag.feed.journal.journal.wait_for_wal", lambda _: waited.append(written)
    )
    journal = Journal(tmp_path / "j")
    for first in range(1, 3 * RESERVE, 500):
        written = first + 499
        rows = [JournalRow(TOPIC, seq, b"{}") for seq in range(first, first + 500)]
        assert journal.try_append(rows, [], dict) == ""
    journal.close()
    assert waited == [RESERVE, 2 * RESERVE, 3 * RESERVE]


def test_a_tag_that_ends_in_the_batch_it_began_in_is_not_in_force(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    up, on, off, _ = write(journal, [UP, ON, OFF, GAP])
    assert journal.current_state() == [dump(up)]
    with sqlite3.connect(journal.path) as db:
        assert db.execute("SELECT until FROM event WHERE seq=?", (on.seq,)).fetchone() == (off.seq,)
    db.close()
    journal.close()


def test_a_folder_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(FeedError, match="journal /proc/none/j: expected a folder to write to"):
        Journal(Path("/proc/none/j"))


def test_after_close_the_file_alone_has_all_messages_even_if_others_have_it_open(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "j")
    journal.append([JournalRow("event/s/", 1, b"{}", True)], NOW)
    reader = JournalReader(journal.path)
    assert reader.read("event/s/", journal.epoch, 1, 1, 9).bodies == [b"{}"]
    journal.close()
    shutil.copy(tmp_path / "j", tmp_path / "copy")
    reader.close()
    again = Journal(tmp_path / "copy")
    assert again.current_state() == [b"{}"]
    again.close()


def test_temporary_journals_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long_ago = (10**9, 10**9)
    alive, dead = Journal(), tmp_path / "streamtag-journal-dead"
    dead.mkdir()
    (dead / "journal.db.lock").touch()
    foreign = tmp_path / "streamtag-journal-foreign"
    foreign.mkdir()
    (foreign / "mine").touch()
    young = tmp_path / "streamtag-journal-young"
    shutil.copytree(dead, young)
    for folder in (alive.path.parent, dead, foreign):
        os.utime(folder, long_ago)
    Journal().close()
    assert sorted(tmp_path.iterdir()) == sorted([alive.path.parent, foreign, young])
    alive.append([JournalRow(TOPIC, 1, b"{}")], NOW)
    alive.close()
    assert sorted(tmp_path.iterdir()) == [foreign, young]
