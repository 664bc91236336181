"""Messages about the daemon and the feed itself."""

from dataclasses import dataclass

from streamtag.feed.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(Message):
    """Counters since the daemon began; `stream` is empty."""

    type = "stats"
    counters: dict[str, float]
    """New names may appear at any time."""

    @property
    def topic(self) -> str:
        return "stats/"

    def details(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.counters.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Message):
    """The publisher lives; so often that its absence says that something is wrong."""

    type = "beat"
    last: dict[str, float]
    """The newest numbers of the topics that said something since the last beat."""

    @property
    def topic(self) -> str:
        return "beat/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye(Message):
    """The publisher ends on purpose; nothing follows."""

    type = "goodbye"

    def __str__(self) -> str:
        return self.type

    @property
    def topic(self) -> str:
        return "goodbye/"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStatus(Message):
    """Messages cannot be written to the journal, or can again; they are published all the same."""

    type = "journal"
    working: bool
    detail: str
    """For people: why not."""
    unkept: int
    """Messages that were published and not written, since the publisher began."""

    @property
    def topic(self) -> str:
        return "journal/"

    def details(self) -> str:
        return f"{'works again' if self.working else self.detail}, {self.unkept} not kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Message):
    """A warning that is not about one stream; `stream` is empty."""

    type = "notice"
    text: str
    """For people."""

    @property
    def topic(self) -> str:
        return "stats/"

    def details(self) -> str:
        return self.text
