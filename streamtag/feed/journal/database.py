"""The SQLite database of a journal: its tables, and whether a file can be trusted.

A damaged journal is set aside under another name and a new one begins. A database of another
program, or of another layout, is refused and left alone.
"""

import logging
import os
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path

from streamtag.errors import FeedError
from streamtag.feed.journal import compression
from streamtag.feed.journal.lock_file import lock_path

log = logging.getLogger(__name__)

LAYOUT = "2"
"""Version of the tables; any other is refused."""
FOREVER = 2**62
"""`until` of a message that is in force."""
PAGE_BYTES = 16_384
"""Size of a page. With SQLite's default of 4096, writing takes half as much again."""
CHECKPOINT_BYTES = 4_096_000
"""Size of the write-ahead log at which SQLite copies it into the database."""

TABLES = f"""
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
    body BLOB NOT NULL      -- the payload; scores and moods deflated
);
CREATE UNIQUE INDEX IF NOT EXISTS number ON event (topic, seq);
CREATE INDEX IF NOT EXISTS standing ON event (topic, seq) WHERE until = {FOREVER};
"""
IN_FORCE = f"SELECT body FROM event WHERE until={FOREVER} ORDER BY topic, seq"
"""Selects the payloads of the messages in force."""


def open_database(
    path: Path, synchronous: str, now_ns: int, had_writer: bool
) -> sqlite3.Connection:
    """The journal's database, or a new one if it is damaged.

    Args:
        path: its file, locked.
        synchronous: value of SQLite's pragma of that name.
        now_ns: UTC, in nanoseconds since 1970.
        had_writer: a daemon wrote a journal there before, so a file that is no database is a
            damaged journal.

    Raises:
        FeedError: the file belongs to another program, or has another layout.
        sqlite3.Error: it cannot be used at the moment.
    """
    if path.exists() and (fault := _damage(path)):
        if not had_writer:
            raise _foreign(path, f"another ({fault})")
        _set_aside(path, fault, now_ns)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")  # has an effect on a new file only
    db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}")
    db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    (page,) = db.execute("PRAGMA page_size").fetchone()
    db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // page}")
    db.executescript(TABLES + compression.TABLE)
    return db


def path_problem(path: Path) -> str:
    """Why there can be no journal at a path, without writing to it; empty if there can."""
    try:
        exists = path.exists()
    except OSError as error:  # such as a name that is too long
        return f"expected a path to write to, got one that cannot be used: {error.strerror}"
    if path.is_dir():
        return "expected a file, got a folder"
    if not exists:
        above = next(folder for folder in path.absolute().parents if folder.exists())
        fine = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
        return "" if fine else f"expected a folder to write to, got {above}"
    if not os.access(path, os.R_OK | os.W_OK):
        return "expected a file to write to, got one that may not be written"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            _check_tables(path, db)
    except FeedError as error:
        return str(error)
    except sqlite3.DatabaseError as error:
        lock = lock_path(path)
        had_writer = lock.exists() and lock.stat().st_size > 0
        if _error_code(error) == sqlite3.SQLITE_NOTADB and not had_writer:
            return str(_foreign(path, f"another ({error})"))
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


def checksum(body: object) -> int:
    """CRC-32 of a payload; -1 if it is no payload."""
    return zlib.crc32(body) if isinstance(body, bytes) else -1


def _damage(path: Path) -> str:
    """What is broken in a journal's file; empty if nothing is.

    Raises:
        FeedError: the file belongs to another program, or has another layout.
        sqlite3.Error: it cannot be read at the moment: it is locked, or the disk fails.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        try:
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                return str(answer)
            if not _check_tables(path, db):
                return ""
            db.create_function("crc32", 1, checksum, deterministic=True)
            (bad,) = db.execute("SELECT count(*) FROM event WHERE crc != crc32(body)").fetchone()
            return f"{bad} messages are not as they were written" if bad else ""
        except sqlite3.DatabaseError as error:
            if _error_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                return str(error)
            raise


def _error_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _check_tables(path: Path, db: sqlite3.Connection) -> bool:
    """Whether there are tables; they must be those of a journal of this layout."""
    tables = {str(name) for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return False
    if not {"meta", "topic", "event"} <= tables:
        raise _foreign(path, f"a database with {', '.join(sorted(tables)[:5])}")
    found = db.execute("SELECT value FROM meta WHERE name='layout'").fetchone() or ("none",)
    if found[0] != LAYOUT:
        raise FeedError(
            f"journal {path}: expected layout {LAYOUT}, got {found[0]}; use the version of "
            "streamtag that wrote it, or give feed.journal another path"
        )
    return True


def _foreign(path: Path, got: str) -> FeedError:
    words = f"expected a journal or no file, got {got}; give feed.journal another path"
    return FeedError(f"journal {path}: {words}")


def _set_aside(path: Path, fault: str, now_ns: int) -> None:
    """Renames a damaged journal, with its write-ahead log."""
    aside = path.with_name(f"{path.name}.damaged-{now_ns:016x}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    log.error("journal %s: damaged (%s); set aside as %s, a new one begins", path, fault, aside)
