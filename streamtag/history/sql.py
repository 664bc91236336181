"""What SQLite itself can tell of the payloads in a journal, so that few rows reach Python.

A message's time is at the same place of every payload, and its text sorts as the moments do. It is
read there, in C: neither an index, which would cost at every writing, nor the time of writing,
which says little about an archive that is tagged faster than it plays, or after a clock was set
back, is needed. Where a payload cannot be understood here (deflated, damaged, spelt otherwise) the
row is handed on for Python to judge: none is left out that is wanted.
"""

from streamtag.feed.timestamps import rfc3339
from streamtag.history.query import Query, as_field

_LETTERS = 27
"""Of a time with microseconds."""
_HEAD_BYTES = 48
"""The type of a message lies within so many."""
_ELSEWHERE = {"scores": "scores", "mood": "mood"}
"""Types of messages that have topics of their own, and how those begin."""


def _literal(text: bytes) -> str:
    return f"x'{text.hex()}'"


_BEGINNING = b'{"v":1,"type":"'
_JSON = f"substr(body,1,{len(_BEGINNING)})={_literal(_BEGINNING)}"
_PACKED = "substr(body,1,1)>=x'80'"
"""MessagePack. What is deflated, or damaged at its beginning, is neither."""


def _time(name: str) -> str:
    """The text of a field with a time; NULL where it is not found."""
    in_json = f'"{name}":"'.encode()
    packed = bytes([0xA0 | len(name)]) + name.encode() + bytes([0xA0 | _LETTERS])  # MessagePack
    return f"CASE WHEN {_JSON} THEN {_after(in_json)} WHEN {_PACKED} THEN {_after(packed)} END"


def _after(mark: bytes) -> str:
    at = f"nullif(instr(body,{_literal(mark)}),0)"
    return f"substr(body,{at}+{len(mark)},{_LETTERS})"


UTC = _time("utc")
"""A message's time."""
SINCE_UTC = _time("since_utc")
"""When what it ends began."""


def moment(ns: int) -> bytes:
    """Nanoseconds since 1970 as payloads have them."""
    return rfc3339(ns).encode()


def of_kind(name: str) -> str:
    """Whether a message may be of a type; true for all that are."""
    found = f"instr(substr(body,1,{_HEAD_BYTES}),{_literal(name.encode())})"
    return f"({found} OR NOT ({_JSON} OR {_PACKED}))"


def that_may_want(query: Query) -> tuple[str, list[object]]:
    """A condition that everything wanted fulfils, but for the streams; and its values."""
    parts, values = ["1"], list[object]()
    if query.since is not None:
        parts.append(f"coalesce({UTC}>=?,1)")
        values.append(moment(query.since))
    if query.until is not None:
        parts.append(f"coalesce({UTC}<?,1)")
        values.append(moment(query.until))
    if query.tags:
        found = " OR ".join(["instr(body,?)"] * len(query.tags))
        parts.append(f"(NOT {_JSON} OR {found})")
        values += [as_field(tag) for tag in sorted(query.tags)]
    if query.types:
        parts.append(f"({' OR '.join(map(of_kind, sorted(query.types)))})")
    return " AND ".join(parts), values


def topic_may_hold(topic: str, query: Query) -> bool:
    """Whether a topic may hold what is wanted."""
    kind, stream = topic.split("/")[:2]
    if query.streams and stream not in query.streams:
        return False
    if kind in _ELSEWHERE.values():
        return not query.tags and (not query.types or kind in query.types)
    return not query.types or bool(query.types - _ELSEWHERE.keys())
