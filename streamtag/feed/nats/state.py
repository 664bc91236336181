"""What is in force in a topic, as a bridge keeps it in JetStream for readers that come later."""

from collections.abc import Iterable

import msgspec

from streamtag.errors import FeedError
from streamtag.feed.codec import encode
from streamtag.feed.messages import Message, parse
from streamtag.feed.nats.subjects import VERSION


class TopicState(msgspec.Struct, frozen=True, kw_only=True):
    """The messages in force after message `seq` of a topic and an epoch."""

    v: int
    epoch: str
    seq: int
    position: int
    """Number of that message in JetStream's stream."""
    lease: int = 0
    """Under which that message was said."""
    messages: list[msgspec.Raw] = []
    """Payloads."""

    def parsed(self) -> list[Message]:
        """The messages."""
        return [parse(bytes(one)) for one in self.messages]


def state_body(epoch: str, seq: int, position: int, lease: int, bodies: Iterable[bytes]) -> bytes:
    """The payload of a state."""
    return encode(
        TopicState(
            v=VERSION,
            epoch=epoch,
            seq=seq,
            position=position,
            lease=lease,
            messages=[msgspec.Raw(body) for body in bodies],
        )
    )


def parse_state(body: bytes) -> TopicState:
    """A state from its payload.

    Raises:
        FeedError: it is none, or one of another version.
    """
    try:
        state = msgspec.json.decode(body, type=TopicState)
    except (msgspec.MsgspecError, ValueError) as error:
        raise FeedError(f"nats: expected a state, got {body[:60]!r}: {error}") from None
    if state.v != VERSION:
        raise FeedError(
            f"nats: expected states of version {VERSION}, got {state.v}; "
            "use the same version of streamtag everywhere"
        )
    return state
