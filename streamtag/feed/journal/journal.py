"""The journal: every message in an SQLite file, before any subscriber gets it.

The messages of a topic are numbered without a hole. A row knows the number until which its message
is in force, so that the state at any kept moment can be restored. Order comes from the numbers
alone. The clock only decides how long rows are kept.

No number is ever given to two messages. If published messages are not in the file (full disk,
power cut), the next writer skips at least as many numbers, and keeps everything that is there.
"""

import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from streamtag.errors import FeedError
from streamtag.feed.current_state import JournalRow
from streamtag.feed.journal.compression import COMPRESSED_TOPICS, Compressor
from streamtag.feed.journal.database import (
    FOREVER,
    IN_FORCE,
    LAYOUT,
    log,
    open_database,
    wait_for_wal,
)
from streamtag.feed.journal.lock_file import RESERVE, LockFile, temporary_folder
from streamtag.feed.journal.retention import Retention, prune, used_bytes

RETRY_SECONDS = 1.0
"""Pause after a failed write."""
ROWS_PER_INSERT = 50
"""Rows in one statement. Python's sqlite3 releases the interpreter lock at each statement."""
_INSERT = [
    "INSERT OR IGNORE INTO event VALUES " + ",".join(["(?,?,?,?,?,?)"] * n)
    for n in range(ROWS_PER_INSERT + 1)
]
DEFAULT_RETENTION = Retention()
_TEMPORARY_PREFIX = "streamtag-journal-"
_TEMPORARY_NAME = "journal.db"


class Journal:
    """A journal that is being written.

    Args:
        path: its file; None for a temporary one that ends with this process.
        retention: how long rows are kept.
        now_ns: UTC, in nanoseconds since 1970.
        durable: wait for the disk at every commit, so that a power cut loses nothing either.

    Raises:
        FeedError: another process writes it, or it cannot be written, or the file is no journal.
    """

    def __init__(
        self,
        path: Path | None = None,
        retention: Retention = DEFAULT_RETENTION,
        *,
        now_ns: int | None = None,
        durable: bool = False,
    ) -> None:
        with ExitStack() as stack:
            folder = (
                stack.enter_context(temporary_folder(_TEMPORARY_PREFIX, _TEMPORARY_NAME))
                if path is None
                else ""
            )
            self.path = path or Path(folder) / _TEMPORARY_NAME
            self.retention = retention
            self.working = True
            """Whether the last write succeeded."""
            self._sync = "FULL" if durable else "OFF" if path is None else "NORMAL"
            self._retry_at = 0.0
            self._topics: dict[str, int] = {}
            self._unsynced = 0  # rows since the disk was waited for
            self._lock = LockFile(self.path, durable=durable)
            stack.callback(self._lock.release)
            try:
                self._open(stack, time.time_ns() if now_ns is None else now_ns)
            except (sqlite3.Error, OSError) as error:
                raise FeedError(
                    f"journal {self.path}: expected a file to write to, got {error}"
                ) from None
            self._resources = stack.pop_all()

    def _open(self, stack: ExitStack, now_ns: int) -> None:
        previous = self._lock.previous
        self.run_ns = max(now_ns, previous.run_ns + 1)
        """When this writer started. It is later than the one before, whatever the clock says."""
        self._db = open_database(self.path, self._sync, self.run_ns, self._lock.had_writer)
        stack.callback(self._db.close)
        self._compressor = Compressor(self._db)
        self.epoch = f"{self.run_ns:016x}"
        """Epoch of new topics."""
        meta = [("epoch", self.epoch), ("layout", LAYOUT)]
        self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", meta)
        (epoch,) = self._db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
        if epoch != self.epoch:  # the journal is not new
            self.epoch = epoch
            self._skip(previous.lost(sum(self.last().values())))
        self._compressor.remove_unused()
        self._lock.start(self.run_ns, self.last())

    def _skip(self, lost: int) -> None:
        """Skips the numbers of lost messages; topics unknown here get a new epoch."""
        if not lost:
            return
        log.error(
            "journal %s: up to %d messages were published and are not in it (disk full or power "
            "cut); numbers go on after a hole",
            self.path,
            lost,
        )
        with self._transaction():
            self._db.execute(
                "UPDATE topic SET last=? + max(last, "
                "coalesce((SELECT max(seq) FROM event WHERE topic=id), 0))",
                (lost,),
            )
            self.epoch = f"{self.run_ns:016x}"
            self._db.execute("UPDATE meta SET value=? WHERE name='epoch'", (self.epoch,))

    def append(self, rows: Sequence[JournalRow], now_ns: int) -> None:
        """Writes rows in one transaction.

        Raises:
            sqlite3.Error: nothing was written, because the disk is full or damaged.
        """
        ended = {(row.topic, seq): row.seq for row in rows if row.closes for seq in row.closes}
        with self._transaction():
            self._insert(rows, now_ns, ended)
            if ended:
                self._db.executemany(
                    "UPDATE event SET until=? WHERE topic=? AND seq=?",
                    [(until, self._topic(name), seq) for (name, seq), until in ended.items()],
                )

    def _insert(
        self, rows: Iterable[JournalRow], now_ns: int, ended: dict[tuple[str, int], int]
    ) -> None:
        """Writes rows; removes from `ended` what it writes as ended already."""
        topics, crc32 = self._topics, zlib.crc32
        values: list[object] = []
        for row in rows:
            name, seq, body = row.topic, row.seq, row.body
            topic = topics.get(name) or self._topic(name)
            until = ended.pop((name, seq), FOREVER) if row.opens else seq
            if name.startswith(COMPRESSED_TOPICS):
                body = self._compressor.compress(name, body)
            values += (topic, seq, until, now_ns, crc32(body), body)
        for first in range(0, len(values), 6 * ROWS_PER_INSERT):
            some = values[first : first + 6 * ROWS_PER_INSERT]
            self._db.execute(_INSERT[len(some) // 6], some)

    def try_append(
        self,
        rows: Sequence[JournalRow],
        in_force: Iterable[JournalRow],
        last: Callable[[], dict[str, int]],
    ) -> str:
        """`append` that survives a full disk.

        After a failure it pauses for a second. Before the next rows it writes again what is in
        force, and the newest number of each topic.

        Returns:
            Why the rows were not written; empty if they were.
        """
        self._lock.count(rows)
        fault = self._try(rows, in_force, last)
        with suppress(OSError):  # some file systems need space even to overwrite
            self._lock.record(ahead=not self.working)
        return fault

    def _try(
        self,
        rows: Sequence[JournalRow],
        in_force: Iterable[JournalRow],
        last: Callable[[], dict[str, int]],
    ) -> str:
        if not self.working and time.monotonic() < self._retry_at:
            return "resting after a failure"
        try:
            if not self.working:
                self._reconcile(in_force, last())
            self.append(rows, time.time_ns())
            self._wait_for_disk(len(rows))
        except (sqlite3.Error, OSError) as error:
            self.working, self._retry_at = False, time.monotonic() + RETRY_SECONDS
            return str(error)
        self.working = True
        return ""

    def _wait_for_disk(self, rows: int) -> None:
        """Waits once in `RESERVE` rows, which bounds what a power cut can lose."""
        self._unsynced += rows
        if self._unsynced < RESERVE or self._sync != "NORMAL":
            return
        self._unsynced = 0
        wait_for_wal(self.path)
        self._lock.record(sync=True)

    def _reconcile(self, in_force: Iterable[JournalRow], last: dict[str, int]) -> None:
        """Corrects the tables after writes that failed."""
        rows = list(in_force)
        with self._transaction():
            for name, seq in last.items():
                topic = self._topic(name)
                self._db.execute("UPDATE topic SET last=max(last, ?) WHERE id=?", (seq, topic))
                held = [row.seq for row in rows if row.topic == name]
                marks = ",".join("?" * len(held))
                self._db.execute(
                    f"UPDATE event SET until=? WHERE topic=? AND until={FOREVER}"
                    f" AND seq NOT IN ({marks})",
                    (seq, topic, *held),
                )
            self._insert(rows, time.time_ns(), {})

    def current_state(self) -> list[bytes]:
        """Payloads of the messages in force."""
        return [body for (body,) in self._db.execute(IN_FORCE)]

    def last(self) -> dict[str, int]:
        """The newest number of every topic."""
        return {
            name: max(last, newest or 0)
            for name, last, newest in self._db.execute(
                "SELECT name, last, (SELECT max(seq) FROM event WHERE topic=id) FROM topic"
            )
        }

    def epochs(self) -> dict[str, str]:
        """The epoch of every known topic; new topics get the journal's."""
        return dict(self._db.execute("SELECT name, epoch FROM topic"))

    def newest(self, topic: str) -> list[bytes]:
        """The newest payload of a topic, if there is one."""
        query = "SELECT body FROM event WHERE topic=? ORDER BY seq DESC LIMIT 1"
        return [body for (body,) in self._db.execute(query, (self._topic(topic),))]

    def newest_rows(
        self, prefixes: tuple[str, ...], seconds: float, types: Iterable[str] = ()
    ) -> Iterator[tuple[bytes, int]]:
        """The payloads that were written in the last seconds before the newest one, in this order,
        and when, in nanoseconds since 1970.

        Args:
            prefixes: of the topics; none of a topic whose messages are compressed.
            seconds: 0 for nothing.
            types: those that are wanted; others may come, too. Empty for all.
        """
        ids = {id for id, name in self._db.execute("SELECT id, name FROM topic")
               if name.startswith(prefixes)}  # fmt: skip
        (newest,) = self._db.execute("SELECT max(rowid) FROM event").fetchone()
        if not newest or not seconds:
            return
        query = "SELECT ns FROM event WHERE rowid=?"
        since = self._db.execute(query, (newest,)).fetchone()[0] - int(seconds * 1e9)
        found = [f"instr(substr(body,1,48),x'{name.encode().hex()}')" for name in sorted(types)]
        wanted = f" AND ({' OR '.join(found)})" if found else ""
        query = f"SELECT topic, body, ns FROM event WHERE rowid>=?{wanted} ORDER BY rowid"
        for topic, body, ns in self._db.execute(query, (self._first_since(since, newest),)):
            if topic in ids and ns >= since:
                yield body, ns

    def _first_since(self, ns: int, newest: int) -> int:
        """The first row written at a moment or later, as long as the clock was not set back."""
        low, high = 0, newest
        query = "SELECT rowid, ns FROM event WHERE rowid>=? ORDER BY rowid LIMIT 1"
        while low < high:
            middle = (low + high) // 2
            row, written = self._db.execute(query, (middle,)).fetchone()
            low, high = (row + 1, high) if written < ns else (low, middle)
        return low

    def prune(self, now_ns: int) -> int:
        """Removes messages that are too old or too many, a few at a time; how many."""
        with self._transaction():
            return prune(self._db, self.retention, now_ns)

    def try_prune(self, now_ns: int) -> int:
        """`prune` that survives a full disk; the next call tries again."""
        try:
            return self.prune(now_ns)
        except sqlite3.Error as error:
            log.error("journal %s: old messages were not removed: %s", self.path, error)
            return 0

    def size(self) -> int:
        """Bytes of the file that are in use."""
        return used_bytes(self._db)

    def close(self) -> None:
        """Closes the journal. Everything is on the disk then, in the one file."""
        with suppress(sqlite3.Error):
            for name, seq in self.last().items():
                self._db.execute("UPDATE topic SET last=? WHERE name=?", (seq, name))
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # not done while others read
        self._db.close()
        with suppress(OSError):
            self._lock.record("closed", ahead=not self.working, sync=True)
        self._resources.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._topics.clear()  # some may have been added by the transaction
            self._compressor.clear()
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise

    def _topic(self, name: str) -> int:
        """Id of a topic, which is added if it is new."""
        if name not in self._topics:
            query = "INSERT OR IGNORE INTO topic VALUES (NULL, ?, 1, 0, ?)"
            self._db.execute(query, (name, self.epoch))
            query = "SELECT id FROM topic WHERE name=?"
            (self._topics[name],) = self._db.execute(query, (name,)).fetchone()
        return self._topics[name]
