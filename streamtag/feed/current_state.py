"""What is in force: the messages that somebody who comes now must know.

A message opens a slot of its topic (a stream is up, a tag is on, a title, a silence …) and may
close others. What is open is the present state, word for word as it was published.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from streamtag.feed import messages
from streamtag.feed.json_writer import Spelt
from streamtag.feed.messages import Message

_LASTING = ("failed", "paused")
"""States of a source that outlive its stream, but not its removal or the daemon."""


class JournalRow(NamedTuple):
    """A message as the journal keeps it."""

    topic: str
    seq: int
    body: bytes
    """The payload."""
    opens: bool = False
    """It stays in force until another closes it."""
    closes: tuple[int, ...] = ()
    """Numbers of those on the same topic that it ends."""


Slot = tuple[str] | tuple[str, str]
"""A type of message; of tags that are on, tagger and tag."""
Slots = dict[Slot, JournalRow]
_STATUS: Slot = ("stream_status",)
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
_LASTING_EVENTS = (*_OPENING, *_CLOSING)
"""All that changes what is in force."""


def _slot(message: Message) -> Slot | None:
    """The slot that a message opens; it closes what was open there."""
    if isinstance(message, messages.TagOn):
        return (message.tagger, message.tag)
    return (message.type,) if isinstance(message, _OPENING) else None


def _ended(message: Message, slots: Slots) -> Iterable[Slot]:
    """The slots that a message closes."""
    if isinstance(message, messages.TagOff):
        return ((message.tagger, message.tag),)
    if isinstance(message, messages.SilenceOff):
        return (("silence_on",),)
    if isinstance(message, messages.StreamDown):
        stays = not message.final and _lasts(slots)
        return [slot for slot in slots if not (stays and slot == _STATUS)]
    slot = _slot(message)
    assert slot is not None
    over = isinstance(message, messages.StreamUp) and _lasts(slots)
    return (slot, _STATUS) if over else (slot,)


def _lasts(slots: Slots) -> bool:
    """Whether the status in force outlives the stream's end."""
    row = slots.get(_STATUS)
    status = row and messages.parse(row.body)
    return isinstance(status, messages.StreamStatus) and status.state in _LASTING


class CurrentState:
    """The present state of every topic `event/STREAM/`."""

    def __init__(self) -> None:
        self._topics: dict[str, Slots] = defaultdict(dict)

    def take(self, message: Message, body: bytes) -> JournalRow:
        """Learns from the next message; what the journal is to keep of it."""
        topic, seq = message.topic, message.seq
        if not isinstance(message, _LASTING_EVENTS):
            return JournalRow(topic, seq, body)
        slots = self._topics[topic]
        slot = _slot(message)
        gone = tuple([slots.pop(n).seq for n in _ended(message, slots) if n in slots])
        row = JournalRow(topic, seq, body, slot is not None, gone)
        if slot:
            slots[slot] = row
        elif not slots:
            del self._topics[topic]
        return row

    def take_tag(self, said: Spelt) -> JournalRow:
        """`take` for what was spelt at once."""
        topic, _, seq, body, slot, on = said
        slots = self._topics[topic]
        gone = slots.pop(slot, None)
        row = JournalRow(topic, seq, body, on, (gone.seq,) if gone else ())
        if on:
            slots[slot] = row
        elif not slots:
            del self._topics[topic]
        return row

    def recall(self, message: Message, body: bytes) -> None:
        """Learns what was in force when a journal was opened."""
        if slot := _slot(message):
            self._topics[message.topic][slot] = JournalRow(message.topic, message.seq, body, True)

    def __iter__(self) -> Iterator[JournalRow]:
        """What is in force, in the order of its numbers within a topic."""
        for slots in self._topics.values():
            yield from sorted(slots.values(), key=lambda row: row.seq)
