"""What all messages of the feed have."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

VERSION: Final = 1
"""Of the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What all messages have."""

    type: ClassVar[str] = ""
    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}
    epoch: str
    """Start of the publisher, as a hexadecimal number; a larger one began later."""
    seq: int
    """Counts the messages of one topic without a hole, from 1."""
    stream: str
    """Name of the stream; empty where a message is about the whole daemon."""
    t: float
    """Seconds since the stream began (since the daemon began, where there is no stream)."""
    utc: str
    """The same moment as RFC 3339 with microseconds, such as `2026-01-31T23:59:59.000000Z`."""

    @property
    def topic(self) -> str:
        """The first part of the multipart message."""
        return f"event/{self.stream}/"

    def details(self) -> str:
        """What there is to say beyond type, stream and time, for people."""
        return ""

    def __str__(self) -> str:
        head = f"{self.stream} {clock(self.t)} {self.type}".lstrip()
        text = f"{head} {self.details()}".rstrip()
        return "".join(c if c.isprintable() else " " for c in text)  # titles come from strangers


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Message):
    """A type that this version does not know, from a newer daemon."""

    kind: str
    """Its `type`."""
    fields: dict[str, Any]
    """What it holds beyond the common fields."""

    def details(self) -> str:
        return f"({self.kind})"


def clock(seconds: float) -> str:
    """Stream time for people: `1:02:03.4` or `2:03.4`."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{tenths // 10:02}.{tenths % 10}"
