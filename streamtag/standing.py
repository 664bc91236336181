"""What is in force: the messages that somebody who comes now must know.

A message opens a slot of its topic (a stream is up, a tag is on, a title, a silence …) and may
close others. What is open is the present state, word for word as it was published.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from streamtag import messages
from streamtag.messages import Message

_LASTING = ("failed", "paused")
"""States of a source that outlive its stream."""


class Row(NamedTuple):
    """A message as the journal keeps it."""

    topic: str
    seq: int
    body: bytes
    """The payload."""
    opens: bool = False
    """It stays in force until another closes it."""
    closes: tuple[int, ...] = ()
    """Numbers of those on the same topic that it ends."""


Slots = dict[tuple[str, ...], Row]
_OPENING: tuple[type[Message], ...] = (
    messages.TagOn,
    messages.SilenceOn,
    messages.StreamUp,
    messages.TaggersChanged,
    messages.StreamStatus,
    messages.Title,
    messages.Channels,
)
_CLOSING: tuple[type[Message], ...] = (messages.TagOff, messages.SilenceOff, messages.StreamDown)
_LASTING_EVENTS = frozenset((*_OPENING, *_CLOSING))
"""All that changes what is in force."""


def _slot(message: Message) -> tuple[str, ...] | None:
    """The slot that a message opens."""
    if isinstance(message, messages.TagOn):
        return ("tag", message.tagger, message.tag)
    return (message.type,) if isinstance(message, _OPENING) else None


def _ended(message: Message, slots: Slots) -> list[tuple[str, ...]]:
    """The slots that a message closes; the one that it opens, too."""
    if isinstance(message, messages.TagOff):
        return [("tag", message.tagger, message.tag)]
    if isinstance(message, messages.SilenceOff):
        return [("silence_on",)]
    if isinstance(message, messages.StreamDown):
        status = slots.get(("stream_status",))
        kept = status is not None and messages.parse(status.body)
        lasting = isinstance(kept, messages.StreamStatus) and kept.state in _LASTING
        return [slot for slot in slots if not (lasting and slot == ("stream_status",))]
    slot = _slot(message)
    return [slot] if slot else []


class Standing:
    """The present state of every topic `event/STREAM/`."""

    def __init__(self) -> None:
        self._topics: dict[str, Slots] = defaultdict(dict)

    def take(self, message: Message, body: bytes) -> Row:
        """Learns from the next message; what the journal is to keep of it."""
        topic = message.topic
        if type(message) not in _LASTING_EVENTS:
            return Row(topic, message.seq, body)
        slots = self._topics[topic]
        gone = tuple(slots.pop(name).seq for name in _ended(message, slots) if name in slots)
        slot = _slot(message)
        row = Row(topic, message.seq, body, slot is not None, gone)
        if slot:
            slots[slot] = row
        elif not slots:
            del self._topics[topic]
        return row

    def recall(self, message: Message, body: bytes) -> None:
        """Learns what was in force when a journal was opened."""
        if slot := _slot(message):
            self._topics[message.topic][slot] = Row(message.topic, message.seq, body, True)

    def __iter__(self) -> Iterator[Row]:
        """What is in force, in the order of its numbers within a topic."""
        for slots in self._topics.values():
            yield from sorted(slots.values(), key=lambda row: row.seq)
