"""What is in force: the messages that somebody who comes now must know.

A message opens a slot of its topic (a stream is up, a tag is on, a title, a silence) and may close
others. What is open is the present state, word for word as it was published.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from streamtag import messages
from streamtag.messages import Message

_LASTING = ("failed", "paused")
"""States of a source that outlive its stream."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message as the journal keeps it."""

    topic: str
    seq: int
    body: bytes
    """The payload."""
    opens: bool = False
    """It stays in force until another closes it."""
    closes: tuple[int, ...] = ()
    """Numbers of those on the same topic that it ends."""


def _slot(message: Message) -> tuple[str, ...] | None:
    """The slot that a message opens."""
    match message:
        case messages.TagOn():
            return ("tag", message.tagger, message.tag)
        case messages.SilenceOn():
            return ("silence",)
        case (
            messages.StreamUp()
            | messages.TaggersChanged()
            | messages.StreamStatus()
            | messages.Title()
        ):
            return (message.type,)
    return None


def _ended(message: Message, open_slots: dict[tuple[str, ...], Row]) -> list[tuple[str, ...]]:
    """The slots that a message closes."""
    match message:
        case messages.TagOff():
            return [("tag", message.tagger, message.tag)]
        case messages.SilenceOff():
            return [("silence",)]
        case messages.StreamDown():
            status = open_slots.get(("stream_status",))
            kept = status is not None and messages.parse(status.body)
            lasting = isinstance(kept, messages.StreamStatus) and kept.state in _LASTING
            return [slot for slot in open_slots if not (lasting and slot == ("stream_status",))]
    return []


class Standing:
    """The present state of every topic `event/STREAM/`."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[tuple[str, ...], Row]] = defaultdict(dict)

    def take(self, message: Message, body: bytes) -> Row:
        """Learns from the next message; what the journal is to keep of it."""
        topic, slot = message.topic, _slot(message)
        if slot is None and not isinstance(
            message, messages.TagOff | messages.SilenceOff | messages.StreamDown
        ):
            return Row(topic, message.seq, body)
        slots = self._topics[topic]
        ended = [*_ended(message, slots), *([slot] if slot else [])]
        gone = [slots.pop(name) for name in ended if name in slots]
        row = Row(topic, message.seq, body, slot is not None, tuple(r.seq for r in gone))
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
