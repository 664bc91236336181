"""Reads a journal's file from another process, also while a daemon writes it.

Entries come in the order of writing. An entry's id consists of the journal's epoch, the entry's
number there and the time of writing, so that a number that is used again is noticed.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from streamtag.errors import FeedError
from streamtag.feed.journal.compression import Decompressor
from streamtag.feed.journal.database import IN_FORCE, LAYOUT
from streamtag.feed.journal.lock_file import is_locked
from streamtag.feed.messages import Message, parse
from streamtag.history.query import EntryPage, JournalEntry, Query, ResumePoint, TopicEvents
from streamtag.history.scan import RangeScan, add_functions, condition

PAGE_ROWS = 2000
"""Rows that are fetched at once."""
_ID = re.compile(r"([0-9a-f]{1,32})-(\d{1,18})-([0-9a-f]{1,16})")


class History:
    """A journal's file, opened for reading only.

    Raises:
        FeedError: it is no journal, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FeedError(
                f"journal {path}: expected the file that feed.journal names, got none; has a "
                "daemon run with it?"
            )
        self._file = _identity(path)
        self._db = _open(path)
        self._decompressor = Decompressor(self._db)
        add_functions(self._db, self._decompressor)
        try:
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
        except sqlite3.Error as error:
            self._db.close()
            raise FeedError(f"journal {path}: expected a journal, got {error}") from None
        if meta.get("layout") != LAYOUT:
            self._db.close()
            raise FeedError(
                f"journal {path}: expected layout {LAYOUT}, got {meta.get('layout', 'none')}; "
                "use the version of streamtag that wrote it"
            )
        self.epoch = str(meta.get("epoch", ""))
        """Epoch of the journal."""

    @property
    def replaced(self) -> bool:
        """Whether another file has taken its place, because the journal was damaged."""
        return _identity(self.path) != self._file

    @property
    def being_written(self) -> bool:
        """Whether a daemon runs with it."""
        try:
            return is_locked(self.path)
        except OSError:
            return False

    def newest(self) -> int:
        """Number of the newest entry; 0 if there is none."""
        (number,) = self._db.execute("SELECT max(rowid) FROM event").fetchone()
        return number or 0

    def current_state(self) -> tuple[list[Message], int]:
        """The messages in force, and the number of the newest entry at that moment."""
        with self._snapshot():
            rows = self._db.execute(IN_FORCE).fetchall()
            newest = self.newest()
        messages = []
        for (body,) in rows:
            with suppress(FeedError):
                messages.append(parse(body))
        return messages, newest

    def last_events(self) -> dict[str, Message]:
        """The newest event of each stream."""
        found: dict[str, Message] = {}
        topics = self._db.execute("SELECT id FROM topic WHERE name LIKE 'event/%' ORDER BY id")
        for (topic,) in topics.fetchall():
            query = "SELECT body FROM event WHERE topic=? ORDER BY seq DESC LIMIT 1"
            for (body,) in self._db.execute(query, (topic,)):
                with suppress(FeedError):
                    message = parse(self._decompressor.decompress(body))
                    found[message.stream] = message
        return found

    def contains(self, message: Message) -> bool:
        """Whether the journal has a message."""
        query = (
            "SELECT 1 FROM event WHERE seq=? AND topic=(SELECT id FROM topic WHERE name=?"
            " AND epoch=?)"
        )
        found = self._db.execute(query, (message.seq, message.topic, message.epoch))
        return found.fetchone() is not None

    def streams(self) -> list[str]:
        """Names of the streams that the journal has events of."""
        rows = self._db.execute("SELECT name FROM topic ORDER BY name")
        return [name.split("/")[1] for (name,) in rows if name.startswith("event/")]

    def keeps_scores(self) -> bool:
        """Whether the journal has scores or moods, too."""
        query = "SELECT 1 FROM topic WHERE name LIKE 'scores/%' OR name LIKE 'mood/%' LIMIT 1"
        return self._db.execute(query).fetchone() is not None

    def after(self, number: int, limit: int = PAGE_ROWS) -> EntryPage:
        """Entries written after one, the oldest first."""
        self.epoch = self._newest_epoch()
        return self.select(Query(), number, limit)

    def select(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> EntryPage:
        """At most `limit` entries that are wanted, the oldest first, after an entry's number."""
        entries: list[JournalEntry] = []
        damaged = 0
        for number, ns, kept in self._rows(query, after):
            try:
                body = self._decompressor.decompress(kept)
                message = parse(body)
            except FeedError:
                damaged += 1
                continue
            if not query.wants(message):
                continue
            if len(entries) == limit:
                return EntryPage(entries, entries[-1].number, damaged)
            entries.append(JournalEntry(number, self.entry_id(number, ns), message, body))
        return EntryPage(entries, 0, damaged)

    def entries(
        self, query: Query, on_damaged: Callable[[int], None] = lambda _: None
    ) -> Iterator[JournalEntry]:
        """All entries that are wanted, the oldest first.

        `on_damaged` is called at the end with the number of rows that could not be read, if any.
        """
        after, damaged = 0, 0
        while True:
            page = self.select(query, after)
            yield from page.entries
            after, damaged = page.continue_after, damaged + page.damaged
            if not after:
                break
        if damaged:
            on_damaged(damaged)

    def entry_id(self, number: int, ns: int) -> str:
        """Identifies an entry for good; see `resume`."""
        return f"{self.epoch}-{number}-{ns:x}"

    def id_of(self, number: int) -> str:
        """The id of an entry by its number; 0 is before the first one."""
        row = self._db.execute("SELECT ns FROM event WHERE rowid=?", (number,)).fetchone()
        return self.entry_id(number, row[0] if row else 0)

    def resume(self, entry_id: str) -> ResumePoint:
        """Where to continue after an entry.

        A journal gets a new epoch after an accident (full disk, power cut), and goes on. It is
        still the same journal if it has that entry, or topics of that epoch.

        Raises:
            ValueError: it is no id.
        """
        found = _ID.fullmatch(entry_id)
        if found is None:
            raise ValueError(f"expected an event's id, such as {self.epoch}-1-0, got {entry_id!r}")
        epoch, number, ns = found[1], int(found[2]), int(found[3], 16)
        self.epoch = self._newest_epoch()
        row = self._db.execute("SELECT ns FROM event WHERE rowid=?", (number,)).fetchone()
        if epoch != self.epoch and row != (ns,) and not self._has_topics_of(epoch):
            return ResumePoint(0, 0, "epoch")
        newest = self.newest()
        if number > newest or (ns and row is not None and row[0] != ns):
            return ResumePoint(0, 0, "retention", epoch != self.epoch)  # its number is gone, too
        query = "SELECT count(*) FROM event WHERE rowid>?"
        (left,) = self._db.execute(query, (number,)).fetchone()
        lost = newest - number - left
        return ResumePoint(number, lost, "retention" if lost else "", epoch != self.epoch)

    def events_between(
        self, streams: Iterable[str], since: int, until: int
    ) -> dict[str, TopicEvents]:
        """The messages that matter for [since, until), in nanoseconds since 1970, by stream."""
        wanted = {f"event/{name}/": name for name in streams}
        with self._snapshot():
            rows = self._db.execute("SELECT id, name, first FROM topic").fetchall()
            names = {topic: wanted[name] for topic, name, _ in rows if name in wanted}
            firsts = {topic: first for topic, _, first in rows if topic in names}
            scan = RangeScan(self._db, self._decompressor, since, until)
            return {names[topic]: events for topic, events in scan.read(firsts).items()}

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """All reads inside see the journal as it is at the first of them."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def _newest_epoch(self) -> str:
        found = self._db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
        return str(found[0]) if found else ""

    def _has_topics_of(self, epoch: str) -> bool:
        query = "SELECT 1 FROM topic WHERE epoch=? LIMIT 1"
        return self._db.execute(query, (epoch,)).fetchone() is not None

    def _rows(self, query: Query, after: int) -> Iterator[tuple[int, int, bytes]]:
        """Number, time of writing and payload of everything that may be wanted."""
        topics = self._db.execute("SELECT id, name FROM topic").fetchall()
        wanted = ",".join(str(key) for key, name in topics if query.wants_topic(name))
        where, values = condition(query)
        while True:
            rows = self._db.execute(
                f"SELECT rowid, ns, body FROM event WHERE rowid>? AND +topic IN ({wanted})"
                f" AND {where} ORDER BY rowid LIMIT ?",
                (after, *values, PAGE_ROWS),
            ).fetchall()
            yield from rows
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][0]


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode of a file."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _open(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; a FeedError if the file cannot be opened."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    has_wal = path.with_name(path.name + "-wal").exists()
    for uri in (address, *([] if has_wal else [f"{address}&immutable=1"])):
        db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return db
        except sqlite3.Error as error:
            db.close()
            fault = error
    raise FeedError(f"journal {path}: expected a file to read, got {fault}")
