"""Compression of scores and moods in the journal: there are many of them, and they are alike.

Each one is deflated with an earlier one as dictionary, which is in the same file. The zlib header
(RFC 1950) identifies the dictionary by its Adler-32. All other payloads are kept as they were
published: none of them begins with the first byte of a zlib header.
"""

import sqlite3
import zlib
from dataclasses import dataclass

from streamtag.errors import FeedError

COMPRESSED_TOPICS = ("scores/", "mood/")
"""Prefixes of the topics whose messages are compressed."""
TABLE = """
CREATE TABLE IF NOT EXISTS dictionary (
    id INTEGER PRIMARY KEY, -- Adler-32 of the body
    body BLOB NOT NULL
);
"""
ZLIB_HEADER = b"\x78"
"""First byte of every compressed payload."""
_GROWTH = 1.15
"""A message that needs this many times the usual size begins a new dictionary."""
_MIN_USES = 100
"""Messages that are compressed with a dictionary before a new one may begin."""
_MAX_DICTIONARY_BYTES = 16_384


@dataclass(slots=True)
class _Dictionary:
    """The dictionary of a topic."""

    body: bytes
    usual: int = 0
    """Compressed size of the first message, in bytes."""
    used: int = 0
    """Messages compressed with it."""


class Compressor:
    """Compresses the messages of one writer.

    Args:
        db: the journal, which keeps the dictionaries.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._dictionaries: dict[str, _Dictionary] = {}  # by topic

    def compress(self, topic: str, body: bytes) -> bytes:
        """A payload as the journal keeps it; may write a dictionary."""
        known = self._dictionaries.get(topic)
        if known is None:
            return self._begin(topic, body)
        packed = _deflate(body, known.body)
        known.usual = known.usual or len(packed)
        known.used += 1
        if len(packed) > _GROWTH * known.usual and known.used > _MIN_USES:  # another model or title
            return self._begin(topic, body, known.body)
        return packed

    def remove_unused(self) -> None:
        """Empties the dictionaries that no kept message needs; reads the whole file.

        Their ids stay in use, because a reader may still know the bodies by them.
        """
        kept = [key for (key,) in self._db.execute("SELECT id FROM dictionary WHERE body!=x''")]
        if not kept:
            return
        query = "SELECT DISTINCT substr(body, 3, 4) FROM event WHERE substr(body, 1, 1)=?"
        used = {int.from_bytes(key, "big") for (key,) in self._db.execute(query, (ZLIB_HEADER,))}
        unused = [(key,) for key in kept if key not in used]
        self._db.executemany("UPDATE dictionary SET body=x'' WHERE id=?", unused)

    def clear(self) -> None:
        """Forgets all dictionaries: the transaction that wrote them was rolled back."""
        self._dictionaries.clear()

    def _begin(self, topic: str, body: bytes, before: bytes = b"") -> bytes:
        """Makes a payload part of the topic's dictionary. Topics with equal messages share one."""
        dictionary = (before + body)[-_MAX_DICTIONARY_BYTES:]
        while not self._store(dictionary):
            dictionary += b" "
        self._dictionaries[topic] = _Dictionary(dictionary)
        return _deflate(body, dictionary)

    def _store(self, dictionary: bytes) -> bool:
        """Whether the dictionary is in the file now; not if another one has its checksum.

        Messages differ in a few digits, and `131` for `212` changes no Adler-32.
        """
        key = zlib.adler32(dictionary)
        self._db.execute("INSERT OR IGNORE INTO dictionary VALUES (?, ?)", (key, dictionary))
        query = "SELECT body FROM dictionary WHERE id=?"
        return bool(self._db.execute(query, (key,)).fetchone() == (dictionary,))


class Decompressor:
    """Restores payloads as they were published.

    Args:
        db: the journal that they are in.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._dictionaries: dict[int, bytes] = {}

    def decompress(self, body: bytes, limit: int = 0) -> bytes:
        """A payload, or only its first `limit` bytes at the least (0: all of it).

        Raises:
            FeedError: its dictionary is missing, or it is damaged.
        """
        if not isinstance(body, bytes) or body[:1] != ZLIB_HEADER:
            return body
        dictionary = self._dictionary(int.from_bytes(body[2:6], "big"))
        try:
            return zlib.decompressobj(zdict=dictionary).decompress(body, limit)
        except zlib.error as error:
            raise FeedError(f"journal: expected a deflated message, got {error}") from None

    def _dictionary(self, key: int) -> bytes:
        if key not in self._dictionaries:
            query = "SELECT body FROM dictionary WHERE id=?"
            found = self._db.execute(query, (key,)).fetchone()
            if found is None:
                raise FeedError(f"journal: expected dictionary {key}, got none")
            self._dictionaries[key] = found[0]
        return self._dictionaries[key]


def _deflate(body: bytes, dictionary: bytes) -> bytes:
    deflating = zlib.compressobj(zdict=dictionary)
    return deflating.compress(body) + deflating.flush()
