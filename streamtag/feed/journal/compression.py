"""Scores and moods as the journal keeps them: small, for they are many and alike.

Each is deflated with an earlier one as dictionary (RFC 1950, whose header names the dictionary by
its Adler-32), which lies in the same file. What is not deflated is as it was published: no payload
begins with the byte of a deflated one.
"""

import sqlite3
import zlib
from dataclasses import dataclass
from typing import Protocol

from streamtag.errors import FeedError

BULKY = ("scores/", "mood/")
"""How the topics begin whose messages are deflated."""
TABLE = """
CREATE TABLE IF NOT EXISTS dictionary (
    id INTEGER PRIMARY KEY, -- Adler-32 of the body
    body BLOB NOT NULL
);
"""
_MARK = b"\x78"
"""What is deflated begins with it."""
_WORSE = 1.15
"""A message that becomes so many times as large as the usual goes into the next dictionary."""
_LEAST = 100
"""Messages that every dictionary is used for."""
_LONGEST = 16_384
"""Bytes of a dictionary."""


@dataclass(slots=True)
class _Dictionary:
    """What a topic's messages are compared with."""

    body: bytes
    usual: int = 0
    """Bytes that a message becomes."""
    used: int = 0


class Compactor:
    """Deflates what one writer writes.

    Args:
        db: the journal.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._dictionaries: dict[str, _Dictionary] = {}  # by topic

    def pack(self, topic: str, body: bytes) -> bytes:
        """A payload as it is to be kept; may write a dictionary."""
        one = self._dictionaries.get(topic)
        if one is None:
            return self._begin(topic, body)
        packed = _deflate(body, one.body)
        one.usual = one.usual or len(packed)
        one.used += 1
        if len(packed) > _WORSE * one.usual and one.used > _LEAST:  # another model, another title
            return self._begin(topic, body, one.body)
        return packed

    def tidy(self) -> None:
        """Empties the dictionaries of messages that are not kept any more; reads the whole file.

        Their names stay taken: somebody who reads all the while may still know them.
        """
        held = [name for (name,) in self._db.execute("SELECT id FROM dictionary WHERE body!=x''")]
        if not held:
            return
        query = "SELECT DISTINCT substr(body, 3, 4) FROM event WHERE substr(body, 1, 1)=?"
        used = {int.from_bytes(name, "big") for (name,) in self._db.execute(query, (_MARK,))}
        unused = [(name,) for name in held if name not in used]
        self._db.executemany("UPDATE dictionary SET body=x'' WHERE id=?", unused)

    def forget(self) -> None:
        """The transaction was rolled back: its dictionaries are not there."""
        self._dictionaries.clear()

    def _begin(self, topic: str, body: bytes, before: bytes = b"") -> bytes:
        """Makes a payload part of the topic's dictionary; a topic of the same tags may have it."""
        dictionary = (before + body)[-_LONGEST:]
        while not self._keep(dictionary):
            dictionary += b" "
        self._dictionaries[topic] = _Dictionary(dictionary)
        return _deflate(body, dictionary)

    def _keep(self, dictionary: bytes) -> bool:
        """Whether it is in the file now; not if another one of the same checksum is.

        Messages differ in a few digits, and `131` for `212` changes no Adler-32.
        """
        name = zlib.adler32(dictionary)
        self._db.execute("INSERT OR IGNORE INTO dictionary VALUES (?, ?)", (name, dictionary))
        query = "SELECT body FROM dictionary WHERE id=?"
        return bool(self._db.execute(query, (name,)).fetchone() == (dictionary,))


class Expand(Protocol):
    """Gives a payload back as it was published, or only its first bytes, at least so many."""

    def __call__(self, body: bytes, most: int = 0, /) -> bytes: ...


def expander(db: sqlite3.Connection) -> Expand:
    """Gives payloads back as they were published.

    Args:
        db: the journal that they are in.

    Returns:
        A function of a kept payload, and perhaps how many of its bytes are wanted (0 for all); it
        raises FeedError for one whose dictionary is gone.
    """
    known: dict[int, bytes] = {}

    def expand(body: bytes, most: int = 0, /) -> bytes:
        if not isinstance(body, bytes) or body[:1] != _MARK:
            return body
        name = int.from_bytes(body[2:6], "big")
        if name not in known:
            found = db.execute("SELECT body FROM dictionary WHERE id=?", (name,)).fetchone()
            if found is None:
                raise FeedError(f"journal: expected dictionary {name}, got none")
            known[name] = found[0]
        try:
            return zlib.decompressobj(zdict=known[name]).decompress(body, most)
        except zlib.error as error:
            raise FeedError(f"journal: expected a deflated message, got {error}") from None

    return expand


def _deflate(body: bytes, dictionary: bytes) -> bytes:
    deflating = zlib.compressobj(zdict=dictionary)
    return deflating.compress(body) + deflating.flush()
