"""The current state: the messages that a new subscriber must know, word for word.

A message opens a slot of its topic (a stream is up, a tag is on, a title, a silence …) and may
close others. The open slots are what is in force. Beside them are the latest scores and moods.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from streamtag.feed import messages
from streamtag.feed.messages import Message


class JournalRow(Struct, frozen=True, gc=False):
    """A message as the journal keeps it."""

    topic: str
    seq: int
    body: bytes
    """The payload."""
    opens: bool = False
    """It stays in force until another closes it."""
    closes: tuple[int, ...] = ()
    """Sequence numbers of those on the same topic that it ends."""


Slot = tuple[str, ...]
"""A type of message; of tags that are on, tagger and tag."""
Slots = dict[Slot, JournalRow]
_STATUS: Slot = ("stream_status",)
_LASTING = ("failed", "paused")
"""States of a source that outlive its stream, but not its removal or the daemon."""
_OPENING: dict[type[Message], Slot] = {
    messages.StreamUp: ("stream_up",),
    messages.TaggersChanged: ("taggers_changed",),
    messages.StreamStatus: _STATUS,
    messages.Title: ("title",),
    messages.SilenceOn: ("silence_on",),
    messages.Channels: ("channels",),
}
"""The slots that messages of these types open; a tag has one of its own."""


def _slot(message: Message) -> Slot | None:
    """The slot that a message opens; it closes what was open there."""
    if isinstance(message, messages.TagOn):
        return (message.tagger, message.tag)
    if isinstance(message, messages.Clip):
        return (message.type, message.id) if message.stage == "begun" else None
    if isinstance(message, messages.AlertMessage):
        is_over = isinstance(message, messages.AlertCleared) and not message.remaining
        return None if is_over else (message.type, message.id)
    return _OPENING.get(type(message))


def _ended(message: Message, slots: Slots) -> Iterable[Slot]:
    """The slots that a message closes without opening them."""
    if isinstance(message, messages.Clip):
        return [] if message.stage == "begun" else [(message.type, message.id)]
    if isinstance(message, messages.AlertCleared) and not message.remaining:
        return [slot for slot in slots if slot[1] == message.id]
    if isinstance(message, messages.SilenceOff):
        return (_OPENING[messages.SilenceOn],)
    if isinstance(message, messages.StreamDown):
        stays = not message.final and _lasts(slots)
        return [slot for slot in slots if not (stays and slot == _STATUS)]
    return (_STATUS,) if isinstance(message, messages.StreamUp) and _lasts(slots) else ()


def _lasts(slots: Slots) -> bool:
    """Whether the status in force outlives the stream's end."""
    row = slots.get(_STATUS)
    status = row and messages.parse(row.body)
    return isinstance(status, messages.StreamStatus) and status.state in _LASTING


class CurrentState:
    """The current state of every topic."""

    def __init__(self) -> None:
        self._topics: dict[str, Slots] = defaultdict(dict)
        self._latest: dict[str, dict[tuple[str, str], bytes]] = defaultdict(dict)

    def update(self, message: Message, body: bytes) -> JournalRow:
        """`update_all` for one message."""
        return self.update_all([message], [body])[0]

    def update_all(self, some: Iterable[Any], bodies: Iterable[bytes]) -> list[JournalRow]:
        """Takes the next messages into account; returns what the journal is to keep of them."""
        rows: list[JournalRow] = []
        for message, body in zip(some, bodies, strict=True):
            opens = type(message) is messages.TagOn
            if not opens and type(message) is not messages.TagOff:
                rows.append(self._update_other(message, body))
                continue
            topic, slot = f"event/{message.stream}/", (message.tagger, message.tag)
            slots = self._topics[topic]
            closes = (slots.pop(slot).seq,) if slot in slots else ()
            rows.append(row := JournalRow(topic, message.seq, body, opens, closes))
            if opens:
                slots[slot] = row
        return rows

    def _update_other(self, message: Message, body: bytes) -> JournalRow:
        topic, seq = message.topic, message.seq
        if isinstance(message, (messages.Scores, messages.Mood)):
            self._latest[message.stream][message.type, message.tagger] = body
            return JournalRow(topic, seq, body)
        if isinstance(message, messages.Level):
            return JournalRow(topic, seq, body)
        slots = self._topics[topic]
        slot = _slot(message)
        ended = (*([slot] if slot else ()), *_ended(message, slots))
        closed = tuple([slots.pop(n).seq for n in ended if n in slots])
        row = JournalRow(topic, seq, body, slot is not None, closed)
        if slot:
            slots[slot] = row
        elif not slots:
            del self._topics[topic]
        if isinstance(message, messages.StreamDown):
            self._latest.pop(message.stream, None)
        return row

    def restore(self, message: Message, body: bytes) -> None:
        """Takes over what was in force when a journal was opened."""
        if slot := _slot(message):
            self._topics[message.topic][slot] = JournalRow(message.topic, message.seq, body, True)

    def latest(self) -> Iterator[bytes]:
        """The latest scores and moods of every tagger."""
        for bodies in self._latest.values():
            yield from bodies.values()

    def __iter__(self) -> Iterator[JournalRow]:
        """What is in force, in the order of its numbers within a topic."""
        for slots in self._topics.values():
            yield from sorted(slots.values(), key=lambda row: row.seq)
