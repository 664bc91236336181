"""The journal as another thread reads it: what was missed, and what of it cannot be had."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from streamtag.errors import FeedError
from streamtag.feed.journal.compression import expander
from streamtag.feed.journal.database import checksum


@dataclass(frozen=True, slots=True)
class MissingRange:
    """Messages of a topic that the journal does not have: [first, last]."""

    first: int
    last: int
    reason: str
    """`retention` (removed), `not_kept` (never written), `damaged` (not as it was written),
    `epoch` (of another journal)."""


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """An answer to what was missed."""

    bodies: list[bytes]
    """Payloads: first what was in force where something is missing, then what was kept."""
    missing: list[MissingRange]
    next: int
    """Where to ask on; 0 when this is all."""


class JournalReader:
    """The journal as another thread reads it.

    Args:
        path: of a journal that is being written.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA query_only=1")
        self._expand = expander(self._db)

    def read(self, topic: str, epoch: str, first: int, last: int, limit: int) -> ReplayPage:
        """Messages [first, last] of a topic, at most about `limit` of them at once."""
        self._db.execute("BEGIN")
        try:
            query = "SELECT id, first, epoch FROM topic WHERE name=?"
            found = self._db.execute(query, (topic,)).fetchone()
            if found is None or found[2] != epoch:
                reason = "epoch" if found or not self._knows(epoch) else "not_kept"
                return ReplayPage([], [MissingRange(first, last, reason)], 0)
            return self._read_kept(found[0], found[1], first, last, limit)
        finally:
            self._db.execute("COMMIT")

    def _knows(self, epoch: str) -> bool:
        query = "SELECT 1 FROM meta WHERE name='epoch' AND value=?"
        return self._db.execute(query, (epoch,)).fetchone() is not None

    def _read_kept(self, key: int, kept: int, first: int, last: int, limit: int) -> ReplayPage:
        missing: list[MissingRange] = []
        bodies: list[bytes] = []
        if first < kept:
            missing.append(MissingRange(first, min(last, kept - 1), "retention"))
            query = "SELECT body FROM event WHERE topic=? AND seq<? AND until>=? ORDER BY seq"
            bodies = [body for (body,) in self._db.execute(query, (key, kept, kept))]
        expected = max(first, kept)
        rows = self._db.execute(
            "SELECT seq, crc, body FROM event WHERE topic=? AND seq BETWEEN ? AND ? ORDER BY seq"
            " LIMIT ?",
            (key, expected, last, limit),
        ).fetchall()
        for seq, crc, body in rows:
            if seq > expected:
                missing.append(MissingRange(expected, seq - 1, "not_kept"))
            expected = seq + 1
            try:
                if checksum(body) != crc:
                    raise FeedError("not as it was written")
                bodies.append(self._expand(body))
            except FeedError:
                missing.append(MissingRange(seq, seq, "damaged"))
        if len(rows) == limit and expected <= last:
            return ReplayPage(bodies, missing, expected)
        if expected <= last:
            missing.append(MissingRange(expected, last, "not_kept"))
        return ReplayPage(bodies, missing, 0)

    def close(self) -> None:
        """Ends it."""
        self._db.close()
