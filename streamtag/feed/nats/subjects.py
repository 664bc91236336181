"""The subjects on NATS, and the names of JetStream's streams and buckets.

A message of the topic `event/radio1/` has the subject `PREFIX.event.radio1.EPOCH`, so that
permissions can be given per kind and per station. Each epoch of sequence numbers has a subject.
"""

from dataclasses import dataclass
from urllib.parse import unquote

VERSION = 1
"""Version of this layout."""
PREFIX = r"^[A-Za-z0-9_-]{1,32}$"
"""Pattern of prefixes. The prefix is the first token of all subjects and the main stream's name."""
KEPT = ("event", "alert", "clip", "section")
"""Kinds of topics that are kept for days, in the stream PREFIX."""
PASSING = ("scores", "mood", "level", "stats", "journal")
"""Kinds of topics that are kept for minutes, in the stream PREFIX-live."""
ID_HEADER = "Nats-Msg-Id"
"""Header with `EPOCH/TOPIC/SEQ`. JetStream stores only the first of two messages with one id."""
EXPECTED_HEADER = "Nats-Expected-Last-Subject-Sequence"
LEASE_HEADER = "Streamtag-Lease"
"""Header with the lease in the message. Absent without a fleet."""


def escaped(name: str) -> str:
    """A stream's name as one token of a subject: `.` is written `%2E`."""
    return name.replace("%", "%25").replace(".", "%2E")


def unescaped(token: str) -> str:
    """The name in a token."""
    return unquote(token)


@dataclass(frozen=True, slots=True)
class Layout:
    """The subjects and names of one prefix."""

    prefix: str = "streamtag"

    @property
    def kept(self) -> str:
        """Name of the stream of events, alerts, clips and sections."""
        return self.prefix

    @property
    def passing(self) -> str:
        """Name of the stream of scores, moods, levels and counters."""
        return f"{self.prefix}-live"

    @property
    def states(self) -> str:
        """Name of the stream with the messages in force of each topic."""
        return f"{self.prefix}-state"

    def bucket(self, name: str) -> str:
        """Name of a key-value bucket."""
        return f"{self.prefix}-{name}"

    def stream_of(self, subject: str) -> str:
        """Name of the stream that holds the messages of a subject."""
        return self.kept if subject.split(".")[1] in KEPT else self.passing

    def subject(self, topic: str, epoch: str) -> str:
        """The subject of the messages of a topic with an epoch."""
        return f"{self.prefix}.{_tokens(topic)}.{epoch}"

    def state(self, topic: str, epoch: str) -> str:
        """The subject of the state of a topic."""
        return f"{self.prefix}.state.{_tokens(topic)}.{epoch}"

    @property
    def beat(self) -> str:
        """The subject of the bridges' heartbeats, which no stream keeps."""
        return f"{self.prefix}.beat"

    def filters(self, kinds: tuple[str, ...], names: tuple[str, ...] | None) -> list[str]:
        """Subjects with wildcards that match some kinds of topics.

        `names` are names of streams, or beginnings of names with a star; None for all.
        """
        if names is None or any(name.endswith("*") for name in names):
            names = ("",)
        return [f"{self.prefix}.{k}.{escaped(n) or '*'}.*" for k in kinds for n in names]

    def topic(self, subject: str) -> tuple[str, str]:
        """The topic and epoch in the subject of a message or state."""
        rest = subject.removeprefix(f"{self.prefix}.").removeprefix("state.")
        kind, name, epoch = rest.split(".")
        return f"{kind}/{unescaped(name)}/" if name != "_" else f"{kind}/", epoch


def _tokens(topic: str) -> str:
    """`event/radio1/` as `event.radio1`; `stats/` as `stats._`."""
    kind, _, name = topic.rstrip("/").partition("/")
    return f"{kind}.{escaped(name) or '_'}"


def message_id(topic: str, epoch: str, seq: int) -> str:
    """The id of a message, the same in all tries to send it. Webhooks use the same ids."""
    return f"{epoch}/{topic}{seq}"


def number_in(identity: str) -> int:
    """The sequence number in a message's id; 0 if it is not an id of streamtag."""
    number = identity.rpartition("/")[2]
    return int(number) if number.isascii() and number.isdecimal() else 0
