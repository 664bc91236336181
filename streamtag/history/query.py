"""What is asked of a journal, and what it answers."""

import json
import re
from dataclasses import dataclass, field

from streamtag.feed.messages import Message
from streamtag.feed.timestamps import rfc3339

_HEAD = re.compile(
    rb'\{"v":1,"type":"(\w+)","epoch":"\w*","seq":\d+,"stream":"([^"\\]*)",'
    rb'"t":[^,]*,"utc":"([^"\\]*)"'
)


@dataclass(frozen=True, slots=True)
class Query:
    """What is wanted; empty sets and None for everything."""

    streams: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    since: int | None = None
    """First moment (`utc` of the message), in nanoseconds since 1970."""
    until: int | None = None
    """The moment after the last."""

    def wants(self, message: Message) -> bool:
        """Whether a message is wanted."""
        return self._head_fits(message.type, message.stream, message.utc) and (
            not self.tags or getattr(message, "tag", None) in self.tags
        )

    def may_want(self, body: bytes) -> bool:
        """Whether a payload may be wanted, as a quick look says."""
        if (head := _HEAD.match(body)) is None:
            return True
        kind, stream, utc = (part.decode() for part in head.groups())
        return self._head_fits(kind, stream, utc) and (
            not self.tags or any(as_field(tag) in body for tag in self.tags)
        )

    def _head_fits(self, kind: str, stream: str, utc: str) -> bool:
        return (
            (not self.types or kind in self.types)
            and (not self.streams or stream in self.streams)
            and (self.since is None or utc >= rfc3339(self.since))
            and (self.until is None or utc < rfc3339(self.until))
        )


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A message that was kept."""

    number: int
    id: str
    message: Message
    body: bytes
    """The payload, as it was published."""


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Some of the entries asked for."""

    entries: list[JournalEntry]
    continue_after: int
    """The number to go on after; 0 when this is all."""
    damaged: int = 0
    """Rows that could not be read."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where to go on for somebody who has an entry's key."""

    after: int
    """The number after which everything is new."""
    lost: int = 0
    """Entries since then that were removed, as far as is known."""
    reason: str = ""
    """`retention` or `epoch` (another journal) where something may be missing."""
    accident: bool = False
    """Since then messages were published that the journal could not keep; nobody knows how many."""

    @property
    def missed(self) -> list[tuple[int, str]]:
        """What cannot be had: how many (0 where that is not known), and why."""
        gone = [(self.lost, self.reason)] if self.reason else []
        return [*gone, (0, "not_kept")] if self.accident else gone


@dataclass(frozen=True, slots=True)
class TopicEvents:
    """What is kept of a topic, or what of it bears on a stretch of time."""

    first: int
    """The first number that retention has left; before it only what was in force then is kept."""
    rows: list[tuple[int, int, Message]]
    """Number, the number until which it is in force, message; rising."""
    before: "PriorState | None" = None
    """Of a stretch: what comes before the rows; None where nothing is left out there."""
    late: list[tuple[int, Message]] = field(default_factory=list)
    """Of a stretch: the number until which it is in force, and message, of those after the rows
    that tell of the stretch."""


@dataclass(frozen=True, slots=True)
class PriorState:
    """What messages that are left out come to; all of them are of a time up to `moment`."""

    moment: int
    """Nanoseconds since 1970."""
    last: int
    """Number of the last of them."""
    standing: list[tuple[int, Message]]
    """The number until which it is in force, and message, of what was in force after them."""


def as_field(tag: str) -> bytes:
    """How JSON has it."""
    return f'"tag":{json.dumps(tag, ensure_ascii=False)}'.encode(errors="replace")
