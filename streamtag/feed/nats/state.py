"""The state of a topic that a bridge stores in JetStream, for readers that begin later."""

from collections.abc import Iterable

import msgspec

from streamtag.feed.codec import encode
from streamtag.feed.messages import Message, parse
from streamtag.feed.nats.record import Record, decode_record


class TopicState(Record, frozen=True, kw_only=True):
    """The messages in force after message `seq` of a topic and epoch."""

    epoch: str
    seq: int
    position: int
    """Position of that message in JetStream's stream."""
    lease: int = 0
    """The lease in that message; 0 without a fleet."""
    messages: list[msgspec.Raw] = msgspec.field(default_factory=list)
    """Payloads of the messages in force."""

    def parsed(self) -> list[Message]:
        """The messages in force."""
        return [parse(bytes(one)) for one in self.messages]


def state_body(epoch: str, seq: int, position: int, lease: int, bodies: Iterable[bytes]) -> bytes:
    """Encodes a state as a payload."""
    return encode(
        TopicState(
            epoch=epoch,
            seq=seq,
            position=position,
            lease=lease,
            messages=[msgspec.Raw(body) for body in bodies],
        )
    )


def parse_state(body: bytes) -> TopicState:
    """Decodes a state from its payload.

    Raises:
        FeedError: it is not a state, or one of another version.
    """
    return decode_record("nats: state of a topic", body, TopicState)
