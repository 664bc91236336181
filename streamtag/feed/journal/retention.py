"""Retention: how long the journal keeps messages, and how large its file may become."""

import logging
import sqlite3
from dataclasses import dataclass

from streamtag.feed.journal.database import FOREVER

log = logging.getLogger(__name__)

PRUNE_ROWS = 500
"""Rows of a topic that are deleted at once. Publishing goes on between two deletions."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long messages are kept."""

    seconds: float = 30 * 86400.0
    """Age at which a message is removed."""
    bytes: int = 2**30
    """Size of the file, roughly, at which the oldest messages are removed."""


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the file that are in use."""
    (pages,), (free,), (page,) = (
        db.execute(f"PRAGMA {name}").fetchone()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)


def prune(db: sqlite3.Connection, retention: Retention, now_ns: int) -> int:
    """Removes messages that are too old or too many, a few at a time.

    What was in force at the oldest number that is kept stays: a tag may be on for a month.

    Args:
        db: a journal, in a transaction.
        retention: what is kept.
        now_ns: UTC, in nanoseconds since 1970.

    Returns:
        How many rows were removed.
    """
    cutoff = now_ns - int(retention.seconds * 1e9)
    if used_bytes(db) > retention.bytes:
        cutoff = max(cutoff, _oldest_cutoff(db))
    topics = db.execute("SELECT id, name FROM topic").fetchall()
    return sum(_prune_topic(db, key, name, cutoff) for key, name in topics)


def _oldest_cutoff(db: sqlite3.Connection) -> int:
    """The time of writing up to which the oldest few messages of all topics go."""
    (in_force,) = db.execute(f"SELECT count(*) FROM event WHERE until={FOREVER}").fetchone()
    query = "SELECT ns FROM event ORDER BY rowid LIMIT 1 OFFSET ?"
    found = db.execute(query, (PRUNE_ROWS + in_force,)).fetchone()
    newest = db.execute("SELECT max(rowid), ns FROM event").fetchone()[1] or 0
    return 1 + int(found[0] if found else newest)


def _prune_topic(db: sqlite3.Connection, topic: int, name: str, cutoff: int) -> int:
    rows = db.execute(
        "SELECT seq, ns FROM event WHERE topic=? AND seq>=(SELECT first FROM topic WHERE id=?)"
        " ORDER BY seq LIMIT ?",
        (topic, topic, PRUNE_ROWS),
    ).fetchall()
    old = next((i for i, (_, ns) in enumerate(rows) if ns >= cutoff), len(rows))
    if not old:
        return 0
    first = rows[old - 1][0] + 1
    (newest,) = db.execute("SELECT max(seq) FROM event WHERE topic=?", (topic,)).fetchone()
    db.execute(
        "UPDATE topic SET first=?, last=max(last, ?) WHERE id=?", (first, newest or 0, topic)
    )
    removed = db.execute(  # the newest row of all stays, so that no rowid is ever used again
        "DELETE FROM event WHERE topic=? AND seq<? AND until<?"
        " AND rowid<(SELECT max(rowid) FROM event)",
        (topic, first, first),
    ).rowcount
    log.debug("journal: %d messages of %s were removed", removed, name)
    return removed
