"""The journal's file as other programs read it: what was said when, also while a daemon writes.

Entries come in the order in which they were written. An entry's key names it for good: its journal,
its number there, and when it was written, so that a number that is used again is noticed.
"""

import fcntl
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from streamtag.errors import FeedError
from streamtag.feed.journal.compression import Decompressor
from streamtag.feed.messages import Message, parse
from streamtag.history.query import EntryPage, JournalEntry, Query, ResumePoint, TopicEvents
from streamtag.history.span import Spans
from streamtag.history.sql import that_may_want, topic_may_hold

LAYOUT = "2"
"""Of the tables that are understood here."""
HEAD_BYTES = 400
"""Of a deflated message are looked at first: what every message begins with lies there."""
AT_ONCE = 2000
"""Rows fetched in one go."""
_KEY = re.compile(r"([0-9a-f]{1,32})-(\d{1,18})-([0-9a-f]{1,16})")


class History:
    """A journal's file, opened for reading only.

    Args:
        path: of the file.

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
        self._expand = Decompressor(self._db).decompress
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
        """Of the journal."""

    @property
    def replaced(self) -> bool:
        """Another file has taken its place (a damaged journal is set aside)."""
        return _identity(self.path) != self._file

    @property
    def being_written(self) -> bool:
        """Whether a daemon runs with it."""
        try:
            handle = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)  # ends the lock, too
        return False

    def newest(self) -> int:
        """Number of the newest entry; 0 where there is none."""
        (number,) = self._db.execute("SELECT max(rowid) FROM event").fetchone()
        return number or 0

    def current_state(self) -> tuple[list[Message], int]:
        """What is in force, and the number of the newest entry at that moment."""
        self._db.execute("BEGIN")
        try:
            rows = self._db.execute(
                "SELECT body FROM event WHERE until=4611686018427387904 ORDER BY topic, seq"
            ).fetchall()
            newest = self.newest()
        finally:
            self._db.execute("COMMIT")
        messages = []
        for (body,) in rows:
            with suppress(FeedError):
                messages.append(parse(body))
        return messages, newest

    def contains(self, message: Message) -> bool:
        """Whether a message was kept."""
        query = (
            "SELECT 1 FROM event WHERE seq=? AND topic=(SELECT id FROM topic WHERE name=?"
            " AND epoch=?)"
        )
        found = self._db.execute(query, (message.seq, message.topic, message.epoch))
        return found.fetchone() is not None

    def topics(self, kind: str = "event") -> list[str]:
        """Names of the streams that something is kept of, as a kind of topics."""
        rows = self._db.execute("SELECT name FROM topic ORDER BY name")
        return [name.split("/")[1] for (name,) in rows if name.startswith(f"{kind}/")]

    def after(self, number: int, limit: int = AT_ONCE) -> EntryPage:
        """Entries written after one, the oldest first."""
        self.epoch = self._present_epoch()
        return self.select(Query(), number, limit)

    def select(self, query: Query, after: int = 0, limit: int = AT_ONCE) -> EntryPage:
        """Entries that are wanted, the oldest first.

        Args:
            query: what is wanted.
            after: number to go on after.
            limit: entries at the most.
        """
        entries: list[JournalEntry] = []
        damaged = 0
        for number, ns, kept in self._rows(query, after):
            try:
                if not query.may_want(self._expand(kept, HEAD_BYTES)):
                    continue
                body = self._expand(kept)
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

    def entry_id(self, number: int, ns: int) -> str:
        """Names an entry for good; see `resume`."""
        return f"{self.epoch}-{number}-{ns:x}"

    def entries(
        self, query: Query, damaged: Callable[[int], None] = lambda _: None
    ) -> Iterator[JournalEntry]:
        """All entries that are wanted, the oldest first.

        Args:
            query: what is wanted.
            damaged: is told at the end how many rows could not be read, if there were any.
        """
        after, lost = 0, 0
        while True:
            page = self.select(query, after)
            yield from page.entries
            after, lost = page.continue_after, lost + page.damaged
            if not after:
                break
        if lost:
            damaged(lost)

    def id_of(self, number: int) -> str:
        """Names an entry by its number; 0 is before the first one."""
        row = self._db.execute("SELECT ns FROM event WHERE rowid=?", (number,)).fetchone()
        return self.entry_id(number, row[0] if row else 0)

    def resume(self, key: str) -> ResumePoint:
        """Where to go on after an entry.

        A journal gets another epoch after an accident (disk full, power cut), and goes on. It is
        the same one where it still has that entry, or topics of that epoch.

        Raises:
            ValueError: it is no key.
        """
        found = _KEY.fullmatch(key)
        if found is None:
            raise ValueError(f"expected an event's id, such as {self.epoch}-1-0, got {key!r}")
        epoch, number, ns = found[1], int(found[2]), int(found[3], 16)
        self.epoch = self._present_epoch()
        row = self._db.execute("SELECT ns FROM event WHERE rowid=?", (number,)).fetchone()
        if epoch != self.epoch and row != (ns,) and not self._had(epoch):
            return ResumePoint(0, 0, "epoch")
        newest = self.newest()
        if number > newest or (ns and row is not None and row[0] != ns):
            return ResumePoint(0, 0, "retention", epoch != self.epoch)  # its number is gone, too
        query = "SELECT count(*) FROM event WHERE rowid>?"
        (left,) = self._db.execute(query, (number,)).fetchone()
        lost = newest - number - left
        return ResumePoint(number, lost, "retention" if lost else "", epoch != self.epoch)

    def topic_events(self, topic: str) -> TopicEvents:
        """Everything kept of a topic."""
        query = "SELECT id, first FROM topic WHERE name=?"
        found = self._db.execute(query, (topic,)).fetchone()
        if found is None:
            return TopicEvents(1, [])
        rows = self._db.execute(
            "SELECT seq, until, body FROM event WHERE topic=? ORDER BY seq", (found[0],)
        )
        told = []
        for seq, until, body in rows:
            try:
                told.append((seq, until, parse(self._expand(body))))
            except FeedError:
                continue  # a hole, as `seq` shows
        return TopicEvents(found[1], told)

    def events_between(
        self, streams: Iterable[str], since: int, until: int
    ) -> dict[str, TopicEvents]:
        """What is kept of events in [since, until), in nanoseconds since 1970, by stream."""
        wanted = {f"event/{name}/" for name in streams}
        rows = self._db.execute("SELECT id, name, first FROM topic").fetchall()
        topics = {key: (name, first) for key, name, first in rows if name in wanted}
        self._db.execute("BEGIN")
        try:
            spans = Spans(self._db, self._expand, since, until)
            told = spans.told({key: first for key, (_, first) in topics.items()})
        finally:
            self._db.execute("COMMIT")
        return {topics[key][0].split("/")[1]: one for key, one in told.items()}

    def close(self) -> None:
        """Ends it."""
        self._db.close()

    def _present_epoch(self) -> str:
        found = self._db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
        return str(found[0]) if found else ""

    def _had(self, epoch: str) -> bool:
        """Whether topics of an earlier epoch are left."""
        query = "SELECT 1 FROM topic WHERE epoch=? LIMIT 1"
        return self._db.execute(query, (epoch,)).fetchone() is not None

    def _rows(self, query: Query, after: int) -> Iterator[tuple[int, int, bytes]]:
        """Number, time of writing and payload of everything that may be wanted."""
        of_topics = self._topics_of(query)
        wanted, values = that_may_want(query)
        while True:
            rows = self._db.execute(
                f"SELECT rowid, ns, body FROM event WHERE rowid>? {of_topics} AND {wanted}"
                " ORDER BY rowid LIMIT ?",
                (after, *values, AT_ONCE),
            ).fetchall()
            yield from rows
            if len(rows) < AT_ONCE:
                return
            after = rows[-1][0]

    def _topics_of(self, query: Query) -> str:
        names = self._db.execute("SELECT id, name FROM topic").fetchall()
        wanted = [key for key, name in names if topic_may_hold(name, query)]
        if len(wanted) == len(names):
            return ""
        return f"AND +topic IN ({','.join(map(str, wanted))})"


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _open(path: Path) -> sqlite3.Connection:
    """A connection that cannot write.

    Raises:
        FeedError: the file cannot be opened.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    beside = path.with_name(path.name + "-wal").exists()
    for uri in (address, *([] if beside else [f"{address}&immutable=1"])):
        db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return db
        except sqlite3.Error as error:
            db.close()
            fault = error
    raise FeedError(f"journal {path}: expected a file to read, got {fault}")
