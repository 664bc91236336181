"""Reads messages that a subscriber missed back from the journal, in another thread."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from streamtag.errors import FeedError
from streamtag.feed.journal.compression import Decompressor
from streamtag.feed.journal.database import checksum


@dataclass(frozen=True, slots=True)
class MissingRange:
    """Messages [first, last] of a topic that the journal does not have."""

    first: int
    last: int
    reason: str
    """`retention` (removed), `not_kept` (never written), `damaged` (not as it was written),
    `epoch` (of another journal)."""


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """One page of the messages that a subscriber missed."""

    bodies: list[bytes]
    """Payloads: first those in force where older ones were removed, then those kept."""
    missing: list[MissingRange]
    next: int
    """First number of the next page; 0 if this is the last one."""


class JournalReader:
    """Reads from a journal while it is being written.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA query_only=1")
        self._decompressor = Decompressor(self._db)

    def read(self, topic: str, epoch: str, first: int, last: int, limit: int) -> ReplayPage:
        """Messages [first, last] of a topic, about `limit` of them at the most."""
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

    def _read_kept(self, topic: int, kept: int, first: int, last: int, limit: int) -> ReplayPage:
        """A page of a topic that is kept from number `kept` on."""
        missing: list[MissingRange] = []
        bodies: list[bytes] = []
        if first < kept:
            missing.append(MissingRange(first, min(last, kept - 1), "retention"))
            query = "SELECT body FROM event WHERE topic=? AND seq<? AND until>=? ORDER BY seq"
            bodies = [body for (body,) in self._db.execute(query, (topic, kept, kept))]
        expected = max(first, kept)
        rows = self._db.execute(
            "SELECT seq, crc, body FROM event WHERE topic=? AND seq BETWEEN ? AND ? ORDER BY seq"
            " LIMIT ?",
            (topic, expected, last, limit),
        ).fetchall()
        for seq, crc, body in rows:
            if seq > expected:
                missing.append(MissingRange(expected, seq - 1, "not_kept"))
            expected = seq + 1
            try:
                if checksum(body) != crc:
                    raise FeedError("not as it was written")
                bodies.append(self._decompressor.decompress(body))
            except FeedError:
                missing.append(MissingRange(seq, seq, "damaged"))
        if len(rows) == limit and expected <= last:
            return ReplayPage(bodies, missing, expected)
        if expected <= last:
            missing.append(MissingRange(expected, last, "not_kept"))
        return ReplayPage(bodies, missing, 0)

    def topics(self) -> dict[str, tuple[str, int]]:
        """Epoch and newest number of every topic; the journal's own epoch has the topic `""`."""
        newest = "(SELECT coalesce(max(seq),0) FROM event WHERE topic=id)"
        query = f"SELECT name, epoch, {newest} FROM topic UNION ALL "
        query += "SELECT '', value, 0 FROM meta WHERE name='epoch'"
        return {name: (epoch, seq) for name, epoch, seq in self._db.execute(query)}

    def close(self) -> None:
        """Closes the journal."""
        self._db.close()
