"""The journal: every message in an SQLite file before anybody sees it.

A topic's messages are numbered without a hole. A row knows until which number it is in force, so
the state at any kept moment can be told. Numbers rule, never the clock: it decides only how long
rows are kept.

No number is ever given to two messages. Where some that were published are not in the file (disk
full, power cut), the next writer goes on after a hole at least as large, and what is kept stays.
"""

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from streamtag.errors import FeedError
from streamtag.feed.current_state import JournalRow
from streamtag.feed.journal.compression import BULKY, Compactor
from streamtag.feed.journal.database import LAYOUT, lock, log, open_sound, wait_for_wal
from streamtag.feed.journal.lock_file import RESERVE, Ledger, boot_id, missing, read_mark
from streamtag.feed.journal.retention import FOREVER, Retention, prune, size
from streamtag.feed.journal.temporary import NAME, passing_folder

RETRY_SECONDS = 1.0
"""How long a journal that could not write is left alone."""
AT_ONCE = 50
"""Rows in one statement: Python gives its lock away at each."""
_INSERT = [
    "INSERT OR IGNORE INTO event VALUES " + ",".join(["(?,?,?,?,?,?)"] * n)
    for n in range(AT_ONCE + 1)
]
USUAL = Retention()


class Journal:
    """A journal that is being written.

    Args:
        path: its file; None for one that ends with this process.
        retention: how long rows stay.
        now_ns: UTC, in nanoseconds since 1970.
        durable: wait for the disk at every commit, so that a power cut loses nothing either.

    Raises:
        FeedError: another process writes it, or it cannot be written, or it is something else.
    """

    def __init__(
        self,
        path: Path | None = None,
        retention: Retention = USUAL,
        *,
        now_ns: int | None = None,
        durable: bool = False,
    ) -> None:
        self._folder = passing_folder() if path is None else None
        self.path = Path(self._folder.name) / NAME if self._folder else Path(path or "")
        self.retention = retention
        self.working = True
        """Whether the last write succeeded."""
        self._sync = "FULL" if durable else "OFF" if self._folder else "NORMAL"
        self._retry_at = 0.0
        self._topics: dict[str, int] = {}
        self._unsynced = 0  # rows since the disk was waited for
        self._lock = lock(self.path)
        self._boot = "durable" if durable else boot_id()
        try:
            self._begin(time.time_ns() if now_ns is None else now_ns)
        except BaseException as error:
            self._unlock()
            if isinstance(error, sqlite3.Error | OSError):
                raise FeedError(
                    f"journal {self.path}: expected a file to write to, got {error}"
                ) from None
            raise

    def _begin(self, now_ns: int) -> None:
        mark = read_mark(self._lock)
        self.run_ns = max(now_ns, mark.run_ns + 1)
        """When this writer began; later than the one before it, whatever the clock says."""
        ours = os.fstat(self._lock).st_size > 0
        self._db = open_sound(self.path, self._sync, self.run_ns, ours)
        self._compactor = Compactor(self._db)
        try:
            self.epoch = f"{self.run_ns:016x}"
            """Of topics that are new."""
            meta = [("epoch", self.epoch), ("layout", str(LAYOUT))]
            self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", meta)
            query = "SELECT value FROM meta WHERE name='epoch'"
            (epoch,) = self._db.execute(query).fetchone()
            if epoch != self.epoch:  # not new
                self.epoch = epoch
                self._skip(missing(mark, sum(self.last().values())))
            self._compactor.tidy()
            self._ledger = Ledger(self._lock, self._boot, self.run_ns, self.last())
        except BaseException:
            self._db.close()
            raise

    def _skip(self, lost: int) -> None:
        """Goes on after a hole, with another epoch for topics that are not known here."""
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
            sqlite3.Error: nothing of it was written, because the disk is full or damaged.
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
        self,
        rows: Iterable[JournalRow],
        now_ns: int,
        ended: dict[tuple[str, int], int] | None = None,
    ) -> None:
        """Writes rows; takes those out of `ended` that it writes as ended already."""
        topics, crc32, ends = self._topics, zlib.crc32, {} if ended is None else ended
        values: list[object] = []
        for name, seq, body, opens, _ in rows:
            topic = topics.get(name) or self._topic(name)
            until = ends.pop((name, seq), FOREVER) if opens else seq
            if name.startswith(BULKY):
                body = self._compactor.pack(name, body)
            values += (topic, seq, until, now_ns, crc32(body), body)
        for first in range(0, len(values), 6 * AT_ONCE):
            some = values[first : first + 6 * AT_ONCE]
            self._db.execute(_INSERT[len(some) // 6], some)

    def try_append(
        self,
        rows: Sequence[JournalRow],
        standing: Iterable[JournalRow],
        last: Callable[[], dict[str, int]],
    ) -> str:
        """`append` that survives a full disk.

        After a failure it rests for a second; then, before the first rows, it writes anew what is
        in force (`standing`) and how far the numbers have come (`last`).

        Returns:
            Why the rows were not kept; empty where they were.
        """
        self._ledger.count(rows)
        fault = self._try(rows, standing, last)
        with suppress(OSError):  # a file system that needs space even to overwrite
            self._ledger.write(settled=self.working)
        return fault

    def _try(
        self,
        rows: Sequence[JournalRow],
        standing: Iterable[JournalRow],
        last: Callable[[], dict[str, int]],
    ) -> str:
        if not self.working and time.monotonic() < self._retry_at:
            return "resting after a failure"
        try:
            if not self.working:
                self._reconcile(standing, last())
            self.append(rows, time.time_ns())
            self._wait_for_disk(len(rows))
        except (sqlite3.Error, OSError) as error:
            self.working, self._retry_at = False, time.monotonic() + RETRY_SECONDS
            return str(error)
        self.working = True
        return ""

    def _wait_for_disk(self, rows: int) -> None:
        """Once in a while, so that it is known how much a power cut can take."""
        self._unsynced += rows
        if self._unsynced < RESERVE or self._sync != "NORMAL":
            return
        self._unsynced = 0
        wait_for_wal(self.path)
        self._ledger.write(sync=True)

    def current_state(self) -> list[bytes]:
        """Payloads of what is in force."""
        query = "SELECT body FROM event WHERE until=4611686018427387904 ORDER BY topic, seq"
        return [body for (body,) in self._db.execute(query)]

    def last(self) -> dict[str, int]:
        """The newest number of every topic."""
        return {
            name: max(last, newest or 0)
            for name, last, newest in self._db.execute(
                "SELECT name, last, (SELECT max(seq) FROM event WHERE topic=id) FROM topic"
            )
        }

    def epochs(self) -> dict[str, str]:
        """The epoch of every topic; all others have the journal's."""
        return dict(self._db.execute("SELECT name, epoch FROM topic"))

    def newest(self, topic: str) -> list[bytes]:
        """The newest payload of a topic, if there is one."""
        query = "SELECT body FROM event WHERE topic=? ORDER BY seq DESC LIMIT 1"
        return [body for (body,) in self._db.execute(query, (self._topic(topic),))]

    def prune(self, now_ns: int) -> int:
        """Removes what is too old or too much, as far as it goes quickly; how many rows."""
        with self._transaction():
            return prune(self._db, self.retention, now_ns)

    def try_prune(self, now_ns: int) -> int:
        """`prune` that survives a full disk: it is tried again later."""
        try:
            return self.prune(now_ns)
        except sqlite3.Error as error:
            log.error("journal %s: old messages were not removed: %s", self.path, error)
            return 0

    def size(self) -> int:
        """Bytes in use."""
        return size(self._db)

    def close(self) -> None:
        """Ends it: what was written is on the disk, in the one file."""
        with suppress(sqlite3.Error):
            for name, seq in self.last().items():
                self._db.execute("UPDATE topic SET last=? WHERE name=?", (seq, name))
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # not done where others read
        self._db.close()
        with suppress(OSError):
            self._ledger.write("closed", settled=self.working, sync=True)
        self._unlock()

    @contextmanager
    def _transaction(self) -> Any:
        try:
            self._db.execute("BEGIN")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._topics.clear()  # some may have been made in vain
            self._compactor.forget()
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise

    def _topic(self, name: str) -> int:
        if name not in self._topics:
            query = "INSERT OR IGNORE INTO topic VALUES (NULL, ?, 1, 0, ?)"
            self._db.execute(query, (name, self.epoch))
            query = "SELECT id FROM topic WHERE name=?"
            (self._topics[name],) = self._db.execute(query, (name,)).fetchone()
        return self._topics[name]

    def _reconcile(self, standing: Iterable[JournalRow], last: dict[str, int]) -> None:
        """Makes the tables true again after writes that failed."""
        rows = list(standing)
        with self._transaction():
            for name, seq in last.items():
                topic = self._topic(name)
                self._db.execute("UPDATE topic SET last=max(last, ?) WHERE id=?", (seq, topic))
                held = [r.seq for r in rows if r.topic == name]
                marks = ",".join("?" * len(held))
                self._db.execute(
                    f"UPDATE event SET until=? WHERE topic=? AND until={FOREVER}"
                    f" AND seq NOT IN ({marks})",
                    (seq, topic, *held),
                )
            self._insert(rows, time.time_ns())

    def _unlock(self) -> None:
        os.close(self._lock)
        if self._folder:
            self._folder.cleanup()
