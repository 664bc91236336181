"""Tag events as JSON without a message in between: they are nearly all that a feed says.

The bytes are those of `encoding.dump` for the message that `wire.Wire` would make.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

from streamtag._core import Speller
from streamtag.engine import events
from streamtag.feed.codec import HEAD
from streamtag.feed.tag_messages import TagOff, TagOn

Slot = tuple[str, str]
"""Tagger and tag."""


class Spelt(NamedTuple):
    """A tag_on or tag_off as it goes out."""

    topic: str
    epoch: str
    seq: int
    body: bytes
    slot: Slot
    """What goes on or off."""
    on: bool


@dataclass(slots=True)
class Line:
    """A stream that is up, and what its next message says beyond the event."""

    stream: str
    topic: str
    epoch: str
    rate: int
    """Hz."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    seq: int = 0
    title: str = ""
    """What is playing, as the source says."""
    display: str = ""
    model: str = ""
    checksum: str = ""


_TIMES = {
    "t": ("at", "seconds"),
    "utc": ("at", "utc"),
    "decided": ("decided", "seconds"),
    "since": ("since", "seconds"),
    "since_utc": ("since", "utc"),
}
"""Fields that tell a position of the event, and how."""
_OF_LINE = {field.name for field in dataclasses.fields(Line)}


def _field(name: str) -> tuple[str, str, bool, str]:
    """Where a field of a message comes from, as `Speller` wants to know it."""
    attribute, unit = _TIMES.get(name, (name, ""))
    return name, attribute, name in _OF_LINE, unit


def _speller(kind: type[TagOn | TagOff]) -> Speller:
    fields = [_field(field.name) for field in dataclasses.fields(kind)]
    return Speller(f'{HEAD},"type":"{kind.type}"', fields)


_ON, _OFF = _speller(TagOn), _speller(TagOff)


def spell(event: events.TagStarted | events.TagEnded, line: Line) -> Spelt | None:
    """A tag event with the number, the title and so on of the line.

    None where it holds what only `encoding.dump` can spell.
    """
    on = isinstance(event, events.TagStarted)
    body = (_ON if on else _OFF).spell(event, line)
    if body is None:
        return None
    return Spelt(line.topic, line.epoch, line.seq, body, (event.tagger, event.tag), on)
