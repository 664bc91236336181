"""The file of a journal: its tables, whether it is sound, and what is known beside it.

Beside `NAME` lies `NAME.lock`: held by whoever writes, and 128 bytes that are overwritten in place
(that needs no space on a full disk): how many numbers have been given out, so that after an
accident no number is given out twice.
"""

import fcntl
import logging
import os
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path

from streamtag.errors import FeedError
from streamtag.feed.journal import compression

log = logging.getLogger(__name__)

LAYOUT = 2
"""Of the tables. Layout 1 is rewritten; what is newer is refused."""
PAGE, CHECKPOINT = 16_384, 4_096_000
"""Bytes of a page (with SQLite's 4096 writing costs half as much again) and of the log."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS topic (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    first INTEGER NOT NULL, -- what is older was removed, unless it was in force then
    last INTEGER NOT NULL,  -- newest number at the last pruning, closing or accident
    epoch TEXT NOT NULL     -- of its numbers
);
CREATE TABLE IF NOT EXISTS event (
    topic INTEGER NOT NULL, seq INTEGER NOT NULL,
    until INTEGER NOT NULL, -- number of the message that ended it; its own if it opens nothing
    ns INTEGER NOT NULL,    -- UTC when written
    crc INTEGER NOT NULL,   -- CRC-32 of the body
    body BLOB NOT NULL      -- the payload; scores and moods deflated: see `compact`
);
CREATE UNIQUE INDEX IF NOT EXISTS number ON event (topic, seq);
CREATE INDEX IF NOT EXISTS standing ON event (topic, seq) WHERE until = 4611686018427387904;
"""

_FROM_1 = """
BEGIN;
DROP INDEX standing;
ALTER TABLE event RENAME TO event_1;
ALTER TABLE topic ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
UPDATE topic SET epoch=(SELECT value FROM meta WHERE name='epoch');
CREATE TABLE event (
    topic INTEGER NOT NULL, seq INTEGER NOT NULL, until INTEGER NOT NULL, ns INTEGER NOT NULL,
    crc INTEGER NOT NULL, body BLOB NOT NULL
);
INSERT INTO event SELECT topic, seq, until, ns, crc32(body), body FROM event_1 ORDER BY ns, topic;
DROP TABLE event_1;
UPDATE meta SET value='2' WHERE name='layout';
COMMIT;
"""


def lock(path: Path) -> int:
    """A lock that lasts as long as this process: the handle of the file beside.

    Raises:
        FeedError: another process has it, or there is no folder.
    """
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


def open_sound(path: Path, synchronous: str, now_ns: int, ours: bool) -> sqlite3.Connection:
    """The journal's file if it is sound, else a new one, and the damaged one set aside.

    Args:
        path: its file, locked.
        synchronous: as SQLite calls it.
        now_ns: UTC, in nanoseconds since 1970.
        ours: a daemon wrote a journal there before, so that what is damaged must be that one.

    Raises:
        FeedError: it is somebody else's file, or of a newer layout.
        sqlite3.Error: it cannot be used just now.
    """
    if path.exists() and (fault := _damage(path)):
        if not ours:
            raise _foreign(path, f"another ({fault})")
        _set_aside(path, fault, now_ns)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA page_size={PAGE}")  # of a new file
        db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}")
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        (page,) = db.execute("PRAGMA page_size").fetchone()
        db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT // page}")
        if _layout(db) == "1":
            log.info("journal %s: rewritten in layout %d", path, LAYOUT)
            db.create_function("crc32", 1, checksum, deterministic=True)
            db.executescript(_FROM_1)
        db.executescript(TABLES + compression.TABLE)
    except BaseException:
        db.close()
        raise
    return db


def path_problem(path: Path) -> str:
    """Why there can be no journal at a path, as far as a look tells; empty where there can."""
    if path.is_dir():
        return "expected a file, got a folder"
    if not path.exists():
        above = next(folder for folder in path.absolute().parents if folder.exists())
        fine = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
        return "" if fine else f"expected a folder to write to, got {above}"
    if not os.access(path, os.R_OK | os.W_OK):
        return "expected a file to write to, got one that may not be written"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            _check_whose(path, db)
    except FeedError as error:
        return str(error)
    except sqlite3.DatabaseError as error:
        foreign = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB
        beside = path.with_name(path.name + ".lock")
        known = beside.exists() and beside.stat().st_size > 0
        return str(_foreign(path, f"another ({error})")) if foreign and not known else ""
    return ""


def wait_for_wal(path: Path) -> None:
    """Returns when everything committed so far is on the disk.

    Raises:
        OSError: the disk failed.
    """
    handle = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)


def _damage(path: Path) -> str:
    """What is broken in a journal's file; empty if nothing is.

    Raises:
        FeedError: it is not broken, and no journal of ours either.
        sqlite3.Error: it cannot be read just now: locked, or the disk fails.
    """
    db = sqlite3.connect(path, isolation_level=None)
    try:
        (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            return str(said)
        _check_whose(path, db)
        if _layout(db) != str(LAYOUT):
            return ""
        db.create_function("crc32", 1, checksum, deterministic=True)
        (bad,) = db.execute("SELECT count(*) FROM event WHERE crc != crc32(body)").fetchone()
        return f"{bad} messages are not as they were written" if bad else ""
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return str(error)
        raise
    finally:
        db.close()


def _foreign(path: Path, got: str) -> FeedError:
    words = f"expected a journal or no file, got {got}; give feed.journal another path"
    return FeedError(f"journal {path}: {words}")


def _check_whose(path: Path, db: sqlite3.Connection) -> None:
    """Leaves other programs' databases alone, and those of later versions."""
    tables = {str(name) for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if tables and not {"meta", "topic", "event"} <= tables:
        raise _foreign(path, f"a database with {', '.join(sorted(tables)[:5])}")
    if tables and (layout := _layout(db)) not in ("1", str(LAYOUT)):
        raise FeedError(
            f"journal {path}: expected layout {LAYOUT}, got {layout or 'none'}; use the version of "
            "streamtag that wrote it, or give feed.journal another path"
        )


def _layout(db: sqlite3.Connection) -> str:
    """Of the tables; empty where there are none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
        return ""
    found = db.execute("SELECT value FROM meta WHERE name='layout'").fetchone()
    return str(found[0]) if found else ""


def _set_aside(path: Path, fault: str, now_ns: int) -> None:
    """Renames a journal that cannot be trusted, with what belongs to it."""
    aside = path.with_name(f"{path.name}.damaged-{now_ns:016x}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    log.error("journal %s: damaged (%s); set aside as %s, a new one begins", path, fault, aside)


def checksum(body: object) -> int:
    """CRC-32 of a payload; of what is none, -1."""
    return zlib.crc32(body) if isinstance(body, bytes) else -1
