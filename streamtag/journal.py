"""The journal: every message in an SQLite file before anybody sees it.

A topic's messages are numbered without a hole. A row knows until which number it is in force, so
the state at any kept moment can be told. Numbers rule, never the clock: it decides only how long
rows are kept.
"""

import fcntl
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtag.errors import FeedError
from streamtag.standing import Row

log = logging.getLogger(__name__)

FOREVER = 2**62
"""`until` of what is in force."""
LAYOUT = 1
"""Of the tables; a file with another is set aside."""
PRUNE_ROWS = 2000
"""Rows deleted in one go, so that publishing goes on meanwhile."""
RETRY_SECONDS = 1.0
"""How long a journal that could not write is left alone."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS topic (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    first INTEGER NOT NULL, -- what is older was removed, unless it was in force then
    last INTEGER NOT NULL   -- newest number at the last pruning or closing
);
CREATE TABLE IF NOT EXISTS event (
    topic INTEGER NOT NULL, seq INTEGER NOT NULL,
    until INTEGER NOT NULL, -- number of the message that ended it; its own if it opens nothing
    ns INTEGER NOT NULL,    -- UTC when written
    body BLOB NOT NULL,
    PRIMARY KEY (topic, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS standing ON event (topic, seq) WHERE until = 4611686018427387904;
"""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long messages are kept."""

    seconds: float = 30 * 86400.0
    bytes: int = 2**30
    """Of the file, roughly."""


USUAL = Retention()


@dataclass(frozen=True, slots=True)
class Hole:
    """Messages of a topic that the journal does not have: [first, last]."""

    first: int
    last: int
    reason: str
    """`retention` (removed), `not_kept` (never written), `epoch` (of another journal)."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """An answer to what was missed."""

    bodies: list[bytes]
    """Payloads: first what was in force where something is missing, then what was kept."""
    holes: list[Hole]
    following: int
    """Where to ask on; 0 when this is all."""


class Journal:
    """A journal that is being written.

    Args:
        path: its file; None for one that ends with this process.
        retention: how long rows stay.
        now_ns: UTC, in nanoseconds since 1970.
        durable: wait for the disk at every commit, so that a power cut loses nothing either.

    Raises:
        FeedError: another process writes it, or it cannot be written.
    """

    def __init__(
        self,
        path: Path | None = None,
        retention: Retention = USUAL,
        *,
        now_ns: int | None = None,
        durable: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="streamtag-") if path is None else None
        self.path = Path(self._folder.name) / "journal.db" if self._folder else Path(path or "")
        self.retention = retention
        self.working = True
        """Whether the last write succeeded."""
        self._now_ns = time.time_ns() if now_ns is None else now_ns
        self._sync = "FULL" if durable else "OFF" if self._folder else "NORMAL"
        self._retry_at = 0.0
        self._topics: dict[str, int] = {}
        self._lock = _lock(self.path)
        try:
            self._db = self._open()
            self.epoch = self._begin()
        except BaseException as error:
            self._unlock()
            if isinstance(error, sqlite3.Error | OSError):
                raise FeedError(
                    f"journal {self.path}: expected a file to write to, got {error}"
                ) from None
            raise

    def append(self, rows: Sequence[Row], now_ns: int) -> None:
        """Writes rows in one transaction.

        Raises:
            sqlite3.Error: nothing of it was written, because the disk is full or damaged.
        """
        with self._transaction():
            self._insert(rows, now_ns)
            ended = [(r.seq, self._topic(r.topic), seq) for r in rows for seq in r.closes]
            self._db.executemany("UPDATE event SET until=? WHERE topic=? AND seq=?", ended)

    def _insert(self, rows: Iterable[Row], now_ns: int) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO event VALUES (?,?,?,?,?)",
            [
                (self._topic(r.topic), r.seq, FOREVER if r.opens else r.seq, now_ns, r.body)
                for r in rows
            ],
        )

    def try_append(self, rows: Sequence[Row], standing: Iterable[Row], last: dict[str, int]) -> str:
        """`append` that survives a full disk.

        After a failure it rests for a second; then, before the first rows, it writes anew what is
        in force (`standing`) and how far the numbers have come (`last`).

        Returns:
            Why the rows were not kept; empty where they were.
        """
        if not self.working and time.monotonic() < self._retry_at:
            return "resting after a failure"
        try:
            if not self.working:
                self._reconcile(standing, last)
            self.append(rows, time.time_ns())
        except sqlite3.Error as error:
            self._mark("torn")
            self.working, self._retry_at = False, time.monotonic() + RETRY_SECONDS
            return str(error)
        if not self.working:
            self.working = True
            self._mark("open")
        return ""

    def standing(self) -> list[bytes]:
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

    def newest(self, topic: str) -> list[bytes]:
        """The newest payload of a topic, if there is one."""
        query = "SELECT body FROM event WHERE topic=? ORDER BY seq DESC LIMIT 1"
        return [body for (body,) in self._db.execute(query, (self._topic(topic),))]

    def prune(self, now_ns: int) -> int:
        """Removes what is too old or too much, as far as it goes quickly; how many rows."""
        cutoff = now_ns - int(self.retention.seconds * 1e9)
        too_large = self.size() > self.retention.bytes
        removed = 0
        with self._transaction():
            for topic, name in self._db.execute("SELECT id, name FROM topic").fetchall():
                removed += self._prune_topic(topic, name, cutoff, too_large)
        return removed

    def try_prune(self, now_ns: int) -> None:
        """`prune` that survives a full disk: it is tried again later."""
        try:
            self.prune(now_ns)
        except sqlite3.Error as error:
            log.error("journal %s: old messages were not removed: %s", self.path, error)

    def size(self) -> int:
        """Bytes in use."""
        (pages,), (free,), (size,) = (
            self._db.execute(f"PRAGMA {name}").fetchone()
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """Ends it: what was written is on the disk."""
        clean = self.working
        with suppress(sqlite3.Error):
            for name, seq in self.last().items():
                self._db.execute("UPDATE topic SET last=? WHERE name=?", (seq, name))
        self._db.close()
        self._mark("closed" if clean else "torn")
        self._unlock()

    @contextmanager
    def _transaction(self) -> Any:
        try:
            self._db.execute("BEGIN")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._topics.clear()  # some may have been made in vain
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise

    def _topic(self, name: str) -> int:
        if name not in self._topics:
            self._db.execute("INSERT OR IGNORE INTO topic VALUES (NULL, ?, 1, 0)", (name,))
            query = "SELECT id FROM topic WHERE name=?"
            (self._topics[name],) = self._db.execute(query, (name,)).fetchone()
        return self._topics[name]

    def _prune_topic(self, topic: int, name: str, cutoff: int, too_large: bool) -> int:
        rows = self._db.execute(
            "SELECT seq, ns FROM event WHERE topic=? AND seq>=(SELECT first FROM topic WHERE id=?)"
            " ORDER BY seq LIMIT ?",
            (topic, topic, PRUNE_ROWS),
        ).fetchall()
        old = next((i for i, (_, ns) in enumerate(rows) if ns >= cutoff), len(rows))
        if too_large:
            old = max(old, (len(rows) + 3) // 4)
        if not old:
            return 0
        first = rows[old - 1][0] + 1
        (newest,) = self._db.execute("SELECT max(seq) FROM event WHERE topic=?", (topic,))
        self._db.execute(
            "UPDATE topic SET first=?, last=max(last, ?) WHERE id=?", (first, newest[0] or 0, topic)
        )
        gone = self._db.execute(
            "DELETE FROM event WHERE topic=? AND seq<? AND until<?", (topic, first, first)
        )
        log.info("journal: %d messages of %s were removed", gone.rowcount, name)
        return gone.rowcount

    def _reconcile(self, standing: Iterable[Row], last: dict[str, int]) -> None:
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

    def _open(self) -> sqlite3.Connection:
        """The file, if it is sound; else a new one, and the old one set aside."""
        if self.path.exists() and (fault := _fault(self.path)):
            _set_aside(self.path, fault, self._now_ns)
        elif self.path.exists() and (mark := self._read_mark()) != "closed":
            boot = _boot()
            if mark == "torn" or (mark.startswith("open") and mark != f"open {boot}"):
                _set_aside(self.path, "its last numbers may be missing", self._now_ns)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={self._sync}")
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.executescript(_TABLES)
        except BaseException:
            db.close()
            raise
        return db

    def _begin(self) -> str:
        epoch = f"{self._now_ns:016x}"
        meta = [("epoch", epoch), ("layout", str(LAYOUT))]
        self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", meta)
        (kept,) = self._db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
        self._mark("open")
        return str(kept)

    def _mark(self, state: str) -> None:
        """Says beside the journal how it stands; overwritten in place: needs no space."""
        durable = self._sync == "FULL"
        text = f"open {'durable' if durable else _boot()}" if state == "open" else state
        os.pwrite(self._lock, text.ljust(63).encode() + b"\n", 0)

    def _read_mark(self) -> str:
        text = os.pread(self._lock, 64, 0).decode(errors="replace").strip()
        return "closed" if text == "open durable" or not text else text

    def _unlock(self) -> None:
        os.close(self._lock)
        if self._folder:
            self._folder.cleanup()


class Reader:
    """The journal as another thread reads it.

    Args:
        path: of a journal that is being written.
        epoch: its own.
    """

    def __init__(self, path: Path, epoch: str) -> None:
        self._epoch = epoch
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA query_only=1")

    def stretch(self, topic: str, epoch: str, first: int, last: int, limit: int) -> Stretch:
        """Messages [first, last] of a topic, at most about `limit` of them at once."""
        if epoch != self._epoch:
            return Stretch([], [Hole(first, last, "epoch")], 0)
        self._db.execute("BEGIN")
        try:
            return self._stretch(topic, first, last, limit)
        finally:
            self._db.execute("COMMIT")

    def _stretch(self, topic: str, first: int, last: int, limit: int) -> Stretch:
        found = self._db.execute("SELECT id, first FROM topic WHERE name=?", (topic,)).fetchone()
        if found is None:
            return Stretch([], [Hole(first, last, "not_kept")], 0)
        key, kept = found
        holes: list[Hole] = []
        bodies: list[bytes] = []
        if first < kept:
            holes.append(Hole(first, min(last, kept - 1), "retention"))
            query = "SELECT body FROM event WHERE topic=? AND seq<? AND until>=? ORDER BY seq"
            bodies = [body for (body,) in self._db.execute(query, (key, kept, kept))]
        expected = max(first, kept)
        rows = self._db.execute(
            "SELECT seq, body FROM event WHERE topic=? AND seq BETWEEN ? AND ? ORDER BY seq"
            " LIMIT ?",
            (key, expected, last, limit),
        ).fetchall()
        for seq, body in rows:
            if seq > expected:
                holes.append(Hole(expected, seq - 1, "not_kept"))
            bodies.append(body)
            expected = seq + 1
        if len(rows) == limit and expected <= last:
            return Stretch(bodies, holes, expected)
        if expected <= last:
            holes.append(Hole(expected, last, "not_kept"))
        return Stretch(bodies, holes, 0)

    def close(self) -> None:
        """Ends it."""
        self._db.close()


def _lock(path: Path) -> int:
    """A lock that lasts as long as this process."""
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FeedError(
            f"journal {path}: expected a folder to write to, got {error.strerror}"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise FeedError(
            f"journal {path}: expected to be the only one who writes it, got one that is in use; "
            "is another daemon running with it? Give each its own feed.journal"
        ) from None
    return handle


def _fault(path: Path) -> str:
    """What is wrong with a journal's file; empty if nothing is."""
    try:
        db = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        return str(error)
    try:
        (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            return str(said)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        if not {"meta", "topic", "event"} & tables:
            return "" if not tables else "it is no journal"
        found = db.execute("SELECT value FROM meta WHERE name='layout'").fetchone()
        return "" if found == (str(LAYOUT),) else f"its layout is {found}, expected {LAYOUT}"
    except sqlite3.Error as error:
        return str(error)
    finally:
        db.close()


def _set_aside(path: Path, fault: str, now_ns: int) -> None:
    """Renames a journal that cannot be trusted, with what belongs to it."""
    aside = path.with_name(f"{path.name}.damaged-{now_ns:016x}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    log.error("journal %s: damaged (%s); set aside as %s, a new one begins", path, fault, aside)


def _boot() -> str:
    """Names the time since the machine was switched on."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"
