"""What is asked of a journal, and what it answers."""

from dataclasses import dataclass

from streamtag.feed.messages import Message
from streamtag.feed.rights import EVERYTHING, Rights
from streamtag.feed.timestamps import rfc3339

_OWN_TOPICS = {
    "scores": "scores",
    "mood": "mood",
    "section": "section",
    "clip": "clip",
    "alert_raised": "alert",
    "alert_cleared": "alert",
    "alert_acknowledged": "alert",
}
"""First part of the topic of each type that is not on `event/STREAM/`."""


@dataclass(frozen=True, slots=True)
class Query:
    """The messages that are wanted. Empty sets and None stand for everything."""

    streams: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    since: int | None = None
    """First moment (`utc` of the message), in nanoseconds since 1970."""
    until: int | None = None
    """The moment after the last."""
    rights: Rights = EVERYTHING
    """What whoever asks may see."""

    @property
    def is_limited(self) -> bool:
        """Whether not everything may be seen."""
        return self.rights != EVERYTHING

    def wants(self, message: Message) -> bool:
        """Whether a message is wanted."""
        return (
            (not self.types or message.type in self.types)
            and (not self.streams or message.stream in self.streams)
            and (self.since is None or message.utc >= rfc3339(self.since))
            and (self.until is None or message.utc < rfc3339(self.until))
            and (not self.tags or getattr(message, "tag", None) in self.tags)
            and (not self.is_limited or self.rights.sees(message.topic))
        )

    def wants_topic(self, topic: str) -> bool:
        """Whether a topic may have messages that are wanted."""
        kind, stream = topic.split("/")[:2]
        if self.streams and stream not in self.streams:
            return False
        if self.is_limited and not self.rights.sees(topic):
            return False
        if kind in _OWN_TOPICS.values():
            wanted = {_OWN_TOPICS.get(name) for name in self.types}
            return not self.tags and (not self.types or kind in wanted)
        return not self.types or not self.types <= _OWN_TOPICS.keys()


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A message in the journal."""

    number: int
    """Counts the entries of all topics, in the order of writing."""
    id: str
    """Identifies the entry for good; see `History.resume`."""
    message: Message
    body: bytes
    """The payload, as it was published."""

    @property
    def written(self) -> int:
        """When it was written, in nanoseconds since 1970, UTC."""
        return int(self.id.rpartition("-")[2], 16)


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Some of the entries that are wanted."""

    entries: list[JournalEntry]
    continue_after: int
    """The number after which the next page begins; 0 if this is the last one."""
    damaged: int = 0
    """Rows that could not be read."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a reader continues that has read up to a certain entry."""

    after: int
    """The number after which everything is new."""
    lost: int = 0
    """Entries since then that were removed, as far as is known."""
    reason: str = ""
    """`retention` or `epoch` (another journal) if something may be missing."""
    accident: bool = False
    """Since then messages were published that the journal could not keep; nobody knows how many."""

    @property
    def missed(self) -> list[tuple[int, str]]:
        """What cannot be read any more: how many entries (0 if that is not known), and why."""
        gone = [(self.lost, self.reason)] if self.reason else []
        return [*gone, (0, "not_kept")] if self.accident else gone


@dataclass(frozen=True, slots=True)
class PriorState:
    """What the messages before a range of time come to."""

    moment: int
    """None of them is later than this, in nanoseconds since 1970."""
    last: int
    """Number of the last of them."""
    in_force: list[tuple[int, Message]]
    """What was in force after them: the number until which it is, and the message."""


@dataclass(frozen=True, slots=True)
class TopicEvents:
    """The events of a topic that the journal has, or those that bear on a range of time."""

    first: int
    """The first number that retention has left. Of older messages only those are kept that were
    in force then."""
    rows: list[tuple[int, int, Message]]
    """Number, the number until which it is in force, and message; rising."""
    prior: PriorState | None = None
    """The state before the rows; None if no row is left out there."""
