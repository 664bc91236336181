"""Follows the numbers of a feed: the current state first, then no hole and no repeat.

A subscriber requests the state by subscribing to a topic of its own, `hello/WORD/`. The answer
comes in line with all other messages. Messages that are missing later are requested by
`ReplayCall`. There are no sockets here.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from streamtag.errors import FeedError
from streamtag.feed.codec import Encoding, encode, is_msgpack
from streamtag.feed.messages import (
    DERIVED_TOPICS,
    Beat,
    FeedState,
    Message,
    ReplayAnswer,
    ReplayRequest,
    parse,
    parse_head,
)

Positions = dict[str, tuple[str, int]]
"""Epoch and number of the last message of each topic that a program has dealt with."""
STATE_BEATS = 5
"""After this many beats without an answer the state is requested again."""


def positions_in(table: Any) -> Positions:
    """Positions from JSON.

    Raises:
        ValueError, TypeError, AttributeError: they are damaged.
    """
    return {str(topic): (str(epoch), int(seq)) for topic, (epoch, seq) in table.items()}


@dataclass(frozen=True, slots=True)
class MissedMessages:
    """Messages that are lost: neither the feed nor the journal has them any more."""

    topic: str
    """The topic, such as `event/radio1/`. If they are events of a stream, no tag that was on is
    known to be on. The messages in force follow, as far as the journal has them."""
    count: int
    """How many messages are missing, as far as is known."""
    restarted: bool = False
    """The numbers begin again, with another journal. How many messages were lost before that is
    not known. No tag that was on before is on now, unless its tag_on follows."""
    reason: str = ""
    """`retention` (removed from the journal), `not_kept` (never in it), `epoch` (of another
    journal), `unanswered` (nobody answered)."""

    def __str__(self) -> str:
        cause = " (the daemon was restarted)" if self.restarted else ""
        because = f" ({self.reason})" if self.reason else ""
        return f"missed {self.count} messages on {self.topic}{because}{cause}"


@dataclass(frozen=True, slots=True)
class ReplayCall:
    """A request for messages [first, last], which the caller sends."""

    topic: str
    epoch: str
    first: int
    last: int

    def body(self, number: int, encoding: Encoding = "json") -> bytes:
        """The request itself.

        Args:
            number: the answer repeats it.
            encoding: of the request, and of the head of its answer.
        """
        request = ReplayRequest(
            id=number, topic=self.topic, epoch=self.epoch, first=self.first, last=self.last
        )
        return encode(request, encoding)


@dataclass(frozen=True, slots=True)
class ReplayReply:
    """The answer to a request: its head, and payloads of messages."""

    head: ReplayAnswer
    bodies: list[bytes]


FeedItem = Message | MissedMessages
Steps = Generator[ReplayCall | list[FeedItem], ReplayReply | None, list[FeedItem]]
"""Handles one message. It yields requests, to be sent back answered, and pages of items to be
delivered before it continues, so that a long backlog needs little memory."""


class FeedTracker:
    """Which messages a subscriber has, and which it is missing.

    Args:
        prefixes: of the topics that are wanted.
        since: topic -> epoch and number of its last message, if another subscriber had it.
    """

    def __init__(
        self, prefixes: tuple[str, ...], since: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        self._prefixes = prefixes
        self._last = dict(since or {})  # topic -> epoch, newest number
        self._epochs = {epoch for epoch, _ in self._last.values()}  # of which every topic is known
        self._resuming = bool(self._last)  # a state was received before
        self._newest_beat: int | None = None
        self._requested, self._waited = False, 0  # whether the state is on its way; beats since
        self.replay = ""
        """Address that answers requests; empty if there is none."""
        self.encoding: Encoding = "json"
        """Encoding of the feed."""
        self.synced = False
        """Whether the state has been received."""
        self.state_needed = False
        """Whether messages may be missing that no number reveals; the state is to be requested."""

    def accept(self, parts: list[bytes]) -> Steps:
        """Items to deliver for one multipart message.

        Raises:
            FeedError: it is no message of a feed.
        """
        if len(parts) >= 2 and parts[0].startswith(b"hello/"):
            return (yield from self._state(parts))
        if len(parts) != 2:
            raise FeedError(
                f"feed: expected messages of 2 parts, got {len(parts)}; is this a streamtag feed?"
            )
        message, topic = parse(parts[1]), parts[0].decode(errors="replace")
        if isinstance(message, Beat):
            self._beat(message)
            return []
        if not self.synced or not topic.startswith(self._prefixes):
            return []  # the state will contain it
        return (yield from self._next(topic, message))

    def _next(self, topic: str, message: Message) -> Steps:
        """A message, after those that are missing before it."""
        epoch, last = self._last.get(topic, (message.epoch, 0))
        if epoch != message.epoch:
            self._last[topic] = (message.epoch, message.seq)
            return [MissedMessages(topic, max(0, message.seq - 1), restarted=True), message]
        if message.seq <= last:
            return []
        filled: list[FeedItem] = []
        if message.seq > last + 1:
            filled = yield from self._fill(topic, epoch, last + 1, message.seq - 1)
        self._last[topic] = (epoch, message.seq)
        return [*filled, message]

    def _fill(self, topic: str, epoch: str, first: int, last: int) -> Steps:
        """The messages [first, last] of a topic, as far as the journal has them; all pages but
        the last are yielded."""
        while first <= last:
            answer = (yield ReplayCall(topic, epoch, first, last)) if self.replay else None
            if answer is None:
                reason = "unanswered" if self.replay else "not_kept"
                return [MissedMessages(topic, last - first + 1, reason=reason)]
            items = _merged(topic, answer)
            following = answer.head.next
            if following <= first:
                return items
            yield items
            first = following
        return []

    def _state(self, parts: list[bytes]) -> Steps:
        """The current state: delivered the first time, compared with what is known later."""
        head = _state_head(parts[1])
        self.encoding = "msgpack" if is_msgpack(parts[1]) else "json"
        self.replay = head.replay
        in_force: dict[str, list[Message]] = {}
        for message in map(parse, parts[2:]):
            if message.topic.startswith(self._prefixes):
                in_force.setdefault(message.topic, []).append(message)
        items: list[FeedItem] = []
        for topic in sorted(self._last.keys() - head.last.keys()):
            if topic.startswith(
                ("event/", *DERIVED_TOPICS)
            ):  # the daemon ended, and its journal with it
                del self._last[topic]
                items.append(MissedMessages(topic, 0, restarted=True))
        for topic, (epoch, seq) in head.last.items():
            if topic.startswith(self._prefixes):
                items += yield from self._compare(topic, epoch, seq, in_force.get(topic, []))
        self._epochs = {epoch for epoch, _ in head.last.values()} | {head.epoch}
        self.synced, self.state_needed = True, False
        self._requested, self._waited = False, 0
        self._newest_beat = head.last.get("beat/", ("", None))[1]
        self._resuming = True
        return items

    def _compare(self, topic: str, epoch: str, seq: int, in_force: list[Message]) -> Steps:
        """What is new on a topic since its last known message."""
        known = self._last.get(topic)
        if known is None and self._resuming and epoch in self._epochs:
            known = (epoch, 0)  # the topic began meanwhile
        if known is None or known[0] != epoch:
            self._last[topic] = (epoch, seq)
            restarted = known is not None or self._resuming
            return [*[MissedMessages(topic, 0, restarted=True)] * restarted, *in_force]
        if seq <= known[1]:
            return []
        filled = yield from self._fill(topic, epoch, known[1] + 1, seq)
        self._last[topic] = (epoch, seq)
        return filled

    def _beat(self, beat: Beat) -> None:
        """Compares the publisher's numbers with those received."""
        expected = beat.seq if self._newest_beat is None else self._newest_beat + 1
        self._newest_beat = beat.seq
        if self._requested or not self.synced:
            self._waited += 1
            self.state_needed |= self._waited % STATE_BEATS == 0  # the state may be lost, too
            return
        wanted = {t: n for t, n in beat.last.items() if t.startswith(self._prefixes)}
        behind = any(self._last.get(t, ("", 0))[1] < n for t, n in wanted.items())
        if behind or beat.seq != expected:
            self.state_needed = self._requested = True


def _merged(topic: str, answer: ReplayReply) -> list[FeedItem]:
    """Messages of an answer, each after the messages that are missing before it."""
    items: list[FeedItem] = []
    messages = [parse(body) for body in answer.bodies]
    holes = answer.head.missed
    for first, last, reason in holes:
        if reason == "retention":  # messages in force then come first
            items.append(MissedMessages(topic, last - first + 1, reason=reason))
    later = [hole for hole in holes if hole[2] != "retention"]
    for message in messages:
        while later and later[0][0] < message.seq:
            first, last, reason = later.pop(0)
            items.append(MissedMessages(topic, last - first + 1, reason=reason))
        items.append(message)
    items += [
        MissedMessages(topic, last - first + 1, reason=reason) for first, last, reason in later
    ]
    return items


def _state_head(body: bytes) -> FeedState:
    """The first part of a state.

    Raises:
        FeedError: it is none.
    """
    try:
        return parse_head(body, FeedState)
    except FeedError as error:
        raise FeedError(f"feed: expected a state, got {body[:60]!r}: {error}") from None


def read_answer(parts: list[bytes]) -> ReplayReply | None:
    """The answer to a request; None if it is an error, or something else."""
    try:
        return ReplayReply(parse_head(parts[0], ReplayAnswer), parts[1:])
    except (FeedError, IndexError):
        return None
