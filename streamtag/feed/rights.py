"""Who may see what: streams by name and topics by kind, for keys of the feed, tokens and bridges.

A pattern is the name of a stream, or the beginning of names and a star. ZeroMQ subscribes by
beginnings of topics, so a pattern is a subscription that also covers streams of the future.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

PATTERN = r"^([A-Za-z0-9._-]{1,64}|[A-Za-z0-9._-]{0,63}\*)$"
"""A stream's name, or the beginning of names and a star."""
OF_STREAMS = ("event", "scores", "mood", "level", "clip", "section")
"""Kinds of topics that belong to one stream."""
OF_THE_DAEMON = {"alert": ("alert/",), "stats": ("stats/", "journal/")}
"""Kinds of topics about all streams at once, and their topics: alerts; counters, notices and the
state of the journal."""
TOPICS = (*OF_STREAMS, *OF_THE_DAEMON)
"""All kinds that rights can name."""
OF_EVERYBODY = ("beat/", "goodbye/", "hello/")
"""Topics that everybody sees, as far as they are about what one may see."""


def matches(patterns: Iterable[str], stream: str) -> bool:
    """Whether a stream's name fits one of the patterns."""
    return any(
        stream.startswith(pattern[:-1]) if pattern.endswith("*") else stream == pattern
        for pattern in patterns
    )


def topic_starts(kinds: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """How the topics of some kinds about streams begin."""
    names = [name[:-1] if name.endswith("*") else f"{name}/" for name in patterns]
    return [f"{kind}/{name}" for kind in kinds for name in names]


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may see."""

    streams: tuple[str, ...] = ("*",)
    """Patterns of streams."""
    topics: tuple[str, ...] = TOPICS
    """Kinds of topics, see `TOPICS`."""

    def sees_stream(self, stream: str) -> bool:
        """Whether a stream may be seen at all."""
        return matches(self.streams, stream)

    def sees_kind(self, kind: str) -> bool:
        """Whether any topic of a kind may be seen."""
        return kind in self.topics

    def sees(self, topic: str) -> bool:
        """Whether the messages of a topic may be seen."""
        return topic.startswith(_starts(self))

    def meets(self, topic: bytes) -> bool:
        """Whether a subscription to a topic has to do with anything that may be seen."""
        text = topic.decode(errors="replace")
        starts = (*_starts(self), *OF_EVERYBODY)
        return any(text.startswith(start) or start.startswith(text) for start in starts)


EVERYTHING = Rights()
NOTHING = Rights((), ())


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """A public socket for messages, and what is sent there."""

    bind: str
    """Its address; a port of 0 takes a free one."""
    rights: Rights = EVERYTHING
    keys: frozenset[str] | None = None
    """Names of the keys that it lets in; None for all authorised ones."""


@cache
def _starts(rights: Rights) -> tuple[str, ...]:
    """How the topics begin that somebody may see."""
    kinds = [kind for kind in OF_STREAMS if kind in rights.topics]
    daemon = [one for kind in OF_THE_DAEMON if kind in rights.topics for one in OF_THE_DAEMON[kind]]
    return (*topic_starts(kinds, rights.streams), *daemon)
