"""What a subscriber makes of a feed: the state first, no hole, no repeat. No sockets here.

A subscriber asks for the state by subscribing to a topic of its own, `hello/WORD/`; the answer
comes in line with everything else. Whatever is missing later is asked for by `Ask`.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from streamtag.errors import FeedError
from streamtag.feed.codec import Encoding, decode, encode, is_msgpack
from streamtag.feed.messages import VERSION, Beat, Message, parse
from streamtag.feed.protocol import ReplayRequest

PATIENCE = 5
"""Beats that the state may take to come before it is asked for again."""


@dataclass(frozen=True, slots=True)
class MissedMessages:
    """Messages that cannot be had any more."""

    topic: str
    """Where the hole is, such as `event/radio1/`. Of a stream's events: forget what was on; what
    was in force there follows, as far as the journal knows."""
    count: int
    """Messages missing from the topic, as far as is known."""
    restarted: bool = False
    """The numbers begin anew, with another journal: how many were lost before that is not known,
    and no tag that was on before is on now unless it follows."""
    reason: str = ""
    """`retention` (removed from the journal), `not_kept` (never in it), `epoch` (of another
    journal), `unanswered` (nobody answered)."""

    def __str__(self) -> str:
        cause = " (the daemon was started anew)" if self.restarted else ""
        because = f" ({self.reason})" if self.reason else ""
        return f"missed {self.count} messages on {self.topic}{because}{cause}"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that whoever drives has to have answered."""

    topic: str
    epoch: str
    first: int
    last: int

    def body(self, number: int, encoding: Encoding = "json") -> bytes:
        """The request itself.

        Args:
            number: comes back in the answer.
            encoding: of the request and of its answer's head.
        """
        request: ReplayRequest = {
            "v": VERSION,
            "type": "replay",
            "id": number,
            "topic": self.topic,
            "epoch": self.epoch,
            "from": self.first,
            "to": self.last,
        }
        return encode(request, encoding)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: its head, and messages."""

    head: dict[str, Any]
    bodies: list[bytes]


FeedItem = Message | MissedMessages
Work = Generator[Ask | list[FeedItem], Answer | None, list[FeedItem]]
"""What to do for one message: requests to have answered, and pages to hand out before the work
goes on, so that whoever was away for long needs no more memory than anybody else."""


class FeedTracker:
    """Where a subscriber stands.

    Args:
        prefixes: of the topics that it wants.
        since: topic -> epoch and number of the last message that it had, if it goes on.
    """

    def __init__(
        self, prefixes: tuple[str, ...], since: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        self._prefixes = prefixes
        self._last = dict(since or {})  # topic -> epoch, newest number
        self._epochs = {epoch for epoch, _ in self._last.values()}  # of which every topic is known
        self._goes_on = bool(self._last)  # what is known now had been heard before
        self._beats: int | None = None  # number of the newest beat, if it is known
        self._asked, self._waited = False, 0  # for the state once more; beats since then
        self.replay = ""
        """Where requests are answered, as the feed says; empty if nowhere."""
        self.encoding: Encoding = "json"
        """Of the feed."""
        self.synced = False
        """The state has come."""
        self.lost_touch = False
        """Something may be missing that no number tells: ask for the state again."""

    def accept(self, parts: list[bytes]) -> Work:
        """What to hand out for one multipart message.

        Raises:
            FeedError: it is none of a feed's.
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
            return []  # what is in force comes with the state
        return (yield from self._next(topic, message))

    def _next(self, topic: str, message: Message) -> Work:
        """A message after those that are missing before it."""
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

    def _fill(self, topic: str, epoch: str, first: int, last: int) -> Work:
        """The messages [first, last] of a topic, as far as they are to be had; all but the
        last page are handed out meanwhile."""
        while first <= last:
            answer = (yield Ask(topic, epoch, first, last)) if self.replay else None
            if answer is None:
                reason = "unanswered" if self.replay else "not_kept"
                return [MissedMessages(topic, last - first + 1, reason=reason)]
            heard = _in_order(topic, answer)
            following = answer.head.get("next", 0)
            if following <= first:
                return heard
            yield heard
            first = following
        return []

    def _state(self, parts: list[bytes]) -> Work:
        """The present state: handed out at first, compared with what is known later."""
        head = _head(parts[1])
        self.encoding = "msgpack" if is_msgpack(parts[1]) else "json"
        self.replay = str(head.get("replay", ""))
        standing: dict[str, list[Message]] = {}
        for message in map(parse, parts[2:]):
            if message.topic.startswith(self._prefixes):
                standing.setdefault(message.topic, []).append(message)
        heard: list[FeedItem] = []
        for topic in sorted(self._last.keys() - head["last"].keys()):
            if topic.startswith("event/"):  # of a daemon that is gone with its journal
                del self._last[topic]
                heard.append(MissedMessages(topic, 0, restarted=True))
        for topic, (epoch, seq) in head["last"].items():
            if topic.startswith(self._prefixes):
                heard += yield from self._compare(topic, epoch, seq, standing.get(topic, []))
        self._epochs = {epoch for epoch, _ in head["last"].values()} | {str(head["epoch"])}
        self.synced, self.lost_touch = True, False
        self._asked, self._waited = False, 0
        self._beats = head["last"].get("beat/", ("", None))[1]
        self._goes_on = True
        return heard

    def _compare(self, topic: str, epoch: str, seq: int, standing: list[Message]) -> Work:
        """What is new on a topic since this subscriber last heard of it."""
        known = self._last.get(topic)
        if known is None and self._goes_on and epoch in self._epochs:
            known = (epoch, 0)  # it began meanwhile
        if known is None or known[0] != epoch:
            self._last[topic] = (epoch, seq)
            anew = known is not None or self._goes_on
            return [*[MissedMessages(topic, 0, restarted=True)] * anew, *standing]
        if seq <= known[1]:
            return []
        filled = yield from self._fill(topic, epoch, known[1] + 1, seq)
        self._last[topic] = (epoch, seq)
        return filled

    def _beat(self, beat: Beat) -> None:
        """Compares the publisher's numbers with what has come."""
        expected = beat.seq if self._beats is None else self._beats + 1
        self._beats = beat.seq
        if self._asked or not self.synced:
            self._waited += 1
            self.lost_touch |= self._waited % PATIENCE == 0  # the state can be lost, too
            return
        wanted = {t: n for t, n in beat.last.items() if t.startswith(self._prefixes)}
        behind = any(self._last.get(t, ("", 0))[1] < n for t, n in wanted.items())
        if behind or beat.seq != expected:
            self.lost_touch = self._asked = True


def _in_order(topic: str, answer: Answer) -> list[FeedItem]:
    """Holes and messages of an answer; a hole comes before what follows it."""
    heard: list[FeedItem] = []
    messages = [parse(body) for body in answer.bodies]
    holes = [(first, last, reason) for first, last, reason in answer.head.get("missed", [])]
    for first, last, reason in holes:
        if reason == "retention":  # what was in force there comes first among the messages
            heard.append(MissedMessages(topic, last - first + 1, reason=reason))
    later = [hole for hole in holes if hole[2] != "retention"]
    for message in messages:
        while later and later[0][0] < message.seq:
            first, last, reason = later.pop(0)
            heard.append(MissedMessages(topic, last - first + 1, reason=reason))
        heard.append(message)
    heard += [
        MissedMessages(topic, last - first + 1, reason=reason) for first, last, reason in later
    ]
    return heard


def _head(body: bytes) -> dict[str, Any]:
    """The first part of a state.

    Raises:
        FeedError: it is none.
    """
    try:
        head = decode(body)
        if head["v"] != VERSION or head["type"] != "state" or not isinstance(head["epoch"], str):
            raise ValueError
        for epoch, seq in head["last"].values():
            if not isinstance(epoch, str) or not _is_number(seq):
                raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FeedError(f"feed: expected a state, got {body[:60]!r}") from None
    return head


def read_answer(parts: list[bytes]) -> Answer | None:
    """The answer to a request; None if it is an error or none of ours."""
    try:
        head = decode(parts[0])
        good = head["type"] == "replay" and isinstance(head["id"], int)
        good &= _is_number(head.get("next", 0))
        for first, last, reason in head.get("missed", []):
            good &= _is_number(first) and _is_number(last) and isinstance(reason, str)
    except (FeedError, ValueError, TypeError, KeyError, IndexError):
        return None
    return Answer(head, parts[1:]) if good else None


def _is_number(value: object) -> bool:
    """Whether it can be the number of a message, or 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
